"""Let each step on the disk fail in each way that it can: what was accepted stays, and ends once that is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.crash.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(1800)  # each of them is hundreds of small tests


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("mode", ["error", "lasting"])
def test_a_step_that_fails_loses_no_job_and_runs_none_twice(
    operation: str, mode: str, tried: Callable[[str, str], dict[str, Any]], count: Callable[..., None]
) -> None:
    result = tried(operation, mode)
    count(errors=result["cases"], broken=result["broken"])
    assert result["cases"] > 0
    assert result["wrong"] == []
