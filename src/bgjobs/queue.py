"""The public `Queue`: check a request against the allowlist, then submit, look, wait, cancel, retry."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Never, TypeVar

import msgspec

from bgjobs import clock
from bgjobs.calls import masking, signatures
from bgjobs.calls.binding import check, needs_conversion
from bgjobs.config import settings
from bgjobs.config.allowlist import Allowlist, Target
from bgjobs.config.settings import Settings
from bgjobs.errors import (
    JobFailed,
    JobWasCancelled,
    NoSuchJobError,
    NotEndedError,
    RefusedError,
    UsageError,
)
from bgjobs.event_log import Log
from bgjobs.events import Bus, SubmissionRefused, Submitted
from bgjobs.ids import ID, SUFFIX
from bgjobs.job import ENDED, Job, State
from bgjobs.requests import Request, by, duration, filter_of, flag, new_job, plain_arguments, shown, states_of
from bgjobs.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from os import PathLike
    from typing import Self

    from bgjobs.calls.signatures import Signature, Unreadable
    from bgjobs.requests import Length, Number, Priority, When, Words
    from bgjobs.signing import Keyring
    from bgjobs.store import CancelResult, Filter, RunNowResult, Store, WorkerView

Wanted = TypeVar("Wanted")
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.2
KNOWN_S = 1.0  # a source that is changed is looked at again after that; the runner takes it as it is then in any case
ENDED_AS_JOBS = (State.DONE, State.FAILED, State.CANCELLED)


class Queue:
    """The jobs of one project."""

    def __init__(self, configured: Settings) -> None:
        """Open the queue of these settings. Raises ConfigError or SpoolError."""
        self.settings = _instance("settings", configured, Settings, "use Queue.open() to find those of the project")
        self.allowlist = Allowlist(configured)
        self._opened: Store | None = None
        self._known: dict[tuple[str, str], Signature | Unreadable] = {}
        self._known_since = -KNOWN_S
        # The project's own spool may begin with a refusal; one that was named may be mistyped.
        begins_with_spool = bool(configured.spool_from) and configured.log_dir.startswith(configured.spool + os.sep)
        version = os.path.join(configured.spool, "VERSION")
        self.events = Bus(Log(configured.log_dir, beside=version, begins_with_spool=begins_with_spool))

    @classmethod
    def open(
        cls, *, config: str | PathLike[str] | None = None, spool: str | PathLike[str] | None = None, strict: bool = True
    ) -> Self:
        """Open the queue of the project here: the allowlist in this directory or above it, or the one named.

        An allowlist that other users could have written is refused, unless `strict` is false: to look for mistakes.
        Raises ConfigError, or UsageError for what is no path.
        """
        strict = flag("strict", strict)
        return cls(settings.load_whole(config=_path("config", config), spool=_path("spool", spool), strict=strict))

    @property
    def _store(self) -> Store:
        """The store behind the queue, opened when it is first needed, and made by the first job or worker."""
        if self._opened is None:
            self._opened = open_store(self.settings, self.events.emit)
        return self._opened

    def _take_over(self, configured: Settings, allowlist: Allowlist, keyring: Keyring | None) -> None:
        self._known_since = -KNOWN_S
        self.settings = msgspec.structs.replace(configured, spool=self.settings.spool, log_dir=self.settings.log_dir)
        self.allowlist = allowlist
        if self._store.files is not None:
            self._store.files.take_over(self.settings, keyring)

    # Submitting

    def submit(
        self,
        class_name: str,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *rest: Never,
        priority: Priority | None = None,
        delay: Length | None = None,
        at: When | None = None,
        retries: Number | None = None,
        retry_delay: Length | None = None,
        timeout: Length | None = None,
        tags: Words | None = (),
        text: bool = False,
    ) -> Job:
        """Queue one job and return it; it is durable then. Lengths are seconds, a text such as "90s", or a timedelta.

        `at` is a datetime or a text such as "2026-12-01 09:00", local without a zone. What comes after `kwargs` is
        given by name. Raises RefusedError (not allowed, no such method, wrong arguments), UsageError (bad value) or
        SpoolError.
        """
        _refuse_order("queue.submit", class_name, method, kwargs, rest)
        request = Request(
            class_name=class_name,
            method=method,
            args=args,
            kwargs=kwargs,
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
        try:
            walk = iter(requests)
        except TypeError:
            hint = "pass Requests in a list"
            raise UsageError(f"bad requests {shown(requests)}", hint=hint, code="bad-requests") from None
        jobs = [self.prepare(request) for request in walk]
        self._submit(jobs)
        return jobs

    def _submit(self, jobs: Sequence[Job]) -> None:
        store = self._store
        if store.files is not None:
            store.files.refresh_keys()
        store.submit(jobs)
        with self.events.together():
            for job in jobs:
                self.events.emit(Submitted(job, job.submitted_at))

    def prepare(self, request: Request) -> Job:
        """Check a request and return the job that it would be, without storing it. A refusal is logged."""
        hint = "make one: Request(class_name=…, method=…, args=[…])"
        request = _instance("request", request, Request, hint)
        names = "pass its name in allowed_jobs.toml as text"
        class_name = _instance("class_name", request.class_name, str, names)
        method = _instance("method", request.method, str, names)
        is_text = flag("text", request.text)
        try:
            target = self.allowlist.target(class_name, method)
            args, kwargs = plain_arguments(f"{class_name}.{method}", request.args, request.kwargs)
            text = self._check_arguments(target, args, kwargs, text=is_text)
        except RefusedError as error:
            self.events.emit(SubmissionRefused(class_name, method, error.code, str(error), clock.now()))
            raise
        return new_job(target, request, args, kwargs, text=text)

    def _check_arguments(self, target: Target, args: Sequence[Any], kwargs: Mapping[str, Any], *, text: bool) -> bool:
        """Refuse arguments that cannot fit; return whether some of them are text to be converted.

        A text that could not become what its annotation says is refused also where it would stay a text.
        """
        signature = self._recent_signature(target)
        if isinstance(signature, signatures.Signature):
            check(signature, args, kwargs, text=True, secret=target.secret)
        return text and needs_conversion(signature)

    def _recent_signature(self, target: Target) -> Signature | Unreadable:
        """Return the signature, read at most a second ago: finding the file takes longer than all other checks."""
        now = time.monotonic()
        if now - self._known_since > KNOWN_S:
            self._known, self._known_since = {}, now
        pair = target.class_name, target.method
        return self._known.get(pair) or self._known.setdefault(pair, read_signature(self.settings, target))

    # Looking

    def get(self, job_id: str) -> Job:
        """Return the job of this id, or of a unique end of one (8 or more characters). Raises NoSuchJobError."""
        job = self._store.get(full_id(self, job_id))
        if job is None:
            raise NoSuchJobError(f"no job {job_id}", hint="see `bgjobs list`; ended jobs are pruned after a while")
        return job

    def jobs(
        self,
        where: Filter | None = None,
        *,
        state: str | Collection[str] | None = None,
        class_name: str | None = None,
        method: str | None = None,
        priority: Priority | None = None,
        tag: str | None = None,
        since: Length | When | None = None,
        until: Length | When | None = None,
        error: str | None = None,
    ) -> Iterator[Job]:
        """Go through the jobs that meet all conditions that are given, newest first.

        `state` is one state, or several in a list. `since` and `until` bound the moment at which the job was submitted:
        a datetime, a text such as "2026-12-01 09:00" (local without a zone), or a length such as "2h", which is so
        long ago. `error` is part of the error's text, in any case. Raises UsageError for what is none of that.
        """
        named = filter_of(
            clock.now(),
            state=state,
            class_name=class_name,
            method=method,
            priority=priority,
            tag=tag,
            since=since,
            until=until,
            error=error,
        )
        if where is None:
            return self._store.jobs(named)
        from bgjobs.store import Filter  # noqa: PLC0415 - who only submits does without it

        if named != Filter():
            raise UsageError("both a Filter and conditions", hint="give one or the other", code="usage")
        return self._store.jobs(_instance("where", where, Filter, 'name the conditions, as in jobs(state="failed")'))

    def retried(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Return which of these jobs a later job retries, each with the id of the latest that does.

        A retry that was deleted or pruned does not count.
        """
        if isinstance(job_ids, str) or not hasattr(job_ids, "__iter__"):
            raise UsageError(f"bad job_ids {shown(job_ids)}", hint="pass ids in a list", code="bad-id")
        return self._store.retried({full_id(self, job_id) for job_id in job_ids})

    def counts(self) -> dict[State, int]:
        """Return how many jobs are in each state."""
        return self._store.counts()

    def workers(self) -> list[WorkerView]:
        """Return the workers, dead ones included until another worker has recovered their jobs."""
        return self._store.workers()

    def to_json(self, job: Job) -> dict[str, Any]:
        """Return the job as `bgjobs status ID --json` prints it, secret arguments masked: RFC 3339 times, seconds."""
        return masking.as_json(job, self._hidden(job))

    def _hidden(self, job: Job) -> frozenset[str]:
        """Return which arguments of the job are secret, in the form that `masking` takes."""
        job = _instance("job", job, Job, "pass what queue.get returns")
        target = self.allowlist.find(job.class_name, job.method)
        if target is None:
            return masking.ALL
        if not target.secret:
            return frozenset()
        try:
            signature = read_signature(self.settings, target)
        except RefusedError:
            return masking.ALL
        if not isinstance(signature, signatures.Signature):
            return masking.ALL
        return signature.hidden(target.secret)

    # Waiting and changing

    def wait(self, job_id: str, timeout: Length | None = None) -> Job:
        """Wait until the job has ended and return it, if it is done.

        `timeout` is in seconds, a text such as "60s", or a timedelta. Raises JobFailed, JobWasCancelled, or
        TimeoutError.
        """
        job = self.wait_until_ended(job_id, timeout)
        if job.state is State.CANCELLED:
            raise JobWasCancelled(job, f"job {job.id} was cancelled")
        if job.state is not State.DONE:
            reason = f"{job.error.type}: {job.error.message}" if job.error else job.state
            raise JobFailed(job, f"job {job.id} failed: {reason}")
        return job

    def wait_until_ended(self, job_id: str, timeout: Length | None = None) -> Job:
        """Wait until the job has ended, done or not, and return it. Raises TimeoutError after `timeout`."""
        seconds = None if timeout is None else duration("timeout", timeout).total_seconds()
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
        result = self._store.cancel(full_id(self, job_id), by())
        if result == "unknown":
            raise _no_such(job_id)
        return result

    def run_now(self, job_id: str) -> RunNowResult:
        """Let a job whose moment lies ahead start at once. Raises NoSuchJobError.

        Returns "now", or else why nothing was to be done: "already due", "running", or "too late" (it had ended).
        """
        result = self._store.run_now(full_id(self, job_id), by())
        if result == "unknown":
            raise _no_such(job_id)
        return result

    def delete(self, job_id: str) -> None:
        """Delete an ended job, and all that it printed. Raises NoSuchJobError, or NotEndedError."""
        full = full_id(self, job_id)
        match self._store.delete(full):
            case "unknown":
                raise _no_such(job_id)
            case "not ended":
                raise NotEndedError(f"job {full} has not ended", hint="cancel it first")
            case "deleted":
                return

    def prune(
        self,
        *,
        older: Length | None = None,
        state: str | Collection[str] = ENDED_AS_JOBS,
        dry_run: bool = False,
    ) -> int:
        """Delete the jobs that ended longer ago than `older`; return how many. `dry_run` only counts.

        Without `older` (seconds, a text such as "7d", or a timedelta) the settings `keep_done` and `keep_failed` say
        how long. `state` is one state or several of done, failed, cancelled and corrupt; what is corrupt (not a valid
        job file) goes only when it is named. Raises UsageError or SpoolError.
        """
        now, count = clock.now(), 0
        chosen, asked = states_of(state, ENDED), None if older is None else duration("age", older)
        rehearsed = flag("dry_run", dry_run)
        for one in chosen:
            configured = self.settings.keep_done if one is State.DONE else self.settings.keep_failed
            count += self._store.prune({one}, now - (configured if asked is None else asked), dry_run=rehearsed)
        return count

    def _to_retry(self, job_id: str) -> Job:
        """Return an ended job that may be submitted again.

        Where jobs are signed, only one that was: else the retry would sign a record that another user may have forged.
        """
        old = self.get(job_id)
        if not old.state.ended:
            raise UsageError(f"job {old.id} is {old.state}", hint="only an ended job can be retried", code="not-ended")
        try:
            verified = old if self._store.files is None else self._store.files.verified(old.id)
        except RefusedError as error:
            refusal = RefusedError(f"job {old.id}: {error.message}", hint=error.hint, code=error.code)
            self.events.emit(SubmissionRefused(old.class_name, old.method, refusal.code, str(refusal), clock.now()))
            raise refusal from None
        if verified is None:
            raise _no_such(job_id)
        return verified

    def retry(self, job_id: str, *, dry_run: bool = False) -> Job:
        """Submit an ended job again, as a new job that names the old one. Raises UsageError if it has not ended.

        With `dry_run` it is only checked: the job that it would be is returned, and not stored.
        """
        rehearsed, old = flag("dry_run", dry_run), self._to_retry(job_id)
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
        # A retry has the rights of the user who handed the job in, not of the one who retries it.
        job = msgspec.structs.replace(self.prepare(request), from_user=old.from_user)
        if not rehearsed:
            self._submit([job])
        return job


# For the other parts of bgjobs; no part of the public face of a queue.


def store_of(queue: Queue) -> Store:
    """Return the store behind a queue, opened when it is first needed."""
    return queue._store  # noqa: SLF001 - the one way to it from outside


def take_over(queue: Queue, configured: Settings, allowlist: Allowlist, keyring: Keyring | None) -> None:
    """Let a queue go on with changed settings and the keys that they name, but with the same spool and logs."""
    queue._take_over(configured, allowlist, keyring)  # noqa: SLF001 - for a worker, whose settings may change


def full_id(queue: Queue, job_id: str) -> str:
    """Return the id that ends so. Raises UsageError for a bad shape, NoSuchJobError when none or several do."""
    given: object = job_id
    if not isinstance(given, str) or not SUFFIX.fullmatch(given):
        hint = "an id is 26 letters and digits, or the last 8 or more of them"
        if isinstance(given, Job):
            hint = "pass its id"
        raise UsageError(f"bad job id {shown(given)}", hint=hint, code="bad-id")
    if ID.fullmatch(job_id):
        return job_id
    found = store_of(queue).ids(job_id)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoSuchJobError(f"no job ends with {job_id}", hint="see `bgjobs list`")
    raise UsageError(f"{len(found)} jobs end with {job_id}", hint="give more characters", code="bad-id")


def read_signature(configured: Settings, target: Target) -> Signature | Unreadable:
    """Return what the source says an approved method takes, without importing it. Raises RefusedError."""
    return signatures.read(target.module, target.owner, target.method, configured.import_paths)


def _no_such(job_id: str) -> NoSuchJobError:
    return NoSuchJobError(f"no job {job_id}", hint="see `bgjobs list`")


def _instance(what: str, value: object, wanted: type[Wanted], hint: str) -> Wanted:
    """Return a value of this type, or raise UsageError."""
    if isinstance(value, wanted):
        return value
    raise UsageError(f"bad {what} {shown(value)}", hint=hint, code=f"bad-{what.replace('_', '-')}")


def _path(what: str, value: object) -> str | None:
    """Return a path as text. Raises UsageError for what is none."""
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path or "\0" in path or not _is_name(path):
        raise UsageError(f"bad {what} {shown(path)}", hint="pass a path as text, or a Path", code=f"bad-{what}")
    return path


def _is_name(path: str) -> bool:
    """Tell whether the system can have a file of this name."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _refuse_order(call: str, class_name: object, method: object, kwargs: object, rest: Sequence[object]) -> None:
    """Refuse what a caller passes by position in the order of another library: retries, delay, priority."""
    if not rest and isinstance(kwargs, Mapping | None):
        return
    what = f"bad kwargs of type {type(kwargs).__name__}" if not rest else f"{4 + len(rest)} arguments by position"
    names = f"{_name(class_name)}, {_name(method)}"
    right = f'{call}({names}, ["Tony"], retries=3, delay=5, priority="high")'
    raise UsageError(
        what, hint=f"name what comes after the arguments: {right}", code="bad-kwargs" if not rest else "usage"
    )


def _name(value: object) -> str:
    return shown(value) if isinstance(value, str) else '"NAME"'


def run_background_job(
    class_name: str,
    method: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *rest: Never,
    priority: Priority | None = None,
    delay: Length | None = None,
    retries: Number | None = None,
    timeout: Length | None = None,
) -> str:
    """Queue one job of the project here and return its id. See `Queue.submit`, which can do more."""
    _refuse_order("run_background_job", class_name, method, kwargs, rest)
    queue = Queue.open()
    return queue.submit(
        class_name, method, args, kwargs, priority=priority, delay=delay, retries=retries, timeout=timeout
    ).id
