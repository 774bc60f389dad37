"""What Celery's worker is told to import."""

from __future__ import annotations

from benchmarks.contestants.celery import opened_here

app = opened_here()
