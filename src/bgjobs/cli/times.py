"""Show moments and lengths as people read them: local with the zone, and relative."""

from __future__ import annotations

from datetime import datetime, timedelta

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def shown(moment: datetime | None, now: datetime) -> str:
    """Return a moment, local with its zone, and how far it is from now; nothing for none."""
    if moment is None:
        return ""
    return f"{moment.astimezone().isoformat(sep=' ', timespec='seconds')} ({relative(moment, now)})"


def compact(moment: datetime, now: datetime) -> str:
    """Return the same, shorter: without the date if it is today's."""
    local = moment.astimezone()
    same_day = local.date() == now.astimezone().date()
    text = local.timetz().isoformat("minutes") if same_day else local.isoformat(sep=" ", timespec="minutes")
    return f"{text} ({relative(moment, now, units=1)})"


def relative(moment: datetime, now: datetime, units: int = 2) -> str:
    """Return how far a moment is from now, such as `3m ago` or `in 2h`."""
    away = (moment - now).total_seconds()
    if abs(away) < 1:
        return "now"
    return f"in {length(away, units)}" if away > 0 else f"{length(-away, units)} ago"


def length(seconds: float, units: int = 2) -> str:
    """Return a length in its one or two largest units, such as `1h 5m`, `2.5s` or `30ms`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:  # noqa: PLR2004 - below it the tenths matter
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = int(seconds)
    for size, unit, smaller, small in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "m"), (MINUTE, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f" {rest}{small}" if rest and units > 1 else "")
    return f"{whole}s"


def took(start: datetime, end: datetime) -> str:
    """Return how long something took."""
    return length(max(0.0, (end - start) / timedelta(seconds=1)))
