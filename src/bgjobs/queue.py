"""The public `Queue`: check a request against the allowlist, then submit, look, wait, cancel, retry."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from bgjobs import clock, durations, secrets, settings, signatures
from bgjobs.allowlist import Allowlist, Target
from bgjobs.arguments import check, needs_conversion
from bgjobs.errors import (
    JobFailed,
    JobWasCancelled,
    NoSuchJobError,
    NotEndedError,
    RefusedError,
    UsageError,
)
from bgjobs.events import Log
from bgjobs.ids import ID, SUFFIX
from bgjobs.job import Job, State
from bgjobs.requests import Request, by, check_size, length, new_job
from bgjobs.spool.spool_queue import SpoolQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from bgjobs.backend import Backend, CancelResult, Filter, RunNowResult, WorkerView
    from bgjobs.settings import Settings
    from bgjobs.signatures import Signature, Unreadable
    from bgjobs.signing import Keyring

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.2
KNOWN_S = 1.0  # a source that is changed is looked at again after that; the runner takes it as it is then in any case
ENDED_AS_JOBS = (State.DONE, State.FAILED, State.CANCELLED)


class Queue:
    """The jobs of one project."""

    def __init__(self, configured: Settings) -> None:
        """Open the queue of these settings. Raises ConfigError or SpoolError."""
        self.settings = configured
        self.allowlist = Allowlist(configured)
        self._backend: SpoolQueue | None = None
        self._known: dict[tuple[str, str], Signature | Unreadable] = {}
        self._known_since = -KNOWN_S
        self.log = Log(configured.log_dir, beside=os.path.join(configured.spool, "VERSION"))

    @classmethod
    def open(cls, *, config: str | None = None, spool: str | None = None, strict: bool = True) -> Self:
        """Open the queue of the project here: the allowlist in this directory or above it, or the one named.

        An allowlist that other users could have written is refused, unless `strict` is false: to look for mistakes.
        """
        return cls(settings.load_whole(config=config, spool=spool, strict=strict))

    @property
    def backend(self) -> Backend:
        """The store behind the queue, opened when it is first needed."""
        if self._backend is None:
            self._backend = SpoolQueue(self.settings, self.log)
        return self._backend

    def take_over(self, configured: Settings, allowlist: Allowlist, keyring: Keyring | None) -> None:
        """Go on with changed settings and the keys that they name, but with the same spool and logs."""
        self._known_since = -KNOWN_S
        self.settings = msgspec.structs.replace(configured, spool=self.settings.spool, log_dir=self.settings.log_dir)
        self.allowlist = allowlist
        self.backend.take_over(self.settings, keyring)

    # Submitting

    def submit(
        self,
        class_name: str,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        priority: str | int | None = None,
        delay: str | float | timedelta | None = None,
        at: datetime | None = None,
        retries: int | None = None,
        retry_delay: str | float | timedelta | None = None,
        timeout: str | float | timedelta | None = None,
        tags: Sequence[str] = (),
        text: bool = False,
    ) -> Job:
        """Queue one job and return it; it is durable then. Lengths are seconds, a text such as "90s", or a timedelta.

        Raises RefusedError (not allowed, no such method, wrong arguments), UsageError (bad value) or SpoolError.
        """
        request = Request(
            class_name=class_name,
            method=method,
            args=args,
            kwargs=kwargs or {},
            priority=priority,
            delay=delay,
            at=at,
            retries=retries,
            retry_delay=retry_delay,
            timeout=timeout,
            tags=tags,
            text=text,
        )
        return self.submit_many([request])[0]

    def submit_many(self, requests: Iterable[Request]) -> list[Job]:
        """Queue jobs, all checked before the first is stored; those with one priority and minute all or none."""
        jobs = self.prepare_many(requests)
        self._store(jobs)
        return jobs

    def _store(self, jobs: Sequence[Job]) -> None:
        self.backend.refresh_keys()
        self.backend.submit(jobs)
        with self.log.together():
            for job in jobs:
                self.log.submitted(job, job.submitted_at)

    def prepare_many(self, requests: Iterable[Request]) -> list[Job]:
        """Check requests and return the jobs that they would be, as `prepare` does. The first refusal ends it."""
        return [self.prepare(request) for request in requests]

    def prepare(self, request: Request) -> Job:
        """Check a request and return the job that it would be, without storing it. A refusal is logged."""
        try:
            target = self.allowlist.target(request.class_name, request.method)
            text = self._check_arguments(target, request)
        except RefusedError as error:
            self.log.refused_at_submit(request.class_name, request.method, error.code, str(error), clock.now())
            raise
        return new_job(target, request, text=text)

    def signature(self, target: Target) -> Signature | Unreadable:
        """Return what the source says an approved method takes, without importing it."""
        return signatures.read(target.module, target.owner, target.method, self.settings.import_paths)

    def _check_arguments(self, target: Target, request: Request) -> bool:
        """Refuse arguments that cannot fit; return whether some of them are text to be converted."""
        check_size(target, request)
        signature = self._signature_of_late(target)
        if isinstance(signature, signatures.Signature):
            check(signature, request.args, request.kwargs, text=request.text, secret=target.secret)
        return request.text and needs_conversion(signature)

    def _signature_of_late(self, target: Target) -> Signature | Unreadable:
        """Return what the source said a moment ago: to find the file again takes longer than all the rest."""
        now = time.monotonic()
        if now - self._known_since > KNOWN_S:
            self._known, self._known_since = {}, now
        pair = target.class_name, target.method
        return self._known.get(pair) or self._known.setdefault(pair, self.signature(target))

    # Looking

    def get(self, job_id: str) -> Job:
        """Return the job of this id, or of a unique end of one (8 or more characters). Raises NoSuchJobError."""
        full = self.full_id(job_id)
        job = self.backend.get(full)
        if job is None:
            raise NoSuchJobError(f"no job {job_id}", hint="see `bgjobs list`; ended jobs are pruned after a while")
        return job

    def full_id(self, job_id: str) -> str:
        """Return the id that ends so. Raises UsageError for a bad shape, NoSuchJobError when none or several do."""
        if ID.fullmatch(job_id):
            return job_id
        if not SUFFIX.fullmatch(job_id):
            raise UsageError(
                f"bad job id {job_id[:40]!a}",
                hint="an id is 26 letters and digits, or the last 8 or more of them",
                code="bad-id",
            )
        found = self.backend.ids(job_id)
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoSuchJobError(f"no job ends with {job_id}", hint="see `bgjobs list`")
        raise UsageError(f"{len(found)} jobs end with {job_id}", hint="give more characters", code="bad-id")

    def jobs(self, where: Filter | None = None, **conditions: Any) -> Iterator[Job]:  # noqa: ANN401 - as Filter's
        """Go through the jobs that meet the conditions, newest first.

        Conditions: `state` (one, or several in a list), `class_name`, `method`, `priority`, `tag`, `since`, `until`
        (submit moments), `error` (part of the error's text).
        """
        from bgjobs.backend import Filter  # noqa: PLC0415 - who only submits does without it

        if where is None:
            states = conditions.pop("state", None)
            if states is not None:
                chosen = [states] if isinstance(states, str) else states
                conditions["states"] = frozenset(State(state) for state in chosen)
            where = Filter(**conditions)
        return self.backend.jobs(where)

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        return self.backend.counts()

    def workers(self) -> list[WorkerView]:
        """Return the workers that left a trace, dead ones included."""
        return self.backend.workers()

    def hidden(self, job: Job) -> frozenset[str]:
        """Return which arguments of the job are secret, in the form that `Job.to_json` takes."""
        target = self.allowlist.find(job.class_name, job.method)
        if target is None:
            return secrets.ALL
        if not target.secret:
            return frozenset()
        try:
            signature = self.signature(target)
        except RefusedError:
            return secrets.ALL
        if not isinstance(signature, signatures.Signature):
            return secrets.ALL
        return signature.hidden(target.secret)

    # Waiting and changing

    def wait(self, job_id: str, timeout: float | timedelta | None = None) -> Job:
        """Wait until the job has ended and return it, if it is done.

        `timeout` is in seconds. Raises JobFailed, JobWasCancelled, or TimeoutError.
        """
        job = self.ended(job_id, timeout)
        if job.state is State.CANCELLED:
            raise JobWasCancelled(job, f"job {job.id} was cancelled")
        if job.state is not State.DONE:
            reason = f"{job.error.type}: {job.error.message}" if job.error else job.state
            raise JobFailed(job, f"job {job.id} failed: {reason}")
        return job

    def ended(self, job_id: str, timeout: float | timedelta | None = None) -> Job:
        """Wait until the job has ended, however it did, and return it. Raises TimeoutError after so many seconds."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = FIRST_PAUSE
        while not (job := self.get(job_id)).state.ended:
            left = LONGEST_PAUSE if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"job {job.id} has not ended: it is {job.state}")
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE)
        return job

    def cancel(self, job_id: str) -> CancelResult:
        """Cancel a job that has not begun, or ask its worker to stop it. Raises NoSuchJobError."""
        result = self.backend.cancel(self.full_id(job_id), by())
        if result == "unknown":
            raise _no_such(job_id)
        return result

    def run_now(self, job_id: str) -> RunNowResult:
        """Let a job whose moment lies ahead start at once. Raises NoSuchJobError.

        Returns "now", or else why nothing was to be done: "already due", "running", or "too late" (it had ended).
        """
        result = self.backend.run_now(self.full_id(job_id), by())
        if result == "unknown":
            raise _no_such(job_id)
        return result

    def delete(self, job_id: str) -> None:
        """Delete an ended job, and all that it printed. Raises NoSuchJobError, or NotEndedError."""
        full = self.full_id(job_id)
        match self.backend.delete(full):
            case "unknown":
                raise _no_such(job_id)
            case "not ended":
                raise NotEndedError(f"job {full} has not ended", hint="cancel it first")
            case "deleted":
                return

    def prune(
        self,
        *,
        older: str | float | timedelta | None = None,
        state: str | Sequence[str] = ENDED_AS_JOBS,
        dry_run: bool = False,
    ) -> int:
        """Delete the jobs that ended longer ago than `older`; return how many. `dry_run` only counts.

        Without `older` (seconds, a text such as "7d", or a timedelta) the settings `keep_done` and `keep_failed` say
        how long. `state` is one state or several of done, failed, cancelled and corrupt; what is corrupt (not a valid
        job file) goes only when it is named. Raises UsageError or SpoolError.
        """
        now, count = clock.now(), 0
        for chosen in _ended_states(state):
            configured = self.settings.keep_done if chosen is State.DONE else self.settings.keep_failed
            keep = configured if older is None else min(length("age", older), durations.LONGEST)
            count += self.backend.prune({chosen}, now - keep, dry_run=dry_run)
        return count

    def to_retry(self, job_id: str) -> Job:
        """Return an ended job that may be submitted again. Raises UsageError if it has not ended.

        Where jobs are signed, only one that was: a record that somebody put there would else be signed by the retry.
        """
        old = self.get(job_id)
        if not old.state.ended:
            raise UsageError(f"job {old.id} is {old.state}", hint="only an ended job can be retried", code="not-ended")
        try:
            vouched = self.backend.vouched(old.id)
        except RefusedError as error:
            refusal = RefusedError(f"job {old.id}: {error.message}", hint=error.hint, code=error.code)
            self.log.refused_at_submit(old.class_name, old.method, refusal.code, str(refusal), clock.now())
            raise refusal from None
        if vouched is None:
            raise _no_such(job_id)
        return vouched

    def retry(self, job_id: str) -> Job:
        """Submit an ended job again, as a new job that names the old one. Raises UsageError if it has not ended."""
        old = self.to_retry(job_id)
        request = Request(
            class_name=old.class_name,
            method=old.method,
            args=old.args,
            kwargs=old.kwargs,
            priority=old.priority,
            delay=0,
            retries=old.retries,
            retry_delay=old.retry_delay,
            timeout=old.timeout,
            tags=old.tags,
            text=old.text,
            retry_of=old.id,
        )
        # What another user may not run must not run because somebody repeats all that failed.
        job = msgspec.structs.replace(self.prepare(request), from_user=old.from_user)
        self._store([job])
        return job


def _no_such(job_id: str) -> NoSuchJobError:
    return NoSuchJobError(f"no job {job_id}", hint="see `bgjobs list`")


def _ended_states(chosen: str | Sequence[str]) -> set[State]:
    """Return the states that were named. Raises UsageError for one in which jobs have not ended."""
    named = {chosen} if isinstance(chosen, str) else set(chosen)
    known = {state.value: state for state in State if state.ended}
    for name in named - known.keys():
        hint = f"use one of {', '.join(known)}"
        raise UsageError(f"bad state {str(name)[:40]!r}", hint=hint, code="bad-state")
    return {known[name] for name in named}


def run_background_job(
    class_name: str,
    method: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    priority: str | int | None = None,
    delay: str | float | timedelta | None = None,
    retries: int | None = None,
    timeout: str | float | timedelta | None = None,
) -> str:
    """Queue one job of the project here and return its id. See `Queue.submit`, which can do more."""
    queue = Queue.open()
    return queue.submit(
        class_name, method, args, kwargs, priority=priority, delay=delay, retries=retries, timeout=timeout
    ).id
