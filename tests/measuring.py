"""What coverage cannot measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that coverage should leave alone.

    That is one in which a signal raises an exception: coming while coverage holds its lock, it leaves it held, and the
    process stands still for ever. And one of another user, who cannot write down what was measured.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
