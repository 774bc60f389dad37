#!/usr/bin/env bash
# Run the tests on Windows CPythons under Wine. Where that cannot be had: say why, and go on.
#
#   test-on-wine.sh                      all that can run there, on each of the versions below: an hour
#   test-on-wine.sh few                  what differs most between systems: a few minutes each, for CI
#   test-on-wine.sh PYTEST ARGS...       these
#
# Each version ends with the list of tests that were skipped, by reason, and a line with how many passed.
set -uo pipefail
cd "$(dirname "$0")/.."

versions=${WINE_PYTHON_VERSION:-3.11 3.13}
limit=${WINDOWS_LIMIT:-2400} # seconds for one version: Wine is known to hang
# In memory where that can be: all that the tests write would be brought to the disk, piece by piece.
scratch=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$scratch"' EXIT

leave_out() {
    echo "windows: skipped: $1"
    exit 0
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || leave_out 'Wine runs Windows programs for x86-64 on Linux for x86-64 only'
if ! command -v wine >/dev/null || ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
    [ "$(id -u)" = 0 ] || leave_out 'wine and mingw are not installed, and only root can do that'
    command -v apt-get >/dev/null || leave_out 'wine and mingw are not installed, and there is no apt-get to do that with'
fi

case ${1:-all} in
all)
    set -- tests --ignore tests/crash -m "sweep or not sweep"
    echo 'Left out: tests/crash (forks, and signals at each step); the stages soak, powercut and fuzz (signals, Linux disks,'
    echo 'atheris), which are no tests of pytest.'
    ;;
few)
    set -- tests/unit tests/process/test_{cancel,stop,system_death,system_waiting,system_windows,two_workers}.py
    echo "These alone: $*"
    ;;
esac
set -- --numprocesses 4 "$@"

on() { # one version; its status is that of pytest
    export WINE_PYTHON_VERSION=$1
    shift
    local log=$scratch/log report=$scratch/report.xml status closing
    scripts/wine-python.sh setup >"$log" 2>&1 || {
        tail -n 5 "$log"
        echo "windows: $WINE_PYTHON_VERSION skipped: it could not be set up"
        return 0
    }
    grep '^Windows CPython' "$log"
    scripts/wine-python.sh editable test || {
        echo "windows: $WINE_PYTHON_VERSION skipped: the packages that the tests need could not be installed"
        return 0
    }
    rm -f "$report"
    timeout --kill-after 30 "$limit" scripts/wine-python.sh run -X utf8 -m pytest -q --color no -p no:cacheprovider \
        -rfE --junitxml "$report" --timeout 240 --basetemp "$scratch/$WINE_PYTHON_VERSION" "$@" 2>&1 | sed -u 's/\r$//' | tee "$log"
    status=${PIPESTATUS[0]}
    scripts/wine-python.sh stop >/dev/null 2>&1
    if [ -s "$report" ]; then
        printf '\nSkipped, and why:\n'
        "${PYTHON:-python3}" scripts/list-skipped.py "$report"
    fi
    closing=$(grep -E '(passed|failed|errors?|skipped).* in [0-9.]+s' "$log" | tail -n 1)
    printf '\nwindows: %s: %s\n' "$WINE_PYTHON_VERSION" "${closing:-pytest did not come to its end (status $status)}"
    [ "$status" = 0 ] && [ -n "$closing" ]
}

export HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-few}
trap 'scripts/wine-python.sh stop >/dev/null 2>&1; rm -rf "$scratch"' EXIT
failed=0
for version in $versions; do on "$version" "$@" || failed=1; done
exit "$failed"
