"""How many jobs one process can submit, many by each call."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from benchmarks.measures import OneByOne, Taken

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contestants import Contestant
    from benchmarks.sizes import Sizes


class Bulk(OneByOne):
    """Submits groups of jobs to a queue that has no worker."""

    name = "bulk"
    title = "Submit in groups of 1,000, one call for each (jobs/s, more is better)"

    def take(self, contestant: Contestant, directory: Path, sizes: Sizes) -> Taken:  # noqa: ARG002 - the interface
        """Submit one group to warm up, then the others by the clock."""
        seconds = []
        for group in range(sizes.bulk_groups + 1):
            numbers = range(group * sizes.group, (group + 1) * sizes.group)
            gc.collect()
            before = time.perf_counter()
            contestant.submit_many(numbers)
            seconds.append(time.perf_counter() - before)
        counted = tuple(seconds[1:])
        return Taken(figure=sizes.group * len(counted) / sum(counted), raw={"group_s": counted})
