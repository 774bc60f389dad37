"""Do one thing with each of several jobs, whatever becomes of the others and of what is printed about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs.cli import output
from bgjobs.errors import BgjobsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    None, as where nothing is changed, that is an OSError at once. `unseen` says why nobody would see an answer.
    """
    worst, left, reason = 0, list[str](), unseen
    for found in _found(queue, named):
        try:
            if isinstance(found, BgjobsError):
                raise found
            answer = act(found)
        except BgjobsError as error:
            output.error(error, as_json=as_json)
            worst = max(worst, error.exit_status)
            continue
        if answer is None:
            continue
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
        failure = unprinted(left, reason)
        output.error(failure, as_json=as_json)
        worst = max(worst, failure.exit_status)
    return worst


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
