"""What the tests of the spool share beyond those of every store: look at its files, and put strange ones there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bgjobs.ids import new_id
from bgjobs.job import milliseconds
from bgjobs.spool import layout
from tests.contract.stores import new_job, now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore


def submitted(spool: SpoolStore, *, delay: timedelta | None = None, priority: int = 5) -> Job:
    """Store a new job."""
    job = new_job(priority=priority) if delay is None else new_job(priority=priority, delay=delay)
    spool.submit([job])
    return job


def path_of(spool: SpoolStore, job: Job) -> Path:
    """Return where the file of a job lies."""
    (found,) = Path(spool.paths.root).rglob(f"*{job.id}.json")
    return found


def plant(spool: SpoolStore, make: Callable[[Path], object]) -> str:
    """Make something in a bucket of `pending/` under the name of a job, and return the id."""
    job_id, ms = new_id(), milliseconds(now())
    bucket = Path(spool.paths.bucket(5, layout.bucket(ms, at_once=True)))
    bucket.mkdir(exist_ok=True)
    make(bucket / layout.pending_name(ms, job_id))
    return job_id


def corrupt(spool: SpoolStore) -> list[Path]:
    """Return what lies in `corrupt/`, without the reasons."""
    return [path for path in Path(spool.paths.corrupt).iterdir() if path.suffix != ".reason"]


def reasons(spool: SpoolStore) -> list[str]:
    """Return why it lies there."""
    return [path.read_text(encoding="utf-8").strip() for path in Path(spool.paths.corrupt).glob("*.reason")]
