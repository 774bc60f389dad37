"""Which moment a local time stands for, on the two days of the year on which that is no plain question."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgjobs.calls.text_values import datetime_of
from bgjobs.clock import in_utc

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot have a time zone of its own there")

# By rule, not by name: a system need not have the names.
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
SAO_PAULO = "BRT3BRST,M10.3.0/0,M2.3.0/0"  # as it was until 2019: what is left out begins at midnight
LORD_HOWE = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"  # half an hour is left out


@pytest.fixture(params=[BERLIN, SAO_PAULO, LORD_HOWE, "UTC0"])
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


def of(zone: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("zone", [zone], indirect=True)


def local(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(fold=fold)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@of(BERLIN)
@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2027-03-28 01:59:59", "2027-03-28 00:59:59"),
        ("2027-03-28 02:00", "2027-03-28 01:00"),
        ("2027-03-28 02:30", "2027-03-28 01:30"),
        ("2027-03-28 02:59:59.999999", "2027-03-28 01:59:59.999999"),
        ("2027-03-28 03:00", "2027-03-28 01:00"),
        ("2027-03-28", "2027-03-27 23:00"),
        ("2027-10-31 01:59", "2027-10-30 23:59"),
        ("2027-10-31 02:30", "2027-10-31 00:30"),  # the first of two
        ("2027-10-31 03:00", "2027-10-31 02:00"),
        ("2027-10-31 02:30+01:00", "2027-10-31 01:30"),
        ("2027-03-28T02:30Z", "2027-03-28 02:30"),
    ],
)
def test_a_local_time_is_read_by_the_clocks_of_its_day(zone: str, written: str, moment: str) -> None:
    assert datetime_of(written) == utc(moment), zone
    assert in_utc(local(written)) == utc(moment)


@of(SAO_PAULO)
def test_a_day_without_midnight_begins_when_the_clocks_have_been_put_forward(zone: str) -> None:
    assert datetime_of("2027-10-17") == utc("2027-10-17 03:00"), zone
    assert datetime_of("2027-10-17").isoformat() == "2027-10-17T01:00:00-02:00"


@of(BERLIN)
def test_of_a_time_that_comes_twice_fold_names_the_second(zone: str) -> None:
    assert in_utc(local("2027-10-31 02:30", fold=1)) == utc("2027-10-31 01:30"), zone
    assert in_utc(local("2027-03-28 02:30", fold=1)) == utc("2027-03-28 01:30")  # comes not at all: never earlier


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.datetimes(local("1971-01-01"), local("2037-12-30")), fold=st.sampled_from([0, 1]))
def test_no_moment_comes_before_what_was_asked_for(zone: str, asked: datetime, fold: int) -> None:
    there = in_utc(asked.replace(fold=fold)).astimezone().replace(tzinfo=None)
    assert there - asked in {timedelta(0), timedelta(hours=1), timedelta(minutes=30)}, zone


class Odd(tzinfo):
    """A zone that puts its clocks forward by two hours at two o'clock, in the words of Python."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        is_late = moment.hour >= 4 or (moment.hour >= 2 and moment.fold == 1)
        return timedelta(hours=3 if is_late else 1)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "odd"


def test_a_zone_of_ones_own_is_read_in_the_same_way() -> None:
    for fold in (0, 1):
        assert in_utc(datetime(2027, 3, 28, 3, 30, tzinfo=Odd(), fold=fold)) == utc("2027-03-28 02:30")
    assert in_utc(datetime(2027, 3, 28, 4, 0, 0, 7, timezone(timedelta(minutes=-30)))) == utc(
        "2027-03-28 04:30:00.000007"
    )


@pytest.mark.parametrize("text", ["0001-01-01 00:00+05:00", "9999-12-31 23:00-05:00"])
def test_what_lies_outside_of_the_calendar_is_no_moment(text: str) -> None:
    with pytest.raises(OverflowError):
        in_utc(local(text))


@pytest.mark.parametrize(
    "text",
    ["2027-01-01 24:00", "2027-01-01 23:59:60", "2027-01-01T09:00+25:00", "2027-02-29", "0000-01-01", "10000-01-01"],
)
def test_what_no_clock_shows_is_refused_by_every_version_of_python(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no words: whoever asked adds them
        datetime_of(text)
