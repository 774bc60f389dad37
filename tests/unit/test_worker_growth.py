"""How much the memory of a runner may grow before it is replaced."""

from __future__ import annotations

import pytest

from bgjobs.worker.child.process_state import has_grown

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("memory", "baseline", "most", "grown"),
    [
        (20, 20, 0, False),
        (148, 20, 0, False),  # 128 MiB more, in any case
        (149, 20, 0, True),
        (1000, 500, 0, False),  # or twice as much
        (1001, 500, 0, True),
        (52, 20, 32, False),  # or as much more as the settings say
        (53, 20, 32, True),
        (600, 500, 2048, False),
        (5000, 0, 0, False),  # its size at the beginning is unknown
        (5000, 0, 1, False),
    ],
)
def test_a_runner_is_replaced_when_its_memory_has_grown_too_much(
    memory: int, baseline: int, most: int, *, grown: bool
) -> None:
    assert has_grown(memory * MIB, baseline * MIB, most * MIB) is grown
