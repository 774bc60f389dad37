#!/bin/sh
# Write the two files of pinned releases anew, for every Python and system that pyproject.toml names. Neither holds the
# address of an index, nor hashes: with these pip would refuse to install the checkout itself, which has none.
#
#   constraints.txt         the newest that pyproject.toml allows, for all extras, and what builds the package
#   constraints-oldest.txt  the oldest, for `make oldest`: what pyproject.toml names itself; what that needs is the newest
#
#   lock.sh PYTHON UV
set -eu
cd "$(dirname "$0")/.."

python=$1
uv=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
# Whoever has told pip of another index, or of a certificate, need not tell uv as well.
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"

resolve() { # into a file, with the options that are given
    target=$1
    shift
    "$python" -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\n")' |
        "$uv" pip compile --universal --python-version 3.11 --no-config --no-header --annotation-style line --quiet \
            "$@" pyproject.toml - >"$scratch/found" 2>"$scratch/said" || {
        cat "$scratch/said" >&2
        if grep -qiE 'failed to fetch|error sending request|client error|dns error|connect' "$scratch/said"; then
            echo "bgjobs: make lock: no package index could be reached: $target stays as it is; try again with a network" >&2
        else
            echo "bgjobs: make lock: no releases fit together: $target stays as it is; correct the bounds in pyproject.toml" >&2
        fi
        exit 1
    }
    if grep -nE '://|^[[:space:]]*-|^[^#]* @ ' "$scratch/found" >&2; then
        echo "bgjobs: make lock: $target would name an address or a path: use plain names and versions in pyproject.toml" >&2
        exit 1
    fi
    { cat "$scratch/header" && sed 's/ (pyproject.toml)//' "$scratch/found"; } >"$scratch/$target"
}

cat >"$scratch/header" <<'HEADER'
# Written by `make lock`. The releases that bgjobs is tested with: without this file pip takes the newest ones.
HEADER
resolve constraints.txt --all-extras
cat >"$scratch/header" <<'HEADER'
# Written by `make lock`, for `make oldest`: the oldest releases that pyproject.toml allows.
HEADER
resolve constraints-oldest.txt --extra test --resolution lowest-direct

for file in constraints.txt constraints-oldest.txt; do # both or none
    cat "$scratch/$file" >"$file"
done
git diff --stat -- constraints.txt constraints-oldest.txt 2>/dev/null || true
echo "pinned: $(grep -c == constraints.txt) releases in constraints.txt, $(grep -c == constraints-oldest.txt) in constraints-oldest.txt"
