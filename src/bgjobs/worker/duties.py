"""What a worker does beside jobs: recover, import, delete what is old, mend."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from bgjobs import __version__, clock, lifecycle, signing, system
from bgjobs.config import run_as, settings, trust
from bgjobs.config.allowlist import Allowlist
from bgjobs.errors import BgjobsError
from bgjobs.events import Decided
from bgjobs.job import Crashed, JobError
from bgjobs.queue import store_of, take_over
from bgjobs.store import Finish, Selection, WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from bgjobs.config.settings import Settings
    from bgjobs.job import Job
    from bgjobs.lifecycle import Policy
    from bgjobs.queue import Queue
    from bgjobs.signing import Keys
    from bgjobs.store import Session


RECOVERED = {"dead-worker", "claims-without-worker"}
REPAIR_S, REPAIR_PAUSE_S = 10.0, 0.25


def repair(queue: Queue) -> list[str]:
    """Do what the next worker would, without running any job, and mend what is broken; return what was done.

    Safe while workers run: it takes a place beside them, and plays by the same locks and renames.
    """
    info = WorkerInfo(host=system.host(), pid=os.getpid(), concurrency=0, started_at=clock.now(), version=__version__)
    session = store_of(queue).join(info, Selection())
    try:
        count = _recover_all(session, queue)
        done = [f"ended {count} lost {'attempt' if count == 1 else 'attempts'} of dead workers"] if count else []
        in_files = store_of(queue).files
        done += [] if in_files is None else in_files.mend()
        for _ in session.tidy(keep_done=queue.settings.keep_done, keep_failed=queue.settings.keep_failed):
            pass
    finally:
        session.leave()
    return done


def _recover_all(session: Session, queue: Queue) -> int:
    """Recover until nothing is left that can be, or for as long as a place without its lock must be watched."""
    count, deadline = 0, time.monotonic() + REPAIR_S
    while True:
        count += recover(session, queue)
        in_files = store_of(queue).files
        left = [] if in_files is None else in_files.findings(quick=True)
        if not any(finding.code in RECOVERED for finding in left) or time.monotonic() > deadline:
            return count
        time.sleep(REPAIR_PAUSE_S)


TIDY_EVERY_S = 600.0
FIRST_TIDY_S = 30.0
SLICE_S, PAUSE_S = 0.02, 0.2
LOOK_EVERY_S = 1.0
STILL_S = 1.0  # so long a file must not have changed before it is taken over
LONG_STILL_S = 5.0  # the same for one that could be the beginning of a longer one: a copy over a network may pause
JUDGE_EVERY_S = 5.0


def recover(session: Session, queue: Queue) -> int:
    """End the attempts of dead workers as lost, and queue their jobs again; return how many there were."""
    count = 0
    for claim in session.recover():
        now = clock.now()
        worker = claim.job.attempts[-1].worker
        outcome = Crashed(JobError(type="WorkerLost", message=f"worker {worker} died"), worker_lost=True)
        verdict = lifecycle.after(claim.job, outcome, policy_of(queue, claim.job), now, random.random())  # noqa: S311 - jitter
        (error,) = session.finish([Finish(claim=claim, running=claim.job, verdict=verdict, at=now)])
        if error is not None:
            raise error  # the next round goes on from there
        queue.events.emit(Decided(claim.job, verdict, outcome, now))
        count += 1
    return count


def import_jobs(session: Session, queue: Queue) -> int:
    """Make jobs of what other programs have handed in; return how many. Which of them may run is asked at the claim."""
    return session.import_jobs(lambda class_name, method: _policy(queue, class_name, method))


def policy_of(queue: Queue, job: Job) -> Policy:
    """Return how the job is treated, by the project's defaults if its pair is not allowed any more."""
    return lifecycle.with_wishes(_policy(queue, job.class_name, job.method), job)


def _policy(queue: Queue, class_name: str, method: str) -> Policy:
    target = queue.allowlist.find(class_name, method)
    return queue.settings.policy if target is None else target.policy


class Tidying:
    """Deletes old jobs now and then, a little at a time: what the worker is there for goes on meanwhile."""

    def __init__(self) -> None:
        """Wait a little first: a worker that has just started has better things to do."""
        self._next = time.monotonic() + FIRST_TIDY_S
        self._steps: Iterator[int] | None = None

    def check(self, session: Session, configured: Settings) -> None:
        """Tidy up when it is time, or go on with it, but only for a moment."""
        now = time.monotonic()
        if now < self._next:
            return
        steps = self._steps
        if steps is None:
            steps = session.tidy(keep_done=configured.keep_done, keep_failed=configured.keep_failed)
        self._steps, self._next = None, now + TIDY_EVERY_S  # so also when a step fails
        for _ in steps:
            if time.monotonic() - now >= SLICE_S:
                self._steps, self._next = steps, now + PAUSE_S
                return


class Watch:
    """Takes over a changed allowlist and changed signing keys, and notices that paths lead elsewhere.

    Whoever writes a file may be in the middle of it, and half an allowlist can be a valid one. So a file counts when it
    has stood still for a while.
    """

    def __init__(self, queue: Queue, *, only: Collection[str], say: Callable[[str], None]) -> None:
        """Remember how the files are now. `only` are the classes of which jobs are run, all if there is none."""
        self._queue = queue
        self._only = only
        self._say = say
        self._next = 0.0
        self._loaded = _mark_of_loaded(queue.settings)
        self._seen, self._seen_at = self._loaded, 0.0
        self._judged: tuple[tuple[int, ...] | None, str] = None, ""
        self._judge_at = 0.0
        self._places = self._places_seen = _places(queue.settings)
        self._keys = _keys_of(queue)
        self._keys_trouble = ""
        self._keys_seen, self._keys_seen_at = self._keys_mark(), float("-inf")

    def changed(self) -> bool:
        """Take a changed and valid allowlist over; return whether runners have to be replaced."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + LOOK_EVERY_S
        self._look_at_keys()
        return self._allowlist_changed() | self._places_changed()

    def is_current(self) -> bool:
        """Tell whether the file on the disk is the one that was taken over: only then is a refusal for good."""
        return self._loaded is not None and _mark(self._queue.settings.config) == self._loaded

    def keys_are_current(self) -> bool:
        """Tell whether the file of the signing keys has stood still for a while: only then is a refusal for good."""
        return time.monotonic() >= self._keys_seen_at + STILL_S and self._keys_mark() == self._keys_seen

    def _keys_mark(self) -> tuple[int, ...] | None:
        path = self._queue.settings.signing_keys
        return _mark(path) if path else None

    def _look_at_keys(self) -> None:
        """Take changed signing keys over; of a file that is broken say so once, and keep those that we have."""
        mark = self._keys_mark()
        if mark != self._keys_seen:
            self._keys_seen, self._keys_seen_at = mark, time.monotonic()
        trouble = ""
        try:
            keys = _keys_of(self._queue)
        except BgjobsError as error:
            trouble = str(error)
            if trouble != self._keys_trouble:
                self._say(f"the changed signing keys are not taken over: {trouble}")
        else:
            if keys is not None and keys is not self._keys:
                self._say(f"took over the changed signing keys: {keys.ids[0]} signs, {len(keys.ids)} verify")
            self._keys = keys
        self._keys_trouble = trouble

    def _allowlist_changed(self) -> bool:
        now = time.monotonic()
        mark = _mark(self._queue.settings.config)
        if mark is not None and mark == self._loaded:
            return False
        if mark != self._seen:
            self._seen, self._seen_at = mark, now
            return False
        still = now - self._seen_at
        if still < STILL_S or (mark == self._judged[0] and now < self._judge_at):
            return False
        if mark is None:
            self._refuse(mark, f"{self._queue.settings.config} is gone: put it back, or stop the worker")
            return False
        return self._judge(mark, still)

    def _judge(self, mark: tuple[int, ...], still: float) -> bool:
        """Take over a file that has stood still so long, if it is whole; return whether runners must be replaced."""
        before = self._queue.settings
        try:
            fresh, allowlist, keyring = self._checked()
        except BgjobsError as error:
            if _mark(before.config) == mark:
                self._refuse(mark, str(error))
            return False
        if _mark(before.config) != mark:
            return False  # it was changed while it was read: the next look sees that
        if fresh.digest == before.digest:
            self._loaded = mark
            return False
        known, allowed = set(_pairs(self._queue.allowlist)), set(_pairs(allowlist))
        if known and not allowed:
            self._refuse(mark, f"{before.config} allows nothing any more: correct it, or stop the worker")
            return False
        if still < LONG_STILL_S and (known - allowed or not fresh.text.endswith("\n")):
            return False  # perhaps only its beginning is there yet
        take_over(self._queue, fresh, allowlist, keyring)
        self._loaded = mark
        self._say(f"took over the changed allowlist: {len(allowed)} method{'s'[: len(allowed) != 1]} may run")
        if _surroundings(before) == _surroundings(fresh):
            return False
        self._places = self._places_seen = _places(fresh)
        return True

    def _checked(self) -> tuple[Settings, Allowlist, signing.Keyring | None]:
        """Read the file and what it names. Raises ConfigError, also for what must not be taken over."""
        before = self._queue.settings
        fresh = settings.load(config=before.config, spool=before.spool)
        allowlist = Allowlist(fresh)
        if fresh.digest == before.digest:
            return fresh, allowlist, None
        trust.refuse(fresh, allowlist)
        run_as.refuse(run_as.those_of(allowlist, self._only))
        return fresh, allowlist, _keyring(fresh)

    def _refuse(self, mark: tuple[int, ...] | None, reason: str) -> None:
        """Say once why a file is not taken over. It is looked at again: what is wrong may be mended elsewhere."""
        self._judge_at = time.monotonic() + JUDGE_EVERY_S
        if self._judged != (mark, reason):
            self._judged = mark, reason
            self._say(f"the changed allowlist is not taken over: {reason}")

    def _places_changed(self) -> bool:
        """Tell whether an import path or the working directory has become another one, as by a switched link."""
        places = _places(self._queue.settings)
        # A link that is being switched may be missing for a moment.
        gone = any(now is None and before is not None for now, before in zip(places, self._places, strict=True))
        if places == self._places or gone:
            return False
        if places != self._places_seen:
            self._places_seen = places
            return False
        self._places = places
        self._say("import_paths or cwd lead to other directories now: the next jobs run in fresh processes")
        return True


def _keys_of(queue: Queue) -> Keys | None:
    """Return the keys that sign and check jobs, read again if their file has changed. Raises ConfigError."""
    in_files = store_of(queue).files
    return None if in_files is None else in_files.refresh_keys()


def _pairs(allowlist: Allowlist) -> Iterator[tuple[str, str]]:
    return ((target.class_name, target.method) for target in allowlist)


def _mark_of_loaded(configured: Settings) -> tuple[int, ...] | None:
    """Return the mark of the allowlist if it is surely what was loaded, and nobody has just been writing it."""
    mark = _mark(configured.config)
    if mark is None or not 0 <= max(mark[:2]) < time.time_ns() - int(STILL_S * 2e9):
        return None
    try:
        with open(configured.config, "rb") as file:
            same = file.read() == configured.text.encode()
    except OSError:
        return None
    return mark if same and _mark(configured.config) == mark else None


def _places(configured: Settings) -> tuple[tuple[str, int, int] | None, ...]:
    """Return which directories the import paths and the working directory are; None is one that is not there."""
    return tuple(_place(path) for path in (*configured.import_paths, configured.cwd))


def _place(path: str) -> tuple[str, int, int] | None:
    try:
        state = os.stat(path)
        return os.path.realpath(path), state.st_dev, state.st_ino
    except OSError:
        return None


def _surroundings(configured: Settings) -> tuple[object, ...]:
    return configured.import_paths, configured.cwd, configured.pass_env


def _keyring(configured: Settings) -> signing.Keyring | None:
    """Return the file with the signing keys, if there is to be one, read. Raises ConfigError."""
    if not configured.signing_keys:
        return None
    keyring = signing.Keyring(configured.signing_keys, configured.spool)
    keyring.keys()
    return keyring


def _mark(path: str) -> tuple[int, ...] | None:
    """Return what tells one state of a file from another; its time of change, owner and mode included."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    times = state.st_mtime_ns, state.st_ctime_ns
    return (*times, state.st_size, state.st_dev, state.st_ino, state.st_mode, state.st_uid, state.st_gid)
