"""What Dramatiq's worker is told to import."""

from __future__ import annotations

from benchmarks.contestants.dramatiq import opened_here

broker = opened_here()
