"""What time it is. The one place that asks, so that a test can set the clock of a process."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Return this moment in whole milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000
