"""Do one thing with each of several jobs, whatever becomes of the others and of what is printed about them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bgjobs.cli import output
from bgjobs.errors import BgjobsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bgjobs.cli.output import Answer
    from bgjobs.errors import NotPrintedError
    from bgjobs.queue import Queue


def each(
    queue: Queue,
    named: Iterable[str],
    act: Callable[[str], Answer | None],
    *,
    unprinted: Callable[[list[str], str], NotPrintedError] | None,
    unseen: str = "",
    as_json: bool,
) -> int:
    """Do it with each job once, print the answers in order, say what went wrong with which, return the worst status.

    A job may be named several times, in full and by the end of its id. If the answers cannot be printed, what is begun
    is done with all jobs, and the error that `unprinted` makes of their ids and the reason is told at the end. With
    None, as where nothing is changed, that is an OSError at once. `unseen` says why nobody would see an answer. What is
    wrong with many jobs in the same words is said once.
    """
    left, reason, failures = list[str](), unseen, _Failures(as_json=as_json)
    for answer in _answers(_found(queue, named), act, failures):
        try:
            if not reason:
                output.answer(answer, as_json=as_json)
                continue
        except OSError as error:
            if unprinted is None:
                raise
            reason = output.given_up(error)
        left.append(str(answer.value["id"]))
    if unprinted is not None and left:
        failures.tell(unprinted(left, reason))
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
            failures.tell(error)
        else:
            if answer is not None:
                yield answer


class _Failures:
    """Says what went wrong, the same only once: what is wrong with the spool, or with a class, is so job after job."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._told = Counter[str]()
        self._worst = 0

    def tell(self, error: BgjobsError) -> None:
        """Say it, unless it has been said."""
        self._told[str(error)] += 1
        self._worst = max(self._worst, error.exit_status)
        if self._told[str(error)] == 1:
            output.error(error, as_json=self._as_json)

    def worst(self) -> int:
        """Say for how many jobs it was the same; return the worst exit status."""
        more = self._told.total() - len(self._told)
        if more and not self._as_json:
            output.note(f"the same for {more} more job{'s'[: more != 1]}")
        return self._worst


def _found(queue: Queue, named: Iterable[str]) -> list[str | BgjobsError]:
    """Return the id of each job once, or why there is none. All before the first is acted on: that may delete it."""
    found: dict[str, str | BgjobsError] = {}
    for name in dict.fromkeys(named):
        try:
            job_id = queue.full_id(name)
        except BgjobsError as error:
            found[name] = error
        else:
            found[job_id] = job_id
    return list(found.values())
