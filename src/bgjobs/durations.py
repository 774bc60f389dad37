"""Parse and format durations: `90s`, `5m`, `1h30m`, `1d`, `1w`, or seconds such as `0.5`.

The errors say what a duration must look like; `requests.duration` says in front of that which one is bad:
`bad delay '5x': must be a duration such as …`.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from bgjobs.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = timedelta(days=36_525)  # 100 years: beyond it, adding to "now" leaves the range of datetime
EXAMPLES = 'a duration such as 90, "90s", "5m", "1h30m", "1d" or "1w"'

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DECIMAL = r"([0-9]+(?:\.[0-9]+)?)"
_SECONDS = Pattern(_DECIMAL)
_WRITTEN = Pattern("".join(f"(?:{_DECIMAL}{unit})?" for unit in "wdhms"))
_NUMBER = r"([0-9]+(?:[.,][0-9]+)?)"
_ISO = Pattern(rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?")
_SECONDS_IN = (604_800, 86_400, 3_600, 60, 1)


class UnfitError(ValueError):
    """The value is not valid; the message completes "NAME …"."""


def parse(text: str | float) -> timedelta:
    """Return the duration of a number of seconds, or of a text of numbers with units (w, d, h, m, s, in this order).

    Raises UnfitError for anything else, for negative lengths and for more than
    100 years.
    """
    if isinstance(text, str):
        written = _SECONDS.fullmatch(text)
        if written:
            return _length(float(text))
        written = _WRITTEN.fullmatch(text)
        if written is None or not text:
            raise UnfitError(f"must be {EXAMPLES}")
        return _length(_sum(written.groups()))
    if isinstance(text, bool):
        raise UnfitError(f"must be {EXAMPLES}")
    return _length(text)


def of(value: object) -> timedelta:
    """Return the duration of a Python value: a timedelta, or what `parse` accepts. Raises UnfitError."""
    if isinstance(value, timedelta):  # a plain one: a subclass may add differently
        given = timedelta(value.days, value.seconds, value.microseconds)
        if not timedelta(0) <= given <= LONGEST:
            return _length(given.total_seconds())  # raises the error
        return given
    is_nan = isinstance(value, float) and math.isnan(value)
    if is_nan or isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnfitError(f"must be {EXAMPLES}")
    return parse(value)


def parse_iso(text: str) -> timedelta:
    """Return the duration of an ISO 8601 text of weeks, days, hours, minutes and seconds.

    Years and months have no fixed length: they raise UnfitError, as anything else does that `parse` would refuse.
    """
    written = _ISO.fullmatch(text)
    if written is None or not any(written.groups()) or text.endswith("T"):
        raise UnfitError('must be an ISO 8601 duration such as "PT5M" or "P1DT2H"')
    return _length(_sum(written.groups()))


def show(length: timedelta) -> str:
    """Return the shortest text with one unit that `parse` reads as exactly this duration: `90s`, `5m`, `0.5s`."""
    whole, rest = divmod(length, timedelta(seconds=1))
    if rest:
        sign, size = ("-", -length) if length < timedelta(0) else ("", length)
        whole, rest = divmod(size, timedelta(seconds=1))
        return f"{sign}{whole}.{rest.microseconds:06d}".rstrip("0") + "s"
    unit = next((unit for unit in "dhm" if whole and whole % _UNITS[unit] == 0), "s")
    return f"{whole // _UNITS[unit]}{unit}"


def _sum(numbers: Sequence[str | None]) -> float:
    """Return the number of seconds in these weeks, days, hours, minutes and seconds."""
    found = (float((number or "0").replace(",", ".")) for number in numbers)
    return sum(number * unit for number, unit in zip(found, _SECONDS_IN, strict=True))


def _length(seconds: float) -> timedelta:
    if not seconds >= 0:  # also NaN
        raise UnfitError("must not be negative")
    if seconds > LONGEST.total_seconds():
        raise UnfitError("must not be more than 100 years")
    return timedelta(seconds=seconds)
