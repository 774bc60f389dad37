"""A command for several jobs does what it does once with each, and with all of them though nobody sees the answers."""

from __future__ import annotations

import os
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs.cli import app, output
from bgjobs.cli.changes import each
from bgjobs.cli.output import Answer
from bgjobs.job import State
from tests.cli.commands import make_project, open_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs import Queue
    from bgjobs.job import Job

UNKNOWN = "01m00000000000000000000000"
# By command: the state of the jobs that it is for, and what becomes of them.
CHANGES = {
    "cancel": (State.QUEUED, State.CANCELLED),
    "retry": (State.CANCELLED, State.QUEUED),
    "run-now": (State.SCHEDULED, State.QUEUED),
    "delete": (State.CANCELLED, None),
}


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return open_queue(make_project(tmp_path))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    return lambda *words: app.run([*words, "--config", str(tmp_path / "allowed_jobs.toml")])


@contextmanager
def unread() -> Iterator[None]:
    """Let nothing be printed, as on a full disk: what is open for reading alone takes no writing."""
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8") as stream, redirect_stdout(stream):
        yield
        output.discard(stream)


def jobs_in(queue: Queue, state: State, count: int) -> list[Job]:
    jobs = [queue.submit("Work", "nothing", delay=60 * (state is State.SCHEDULED)) for _ in range(count)]
    for job in jobs if state is State.CANCELLED else []:
        queue.cancel(job.id)
    return jobs


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
@pytest.mark.parametrize("command", CHANGES)
def test_a_job_that_is_named_several_times_is_dealt_with_once_in_its_place(
    queue: Queue, run: Callable[..., int], capsys: pytest.CaptureFixture[str], command: str, options: list[str]
) -> None:
    first, second = jobs_in(queue, CHANGES[command][0], 2)
    names = [second.id, first.id[-20:], UNKNOWN, second.id[-22:], first.id, UNKNOWN, second.id]
    assert run(command, *names, *options) == 4
    shown = capsys.readouterr()
    assert (shown.out.count("\n"), shown.err.count("\n")) == (2, 1)
    if command == "retry":
        assert [new.retry_of for new in queue.jobs(state="queued")] == [first.id, second.id]  # the newest first
    else:
        assert [line.index(job.id) for line, job in zip(shown.out.splitlines(), (second, first), strict=True)]


@pytest.mark.parametrize("command", ["retry", "run-now", "delete"])
def test_a_rehearsal_names_each_job_once(
    queue: Queue, run: Callable[..., int], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    [job] = jobs_in(queue, CHANGES[command][0], 1)
    assert run(command, "--dry-run", job.id, job.id[-20:]) == 0
    assert capsys.readouterr().out == f"{job.id}\n"


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
@pytest.mark.parametrize("command", CHANGES)
def test_what_is_begun_is_done_with_all_jobs_though_nobody_sees_the_answers(
    queue: Queue, run: Callable[..., int], capsys: pytest.CaptureFixture[str], command: str, options: list[str]
) -> None:
    before, after = CHANGES[command]
    jobs = jobs_in(queue, before, 3)
    with unread():
        assert run(command, *(job.id for job in jobs), *options) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    left = list(queue.jobs(state=after.value)) if after else []
    assert len(left) == (0 if after is None else 3)
    named = sorted(job.id for job in left) if command == "retry" else [job.id for job in jobs]
    assert f"from {named[0]} to {named[-1]}: " in told
    assert ('"not-printed"' in told) == bool(options)


def test_where_nothing_is_changed_the_first_answer_that_cannot_be_printed_ends_it(queue: Queue) -> None:
    jobs = jobs_in(queue, State.CANCELLED, 2)
    asked: list[str] = []

    def act(job_id: str) -> Answer:
        asked.append(job_id)
        return Answer({"id": job_id}, job_id)

    with unread(), pytest.raises(OSError):  # noqa: PT011 - its words are those of the system
        each(queue, [job.id for job in jobs], act, unprinted=None, as_json=False)
    assert asked == [jobs[0].id]


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_what_is_wrong_with_all_of_them_is_said_once(
    queue: Queue, run: Callable[..., int], capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    jobs_in(queue, State.CANCELLED, 3)
    Path(queue.settings.spool, "retried").mkdir()
    assert run("retry", "--all", "--state", "cancelled", *options) == 1
    shown = capsys.readouterr()
    first, *rest = shown.err.splitlines()
    assert "cannot use the spool" in first
    assert (shown.out, rest) == ("", [] if options else ["bgjobs: the same for 2 more jobs"])
    assert queue.counts()[State.QUEUED] == 0
