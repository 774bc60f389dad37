"""What a worker does beside running jobs: take over from dead workers, delete what is old, notice changed files."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from bgjobs import audit, clock, lifecycle, settings, signing, users
from bgjobs.allowlist import Allowlist
from bgjobs.errors import BgjobsError
from bgjobs.job import Crashed, JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from bgjobs.backend import Session
    from bgjobs.job import Job
    from bgjobs.lifecycle import Policy
    from bgjobs.queue import Queue
    from bgjobs.settings import Settings

TIDY_EVERY_S = 600.0
FIRST_TIDY_S = 30.0
SLICE_S, PAUSE_S = 0.02, 0.2
LOOK_EVERY_S = 1.0


def recover(session: Session, queue: Queue) -> int:
    """End the attempts of dead workers as lost, and queue their jobs again; return how many there were."""
    count = 0
    for claim in session.recover():
        now = clock.now()
        worker = claim.job.attempts[-1].worker
        outcome = Crashed(JobError(type="WorkerLost", message=f"worker {worker} died"), worker_lost=True)
        job = lifecycle.after(claim.job, outcome, policy_of(queue, claim.job), now, random.random())  # noqa: S311 - jitter
        session.finish(claim, job)
        queue.log.ended(claim.job, job, outcome, now)
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
    """Notices that the allowlist, the signing keys, or with `code` the job modules, have changed on disk."""

    def __init__(self, queue: Queue, *, code: bool, only: Collection[str], say: Callable[[str], None]) -> None:
        """Remember how the files are now. `only` are the classes of which jobs are run, all if there is none."""
        self._queue = queue
        self._only = only
        self._say = say
        self._code = code
        self._next = 0.0
        self._allowlist_mark = _mark(queue.settings.config)
        self._code_mark = self._newest()
        self._keys = queue.backend.refresh_keys()
        self._keys_trouble = ""

    def changed(self) -> bool:
        """Take a changed and valid allowlist over; return whether runners have to be replaced."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + LOOK_EVERY_S
        self._look_at_keys()
        return self._allowlist_changed() | self._code_changed()

    def _look_at_keys(self) -> None:
        """Take changed signing keys over; of a file that is broken say so once, and keep those that we have."""
        trouble = ""
        try:
            keys = self._queue.backend.refresh_keys()
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
        mark = _mark(self._queue.settings.config)
        if mark == self._allowlist_mark or mark is None:
            return False
        self._allowlist_mark = mark
        try:
            fresh = settings.load(config=self._queue.settings.config, spool=self._queue.settings.spool)
            allowlist = Allowlist(fresh)
            audit.refuse(fresh, allowlist)
            users.refuse(users.those_of(allowlist, self._only))
            keyring = _keyring(fresh)
        except BgjobsError as error:
            self._say(f"the changed allowlist is not taken over: {error}")
            return False
        if fresh.digest == self._queue.settings.digest:
            return False
        before = self._queue.settings
        self._queue.take_over(fresh, allowlist, keyring)
        count = len(list(allowlist))
        self._say(f"took over the changed allowlist: {count} method{'s'[: count != 1]} may run")
        return _surroundings(before) != _surroundings(fresh)

    def _code_changed(self) -> bool:
        newest = self._newest()
        if newest == self._code_mark:
            return False
        self._code_mark = newest
        self._say("job modules changed: the next jobs run in fresh processes")
        return True

    def _newest(self) -> tuple[int, int]:
        """Return the number of source files and the newest change among them, in ns."""
        if not self._code:
            return 0, 0
        count = newest = 0
        for root in self._queue.settings.import_paths:
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
                for name in names:
                    if name.endswith(".py"):
                        count += 1
                        newest = max(newest, (_mark(os.path.join(folder, name)) or (0, 0, 0))[0])
        return count, newest


def _surroundings(configured: Settings) -> tuple[object, ...]:
    return configured.import_paths, configured.cwd, configured.pass_env


def _keyring(configured: Settings) -> signing.Keyring | None:
    """Return the file with the signing keys, if there is to be one, read. Raises ConfigError."""
    if not configured.signing_keys:
        return None
    keyring = signing.Keyring(configured.signing_keys, configured.spool)
    keyring.keys()
    return keyring


def _mark(path: str) -> tuple[int, int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
