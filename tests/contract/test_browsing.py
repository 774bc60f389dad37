"""The newest jobs are found first, without reading the names of all, and none is missed on its way."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from bgjobs import clock, disk
from bgjobs.ids import new_id
from bgjobs.job import State, Succeeded, moment
from bgjobs.spool import layout, record
from bgjobs.store import Filter
from tests.contract.stores import FAR, LANE, claim_all, finish, got, new_job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore
    from tests.contract.stores import Sessions

HOURS = 9


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the directories that were listed."""
    names: list[str] = []
    listdir = disk.listdir

    def watched(path: str) -> list[str]:
        names.append(Path(path).name)
        return listdir(path)

    monkeypatch.setattr(disk, "listdir", watched)
    return names


def lay_down(spool: SpoolStore, made_ms: int, ended_ms: int) -> str:
    """Lay down a job as it lies after it was done; return its id."""
    at = moment(made_ms)
    job = msgspec.structs.replace(new_job(), id=new_id(made_ms, lane=LANE), submitted_at=at, not_before=at)
    end = record.End(at=ended_ms, state=State.DONE)
    path = Path(spool.paths.ended_path(State.DONE, layout.hour(moment(ended_ms)), job.id))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(record.line_1(job) + record.encoded(end))
    return job.id


def many_hours(spool: SpoolStore) -> list[str]:
    """Lay down jobs that ended in each of the last hours, some long after they were made; return their ids."""
    now_ms = clock.now_ms()
    ids = []
    for back in range(HOURS):
        ended_ms = now_ms - back * layout.HOUR_MS
        ids += [lay_down(spool, ended_ms - wait * layout.MINUTE_MS, ended_ms) for wait in (0, 7, 90, 400)]
    return ids


def newest_first(jobs: Iterable[Job]) -> list[str]:
    return [job.id for job in jobs]


def test_the_newest_jobs_come_first_wherever_they_lie(spool: SpoolStore, workers: Sessions) -> None:
    ids = many_hours(spool)
    waiting = [new_job(), new_job(priority=9), new_job(delay=FAR), new_job(delay=timedelta(hours=2))]
    for job in waiting:
        spool.submit([job])
    group = [new_job(priority=2) for _ in range(3)]
    spool.submit(group)
    claim_all(workers.join(), 1)
    expected = sorted([*ids, *(job.id for job in (*waiting, *group))], reverse=True)
    assert newest_first(spool.jobs(Filter())) == expected
    assert newest_first(islice(spool.jobs(Filter()), 7)) == expected[:7]
    assert newest_first(spool.jobs(Filter(states=frozenset({State.SCHEDULED})))) == [waiting[3].id, waiting[2].id]


def test_for_the_newest_few_the_hours_of_old_are_not_read(spool: SpoolStore, opened: list[str]) -> None:
    ids = many_hours(spool)
    opened.clear()
    found = islice(spool.jobs(Filter(states=frozenset({State.DONE}))), 4)
    assert newest_first(found) == sorted(ids, reverse=True)[:4]
    assert len([name for name in opened if layout.HOUR_NAME.fullmatch(name)]) < HOURS - 3


def test_jobs_since_a_moment_are_those_and_no_others(spool: SpoolStore) -> None:
    many_hours(spool)
    spool.submit([new_job(), new_job(delay=FAR)])
    every = list(spool.jobs(Filter()))
    for since in (every[0].submitted_at, every[5].submitted_at, every[-1].submitted_at):
        expected = [job.id for job in every if job.submitted_at >= since]
        assert newest_first(spool.jobs(Filter(since=since))) == expected


def test_a_job_that_ends_while_the_list_is_read_is_not_missed(spool: SpoolStore, workers: Sessions) -> None:
    jobs = [new_job() for _ in range(5)]
    spool.submit(jobs)
    found = spool.jobs(Filter())
    newest = next(found)
    session = workers.join()
    for claim in claim_all(session, 5):
        finish(session, claim, Succeeded())
    rest = list(found)
    assert [job.id for job in (newest, *rest)] == sorted((job.id for job in jobs), reverse=True)
    assert {job.state for job in rest} == {State.DONE}


def test_a_strange_hour_or_name_hides_no_job(spool: SpoolStore) -> None:
    ids = many_hours(spool)
    above = Path(spool.paths.ended(State.DONE))
    for name in ("2026139923", "kept", "2026112307"):
        (above / name).mkdir(exist_ok=True)
    hour = next(above.iterdir())
    (hour / "zzz").touch()
    odd = above / "kept" / f"{new_id()}.json"
    odd.write_bytes(b"?")
    shown = newest_first(spool.jobs(Filter(states=frozenset({State.DONE}))))
    assert shown == sorted(ids, reverse=True)


def test_the_end_of_an_id_is_found_in_every_state(spool: SpoolStore, workers: Sessions) -> None:
    ids = [lay_down(spool, clock.now_ms(), clock.now_ms())]
    spool.submit([new_job()])
    claim_all(workers.join(), 1)
    spool.submit([new_job()])
    spool.submit([new_job(delay=FAR)])
    ids += [job.id for job in spool.jobs(Filter()) if job.id not in ids]
    assert len(ids) == 4
    for job_id in ids:
        assert spool.ids(job_id[-10:]) == [job_id]
    assert spool.ids("zzzzzzzz") == []


# One job


def test_a_delayed_job_is_found_without_a_look_at_those_that_may_start(spool: SpoolStore, opened: list[str]) -> None:
    later = new_job(delay=FAR)
    spool.submit([new_job(), new_job(), new_job()])
    spool.submit([later])
    opened.clear()
    assert spool.get(later.id) == later
    assert not [name for name in opened if name.startswith("now-")]


def test_who_asks_for_a_delayed_job_again_and_again_reads_no_directory_for_it(
    spool: SpoolStore, opened: list[str]
) -> None:
    later = new_job(delay=FAR)
    spool.submit([later])
    assert spool.get(later.id) == later
    opened.clear()
    assert spool.get(later.id) == later
    assert opened == []


def test_a_job_that_was_seen_waiting_is_found_where_it_goes(spool: SpoolStore, workers: Sessions) -> None:
    job = new_job(delay=FAR)
    spool.submit([job])
    states = [got(spool, job.id).state]
    assert spool.run_now(job.id) == "now"
    states.append(got(spool, job.id).state)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    states.append(got(spool, job.id).state)
    finish(session, claim, Succeeded())
    states.append(got(spool, job.id).state)
    assert spool.delete(job.id) == "deleted"
    assert spool.get(job.id) is None
    assert states == [State.SCHEDULED, State.QUEUED, State.RUNNING, State.DONE]
