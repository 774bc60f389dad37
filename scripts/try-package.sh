#!/bin/sh
# Build the sdist, the wheel from that sdist, hold both against the checkout, and use them as strangers would: the wheel
# alone in a project of one's own, and the sdist to run its tests. With no terminal.
#
#   try-package.sh PYTHON      (a Python that has `build` and `mypy`)
set -eu

python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
# For what is installed here, and for what builds. A copy, because pip splits the variable at blanks.
cp constraints.txt "$scratch"
export PIP_CONSTRAINT="$scratch/constraints.txt" PIP_BUILD_CONSTRAINT="$scratch/constraints.txt"

quietly() { # the output of a step matters when the step fails
    "$@" >"$scratch/output" 2>&1 </dev/null || {
        cat "$scratch/output" >&2
        printf 'failed: %s\n' "$*" >&2
        exit 1
    }
}

says() { # run a command, which must succeed and say a text
    text=$1
    shift
    quietly "$@"
    grep -qF -- "$text" "$scratch/output" || {
        cat "$scratch/output" >&2
        printf 'failed: %s did not say: %s\n' "$*" "$text" >&2
        exit 1
    }
}

refuses() { # run a command, which must end with this status
    wanted=$1
    shift
    status=0
    "$@" >"$scratch/output" 2>&1 </dev/null || status=$?
    [ "$status" = "$wanted" ] || {
        cat "$scratch/output" >&2
        printf 'failed: %s ended with status %s, not %s\n' "$*" "$status" "$wanted" >&2
        exit 1
    }
}

environment() { # a fresh one, with what is named in it
    quietly "$python" -m venv "$1"
    quietly "$1/bin/python" -m pip install --disable-pip-version-check "$2"
}

# ------------------------------------------------------------------------------------------- what was built
quietly "$python" -m build --outdir "$scratch/dist" .
ls "$scratch/dist"
"$python" scripts/inspect_package.py "$scratch/dist" </dev/null

# -------------------------------------------------------------------- the wheel, in somebody else's project
environment "$scratch/venv" "$(echo "$scratch"/dist/*.whl)"
mkdir "$scratch/empty" "$scratch/my shop"
bgjobs=$scratch/venv/bin/bgjobs
cd "$scratch/empty"
quietly "$bgjobs" --version
cat "$scratch/output"
quietly "$bgjobs" demo
cat "$scratch/output"

cd "$scratch/my shop"
cat >greetings.py <<'MODULE'
class Greetings:
    def hello(self, name: str, times: int = 1) -> str:
        print(f"Hello {name}! " * times)
        return f"greeted {name}"
MODULE
cat >allowed_jobs.toml <<'ALLOWLIST'
[jobs.Greetings]
class   = "greetings:Greetings"
methods = ["hello"]
ALLOWLIST
cat >program.py <<'PROGRAM'
from datetime import timedelta

from bgjobs import Queue, run_background_job

job_id: str = run_background_job("Greetings", "hello", ["Cem"], priority="high", delay=0.1)
attempt: int = Queue.open().get(job_id).attempt
print(job_id)


def mistaken() -> None:
    # A type checker that saw no types would find these comments needless.
    run_background_job(1, "hello")  # type: ignore[arg-type]
    Queue.open().wait(job_id, timeout=timedelta(1)).no_such_thing  # type: ignore[attr-defined]
PROGRAM
says 'no problem found' "$bgjobs" check
ann=$("$bgjobs" submit Greetings hello Ann 2 </dev/null)
bob=$("$bgjobs" submit Greetings hello Bob --delay 1h </dev/null)
cem=$("$scratch/venv/bin/python" program.py </dev/null)
refuses 3 "$bgjobs" submit Greetings hello Dan many
says "$bob" "$bgjobs" cancel "$bob"
quietly "$bgjobs" worker --drain
says 'done' "$bgjobs" status "$ann"
says 'Hello Ann! Hello Ann!' "$bgjobs" logs "$ann"
says 'greeted Cem' "$bgjobs" wait --result "$cem"
refuses 6 "$bgjobs" wait "$bob"
says 'Status: SUCCESS' "$scratch/venv/bin/python" -m bgjobs logs
quietly "$bgjobs" doctor
echo 'a project of its own: checked, submitted, worked, cancelled, looked at'
quietly "$python" -m mypy --strict --no-incremental --python-executable "$scratch/venv/bin/python" program.py
echo 'types: seen by mypy --strict from outside'

# --------------------------------------------------------- the sdist, for somebody who packages it or tests it
mkdir "$scratch/source"
tar -xzf "$scratch"/dist/*.tar.gz -C "$scratch/source" --strip-components 1
environment "$scratch/from-sdist" "$(echo "$scratch"/dist/*.tar.gz)[test]"
for venv in venv from-sdist; do # each file with the hash of its content; not what pip notes about the installation
    cat "$scratch/$venv"/lib/python3*/site-packages/bgjobs-*.dist-info/RECORD |
        grep -vE 'dist-info/(RECORD|INSTALLER|REQUESTED|direct_url)|\.pyc,|\.\./bin/' | sort >"$scratch/$venv.files"
done
quietly diff "$scratch/venv.files" "$scratch/from-sdist.files"
echo "wheel and sdist: the same $(grep -c . "$scratch/venv.files") files installed"
cd "$scratch/source"
quietly env HYPOTHESIS_PROFILE=few "$scratch/from-sdist/bin/python" -m pytest tests/unit tests/compat -q -n 4 -p no:cacheprovider
printf 'the tests of the sdist: %s\n' "$(tail -n 1 "$scratch/output")"
