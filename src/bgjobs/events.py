"""What happens to jobs, as values: stores and workers emit events, and logs, consoles and others subscribe to them."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec import Struct

from bgjobs.job import Job, Outcome
from bgjobs.lifecycle import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Submitted(Struct, frozen=True):
    """A job was stored."""

    job: Job
    at: datetime


class Undelayed(Struct, frozen=True):
    """A delayed job may start now; `by` says who wanted that."""

    job: Job
    at: datetime
    by: str = ""


class Started(Struct, frozen=True):
    """An attempt began; the job is the running one."""

    job: Job
    at: datetime


class Decided(Struct, frozen=True):
    """An attempt of `job` ended with this outcome, or a claimed job may not run; the verdict says what follows."""

    job: Job
    verdict: Verdict
    outcome: Outcome
    at: datetime


class HandedBack(Struct, frozen=True):
    """A claimed job went back to the queue, uncharged."""

    job: Job
    at: datetime
    reason: str


class Cancelled(Struct, frozen=True):
    """A job was cancelled before it began."""

    job: Job
    at: datetime
    by: str


class SubmissionRefused(Struct, frozen=True):
    """A submission was refused; there is no job. `code` is that of the error."""

    class_name: str
    method: str
    code: str
    reason: str
    at: datetime


class Corrupt(Struct, frozen=True):
    """What was stored under this name is not a valid job, and was put aside."""

    name: str
    reason: str
    at: datetime


class LeftAlone(Struct, frozen=True):
    """Something stored was left where it is, for the reason given."""

    name: str
    reason: str
    at: datetime


Event = Submitted | Undelayed | Started | Decided | HandedBack | Cancelled | SubmissionRefused | Corrupt | LeftAlone
Emit: TypeAlias = "Callable[[Event], None]"


class Subscriber(Protocol):
    """What is told of each event. `dropped` counts the events that it could not keep."""

    dropped: int

    def __call__(self, event: Event, /) -> None:
        """Take an event."""

    def together(self) -> AbstractContextManager[None]:
        """Take what is emitted in the block as one batch."""


class Bus:
    """Tells each event to all subscribers, in order. What one of them raises is counted, and no job suffers from it."""

    def __init__(self, *subscribers: Subscriber) -> None:
        """Tell these subscribers."""
        self._subscribers = subscribers
        self.failures = 0

    def emit(self, event: Event) -> None:
        """Tell all subscribers."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:  # noqa: BLE001 - whatever a subscriber raises, the job goes on
                self.failures += 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let subscribers take what is emitted in the block as one batch."""
        with ExitStack() as stack:
            for subscriber in self._subscribers:
                stack.enter_context(subscriber.together())
            yield

    @property
    def dropped(self) -> int:
        """How many events subscribers could not keep, those that made one of them fail included."""
        return self.failures + sum(subscriber.dropped for subscriber in self._subscribers)
