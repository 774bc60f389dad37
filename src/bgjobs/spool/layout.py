"""Names and paths in a spool. All are built here, from parts that match their grammar."""

from __future__ import annotations

import os
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from bgjobs.ids import ID, ID_PATTERN, id_ms
from bgjobs.job import State, milliseconds, moment
from bgjobs.patterns import Pattern

PRIORITY_NAMES = ("0", "1", "2-low", "3", "4", "5-normal", "6", "7", "8-high", "9")
PRIORITY_OF = {name: number for number, name in enumerate(PRIORITY_NAMES)}
PENDING_NAME = Pattern(rf"([0-9]{{13}})-({ID_PATTERN})\.json")
CLAIMED_NAME = Pattern(rf"([0-9])\.([0-9]{{13}})-({ID_PATTERN})\.json")
IMPORTED_NAME = Pattern(rf"in\.({ID_PATTERN})\.json")
ENDED_NAME = Pattern(rf"({ID_PATTERN})\.json")
BUCKET_NAME = Pattern(r"(now|at)-([0-9]{12})(?:\.[0-9a-z]{1,26})?")
HOUR_NAME = Pattern(r"[0-9]{10}")
WORKER_NAME = ID
DIRECTORIES = (
    "incoming",
    "pending",
    "waiting",
    "claimed",
    "done",
    "failed",
    "cancelled",
    "corrupt",
    "workers",
    "tmp",
    "tmp/trash",
    "locks",
    "output",
)
# In a spool that was ever used there is something in one of these.
IN_USE = (*(f"pending/{name}" for name in PRIORITY_NAMES), "claimed", "workers", "done", "failed", "cancelled")
ENDED_DIRECTORIES = {State.DONE: "done", State.FAILED: "failed", State.CANCELLED: "cancelled"}
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DRAINED_AFTER_MS = 2 * MINUTE_MS  # after the start of its minute, an empty bucket may be removed


class Pending(NamedTuple):
    """A file name in `pending/`, taken apart. Sorts by not-before, then by submit moment: the order of age."""

    not_before_ms: int
    job_id: str


def pending_name(not_before_ms: int, job_id: str) -> str:
    """Return the file name of a job that waits for its turn."""
    return f"{not_before_ms:013d}-{job_id}.json"


def parse_pending(name: str) -> Pending | None:
    """Take a pending file's name apart, or return None for any other name."""
    found = PENDING_NAME.fullmatch(name)
    return Pending(int(found[1]), found[2]) if found else None


def claimed_name(priority: int, pending: str) -> str:
    """Return the file name that a pending job gets when it is claimed."""
    return f"{priority}.{pending}"


def parse_claimed(name: str) -> tuple[int, int, str] | None:
    """Return priority, not-before in ms and id of a claimed file's name, or None for any other name."""
    found = CLAIMED_NAME.fullmatch(name)
    return (int(found[1]), int(found[2]), found[3]) if found else None


def is_incoming(name: str) -> bool:
    """Tell whether a file of this name in `incoming/` is ready to be taken: its program is not writing it any more."""
    return name.endswith(".json") and not name.startswith(".")


def parse_imported(name: str) -> str | None:
    """Return the id that a file of another program was given when it was taken, or None for any other name."""
    found = IMPORTED_NAME.fullmatch(name)
    return found[1] if found else None


def bucket(not_before_ms: int, *, at_once: bool) -> str:
    """Return the name of the bucket for this moment: `now-…` may run whatever the clock says."""
    return f"{'now' if at_once else 'at'}-{minute(not_before_ms)}"


def minute(ms: int) -> str:
    """Return the UTC minute as YYYYMMDDhhmm."""
    return _minute_name(ms // MINUTE_MS)


def hour(at: datetime) -> str:
    """Return the UTC hour as YYYYMMDDHH."""
    return _hour_name(milliseconds(at) // HOUR_MS)


def hour_at(ms: int) -> str:
    """Return the UTC hour of this millisecond since 1970."""
    return _hour_name(ms // HOUR_MS)


def hour_of(job_id: str) -> str:
    """Return the UTC hour in which the id was made, that of the submission."""
    return _hour_name(id_ms(job_id) // HOUR_MS)


@lru_cache(maxsize=64)
def _minute_name(minutes: int) -> str:
    return moment(minutes * MINUTE_MS).strftime("%Y%m%d%H%M")


@lru_cache(maxsize=64)
def _hour_name(hours: int) -> str:
    return moment(hours * HOUR_MS).strftime("%Y%m%d%H")


def bucket_start_ms(name: str) -> int | None:
    """Return the first millisecond of a bucket's minute, or None for any other name."""
    found = BUCKET_NAME.fullmatch(name)
    if not found:
        return None
    # Not `strptime`, which is slow, and slow to import.
    digits = found[2]
    day, time = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}", f"{digits[8:10]}:{digits[10:]}"
    try:
        return milliseconds(datetime.fromisoformat(f"{day}T{time}+00:00"))
    except ValueError:
        return None


def hour_start_ms(name: str) -> int | None:
    """Return the first millisecond of an hour, or None for any other name."""
    if not HOUR_NAME.fullmatch(name):
        return None
    try:
        return milliseconds(datetime.fromisoformat(f"{name[:4]}-{name[4:6]}-{name[6:8]}T{name[8:]}:00+00:00"))
    except ValueError:
        return None


class Layout:
    """The paths of one spool."""

    def __init__(self, root: str) -> None:
        """Remember the spool's directory, as an absolute path."""
        self.root = root
        self.version = os.path.join(root, "VERSION")
        self.lanes = os.path.join(root, "lanes")
        self.doorbell = os.path.join(root, "doorbell")
        self.queued = os.path.join(root, "queued")
        self.counted = os.path.join(root, "counted")
        self.claim_lock = os.path.join(root, "locks", "claim.lock")
        self.retried = os.path.join(root, "retried")
        self.retry_lock = os.path.join(root, "locks", "retry.lock")
        self.retried_lock = os.path.join(root, "locks", "retried.lock")
        self.incoming = os.path.join(root, "incoming")
        self.pending = os.path.join(root, "pending")
        self.claimed = os.path.join(root, "claimed")
        self.workers = os.path.join(root, "workers")
        self.corrupt = os.path.join(root, "corrupt")
        self.tmp = os.path.join(root, "tmp")
        self.trash = os.path.join(root, "tmp", "trash")
        self.waiting = os.path.join(root, "waiting")
        self.submitters = os.path.join(root, "submitters")
        self._outputs = os.path.join(root, "output")

    def directories(self) -> list[str]:
        """Return every directory that a spool always has, parents first."""
        plain = [os.path.join(self.root, *name.split("/")) for name in DIRECTORIES]
        return [*plain, *(self.priority(number) for number in range(10))]

    def priority(self, priority: int) -> str:
        """Return the directory of a priority."""
        return os.path.join(self.pending, PRIORITY_NAMES[priority])

    def bucket(self, priority: int, name: str) -> str:
        """Return the directory of a bucket."""
        return f"{self.pending}{os.sep}{PRIORITY_NAMES[priority]}{os.sep}{name}"

    def fresh(self, not_before_ms: int, job_id: str) -> str:
        """Return the path of a new job's file on its way into `pending/`."""
        return os.path.join(self.tmp, pending_name(not_before_ms, job_id))

    def claims_of(self, worker: str) -> str:
        """Return the directory with a worker's claims."""
        return os.path.join(self.claimed, worker)

    def imported(self, worker: str, job_id: str) -> str:
        """Return the path of a file from `incoming/` that a worker makes into the job of this id."""
        return os.path.join(self.claimed, worker, f"in.{job_id}.json")

    def submitter(self, uid: int) -> str:
        """Return the directory that says how much another user has in the spool."""
        return os.path.join(self.submitters, str(uid))

    def worker(self, worker: str, *parts: str) -> str:
        """Return a worker's own directory, or a file in it."""
        return os.path.join(self.workers, worker, *parts)

    def ended(self, state: State) -> str:
        """Return the directory above the hours of an ended state."""
        return os.path.join(self.root, ENDED_DIRECTORIES[state])

    def ended_hour(self, state: State, hour_name: str) -> str:
        """Return the directory of the jobs that ended so in this hour."""
        # Not os.path.join, which would take as long as all the rest: this runs once for each job.
        return f"{self.root}{os.sep}{ENDED_DIRECTORIES[state]}{os.sep}{hour_name}"

    def ended_path(self, state: State, hour_name: str, job_id: str) -> str:
        """Return the path of an ended job."""
        return f"{self.ended_hour(state, hour_name)}{os.sep}{job_id}.json"

    def output(self, hour_name: str, job_id: str, number: int) -> str:
        """Return the path of what an attempt printed. The hour is that of the job's submit moment."""
        return f"{self._outputs}{os.sep}{hour_name}{os.sep}{job_id}.{number}.log"

    @property
    def outputs(self) -> str:
        """The directory above the hours of captured output."""
        return self._outputs
