#!/bin/sh
# Make a virtual environment in DIR with the first Python that is new enough; $PYTHON overrides the search.
#
#   [PYTHON=python3.12] make-venv.sh DIR
set -eu

fits() { # Debian leaves venv and pip out of its plain python3; some version managers leave a command that only fails
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

candidates='python3 python3.14 python3.13 python3.12 python3.11 python'
fault="no Python 3.11 or newer with venv and pip on the path: install one (on Debian and Ubuntu also python3-venv), or name it with make PYTHON=…"
if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
    IFS= # a path may hold spaces
    fault="PYTHON=$PYTHON is no Python 3.11 or newer with venv and pip: name another one"
fi

found=
for candidate in $candidates; do
    if fits "$candidate"; then
        found=$candidate
        break
    fi
done
if [ -z "$found" ]; then
    printf 'bgjobs: %s\n' "$fault" >&2
    exit 1
fi
printf 'Creating %s with %s …\n' "$1" "$("$found" --version)"
exec "$found" -m venv "$1"
