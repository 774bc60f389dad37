"""What Huey's consumer is told to import."""

from __future__ import annotations

from benchmarks.contestants.huey import opened_here

app = opened_here()
