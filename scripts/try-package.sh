#!/bin/sh
# Build the sdist, the wheel from that sdist, install the wheel alone, and use it as a stranger would:
# from an empty directory, with no terminal.
#
#   try-package.sh PYTHON      (a Python that has `build`)
set -eu

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

quietly() { # the output of a step matters when the step fails
    "$@" >"$scratch/output" 2>&1 </dev/null || {
        cat "$scratch/output" >&2
        printf 'failed: %s\n' "$*" >&2
        exit 1
    }
}

quietly "$1" -m build --outdir "$scratch/dist" .
ls "$scratch/dist"
quietly "$1" -m venv "$scratch/venv"
quietly "$scratch/venv/bin/python" -m pip install --disable-pip-version-check "$scratch"/dist/*.whl

mkdir "$scratch/empty"
cd "$scratch/empty"
quietly "$scratch/venv/bin/bgjobs" --version
cat "$scratch/output"
quietly "$scratch/venv/bin/bgjobs" demo
cat "$scratch/output"
