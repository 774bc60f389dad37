#!/bin/sh
# Install the wheel into a fresh environment of each Python that is supported and found here, and use it there: the
# demo, then tests. One line for each: what passed, or why it was left out. Status 1 if one failed.
#
#   try-pythons.sh [TESTS...]          default: those below
#
# PYTHONS='python3.13 /opt/py/bin/python' names some to look at first; then python3.X on the path, then pyenv's. Those
# that pyproject.toml names are supported; VERSIONS='3.12 3.13' tries some of them. Of CHECKED, the Python that ran all
# tests before, only the demo is run. With DEBIAN_PYTHONS=1 one that is missing comes from Debian, which takes minutes.
set -u
cd "$(dirname "$0")/.."

if [ $# = 0 ]; then
    # Where Pythons differ: rules, old files, annotations, coroutines, signals. All tests take minutes for each of them.
    set -- tests/unit tests/compat tests/cli/test_trap.py \
        tests/process/test_async_jobs.py tests/process/test_attempts.py tests/process/test_cancel.py
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$scratch" # some tests run this Python as another user
log=$scratch/output
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

is() { # a Python that starts, is this version, and can make environments
    "$1" -c 'import ensurepip, sys, venv; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$2" >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHONS:-} "python$1" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if is "$candidate" "$1"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

builder=
build() { # the wheel, with the first Python that is here
    for version in $versions; do
        builder=$(find_python "$version") && break
    done
    [ -n "$builder" ] || return 0 # all of them come from elsewhere, or none does
    "$builder" -m venv "$scratch/build" >"$log" 2>&1 &&
        "$scratch/build/bin/python" -m pip wheel --no-deps --wheel-dir "$scratch/dist" . >"$log" 2>&1 </dev/null
}

passes() { # what one Python passed is in $passed; a step that fails ends it
    python=$scratch/$2/bin/python
    "$1" -m venv "$scratch/$2" >"$log" 2>&1 &&
        "$python" -m pip install --disable-pip-version-check "$(echo "$scratch"/dist/*.whl)[test]" >"$log" 2>&1 &&
        "$python" -m bgjobs demo >"$log" 2>&1 || return
    passed='the demo (its tests have passed before)'
    [ "$2" != "$checked" ] || return 0
    shift 2
    HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-few} \
        "$python" -m pytest -q -n 4 --color no -p no:cacheprovider "$@" >"$log" 2>&1 || return
    passed="the demo; tests: $(tail -n 1 "$log")"
}

from_debian() { # the same in there; the line is said in there
    version=$1
    shift
    [ -n "${DEBIAN_PYTHONS:-}" ] || {
        echo "pythons: $version left out: none that can make environments is on the path or named in PYTHONS"
        return 0
    }
    DEBIAN_PYTHONS='' PYTHONS='' CHECKED='' VERSIONS=$version \
        sh scripts/debian-python.sh "$version" sh scripts/try-pythons.sh "$@" >"$log" 2>&1 </dev/null
    case $? in
    0) grep '^pythons:' "$log" ;;
    125) echo "pythons: $version left out: $(tail -n 1 "$log")" ;;
    *) cat "$log" && return 1 ;;
    esac
}

versions=${VERSIONS:-$(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)}
checked=
[ -z "${CHECKED:-}" ] || checked=$("$CHECKED" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! build; then
    cat "$log"
    echo 'pythons: failed: the wheel could not be built'
    exit 1
fi

echo "The wheel, the demo, and $*:"
status=0
for version in $versions; do
    if ! found=$(find_python "$version"); then
        from_debian "$version" "$@" || status=1
    elif passes "$found" "$version" "$@" </dev/null; then
        echo "pythons: $version passed ($("$found" --version), $found): $passed"
    else
        status=1
        cat "$log"
        echo "pythons: $version FAILED ($("$found" --version), $found)"
    fi
    rm -rf "${scratch:?}/$version"
done
exit "$status"
