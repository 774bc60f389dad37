"""Which jobs: from the options of `list`, `cancel --all` and the like to a `Filter`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from bgjobs.backend import Filter
from bgjobs.cli import moments
from bgjobs.errors import UsageError
from bgjobs.job import State, parse_priority

LISTED = frozenset(State) - {State.CORRUPT}


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
            states=parse_states(self.states, among) if self.states else default,
            class_name=self.class_name,
            method=self.method,
            priority=None if self.priority is None else parse_priority(self.priority),
            tag=self.tag,
            since=None if self.since is None else moments.parse_past(self.since, "since", now),
            until=None if self.until is None else moments.parse_past(self.until, "until", now),
            error=self.error,
        )


def parse_states(texts: Sequence[str], among: frozenset[State]) -> frozenset[State]:
    """Return the states that these texts name, each one or several with commas. Raises UsageError."""
    known = {state.value: state for state in State if state in among}
    found = set()
    for word in ",".join(texts).split(","):
        state = known.get(word.strip().lower())
        if state is None:
            raise UsageError(f"bad state {word[:40]!r}", hint=f"use one of {', '.join(known)}", code="bad-state")
        found.add(state)
    return frozenset(found)
