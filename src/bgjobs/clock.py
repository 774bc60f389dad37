"""What time it is, and which moment a local time stands for. The one place that asks the clock and the zone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_S = 86_400


def now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Return this moment in whole milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000


def in_utc(moment: datetime) -> datetime:
    """Return the moment in UTC; one without a zone is local.

    A time that the clocks leave out when they are put forward becomes as much later as they leave out, so that it is
    never before what was asked for. Of a time that comes twice, when they are put back, it is the first, unless `fold`
    says the second. Raises ValueError, OverflowError or OSError where the system knows no such moment.
    """
    first, second = _in_utc(moment, 0), _in_utc(moment, 1)
    return second if moment.fold and second > first else first  # what the clocks leave out comes later as the first


def _in_utc(moment: datetime, fold: int) -> datetime:
    day, time_of_day = (moment.year, moment.month, moment.day), (moment.hour, moment.minute, moment.second)
    plain = datetime(*day, *time_of_day, tzinfo=moment.tzinfo, fold=fold)
    # Not `astimezone` for a local time: of one that the clocks leave out it takes the offset from after the change.
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
