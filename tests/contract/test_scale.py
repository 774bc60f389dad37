"""What a claim costs, counted in steps on the disk, does not grow with how many jobs there are."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import disk
from bgjobs.job import Succeeded
from tests.contract.stores import Sessions, SpoolKind, claim_all, finish, new_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.spool.store import SpoolStore

FEW, MANY = 100, 5_000


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the steps on the disk, by name; a listing counts as many times as it has names."""
    steps: Counter[str] = Counter()

    def counting(name: str) -> Any:
        real = getattr(disk, name)

        def step(*args: Any, **named: Any) -> Any:
            result = real(*args, **named)
            steps[name] += 1
            if name == "listdir":
                steps["names"] += len(result)
            return result

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in disk.__all__:
            patch.setattr(disk, name, counting(name))
        yield steps


@pytest.mark.parametrize("count", [MANY])
def test_a_claim_takes_as_many_steps_from_a_large_backlog_as_from_a_small_one(tmp_path: Path, count: int) -> None:
    costs = []
    for backlog in (FEW, count):
        (tmp_path / str(backlog)).mkdir()
        store = SpoolKind(str(tmp_path / str(backlog)))
        spool = store.open()
        for job in [new_job() for _ in range(backlog)]:
            spool.submit([job])
        workers = Sessions(store)
        session = workers.join()
        for claim in claim_all(session, 5):  # the first look lists the names, once for all of them
            finish(session, claim, Succeeded())
        with counted() as steps:
            for _ in range(50):
                (claim,) = claim_all(session, 1)
                finish(session, claim, Succeeded())
        costs.append(steps)
        workers.close()
    few, many = costs
    assert many["names"] <= few["names"] + 5  # names of buckets at most, not those of jobs
    assert many.total() <= few.total() * 1.25


@pytest.mark.parametrize("count", [MANY])
def test_jobs_of_tomorrow_cost_a_worker_nothing_today(spool: SpoolStore, workers: Sessions, count: int) -> None:
    session = workers.join()
    assert session.claim(1) == []
    with counted() as before:
        for _ in range(20):
            assert session.claim(10) == []
    spool.submit([new_job(delay=timedelta(days=1)) for _ in range(count)])
    assert session.claim(1) == []
    with counted() as steps:
        for _ in range(20):
            assert session.claim(10) == []
    assert steps["names"] <= 40  # the buckets of tomorrow may be counted, their jobs are not
    assert steps.total() <= before.total() + 40
