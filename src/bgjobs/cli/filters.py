"""Which jobs: from the options of `list`, `cancel --all` and the like to a `Filter`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from bgjobs.job import State
from bgjobs.queue import LISTED
from bgjobs.requests import past_of, priority_of, states_of, tag_of
from bgjobs.store import Filter


class Conditions(Struct, frozen=True, kw_only=True):
    """The conditions that a person wrote down, as text."""

    states: Sequence[str] | None = None
    class_name: str | None = None
    method: str | None = None
    priority: str | None = None
    tag: str | None = None
    since: str | None = None
    until: str | None = None
    error: str | None = None

    def filter(self, now: datetime, *, among: frozenset[State] = LISTED, default: frozenset[State] = LISTED) -> Filter:
        """Return the filter that they ask for, with states from `among`. Raises UsageError."""
        return Filter(
            states=states_of(self.states, among) if self.states else default,
            class_name=self.class_name,
            method=self.method,
            priority=None if self.priority is None else priority_of(self.priority),
            tag=None if self.tag is None else tag_of(self.tag),
            since=None if self.since is None else past_of("since", self.since, now),
            until=None if self.until is None else past_of("until", self.until, now),
            error=self.error,
        )
