"""As which user what is allowed runs, and whether that can be done here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from bgjobs.config.allowlist import Target
    from bgjobs.lifecycle import Policy


def other(policy: Policy) -> str:
    """Return the user that an attempt has to become, or nothing when it runs as the user that we are."""
    return "" if not policy.user or policy.user == system.user() else policy.user


def those_of(targets: Iterable[Target], classes: Collection[str]) -> list[Target]:
    """Return what may run in a worker that takes only these classes, or all if none is named."""
    return [target for target in targets if not classes or target.class_name in classes]


def refuse(targets: Iterable[Target]) -> None:
    """Raise ConfigError if something of this has a user that no attempt here can run as."""
    for target, what, cure in problems(targets):
        raise ConfigError(f"{target.class_name}.{target.method} cannot run: {what}", hint=cure, code="bad-user")


def problems(targets: Iterable[Target]) -> Iterator[tuple[Target, str, str]]:
    """Go through what cannot run here because of its user: why, and what to do about it."""
    asked: dict[str, tuple[str, str] | None] = {}
    for target in targets:
        name = target.policy.user
        if name and name not in asked:
            asked[name] = system.cannot_become(name)
        found = asked.get(name)
        if found is not None:
            yield target, *found
