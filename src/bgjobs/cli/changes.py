"""Change jobs: find those that are meant, do one thing with each, print what became of it and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bgjobs import clock
from bgjobs.cli import output
from bgjobs.cli.output import Answer
from bgjobs.errors import BgjobsError, UsageError
from bgjobs.job import State
from bgjobs.queue import Queue
from bgjobs.requests import LISTED, filter_of
from bgjobs.views import jobs

if TYPE_CHECKING:
    from bgjobs.errors import NotPrintedError


class Change(Struct, frozen=True, kw_only=True):
    """What a command does with each job: `act` does it, `rehearse` only looks; None prints nothing.

    With `--all`, conditions may ask for states from `among`, and without any it is those in `default`; a job whose
    state has changed meanwhile raises one of `missed`, and is skipped.
    """

    among: frozenset[State] = LISTED
    default: frozenset[State] = LISTED
    act: Callable[[Queue, str], Answer | None]
    rehearse: Callable[[Queue, str], Answer | None] | None = None
    missed: tuple[type[BgjobsError], ...] = ()


def choose(
    ids: Sequence[str] | None, conditions: Mapping[str, Any], change: Change, *, every: bool
) -> Callable[[Queue], Iterable[str]]:
    """Return what finds the chosen jobs in a queue: by id, or every one that meets the conditions.

    Raises UsageError, before there is a queue, if the choice is none or two.
    """
    if ids and (every or conditions):
        raise UsageError("both ids and --all or conditions", hint="give one or the other", code="usage")
    if not ids and not every:
        hint = "add --all for all jobs that meet the conditions" if conditions else "name jobs, or give --all"
        raise UsageError("no job named", hint=hint, code="usage")
    where = filter_of(clock.now(), among=change.among, default=change.default, **conditions)
    return lambda queue: [job.id for job in queue.jobs(where)] if every else ids or []


def carry_out(change: Change, queue: Queue, named: Iterable[str], *, every: bool, dry_run: bool, as_json: bool) -> int:
    """Change each job once, or only rehearse it, as `each` does."""
    act = change.rehearse if dry_run and change.rehearse is not None else change.act

    def with_one(job_id: str) -> Answer | None:
        try:
            return act(queue, job_id)
        except change.missed:
            if every:
                return None
            raise

    return each(queue, named, with_one, unprinted=None if dry_run else output.unprinted_answers, as_json=as_json)


def each(
    queue: Queue,
    named: Iterable[str],
    act: Callable[[str], Answer | None],
    *,
    unprinted: Callable[[list[str], str], NotPrintedError] | None,
    unseen: str = "",
    as_json: bool,
) -> int:
    """Do it with each job once, print the answers in order and what went wrong; return the worst exit status.

    A job may be named several times, in full and by the end of its id. If the answers cannot be printed, all jobs are
    changed nevertheless, and the error that `unprinted` makes of their ids and the reason is printed at the end. With
    None, as where nothing is changed, that is an OSError at once. A reader who has closed the pipe is told nothing
    but the ids of new jobs: it wanted no more. `unseen` is the reason why an answer cannot be seen.
    An error that many jobs share is printed once.
    """
    left, reason, reader_left, failures = list[str](), unseen, False, _Failures(as_json=as_json)
    for answer in _answers(jobs.ids(queue, named), act, failures):
        try:
            if not reason:
                output.answer(answer, as_json=as_json)
                continue
        except OSError as error:
            if unprinted is None:
                raise
            # The ids of new jobs are told all the same: whoever does not know them submits them again.
            reader_left = output.reader_left(error) and unprinted is not output.unprinted_ids
            reason = output.given_up(error)
        left.append(str(answer.value["id"]))
    if reader_left:
        return max(1, failures.worst())
    if unprinted is not None and left:
        failures.add(unprinted(left, reason))
    return failures.worst()


def _answers(
    found: Iterable[str | BgjobsError], act: Callable[[str], Answer | None], failures: _Failures
) -> Iterator[Answer]:
    for job in found:
        try:
            if isinstance(job, BgjobsError):
                raise job
            answer = act(job)
        except BgjobsError as error:
            failures.add(error)
        else:
            if answer is not None:
                yield answer


class _Failures:
    """Prints what went wrong, the same only once: an error of the spool, or of a class, comes with each job."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._printed = Counter[str]()
        self._worst = 0

    def add(self, error: BgjobsError) -> None:
        """Print an error, unless the same one has been printed."""
        self._printed[str(error)] += 1
        self._worst = max(self._worst, error.exit_status)
        if self._printed[str(error)] == 1:
            output.error(error, as_json=self._as_json)

    def worst(self) -> int:
        """Print for how many jobs it was the same; return the worst exit status."""
        more = self._printed.total() - len(self._printed)
        if more and not self._as_json:
            output.note(f"the same for {output.plural(more, 'more job')}")
        return self._worst
