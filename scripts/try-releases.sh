#!/bin/sh
# Run tests with other releases of what bgjobs needs than those in constraints.txt, in an environment of their own.
#
#   try-releases.sh latest [PYTEST ARGS...]    the newest that pyproject.toml allows, and the newest pip: .venv-latest
#   try-releases.sh oldest [PYTEST ARGS...]    the oldest that pyproject.toml allows: .venv-oldest
#
# Those are the tests of rules, storage, the command line and old job files: all that meets a library. Left out are
# tests/process, tests/crash and the long stages, which try bgjobs against the system, and take minutes.
#
# What fails with the oldest releases is our fault: a lower bound in pyproject.toml is wrong. Of what fails with the
# newest ones, that is asked: if it passes with constraints.txt (in .venv), an upstream release is the cause. Status 1 all
# the same; with UPSTREAM=report the status is 0 then, and the lines that begin with "latest:" say it.
set -u
cd "$(dirname "$0")/.."

which=$1
shift
venv=.venv-$which
here=$(pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM

say() {
    printf '%s: %s\n' "$which" "$1"
}

upstream() {
    say "FAILED: $1"
    say 'the cause is an upstream release: adapt to it, or bound it in pyproject.toml; then make lock'
    [ "${UPSTREAM:-}" = report ] && exit 0
    exit 1
}

install() { # with the pins that are given, or none; of pip's own settings no other counts
    PIP_CONSTRAINT=$1 PIP_BUILD_CONSTRAINT=$1 "$venv/bin/python" -m pip --quiet --no-input --disable-pip-version-check \
        install --upgrade $2 >"$log" 2>&1
}

tests() { # with this Python; what failed is remembered in $venv
    python=$1
    shift
    HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-few} "$python" -m pytest -q -n "${JOBS:-4}" -o cache_dir="$here/$venv/.cache" \
        tests/unit tests/contract tests/cli tests/compat "$@"
}

rm -rf "$venv"
sh scripts/make-venv.sh "$venv" || exit 1
if [ "$which" = latest ]; then
    { install '' pip && install '' '--upgrade-strategy=eager --editable .[test]'; } || {
        cat "$log"
        upstream 'the newest releases cannot be installed (or no package index can be reached)'
    }
else
    install constraints-oldest.txt '--editable .[test]' || {
        cat "$log"
        say 'FAILED: the oldest releases cannot be installed: raise the lower bound in pyproject.toml, say why; then make lock'
        exit 1
    }
fi

others=$("$venv/bin/python" scripts/differing_releases.py constraints.txt)
say "other than in constraints.txt: ${others:-none}"
if tests "$venv/bin/python" "$@"; then
    say 'passed'
    exit 0
fi
say 'what failed, once more: a release that is the cause fails again'
if tests "$venv/bin/python" --last-failed "$@"; then
    say 'FLAKY: what failed has passed the second time, so no release is the cause: mend the tests named above'
    exit 0
fi
if [ "$which" = oldest ]; then
    say 'FAILED: where these tests pass with make test, a lower bound in pyproject.toml is wrong: raise it; then make lock'
    exit 1
fi
say 'what failed, once more with the releases in constraints.txt:'
if [ -n "$others" ] && tests .venv/bin/python --last-failed; then
    upstream "some tests pass with constraints.txt, and fail with $others"
fi
say 'FAILED: with the releases in constraints.txt as well: the cause is here'
exit 1
