"""The interface of a store of jobs: `Store` for any process, `Session` for a worker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from msgspec import Meta, Struct

from bgjobs.job import Job, JobError, Progress, State
from bgjobs.lifecycle import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from pathlib import Path

    from bgjobs.config.settings import Settings
    from bgjobs.errors import BgjobsError
    from bgjobs.lifecycle import Policy
    from bgjobs.signing import Keyring, Keys
    from bgjobs.slots import Slots


CancelResult = Literal["cancelled", "requested", "too late", "unknown"]
RunNowResult = Literal["now", "already due", "running", "too late", "unknown"]
DeleteResult = Literal["deleted", "not ended", "unknown"]


class Finding(Struct, frozen=True, kw_only=True):
    """Something about the store that a person should know.

    `code` is a stable word. `rule` names the rule that is broken (I1 to I10 of docs/internals/spool.md); it is empty
    for a leftover or a warning. `repairable` tells whether the next worker, or `doctor --repair`, repairs
    it. `serious` marks what breaks no rule by itself, but leaves a store that cannot be trusted, used or read.
    """

    code: str
    message: str
    path: str = ""
    rule: str = ""
    repairable: bool = False
    serious: bool = False

    @property
    def wrong(self) -> bool:
        """Whether something has to be done about it."""
        return bool(self.rule) or self.serious


class Fitness(Struct, frozen=True, kw_only=True):
    """Whether the disk under a store is fit for it: facts by name, and what should be changed."""

    facts: dict[str, str | int | bool | None]
    findings: list[Finding]


class Filter(Struct, frozen=True, kw_only=True):
    """Which jobs to list: every condition that is given must hold."""

    states: frozenset[State] = frozenset(State) - {State.CORRUPT}
    class_name: str | None = None
    method: str | None = None
    priority: int | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None

    def admits(self, job: Job) -> bool:
        """Tell whether the job meets every condition. `since` and `until` bound the submit moment."""
        return (
            job.state in self.states
            and self.class_name in {None, job.class_name}
            and self.method in {None, job.method}
            and self.priority in {None, job.priority}
            and (self.tag is None or self.tag in job.tags)
            and (self.since is None or job.submitted_at >= self.since)
            and (self.until is None or job.submitted_at < self.until)
            and (self.error is None or _mentions(job, self.error))
        )


def _mentions(job: Job, text: str) -> bool:
    return job.error is not None and text.lower() in f"{job.error.type}: {job.error.message}".lower()


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """What a worker tells about itself when it joins. With `only` it takes no jobs of other classes."""

    host: str
    pid: Annotated[int, Meta(ge=1, le=0x7FFF_FFFF)]
    concurrency: int
    started_at: Annotated[datetime, Meta(tz=True)]
    version: str
    only: tuple[str, ...] = ()
    min_priority: int = 0

    @property
    def name(self) -> str:
        """Host and pid as one word, as in `web1:2211`."""
        return f"{self.host}:{self.pid}"


class WorkerView(Struct, frozen=True, kw_only=True):
    """A worker as others see it. `alive` is what the kernel says, not what a file says.

    A worker that is alive but not `responsive` was stopped, as by Ctrl-Z or a debugger: it keeps its jobs and does
    nothing. `dropped` counts the lines that it could not write to the logs. A `stale` one runs code that was changed on
    the disk since.
    """

    id: str
    info: WorkerInfo
    alive: bool
    responsive: bool
    dropped: int = 0
    stale: bool = False


def _no_pairs() -> frozenset[tuple[str, str]]:
    return frozenset()


class Selection(Struct, frozen=True, kw_only=True):
    """Which jobs a worker takes at all.

    `pairs` returns the pairs of class and method that are allowed now, the same object until they change. With them a
    store can tell jobs of other classes without opening them.
    """

    classes: frozenset[str] | None = None
    min_priority: int = 0
    pairs: Callable[[], frozenset[tuple[str, str]]] = _no_pairs


class Claim(Struct, frozen=True):
    """A job that this worker alone may run. `place` is the store's own.

    `leftover` marks one from a dead worker, `full` one whose record has no room for a further attempt, `torn` one whose
    record ends in half a line. `distrust` says why its signature is not accepted: such a job must not run.
    """

    job: Job
    place: str
    leftover: bool = False
    full: bool = False
    distrust: JobError | None = None
    torn: bool = False


class Begin(Struct, frozen=True):
    """What the runner must do before it calls user code, or else not run the job.

    Append a line to the file at `path`: `head`, the moment in ms since 1970 (UTC), `tail`. With `success` append the
    end of an attempt that succeeded too, made of these two parts in the same way: then the success is on record even if
    worker and runner die before the worker knows of it. What the attempt printed is moved to `output`.
    """

    path: str
    head: str
    tail: str
    output: str
    success: tuple[str, str] | None = None


class AttemptRecord(Struct, frozen=True):
    """What the store knows of an attempt whose runner has died.

    `begun` tells whether it had begun, `succeeded_ms` when the runner recorded its success, in ms since 1970 (UTC).
    """

    begun: bool
    succeeded_ms: int | None = None


class Finish(Struct, frozen=True, kw_only=True):
    """What was decided about a claimed job.

    `running` is the job as its attempt ended, or as it was claimed if none had begun. `recorded` tells that its runner
    has recorded the end already.
    """

    claim: Claim
    running: Job
    verdict: Verdict
    at: datetime
    recorded: bool = False


class Bell(Protocol):
    """Wakes a waiting worker when there may be something new. It may ring for nothing, or too late."""

    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when it rings, if there is one."""

    def rang(self) -> bool:
        """Tell whether it rang since the last call."""


class Session(Protocol):
    """A worker in a store, from join to leave. Only the worker's loop calls it, from one thread."""

    id: str
    slots: Slots

    @property
    def bell(self) -> Bell:
        """Rings when there may be something new."""

    def claim(self, most: int, *, above: int = -1) -> list[Claim]:
        """Take at most so many due jobs of a priority higher than `above`: by priority, then by age.

        No two workers get the same one.
        """

    def begin(self, claim: Claim, *, slot: int, pid: int, birth: str) -> Begin | None:
        """Return what the runner in this slot must do right before it runs the job."""

    def attempt(self, claim: Claim) -> AttemptRecord:
        """Return how far the attempt of a dead runner came, as far as the store knows."""

    def finish(self, finishes: Sequence[Finish]) -> list[BgjobsError | OSError | None]:
        """Store what was decided about claimed jobs; return for each what kept it from being stored, or None.

        ClaimLostError: the claim is another worker's by now. SyncFailedError: it is stored, but may not survive a power
        cut. After an OSError it can be tried again.
        """

    def put_aside(self, claim: Claim, reason: str) -> None:
        """Put aside, for a person to look at, a claimed job whose id another claim of this worker has already."""

    def release(self, claim: Claim) -> None:
        """Put back a claimed job that was not begun: it is not charged. Raises ClaimLostError, OSError."""

    def renew(self, progress: Mapping[str, Progress], *, stale: bool = False, dropped: int = 0) -> Mapping[str, str]:
        """Tell others that this worker lives, store progress, and return who asked to cancel which job.

        `stale` tells others that this worker runs code that was changed on the disk since, `dropped` how many events
        its logs could not keep. Raises SessionLostError.
        """

    def stop_requests(self) -> int:
        """Return how often somebody has asked this worker to stop since the last call."""

    def recover(self) -> Iterator[Claim]:
        """Recover the claims of dead workers; go through those whose attempts were lost.

        They may be finished in any order, and later.
        """

    def import_jobs(self, policy_of: Callable[[str, str], Policy]) -> int:
        """Make jobs of what other programs have handed in, and return how many: none if the store has no such way.

        `policy_of` says how a pair of class and method is treated where a file does not. Raises nothing for a file
        that cannot be imported: it is put aside, or tried again later, and the others go on.
        """

    def tidy(self, *, keep_done: timedelta, keep_failed: timedelta) -> Iterator[int]:
        """Delete ended jobs older than this and leftovers of crashes, in short steps; give how many jobs each took.

        Anything else may be done between two steps. If it is broken off, the next worker does the rest.
        """

    def next_due(self) -> datetime | None:
        """Return when the next delayed job may start, as far as is known, or None."""

    def leave(self) -> None:
        """End the session. Claims must have been finished or released."""


class Unfinished(Struct, frozen=True):
    """Whether jobs may start now, will start later, or are claimed by some worker.

    `incoming` tells whether files of other programs wait to become jobs.
    """

    due: bool
    later: bool
    claimed: bool
    incoming: bool = False


class FileStore(Protocol):
    """What only a store in files on this machine can do: name files, verify jobs, find damage and repair it."""

    def verified(self, job_id: str) -> Job | None:
        """Return the job as `get` does. Where jobs are signed: raises RefusedError for one that is not, or not so."""

    def output_file(self, job: Job, attempt: int) -> Path | None:
        """Return the file with what an attempt has printed so far, or None when it printed nothing."""

    def findings(self, *, quick: bool = False) -> list[Finding]:
        """Check the store against its rules, while workers go on; `quick` leaves ended jobs unread."""

    def fitness(self) -> Fitness:
        """Test what the store lies on: disk, locks, clock, room."""

    def open_to_others(self) -> list[Finding]:
        """Return where other users could change what is stored. A worker refuses to work there."""

    def take_over(self, configured: Settings, keyring: Keyring | None) -> None:
        """Use changed settings, and sign and check with the keys of this file, or not at all."""

    def refresh_keys(self) -> Keys | None:
        """Return the keys that sign and check, read again if their file has changed, or None where jobs are not signed.

        Raises ConfigError, and goes on with those that it had, if it had any.
        """

    def repair(self) -> list[str]:
        """Repair what workers do not, as far as that is safe while they work; return what was done, in words."""


class Store(Protocol):
    """A store of jobs, for any process. No call blocks a worker. `files` is what only a store in files can do."""

    files: FileStore | None

    def is_there(self) -> bool:
        """Tell whether the store exists. A process that only reads does not make it."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Store new jobs, all or none of each group with one priority and minute; they are durable on return."""

    def get(self, job_id: str) -> Job | None:
        """Return the job, or None when there is none."""

    def retried(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return which of these jobs a later job retries, each with the latest that does: one that is still there."""

    def retrying(self) -> AbstractContextManager[None]:
        """Let nobody else retry jobs by condition meanwhile: two at once would both retry the same ones."""

    def ids(self, suffix: str) -> list[str]:
        """Return the ids that end so."""

    def jobs(self, where: Filter, *, before: str | None = None, limit: int = 0) -> Iterator[Job]:
        """Go through the jobs that meet the conditions, newest first: at most `limit`, or all with 0.

        `before` is the id of a job, known or not: only older ones are named. With the last id of one page it gives the
        next page, without gaps or repetitions however the jobs move meanwhile.
        """

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""

    def oldest_queued(self) -> datetime | None:
        """Return since when the oldest job that may start now has been able to, or None."""

    def unfinished(self, now: datetime) -> Unfinished:
        """Return whether there is work, cheaply: for a worker that ends when there is none."""

    def workers(self) -> list[WorkerView]:
        """Return all workers, and dead ones that were not recovered yet."""

    def stop(self, worker_id: str) -> bool:
        """Ask a worker to stop, as a signal does; return False when there is none of this id."""

    def read_output(self, job: Job, attempt: int, offset: int = 0) -> bytes:
        """Return what an attempt has printed so far, from this byte on. Raises SpoolError."""

    def cancel(self, job_id: str, by: str) -> CancelResult:
        """Cancel a job that has not begun, or ask for the end of a running one."""

    def run_now(self, job_id: str, by: str = "") -> RunNowResult:
        """Let a job whose moment lies ahead start at once; its priority stays. Anything else stays as it is."""

    def delete(self, job_id: str) -> DeleteResult:
        """Delete a job that has ended, and all that it printed."""

    def prune(self, states: Collection[State], before: datetime, *, dry_run: bool = False) -> int:
        """Delete the jobs that ended before this moment in one of these states; return how many.

        What is corrupt counts as ended when its file was last written. `dry_run` only counts.
        """

    def join(self, info: WorkerInfo, selection: Selection) -> Session:
        """Begin the session of a worker. Raises SpoolError."""
