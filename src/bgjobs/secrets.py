"""Hide the values of secret arguments, wherever a job is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MASK = "***"
ALL = frozenset({"*"})


def masked(args: Sequence[Any], kwargs: Mapping[str, Any], hide: frozenset[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments to show.

    `hide` holds the names of the secret keyword arguments and, as `"#2"`, the positions of the secret positional
    ones; `ALL` hides every value, for a job whose signature or allowlist entry is not known any more.
    """
    if hide == ALL:
        return [MASK] * len(args), dict.fromkeys(kwargs, MASK)
    shown = [MASK if f"#{place}" in hide else value for place, value in enumerate(args)]
    return shown, {name: MASK if name in hide else value for name, value in kwargs.items()}
