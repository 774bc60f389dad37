#!/usr/bin/env bash
# Run the tests on a Windows CPython under Wine. Where that cannot be had: say why, and go on.
#
#   test-on-wine.sh [PYTEST ARGS...]     default: the tests below, two at a time, within the limit below
#
# The last line says how many tests passed, and how many were skipped; the lines above say why those were.
set -uo pipefail
cd "$(dirname "$0")/.."

limit=${WINDOWS_LIMIT:-3600} # seconds for all of it: Wine is known to hang
# What differs most between systems. The rest of tests/process takes long there, and is much the same on all of them.
process='attempts cancel crash environment lost_locks output stop system_death system_waiting system_windows timeouts two_workers'
log=$(mktemp)
trap 'rm -f "$log"' EXIT

leave_out() {
    echo "windows: skipped: $1"
    exit 0
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || leave_out 'Wine runs Windows programs for x86-64 on Linux for x86-64 only'
if ! command -v wine >/dev/null || ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
    [ "$(id -u)" = 0 ] || leave_out 'wine and mingw are not installed, and only root can do that'
    command -v apt-get >/dev/null || leave_out 'wine and mingw are not installed, and there is no apt-get to do that with'
fi
scripts/wine-python.sh setup >"$log" 2>&1 || {
    tail -n 5 "$log"
    leave_out 'the Windows Python could not be set up'
}
grep '^Windows CPython' "$log"
scripts/wine-python.sh editable test || leave_out 'the packages that the tests need could not be installed'
trap 'scripts/wine-python.sh stop >/dev/null 2>&1; rm -f "$log"' EXIT

if [ $# = 0 ]; then
    set -- tests/unit tests/contract tests/cli tests/compat -n 2
    for name in $process; do set -- "$@" "tests/process/test_$name.py"; done
fi
HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-few} timeout --kill-after 30 "$limit" \
    scripts/wine-python.sh run -X utf8 -m pytest -q --color no -p no:cacheprovider --timeout 120 "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

echo
echo 'Why tests were skipped:'
sed -n 's/^SKIPPED \[\([0-9]*\)\] [^ ]*: \(.*\)/\1 \2/p' "$log" | tr -d '\r' |
    awk '{ n = $1; $1 = ""; count[$0] += n } END { for (why in count) printf "%5d %s\n", count[why], why }' | sort -rn
closing=$(tr -d '\r' <"$log" | grep -E '(passed|failed|errors?|skipped).* in [0-9.]+s' | tail -n 1)
echo "windows: ${closing:-no test came to its end (status $status)}"
exit "$status"
