"""A worker that takes some classes only: which files it opens, and what becomes of a job whose id misleads it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs import disk
from bgjobs.ids import id_ms, lane_of, new_id
from bgjobs.job import Job, State
from bgjobs.spool import backlog, lanes
from bgjobs.store import Selection
from tests.contract.stores import Sessions, claim_all, got, new_job, wait_until

if TYPE_CHECKING:
    import pytest

    from bgjobs.spool.store import SpoolStore

PAIRS = frozenset({("Mail", "send"), ("Post", "send")})
ONLY_POST = Selection(classes=frozenset({"Post"}), pairs=lambda: PAIRS)


def submitted(spool: SpoolStore, class_name: str, *, told: str | None = None, delay: timedelta = timedelta(0)) -> Job:
    """Store a job; its id tells another class, if that is named."""
    job = new_job(class_name=class_name, delay=delay)
    if told is not None:
        job = replace(job, id=new_id(id_ms(job.id), lane=lane_of(told, "send")))
    spool.submit([job])
    return job


def opened(patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by each job file that is opened."""
    found: list[str] = []
    real = disk.open_read

    def watched(path: str) -> int:
        if path.endswith(".json"):
            found.append(Path(path).name)
        return real(path)

    patch.setattr(disk, "open_read", watched)
    return found


def test_ids_of_a_new_spool_tell_from_the_first_on(spool: SpoolStore, workers: Sessions) -> None:
    submitted(spool, "Mail")
    assert lanes.first_with_lane(spool.paths) == "0" * 26
    workers.join()
    assert lanes.first_with_lane(spool.paths) == "0" * 26


def test_no_file_of_another_class_is_opened(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(30):
        submitted(spool, "Mail")
    wanted = submitted(spool, "Post")
    submitted(spool, "Mail", delay=timedelta(milliseconds=1))
    session = workers.join(ONLY_POST)
    files = opened(monkeypatch)
    assert [claim.job.id for claim in claim_all(session, 1)] == [wanted.id]
    assert session.claim(10) == []
    assert [name[-31:-5] for name in files] == [wanted.id]


def test_of_classes_that_are_not_allowed_one_file_each_is_opened(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        submitted(spool, f"Old{number % 3}")
    wanted = submitted(spool, "Post")
    session = workers.join(ONLY_POST)
    files = opened(monkeypatch)
    assert [claim.job.id for claim in claim_all(session, 1)] == [wanted.id]
    assert len(files) == 4


def test_a_job_whose_id_misleads_goes_back_as_it_was_and_others_get_it_at_once(
    spool: SpoolStore, workers: Sessions
) -> None:
    misleading, wanted = submitted(spool, "Mail", told="Post"), submitted(spool, "Post")
    session = workers.join(ONLY_POST)
    assert [claim.job.id for claim in claim_all(session, 1)] == [wanted.id]
    job = got(spool, misleading.id)
    assert (job.state, job.not_before) == (State.QUEUED, misleading.not_before)
    for _ in range(3):
        assert session.claim(10) == []  # once is enough
    assert [claim.job.id for claim in claim_all(workers.join(), 1)] == [misleading.id]


def test_a_job_that_is_hidden_by_its_id_waits_for_a_worker_that_takes_all(spool: SpoolStore, workers: Sessions) -> None:
    hidden = submitted(spool, "Post", told="Mail")
    assert workers.join(ONLY_POST).claim(10) == []
    assert [claim.job.id for claim in claim_all(workers.join(), 1)] == [hidden.id]


def test_jobs_from_before_there_were_lanes_are_told_by_their_files(spool: SpoolStore, workers: Sessions) -> None:
    old = [submitted(spool, class_name, told=told) for class_name, told in (("Mail", "Post"), ("Post", "Mail"))]
    Path(spool.paths.lanes).unlink()
    session = workers.join(ONLY_POST)
    assert [claim.job.id for claim in claim_all(session, 1)] == [old[1].id]
    assert session.claim(10) == []


def test_many_jobs_that_are_not_taken_hide_none_behind_them(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_NAMES", 4)
    monkeypatch.setattr(backlog, "LEAST_NAMES", 1)
    for _ in range(15):
        submitted(spool, "Mail")
    wanted = submitted(spool, "Post")
    Path(spool.paths.lanes).unlink()
    assert [claim.job.id for claim in claim_all(workers.join(ONLY_POST), 1)] == [wanted.id]


def test_to_look_into_many_files_is_done_in_slices(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FEW", 5)
    monkeypatch.setattr(lanes, "SLICE_S", -1.0)
    for _ in range(12):
        submitted(spool, "Mail")
    wanted = submitted(spool, "Post")
    Path(spool.paths.lanes).unlink()
    session = workers.join(ONLY_POST)
    for _ in range(2):
        assert session.claim(10) == []
        assert session.next_due() is not None  # to go on at once
    assert [claim.job.id for claim in session.claim(10)] == [wanted.id]
    wait_until(lambda: session.claim(10) == [] and session.next_due() is None)
