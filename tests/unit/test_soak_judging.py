"""The judge of the soak finds each kind of broken promise: a soak that is clean means something."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.soak import judging
from tests.soak.diary import Note, read, wishes
from tests.soak.evidence import Records, Told, follow, records, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.soak.diary import Wishes
    from tests.soak.judging import Violation

CALL = ("Stormy", "step", ("k1",))
ID = "01m83kpb1n0007mc6vwgzvtyxa"
OTHER = "01m83kpb1n0007mc6vwgzvtyxb"

Event = dict[str, Any]


def start(number: int, pid: int = 7) -> Event:
    return {"event": "start", "number": number, "pid": pid, "birth": "100"}


def end(outcome: str, state: str, **more: Any) -> Event:
    return {"event": "end", "outcome": outcome, "state": state, **more}


RAISED: Event = {"event": "try", "outcome": "raised", "error": {"type": "stormy.StormError"}}
LOST: Event = {"event": "lost", "outcome": "crashed", "error": {"type": "WorkerLost"}}
BACK: Event = {"event": "back"}
DONE = end("succeeded", "done")


def job(*events: Event, state: str = "done", **values: Any) -> Told:
    made = Told(id=ID, state=state, path=f"{state}/{ID}.json", key="k1", call=CALL, retries=1)
    for name, value in values.items():
        setattr(made, name, value)
    for event in events:
        follow(made, event)
    return made


def wished(*more: Note) -> Wishes:
    class_name, method, args = CALL
    submitted = Note(did="attempted", key="k1", class_name=class_name, method=method, args=args)
    return wishes([submitted, Note(did="acknowledged", key="k1", job=ID), *more])


def noted(*lines: str) -> Records:
    return records(list(lines))


RAN = ("begin 1 7 100 1000", "end 1 7 100 2000 returned")


def judged(told_jobs: list[Told], *, lines: tuple[str, ...] = RAN, more: tuple[Note, ...] = ()) -> list[Violation]:
    return judging.judge(told_jobs, wished(*more), {ID: noted(*lines)})


def kinds(found: list[Violation]) -> set[str]:
    return {violation.kind for violation in found}


def test_a_job_that_ran_once_is_fine() -> None:
    assert judged([job(start(1), DONE)]) == []


FINE: dict[str, tuple[Told, tuple[str, ...]]] = {
    "raised, then done": (
        job(start(1), RAISED, start(2), DONE),
        ("begin 1 7 100 1000", "end 1 7 100 2000 raised", "begin 2 7 100 3000", "end 2 7 100 4000 returned"),
    ),
    "lost in the middle": (
        job(start(1), LOST, start(2, 8), DONE),
        ("begin 1 7 100 1000", "begin 2 8 100 3000", "end 2 8 100 4000 returned"),
    ),
    "lost before it could note anything": (
        job(start(1), LOST, start(2, 8), DONE),
        ("begin 2 8 100 3000", "end 2 8 100 4000 returned"),
    ),
    "lost after its last line: it runs twice": (
        job(start(1), LOST, start(2, 8), DONE),
        (*RAN, "begin 2 8 100 3000", "end 2 8 100 4000 returned"),
    ),
    "handed back by a worker that was asked to stop": (
        job(start(1), BACK, start(2, 8), DONE),
        ("begin 1 7 100 1000", "end 1 7 100 2000 raised", "begin 2 8 100 3000", "end 2 8 100 4000 returned"),
    ),
    "failed because it was lost too often": (
        job(start(1), LOST, start(2), LOST, start(3), end("crashed", "failed", lost=True), state="failed"),
        ("begin 1 7 100 1000",),
    ),
    "failed because no attempt was left": (
        job(start(1), RAISED, start(2), end("crashed", "failed"), state="failed"),
        ("begin 1 7 100 1000", "end 1 7 100 2000 raised", "begin 2 7 100 3000"),
    ),
}


@pytest.mark.parametrize("case", FINE)
def test_what_may_happen_is_fine(case: str) -> None:
    made, lines = FINE[case]
    assert judged([made], lines=lines) == []


def test_runs_after_a_crash_are_counted_as_duplicates() -> None:
    twice = noted(*RAN, "begin 2 8 100 3000", "end 2 8 100 4000 returned")
    assert judging.duplicates_after_crash([twice, noted(*RAN)]) == 1


def test_an_acknowledged_job_that_is_nowhere_is_lost() -> None:
    assert kinds(judged([], lines=())) == {"lost"}


def test_a_job_that_was_never_acknowledged_and_is_nowhere_is_not_lost() -> None:
    assert judging.judge([], wishes([Note(did="attempted", key="k1")]), {}) == []


def test_a_job_that_ran_and_is_nowhere_is_lost_even_if_it_was_never_acknowledged() -> None:
    assert kinds(judging.judge([], wishes([Note(did="attempted", key="k1")]), {ID: noted(*RAN)})) == {"lost"}


def test_a_deleted_job_is_not_lost() -> None:
    assert judged([], more=(Note(did="deleting", job=ID),)) == []


HANDED_IN = Note(did="handed in", key="k1")


def test_what_was_handed_in_and_became_no_job_is_lost() -> None:
    assert kinds(judging.judge([], wishes([HANDED_IN]), {})) == {"lost"}


def test_what_was_handed_in_and_deleted_as_a_job_is_not_lost() -> None:
    assert judging.judge([], wishes([HANDED_IN, Note(did="deleting", job=ID, key="k1")]), {}) == []


def test_what_was_handed_in_and_became_a_job_is_not_lost() -> None:
    assert judged([job(start(1), DONE)], more=(HANDED_IN,)) == []


@pytest.mark.parametrize("state", ["pending", "claimed", "corrupt"])
def test_a_job_that_has_not_ended_is_lost(state: str) -> None:
    assert "lost" in kinds(judged([job(state=state)], lines=()))


@pytest.mark.parametrize(
    "stranger",
    [
        job(start(1), DONE, key="k2", call=("Stormy", "step", ("k2",))),
        job(start(1), DONE, call=("Stormy", "nap", ("k1",))),
        job(start(1), DONE, call=("Stormy", "step", ("k1", 3))),
        job(start(1), DONE, retry_of=OTHER),
        job(end("", "cancelled"), state="cancelled"),
    ],
    ids=["another key", "another method", "other arguments", "retried by nobody", "cancelled by nobody"],
)
def test_what_nobody_asked_for_is_unexpected(stranger: Told) -> None:
    assert "unexpected" in kinds(judged([stranger]))


def test_a_submission_that_became_two_jobs_is_unexpected() -> None:
    twin = job(start(1), DONE, id=OTHER, path=f"done/{OTHER}.json")
    assert kinds(judging.judge([job(start(1), DONE), twin], wished(), {ID: noted(*RAN), OTHER: noted(*RAN)})) == {
        "unexpected"
    }


def test_a_job_that_was_retried_comes_twice() -> None:
    twin = job(start(1), DONE, id=OTHER, path=f"done/{OTHER}.json", retry_of=ID)
    asked = wished(Note(did="retrying", job=ID))
    assert judging.judge([job(start(1), DONE), twin], asked, {ID: noted(*RAN), OTHER: noted(*RAN)}) == []


def test_a_job_in_two_places_is_found() -> None:
    assert kinds(judged([job(start(1), DONE), job(start(1), DONE, path=f"done/elsewhere/{ID}.json")])) == {"two places"}


@pytest.mark.parametrize(
    "lines",
    [
        ("begin 1 7 100 1000", "begin 2 8 100 1500", "end 1 7 100 2000 returned", "end 2 8 100 4000 returned"),
        ("begin 1 7 100 1000", "overlap begin 1 7", "begin 2 8 100 3000", "end 2 8 100 4000 returned"),
    ],
    ids=["by the times", "by what the second attempt saw"],
)
def test_two_attempts_at_the_same_time_overlap(lines: tuple[str, ...]) -> None:
    assert kinds(judged([job(start(1), LOST, start(2, 8), DONE)], lines=lines)) == {"overlap"}


DUPLICATES: dict[str, tuple[Told, tuple[str, ...]]] = {
    "the file knows of one attempt": (
        job(start(1), DONE),
        (*RAN, "begin 2 8 100 3000", "end 2 8 100 4000 returned"),
    ),
    "one attempt began twice": (job(start(1), DONE), (*RAN, "begin 1 7 100 3000", "end 1 7 100 4000 returned")),
    "another process than the file says": (job(start(1, 9), LOST, start(2, 8), DONE), RAN),
    "run again though nothing had crashed": (
        job(start(1), RAISED, start(2), DONE),
        (*RAN, "begin 2 7 100 3000", "end 2 7 100 4000 returned"),
    ),
}


@pytest.mark.parametrize("case", DUPLICATES)
def test_a_run_that_no_crash_explains_is_a_duplicate(case: str) -> None:
    made, lines = DUPLICATES[case]
    assert "duplicate" in kinds(judged([made], lines=lines))


HISTORIES: dict[str, Told] = {
    "an attempt within another": job(start(1), start(2), DONE),
    "a number left out": job(start(2), DONE),
    "an end without an attempt": job(DONE),
    "two ends": job(start(1), DONE, DONE),
    "done, and lies in failed": job(start(1), DONE, state="failed"),
    "done after a failure": job(start(1), end("raised", "done", error={"type": "stormy.StormError"})),
    "an attempt after the last": job(start(1), {"event": "try", "outcome": "succeeded"}, start(2), DONE),
    "too many attempts": job(start(1), RAISED, start(2), RAISED, start(3), DONE),
    "lost too often": job(*[event for n in range(1, 5) for event in (start(n), LOST)], start(5), DONE),
    "failed too early": job(start(1), end("raised", "failed", error={"type": "stormy.StormError"}), state="failed"),
    "an error of its own": job(
        start(1), {"event": "try", "outcome": "raised", "error": {"type": "OSError"}}, start(2), DONE
    ),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_a_history_that_cannot_be_is_found(case: str) -> None:
    assert kinds([*judging.history(HISTORIES[case], 3)]) == {"history"}


def test_an_attempt_that_succeeded_and_never_began_is_found() -> None:
    assert kinds(judged([job(start(1), DONE)], lines=())) == {"history"}


def test_an_attempt_that_succeeded_and_did_not_come_to_its_end_is_found() -> None:
    assert kinds(judged([job(start(1), DONE)], lines=("begin 1 7 100 1000",))) == {"history"}


def test_whatever_else_a_job_complains_of_is_found() -> None:
    assert kinds(judged([job(start(1), DONE)], lines=("homeless 7", *RAN))) == {"homeless"}


@pytest.mark.skipif(sys.platform == "win32", reason="the soak stage stops processes, and runs on Linux")
def test_a_job_file_is_read_from_its_lines(tmp_path: Path) -> None:
    lines = [{"id": ID, "class": "Stormy", "method": "step", "args": ["k1"], "retries": 1}, start(1), DONE]
    path = tmp_path / "done" / "2026112307" / f"{ID}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\n".join([*map(msgspec.json.encode, lines), b'{"event":"sta']))
    found = told("done", path, tmp_path)
    assert (found.id, found.call, found.torn, found.faults) == (ID, CALL, 1, [])
    assert [attempt.outcome for attempt in found.attempts] == ["succeeded"]
    assert judged([found]) == []


@pytest.mark.parametrize(
    "spoil", [lambda data: b"", lambda data: b"\0" * len(data), lambda data: data[:20]], ids=["empty", "zeros", "torn"]
)
def test_a_job_file_without_its_first_line_is_found(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"{ID}.json"
    path.write_bytes(spoil(b'{"id":"01","class":"Stormy","method":"step","args":["k1"],"retries":1}\n'))
    assert "history" in kinds(judged([told("done", path, tmp_path)]))


def test_a_torn_line_of_a_diary_counts_as_not_written() -> None:
    whole = msgspec.json.encode(Note(did="acknowledged", job=ID, key="k1"))
    assert [note.job for note in read([whole, whole[:-5]])] == [ID]
