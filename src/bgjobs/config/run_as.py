"""Decide which user a job runs as, and refuse a user that this process cannot become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from bgjobs.config.allowlist import Target
    from bgjobs.lifecycle import Policy


def other(policy: Policy) -> str:
    """Return the user that an attempt has to become, or "" if it runs as the current user."""
    return "" if not policy.user or policy.user == system.user() else policy.user


def those_of(targets: Iterable[Target], classes: Collection[str]) -> list[Target]:
    """Return the targets of these classes; all targets if no class is named."""
    return [target for target in targets if not classes or target.class_name in classes]


def refuse(targets: Iterable[Target]) -> None:
    """Raise ConfigError if one of the targets has a user that this process cannot become."""
    for target, what, cure in problems(targets):
        raise ConfigError(f"{target.class_name}.{target.method} cannot run: {what}", hint=cure, code="bad-user")


def problems(targets: Iterable[Target]) -> Iterator[tuple[Target, str, str]]:
    """Go through the targets that cannot run because of their user: why, and what to do about it."""
    asked: dict[str, tuple[str, str] | None] = {}
    for target in targets:
        name = target.policy.user
        if name and name not in asked:
            asked[name] = system.cannot_become(name)
        found = asked.get(name)
        if found is not None:
            yield target, *found
