"""How much is measured: in the usual run, in the full one, and in the one that only tries everything out."""

from __future__ import annotations

from msgspec import Struct


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is measured in each round. What is 0, or has nothing in it, is not measured."""

    rounds: int = 3
    patience_s: float = 2.0  # a peer that took longer for one round of a measure sits out the other rounds of it
    submitted: int = 300
    bulk_groups: int = 5
    group: int = 1000
    drained: int = 3000
    stepped: int = 2000
    others: int = 100_000
    claims: int = 200
    shots: int = 10
    pause_s: float = 0.2
    settle_s: float = 0.5
    quiet_rounds: int = 1
    quiet_s: float = 25.0
    idle_s: float = 20.0
    starts: int = 4
    crews: tuple[int, ...] = (1, 4)
    crew_rounds: int = 1
    shared: int = 3000
    lost_s: float = 4.0
    churn_s: float = 15.0
    churn_keep_s: float = 4.0
    backlogs: tuple[int, ...] = (1000, 10_000)
    delayed: int = 0
    peer_backlog: int = 0
    peer_head: int = 1000
    head: int = 3000
    head_s: float = 5.0
    passes: int = 3
    scale: int = 0
    looks: int = 5
    image_gib: int = 4  # of a file system that is made for it


BENCH = Sizes()
FULL = Sizes(
    patience_s=6.0,
    submitted=500,
    bulk_groups=10,
    drained=5000,
    stepped=5000,
    shots=25,
    quiet_rounds=2,
    starts=8,
    crews=(1, 2, 4, 16),
    shared=10_000,
    lost_s=15.0,
    churn_s=600.0,
    churn_keep_s=20.0,
    backlogs=(1000, 10_000, 100_000, 1_000_000),
    delayed=1_000_000,
    peer_backlog=10_000,
    head=10_000,
    head_s=10.0,
    scale=1_000_000,
    image_gib=24,
)
QUICK = Sizes(
    rounds=1,
    submitted=20,
    bulk_groups=2,
    group=20,
    drained=40,
    stepped=30,
    others=300,
    claims=20,
    shots=3,
    pause_s=0.05,
    settle_s=0.1,
    quiet_s=0.6,
    idle_s=0.3,
    starts=1,
    crews=(1, 2),
    shared=60,
    lost_s=1.0,
    churn_s=2.0,
    churn_keep_s=0.5,
    backlogs=(20, 60),
    delayed=20,
    peer_backlog=20,
    peer_head=40,
    head=60,
    passes=1,
    scale=30,
    looks=1,
    image_gib=1,
)
