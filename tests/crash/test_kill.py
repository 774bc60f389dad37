"""Kill whoever writes to the spool before and after each step, and go on: nothing is lost, nothing runs twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.crash.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(1800)  # each of them is hundreds of small tests


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_process_killed_at_any_step_leaves_what_the_next_worker_brings_to_an_end(
    operation: str, tried: Callable[[str, str], dict[str, Any]], count: Callable[..., None]
) -> None:
    result = tried(operation, "kill")
    count(operations=1, kills=result["cases"] - result["missed"], broken=result["broken"])
    assert result["cases"] > 0
    assert result["wrong"] == []
