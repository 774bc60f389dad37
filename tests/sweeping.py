"""Tables of which `make test` tries a part, and `make sweeps` the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


def part(cases: Iterable[Any], *, tried: int = 1) -> list[Any]:
    """Return the cases; all but the first ones are marked `sweep`.

    For tables in which each case costs a worker of its own and takes the same way as the others.
    """
    return [
        case
        if number < tried
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.sweep)
        for number, case in enumerate(cases)
    ]
