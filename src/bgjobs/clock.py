"""Read the wall clock, and convert local times to UTC. The only place that asks the clock and the time zone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_S = 86_400


class Now(NamedTuple):
    """One moment on two clocks: `s` in seconds on the monotonic one, for waits; `at` in UTC, for records."""

    s: float
    at: datetime


def both() -> Now:
    """Return this moment on the monotonic clock and in UTC."""
    return Now(time.monotonic(), now())


def now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Return this moment in whole milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000


def in_utc(moment: datetime) -> datetime:
    """Return the moment in UTC; a moment without a zone is local.

    A local time that daylight saving skips is shifted later by the skipped length, so that it is never earlier than
    asked for. Of a local time that occurs twice, the first one is meant, or with `fold` the second. Raises ValueError,
    OverflowError or OSError if the system knows no such moment.
    """
    first, second = _in_utc(moment, 0), _in_utc(moment, 1)
    return second if moment.fold and second > first else first  # of a skipped time the first is the later one


def _in_utc(moment: datetime, fold: int) -> datetime:
    day, time_of_day = (moment.year, moment.month, moment.day), (moment.hour, moment.minute, moment.second)
    plain = datetime(*day, *time_of_day, tzinfo=moment.tzinfo, fold=fold)
    # Not `astimezone` for a local time: for a skipped one it takes the offset from after the change.
    # Whole seconds, as the number of them is a float.
    try:
        seconds = plain.timestamp()
    except OSError:
        if moment.tzinfo is not None or moment.year >= EPOCH.year:
            raise
        # Windows knows no local time before 1970: the offset from UTC is then that of the tenth day of that year.
        day_10 = datetime(EPOCH.year, 1, 10, fold=fold)  # noqa: DTZ001 - local, as the moment is
        seconds = (plain.replace(tzinfo=UTC) - EPOCH).total_seconds() + day_10.timestamp() - 9 * DAY_S
    whole = EPOCH + timedelta(seconds=seconds)
    return whole + timedelta(microseconds=moment.microsecond)
