"""Kill the real programs at their n-th system call, or let it fail, by strace: no hook of ours is between."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bgjobs.spool.doctor import fsck
from bgjobs.spool.layout import Layout
from tests.crash import oracle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STRACE = shutil.which("strace")
MOST = 40  # calls of one kind: no case here makes so many
RENAMES = "rename,renameat,renameat2"
CONFIG = """
[bgjobs]
durability = "full"
retry_delay = 0

[jobs.Signing]
class = "signing"
methods = ["sign"]
"""
MODULE = """
def sign(path, name):
    with open(path, "a", encoding="utf-8") as file:
        file.write(name + chr(10))
"""


class Case(NamedTuple):
    """A command, and what is there before."""

    name: str
    command: list[str]
    jobs: int = 0
    delayed: bool = False
    ended: bool = False


SUBMIT = Case("submit", ["submit", "Signing", "sign", "{signed}", "new"])
DELAYED = Case("submit later", ["submit", "--delay", "1h", "Signing", "sign", "{signed}", "new"])
WORK = Case("worker", ["worker", "--drain", "--concurrency", "1"], jobs=2)
CANCEL = Case("cancel", ["cancel", "{job}"], jobs=1)
RUN_NOW = Case("run-now", ["run-now", "{job}"], jobs=1, delayed=True)
RETRY = Case("retry", ["retry", "{job}"], jobs=1, ended=True)
DELETE = Case("delete", ["delete", "{job}"], jobs=1, ended=True)


@cache
def _why_not() -> str:
    """Return why strace cannot be used here."""
    if STRACE is None:
        return "there is no strace"
    tried = subprocess.run([STRACE, "-qq", "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace: {tried.stderr.strip()[:200]}"


pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "strace works"),
]


class Project:
    """A project of its own, and its jobs, which sign when they run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.signed = root / "signed"
        self.trace = root / "trace"
        root.mkdir()
        (root / "allowed_jobs.toml").write_text(CONFIG, encoding="utf-8")
        (root / "signing.py").write_text(MODULE, encoding="utf-8")

    def run(self, *words: str, inject: str = "") -> subprocess.CompletedProcess[str]:
        """Run bgjobs; with `inject` under strace, which acts on this one process and not on its children."""
        calls = inject.partition(":")[0]
        options = ["-qq", "-o", str(self.trace), "-e", f"trace={calls}", "-e", f"inject={inject}"]
        tracing = [str(STRACE), *options] if inject else []
        environment = {name: text for name, text in os.environ.items() if not name.startswith("BGJOBS_")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if inject:
            # Byte code is written by renames as well, and is not what is tried here.
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        return subprocess.run(
            [*tracing, sys.executable, "-m", "bgjobs", *words],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def submitted(self, name: str, *options: str) -> str:
        """Submit a job, and return its id."""
        ended = self.run("submit", *options, "Signing", "sign", str(self.signed), name)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()[-1]

    def drained(self) -> None:
        """Let a worker run all there is, delayed jobs too."""
        for job_id, (found, *_) in oracle.look(self.root / "spool").items():
            if "/at-" in str(found.path):
                assert self.run("run-now", job_id).returncode == 0
        ended = self.run("worker", "--drain", "--concurrency", "1")
        assert ended.returncode == 0, ended.stderr

    def runs(self) -> Counter[str]:
        return Counter(self.signed.read_text("utf-8").split()) if self.signed.exists() else Counter()


def tried(case: Case, project: Project, inject: str) -> int:
    """Try a case, see to it that all comes to an end, and return the exit status of the command."""
    ids = {str(n): project.submitted(str(n), *(["--delay", "1h"] if case.delayed else [])) for n in range(case.jobs)}
    if case.ended:
        project.drained()
    words = [word.format(signed=project.signed, job=ids.get("0", "")) for word in case.command]
    ended = project.run(*words, inject=inject)
    assert "Traceback" not in ended.stderr, ended.stderr
    if case.command[0] == "submit" and ended.stdout.endswith("\n"):
        ids["new"] = ended.stdout.split()[-1]
    before = project.runs()
    left = oracle.look(project.root / "spool")
    project.drained()
    found = oracle.look(project.root / "spool")
    gone = case is DELETE
    for name, job_id in ids.items():
        files = found.get(job_id, [])
        if gone and not files:
            continue
        assert len(files) == 1, f"job {name} is in {[file.state for file in files]}"
        was_done = any(file.state == "done" for file in left.get(job_id, []))
        again = len(found) - len(ids) if case is RETRY else 0  # the job that repeats it signs with the same name
        runs = project.runs()[name] - again
        _check(case, name, files[0], runs=runs, at_most=before[name] if was_done else None)
    for job_id, files in found.items():
        assert len(files) == 1, f"{job_id} is in {[file.state for file in files]}"
        assert files[0].state in oracle.ENDED
    assert fsck.broken(Layout(str(project.root / "spool"))) == []
    return ended.returncode


def _check(case: Case, name: str, file: oracle.Found, *, runs: int, at_most: int | None) -> None:
    """Check one job: it has ended as it was to end, and ran again only after a crash."""
    told = oracle.told_by(file)
    if case is CANCEL and told.state == "cancelled":
        assert runs == 0
        return
    assert told.state == "done", f"job {name} is {told}"
    assert 1 <= runs <= 1 + told.crashes, f"job {name} ran {runs} times: {told}"
    assert at_most is None or runs == at_most, f"job {name} was done and ran again"


KILLED = [
    *((SUBMIT, calls) for calls in (RENAMES, "fsync", "write", "mkdir")),
    (DELAYED, RENAMES),
    *((WORK, calls) for calls in (RENAMES, "write", "unlink,rmdir", "mkdir")),
    (CANCEL, RENAMES),
    (CANCEL, "write"),
    (RUN_NOW, RENAMES),
    (RETRY, RENAMES),
    (DELETE, RENAMES),
    (DELETE, "unlink"),
]
FAILING = [
    (SUBMIT, "fsync", "EIO"),
    (SUBMIT, "write", "ENOSPC"),
    (SUBMIT, "write", "EINTR"),
    (SUBMIT, RENAMES, "EDQUOT"),
    (WORK, RENAMES, "EIO"),
    (WORK, "mkdir", "ENOSPC"),
    (CANCEL, RENAMES, "EROFS"),
]


@pytest.mark.parametrize(("case", "calls"), KILLED, ids=lambda value: getattr(value, "name", value))
def test_a_program_that_is_killed_at_any_of_its_calls_loses_nothing(
    case: Case, calls: str, place: Path, count: Callable[..., None]
) -> None:
    for at in range(1, MOST):
        status = tried(case, Project(place / str(at)), f"{calls}:signal=SIGKILL:when={at}")
        if status == 0:
            break  # it makes no more such calls
        assert status in {-9, 137}
    else:
        pytest.fail("it goes on and on")
    count(outside=at - 1)
    assert at > 1, "it makes no such call"


@pytest.mark.parametrize(("case", "calls", "answer"), FAILING, ids=lambda value: getattr(value, "name", value))
def test_a_call_that_fails_loses_nothing_and_is_told(
    case: Case, calls: str, answer: str, place: Path, count: Callable[..., None]
) -> None:
    assert hasattr(errno, answer)
    statuses = []
    for at in range(1, MOST):
        project = Project(place / str(at))
        statuses.append(tried(case, project, f"{calls}:error={answer}:when={at}"))
        if "INJECTED" not in project.trace.read_text("utf-8"):
            break  # it makes no more such calls
    else:
        pytest.fail("it goes on and on")
    count(outside=len(statuses) - 1)
    assert len(statuses) > 1, "it makes no such call"
    if answer == "EINTR":
        assert set(statuses) == {0}, "interrupted, and not tried again"
