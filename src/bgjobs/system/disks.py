"""What there is to know about the disk that a spool lies on."""

from __future__ import annotations

from typing import NamedTuple


class DiskFacts(NamedTuple):
    """The file system of a directory. What the system does not say is empty or None."""

    kind: str  # ext4, xfs, apfs, …
    network: bool  # in another machine, or shared with one
    volatile: bool  # in memory: gone with the power
    journal: bool | None  # whether it is ordered by a journal, where that is known
    mounts_below: tuple[str, ...]  # other file systems, or other parts of this one, that are mounted inside
