"""Which pending job is next: by priority, then by age, in real directories that others change meanwhile."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgjobs import disk
from bgjobs.ids import first_id, lane_of, new_id
from bgjobs.spool import backlog, bucket, cached_listing, layout, upcoming
from bgjobs.spool.layout import MINUTE_MS, Layout
from bgjobs.spool.upcoming import Upcoming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 1_795_400_040_000  # 02:14:00
HOUR_MS = 60 * MINUTE_MS
NEVER = timedelta(0)
MAIL, POST = lane_of("Mail", "send"), lane_of("Post", "send")
MAIL_ALONE, BOTH = frozenset({MAIL}), frozenset({MAIL, POST})


class Pending:
    """A `pending/` directory to put files into and take them from, as submitters and other workers do."""

    def __init__(self, root: Path) -> None:
        self.paths = Layout(str(root))
        self._changes = itertools.count(1_000_000_000_000_000_000, 1_000_000)
        for priority in range(10):
            Path(self.paths.priority(priority)).mkdir(parents=True)

    def put(
        self, ms: int, *, priority: int = 5, at_once: bool = True, suffix: str = "", job_id: str = "", lane: str = ""
    ) -> str:
        """Put a file there and return its name."""
        bucket = Path(self.paths.bucket(priority, layout.bucket(ms, at_once=at_once) + suffix))
        name = layout.pending_name(ms, job_id or new_id(ms, lane=lane))
        bucket.mkdir(exist_ok=True)
        (bucket / name).touch()
        self._changed(bucket)
        return name

    def take(self, candidate: upcoming.Candidate) -> bool:
        """Take a file away as a worker does that claims it; return whether it was there."""
        bucket = Path(self.paths.bucket(candidate.priority, candidate.bucket))
        try:
            (bucket / candidate.name).unlink()
        except FileNotFoundError:
            return False
        self._changed(bucket)
        return True

    def _changed(self, bucket: Path) -> None:
        # Every change gets a time of its own, on file systems whose clock is coarse as well.
        for directory in (bucket, bucket.parent):
            moment = next(self._changes)
            os.utime(directory, ns=(moment, moment))

    def cursor(self, *, min_priority: int = 0, age_boost: timedelta = NEVER) -> Upcoming:
        return Upcoming(self.paths, min_priority=min_priority, age_boost=age_boost, since=first_id(0))


@pytest.fixture(autouse=True)
def _no_look_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it look again however long the last look took: on a busy machine even a look at a few names may."""
    monkeypatch.setattr(cached_listing, "CHEAP_S", 60.0)
    monkeypatch.setattr(bucket, "SLICE_S", 60.0)


@pytest.fixture
def pending(tmp_path: Path) -> Pending:
    return Pending(tmp_path)


@contextmanager
def fresh() -> Iterator[Pending]:
    """Make a `pending/` for one example."""
    with tempfile.TemporaryDirectory() as root:
        yield Pending(Path(root))


def watch_listings(patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the name of each directory that is listed."""
    listed: list[str] = []
    listdir = disk.listdir

    def watched(path: str) -> list[str]:
        listed.append(Path(path).name)
        return listdir(path)

    patch.setattr(disk, "listdir", watched)
    return listed


def names(found: Iterator[upcoming.Candidate]) -> list[str]:
    """Return the names, each where it comes first.

    On a slow machine a bucket that was made just now is looked at once more on the way, and whatever nobody claimed
    meanwhile is offered again.
    """
    return list(dict.fromkeys(candidate.name for candidate in found))


# The order


def test_an_empty_queue_has_no_candidates(pending: Pending) -> None:
    assert names(pending.cursor().candidates(NOW)) == []


def test_a_higher_priority_comes_first_and_then_the_older_job(pending: Pending) -> None:
    low_old = pending.put(NOW - HOUR_MS, priority=2)
    high_young = pending.put(NOW - 1, priority=8)
    high_old = pending.put(NOW - 2, priority=8)
    highest = pending.put(NOW, priority=9)
    assert names(pending.cursor().candidates(NOW)) == [highest, high_old, high_young, low_old]


def test_a_candidate_says_where_it_lies(pending: Pending) -> None:
    name = pending.put(NOW, priority=8, suffix=".abc")
    (found,) = pending.cursor().candidates(NOW)
    assert found == upcoming.Candidate(8, f"{layout.bucket(NOW, at_once=True)}.abc", name)


def test_jobs_of_one_moment_come_in_the_order_of_their_ids(pending: Pending) -> None:
    ids = [new_id(NOW) for _ in range(20)]
    for job_id in reversed(ids):
        pending.put(NOW, job_id=job_id)
    assert [name[14:40] for name in names(pending.cursor().candidates(NOW))] == ids


PLACES = st.tuples(
    st.integers(0, 9),
    st.integers(NOW - 3 * MINUTE_MS, NOW + 3 * MINUTE_MS),
    st.booleans(),
    st.sampled_from(["", ".a", ".b"]),
)


FEW = settings(max_examples=40)  # each example makes real directories


@FEW
@given(st.lists(PLACES, max_size=20), st.integers(0, 9))
def test_all_due_jobs_come_by_priority_and_then_by_age(places: list[tuple[int, int, bool, str]], lowest: int) -> None:
    with fresh() as pending:
        due = []
        for priority, ms, at_once, suffix in places:
            name = pending.put(ms, priority=priority, at_once=at_once, suffix=suffix)
            if priority >= lowest and (at_once or ms <= NOW):
                due.append((-priority, name))
        found = pending.cursor(min_priority=lowest).candidates(NOW)
        assert [(-candidate.priority, candidate.name) for candidate in found] == sorted(due)


class Life:
    """A queue, a worker's view of it, and a model of what is there: each job's priority and moment by its name."""

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.ours = pending.cursor()
        self.there: dict[str, tuple[int, int]] = {}
        self.now = NOW
        self.returns = itertools.count()
        self.closed: frozenset[str] = frozenset()

    def submit(self, priority: int, ms: int) -> None:
        lane = (MAIL, POST)[ms % 2]
        self.there[self.pending.put(self.now, priority=priority, lane=lane)] = priority, self.now

    def delay(self, priority: int, ms: int) -> None:
        due, lane = self.now + MINUTE_MS + ms, (MAIL, POST)[ms % 2]
        self.there[self.pending.put(due, priority=priority, at_once=False, lane=lane)] = priority, due

    def give_back(self, priority: int, ms: int) -> None:
        """A job that was claimed goes back to its old moment, in a bucket of the worker's own."""
        name = self.pending.put(self.now - ms, priority=priority, suffix=f".w{next(self.returns)}")
        self.there[name] = priority, self.now

    def close(self, _: int, ms: int) -> None:
        """Lanes close and open, several at a time."""
        self.closed = (frozenset[str](), MAIL_ALONE, frozenset({POST}), BOTH)[ms % 4]
        self.ours.close_lanes(self.closed)

    def claim(self, most: int, _: int) -> None:
        expected = sorted(
            (-priority, name)
            for name, (priority, due) in self.there.items()
            if due <= self.now and name[27:32] not in self.closed
        )
        most += 1
        found = (candidate for candidate in self.ours.candidates(self.now) if self.pending.take(candidate))
        taken = [(-candidate.priority, candidate.name) for candidate in itertools.islice(found, most)]
        assert taken == expected[:most]
        for _, name in taken:
            del self.there[name]

    def lose(self, most: int, _: int) -> None:
        """Another worker takes the best ones."""
        for candidate in itertools.islice(self.pending.cursor().candidates(self.now), most):
            assert self.pending.take(candidate)
            del self.there[candidate.name]

    def wait(self, _: int, ms: int) -> None:
        self.now += ms


STEPS = st.tuples(
    st.sampled_from([Life.submit, Life.delay, Life.give_back, Life.close, Life.claim, Life.lose, Life.wait]),
    st.integers(0, 9),
    st.integers(0, 3 * MINUTE_MS),
)


@FEW
@given(st.lists(STEPS, max_size=40))
def test_the_order_holds_while_jobs_come_and_go(steps: list[tuple[Callable[[Life, int, int], None], int, int]]) -> None:
    with fresh() as pending:
        life = Life(pending)
        for step, number, ms in steps:
            life.now += 1
            step(life, number, ms)


@FEW
@given(st.lists(STEPS, max_size=40))
def test_the_order_holds_however_few_names_are_kept(
    steps: list[tuple[Callable[[Life, int, int], None], int, int]],
) -> None:
    with fresh() as pending, pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "MOST_NAMES", 4)
        patch.setattr(backlog, "LEAST_NAMES", 1)
        patch.setattr(backlog, "MOST_ASIDE", 3)
        life = Life(pending)
        for step, number, ms in steps:
            life.now += 1
            step(life, number, ms)


# What is looked into


def test_no_bucket_is_opened_before_those_of_earlier_minutes_are_used_up(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minutes in range(10):
        for group in "ab":
            pending.put(NOW - minutes * MINUTE_MS, suffix=f".{group}")
            pending.put(NOW - minutes * MINUTE_MS, suffix=f".{group}", at_once=False)
    opened = watch_listings(monkeypatch)
    found = pending.cursor().candidates(NOW)
    for minutes in reversed(range(10)):
        for _ in range(4):
            assert pending.take(next(found))
        start = NOW - minutes * MINUTE_MS
        assert {layout.bucket_start_ms(name) for name in opened if "-2" in name} == {
            start + done * -MINUTE_MS for done in range(10 - minutes)
        }
    assert next(found, None) is None


@pytest.mark.parametrize("groups", [1, 8])
def test_of_many_jobs_only_so_many_names_are_kept(
    pending: Pending, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_NAMES", 16)
    monkeypatch.setattr(backlog, "LEAST_NAMES", 1)
    expected = sorted(pending.put(NOW + n, suffix=f".{n % groups}") for n in range(240))
    ours = pending.cursor()
    taken: list[str] = []
    while len(taken) < len(expected):
        candidate = next(ours.candidates(NOW))
        assert pending.take(candidate)
        taken.append(candidate.name)
        assert sum(len(bucket.names) for backlog in ours._backlogs for bucket in backlog.buckets.values()) <= 16
    assert taken == expected


# Not before its moment


def test_a_delayed_job_is_no_candidate_before_its_moment(pending: Pending) -> None:
    name = pending.put(NOW + 500, at_once=False)
    ours = pending.cursor()
    assert names(ours.candidates(NOW)) == []
    assert names(ours.candidates(NOW + 499)) == []
    assert names(ours.candidates(NOW + 500)) == [name]


def test_a_job_that_may_run_at_once_does_so_whatever_the_clock_says(pending: Pending) -> None:
    name = pending.put(NOW + 24 * HOUR_MS)
    assert names(pending.cursor().candidates(NOW)) == [name]


def test_a_bucket_of_delayed_jobs_is_not_opened_before_its_minute(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending.put(NOW + MINUTE_MS, at_once=False)
    opened = watch_listings(monkeypatch)
    ours = pending.cursor()
    assert names(ours.candidates(NOW)) == []
    assert not [name for name in opened if name.startswith("at-")]
    assert len(names(ours.candidates(NOW + MINUTE_MS))) == 1


def test_the_next_moment_is_known(pending: Pending) -> None:
    ours = pending.cursor()
    pending.put(NOW + 90_000, at_once=False, priority=2)
    pending.put(NOW + 30_000, at_once=False, priority=1)
    pending.put(NOW - 5)
    assert len(names(ours.candidates(NOW))) == 1
    assert ours.next_ms(NOW) == NOW + 30_000
    assert len(names(ours.candidates(NOW + 30_000))) == 1
    assert ours.next_ms(NOW + 30_000) == NOW + MINUTE_MS  # of a minute that was not opened, its start


def test_without_delayed_jobs_there_is_no_next_moment(pending: Pending) -> None:
    pending.put(NOW)
    ours = pending.cursor()
    list(ours.candidates(NOW))
    assert ours.next_ms(NOW) is None


# What changes meanwhile


def test_new_jobs_are_seen_when_the_known_ones_are_used_up(pending: Pending) -> None:
    ours = pending.cursor()
    first = pending.put(NOW)
    assert names(ours.candidates(NOW)) == [first]
    second = pending.put(NOW + 1)
    assert second in names(ours.candidates(NOW + 1))


def test_a_job_of_a_higher_priority_that_comes_later_goes_first(pending: Pending) -> None:
    ours = pending.cursor()
    old = [pending.put(NOW + n) for n in range(3)]
    assert next(ours.candidates(NOW + 3)).name == old[0]
    new = pending.put(NOW + 4, priority=8)
    assert names(ours.candidates(NOW + 5)) == [new, *old[1:]]


def test_only_jobs_of_a_higher_priority_are_named_when_asked_so(pending: Pending) -> None:
    pending.put(NOW, priority=5)
    ours = pending.cursor()
    assert names(ours.candidates(NOW, above=5)) == []
    new = pending.put(NOW, priority=6)
    assert names(ours.candidates(NOW, above=5)) == [new]
    assert len(names(ours.candidates(NOW))) == 1


def test_a_returned_job_in_a_bucket_of_its_own_comes_by_its_age_at_once(pending: Pending) -> None:
    ours = pending.cursor()
    known = [pending.put(NOW + n) for n in range(3)]
    assert next(ours.candidates(NOW + 3)).name == known[0]
    returned = pending.put(NOW - MINUTE_MS, suffix=".01k5q3v9zdf4gahbjcmkdnw0rk")
    assert names(ours.candidates(NOW + 3)) == [returned, *known[1:]]


def test_a_delayed_job_that_comes_into_a_bucket_that_was_listed_is_due_at_its_own_moment(pending: Pending) -> None:
    ours = pending.cursor()
    late = pending.put(NOW + 30_000, at_once=False)
    assert names(ours.candidates(NOW + 1_000)) == []
    early = pending.put(NOW + 10_000, at_once=False)
    assert names(ours.candidates(NOW + 10_000)) == [early]
    assert names(ours.candidates(NOW + 30_000)) == [late]


def test_an_earlier_job_that_comes_into_a_bucket_that_was_listed_goes_first(pending: Pending) -> None:
    ours = pending.cursor()
    late = [pending.put(NOW + 30_000 + n, at_once=False) for n in range(3)]
    assert names(ours.candidates(NOW + 1_000)) == []
    early = pending.put(NOW + 10_000, at_once=False)
    assert names(ours.candidates(NOW + 40_000)) == [early, *late]


def test_jobs_that_another_worker_took_are_gone(pending: Pending) -> None:
    ours, theirs = pending.cursor(), pending.cursor()
    for n in range(6):
        pending.put(NOW + n, priority=n % 2)
    assert next(ours.candidates(NOW + 6))
    for candidate in theirs.candidates(NOW + 6):
        assert pending.take(candidate)
    # What was known may be named once more, and then never again.
    assert [candidate for candidate in ours.candidates(NOW + 6) if pending.take(candidate)] == []
    assert names(ours.candidates(NOW + 6)) == []


def test_a_candidate_is_named_once_until_its_directory_changes(pending: Pending) -> None:
    ours = pending.cursor()
    pending.put(NOW)
    assert len(names(ours.candidates(NOW))) == 1
    assert names(ours.candidates(NOW)) == []


def test_a_directory_that_vanishes_is_no_trouble(pending: Pending) -> None:
    ours = pending.cursor()
    pending.put(NOW)
    first = next(ours.candidates(NOW))
    pending.take(first)
    Path(pending.paths.bucket(5, first.bucket)).rmdir()
    assert names(ours.candidates(NOW)) == []
    Path(pending.paths.priority(5)).rmdir()
    assert names(ours.candidates(NOW)) == []


def test_a_change_in_the_same_tick_of_the_disks_clock_as_the_last_look_is_seen_soon(pending: Pending) -> None:
    ours = pending.cursor()
    pending.put(NOW)
    (first,) = ours.candidates(NOW)
    bucket = pending.paths.bucket(5, first.bucket)
    now = time.time_ns() + 60_000_000_000  # not before the looks that follow, however long they take to come
    os.utime(bucket, ns=(now, now))
    assert len(names(ours.candidates(NOW))) == 1  # a change: it is listed again
    second = pending.put(NOW + 1)
    os.utime(bucket, ns=(now, now))  # and the clock of the disk has not moved on
    deadline = time.monotonic() + 10
    while second not in names(ours.candidates(NOW + 1)):
        assert time.monotonic() < deadline
        time.sleep(0.001)  # between two looks


def test_a_directory_that_did_not_change_is_not_listed_again(pending: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(50):
        pending.put(NOW + n)
    ours = pending.cursor()
    listed = watch_listings(monkeypatch)
    for n in range(50):
        pending.take(next(ours.candidates(NOW + 50)))
        if n == 0:
            listed.clear()
    assert not [name for name in listed if name.startswith("now-")]


def test_a_directory_that_takes_long_to_list_is_not_listed_again_while_names_of_it_are_known(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_listing, "CHEAP_S", 0.0)
    monkeypatch.setattr(cached_listing, "CHEAP", 1e9)
    for n in range(20):
        pending.put(NOW + n, suffix=".01k5q3v9zdf4gahb")
    ours = pending.cursor()
    listed = watch_listings(monkeypatch)
    for _ in range(20):
        assert pending.take(next(ours.candidates(NOW + 20)))
        assert len([name for name in listed if name.startswith("now-")]) == 1


# Closed lanes


def test_of_a_closed_lane_no_job_is_a_candidate(pending: Pending) -> None:
    put = [pending.put(NOW + n, lane=(MAIL, POST, "")[n % 3], priority=4 + n % 2) for n in range(12)]
    ours = pending.cursor()
    ours.close_lanes(MAIL_ALONE)
    others = [name for n, name in enumerate(put) if n % 3]
    assert sorted(names(ours.candidates(NOW + 12))) == sorted(others)
    assert names(ours.candidates(NOW + 12)) == []


def test_jobs_of_a_lane_that_opens_come_by_their_age_among_the_others(pending: Pending) -> None:
    put = [pending.put(NOW + n, lane=(MAIL, POST)[n % 2]) for n in range(12)]
    ours = pending.cursor()
    ours.close_lanes(MAIL_ALONE)
    assert next(ours.candidates(NOW + 12)).name == put[1]
    ours.close_lanes(frozenset())
    assert names(ours.candidates(NOW + 12)) == [put[0], *put[2:]]


def test_names_that_are_known_when_their_lane_closes_are_laid_aside_and_come_back(pending: Pending) -> None:
    put = [pending.put(NOW + n, lane=MAIL, suffix=f".{n % 3}") for n in range(12)]
    ours = pending.cursor()
    assert next(ours.candidates(NOW + 12)).name == put[0]
    ours.close_lanes(MAIL_ALONE)
    assert names(ours.candidates(NOW + 12)) == []
    ours.close_lanes(BOTH)
    assert names(ours.candidates(NOW + 12)) == []
    ours.close_lanes(frozenset({POST}))
    assert names(ours.candidates(NOW + 12)) == put[1:]


@pytest.mark.parametrize("most", [0, 1, 5, 11])
def test_more_names_than_can_be_laid_aside_come_back_all_the_same(
    pending: Pending, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_ASIDE", most)
    put = [pending.put(NOW + n, lane=MAIL, suffix=f".{n % 2}") for n in range(12)]
    other = pending.put(NOW + 12, lane=POST)
    ours = pending.cursor()
    ours.close_lanes(MAIL_ALONE)
    assert names(ours.candidates(NOW + 12)) == [other]
    assert sum(bucket.aside_count for each in ours._backlogs for bucket in each.buckets.values()) == most
    ours.close_lanes(frozenset())
    assert [name for name in names(ours.candidates(NOW + 12)) if name != other] == put


def test_an_id_from_before_there_were_lanes_tells_none(pending: Pending) -> None:
    ours = Upcoming(pending.paths, min_priority=0, age_boost=NEVER, since=first_id(NOW))
    old = pending.put(NOW - 1, lane=MAIL)
    pending.put(NOW, lane=MAIL)
    ours.close_lanes(MAIL_ALONE)
    assert names(ours.candidates(NOW)) == [old]
    unsure = Upcoming(pending.paths, min_priority=0, age_boost=NEVER)
    unsure.close_lanes(MAIL_ALONE)
    assert len(names(unsure.candidates(NOW))) == 2


def test_what_is_laid_aside_is_not_listed_again(pending: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        pending.put(NOW - n * MINUTE_MS, lane=MAIL)
    ours = pending.cursor()
    ours.close_lanes(MAIL_ALONE)
    listed = watch_listings(monkeypatch)
    assert names(ours.candidates(NOW)) == []
    assert len([name for name in listed if name.startswith("now-")]) == 20
    listed.clear()
    for _ in range(5):
        assert names(ours.candidates(NOW)) == []
    assert listed == []


def test_a_bucket_in_which_something_was_laid_aside_is_not_removed(pending: Pending) -> None:
    put = pending.put(NOW, lane=MAIL)
    ours = pending.cursor()
    ours.close_lanes(MAIL_ALONE)
    assert names(ours.candidates(NOW)) == []
    assert names(ours.candidates(NOW + HOUR_MS)) == []
    ours.close_lanes(frozenset())
    assert names(ours.candidates(NOW + HOUR_MS)) == [put]


def test_a_job_that_comes_into_an_old_bucket_of_a_closed_lane_is_seen(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "LONGEST_PAUSE_S", 0.0)
    pending.put(NOW, lane=MAIL)
    ours = pending.cursor()
    ours.close_lanes(MAIL_ALONE)
    for _ in range(2):
        assert names(ours.candidates(NOW + HOUR_MS)) == []
    late = pending.put(NOW + 1, lane=POST)
    assert names(ours.candidates(NOW + HOUR_MS)) == [late]


def test_to_lay_many_names_aside_is_done_in_slices_and_nothing_overtakes_them(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = [pending.put(NOW + n, lane=MAIL, priority=5) for n in range(30)]
    wanted = [pending.put(NOW + 30, lane=POST, priority=priority) for priority in (5, 4)]
    ours = pending.cursor()
    assert next(ours.candidates(NOW + 30)).name == put[0]  # from now on the names are known
    monkeypatch.setattr(bucket, "FEW_STEPS", 9)
    monkeypatch.setattr(backlog, "BUCKET_STEPS", 0)
    monkeypatch.setattr(bucket, "SLICE_S", -1.0)
    ours.close_lanes(MAIL_ALONE)
    for _ in range(2):
        assert names(ours.candidates(NOW + 30)) == []
        assert ours.next_ms(NOW + 30) == NOW + 30  # there is more to do at once
    assert names(ours.candidates(NOW + 30)) == wanted
    assert ours.next_ms(NOW + 30) is None


def test_with_ageing_nothing_overtakes_what_was_not_looked_at_yet(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = [pending.put(NOW + n, lane=MAIL, priority=5) for n in range(15)]
    wanted = pending.put(NOW - HOUR_MS, lane=POST, priority=3)
    ours = pending.cursor(age_boost=timedelta(hours=10))
    assert next(ours.candidates(NOW + 30)).name == put[0]
    monkeypatch.setattr(bucket, "FEW_STEPS", 9)
    monkeypatch.setattr(backlog, "BUCKET_STEPS", 0)
    monkeypatch.setattr(bucket, "SLICE_S", -1.0)
    ours.close_lanes(MAIL_ALONE)
    assert names(ours.candidates(NOW + 30)) == []
    assert ours.next_ms(NOW + 30) == NOW + 30
    assert names(ours.candidates(NOW + 30)) == [wanted]


def test_the_next_moment_is_that_at_which_a_lane_opens_and_never_a_job_of_a_closed_one(pending: Pending) -> None:
    ours = pending.cursor()
    pending.put(NOW, lane=MAIL)
    pending.put(NOW + 30_000, lane=MAIL, at_once=False)
    ours.close_lanes(MAIL_ALONE)
    assert names(ours.candidates(NOW + 1)) == []
    assert ours.next_ms(NOW + 1) is None
    ours.close_lanes(MAIL_ALONE, opens_ms=NOW + 70_000)
    assert ours.next_ms(NOW + 31_000) == NOW + 70_000
    later = pending.put(NOW + 40_000, lane=POST, at_once=False)
    assert names(ours.candidates(NOW + 32_000)) == []
    assert ours.next_ms(NOW + 32_000) == NOW + 40_000
    assert names(ours.candidates(NOW + 40_000)) == [later]


def test_a_delayed_job_of_a_lane_that_opens_still_waits_for_its_moment(pending: Pending) -> None:
    ours = pending.cursor()
    name = pending.put(NOW + 30_000, lane=MAIL, at_once=False)
    ours.close_lanes(MAIL_ALONE)
    assert names(ours.candidates(NOW + 1)) == []
    ours.close_lanes(frozenset())
    assert names(ours.candidates(NOW + 2)) == []
    assert ours.next_ms(NOW + 2) == NOW + 30_000
    assert names(ours.candidates(NOW + 30_000)) == [name]


def test_jobs_that_nobody_claims_hide_none_however_few_names_are_kept(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_NAMES", 4)
    monkeypatch.setattr(backlog, "LEAST_NAMES", 1)
    put = [pending.put(NOW + n) for n in range(15)]
    found = itertools.islice(pending.cursor().candidates(NOW + 15), 100)
    assert names(found) == put  # and then there is an end


@pytest.mark.parametrize(("took_s", "again_after_s"), [(0.0, 30.0), (0.01, 30.0), (0.05, 50.0), (1.0, 1000.0)])
def test_a_directory_that_did_not_change_is_looked_at_again_the_later_the_longer_it_took(
    pending: Pending, monkeypatch: pytest.MonkeyPatch, took_s: float, again_after_s: float
) -> None:
    clock = [0.0]
    listdir = disk.listdir

    def slow(path: str) -> list[str]:
        clock[0] += took_s
        return listdir(path)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(disk, "listdir", slow)
    pending.put(NOW)
    listing = cached_listing.CachedListing(pending.paths.priority(5))
    assert len(listing.read()) == 1
    clock[0] += again_after_s - 0.001
    assert not listing.is_stale()
    clock[0] += 0.002
    assert listing.is_stale()


# Ageing


@pytest.mark.parametrize(
    ("low_waited_m", "high_waited_m", "low_first"),
    [
        (0, 0, False),
        (29, 0, False),
        (59, 0, False),
        (60, 0, True),  # two levels up: equal, and the older one goes first
        (90, 0, True),
        (90, 60, False),
        (100_000, 100_001, False),  # both at the top, the older one goes first
    ],
)
def test_with_ageing_a_job_gains_a_level_for_each_stretch_of_waiting(
    pending: Pending, low_waited_m: int, high_waited_m: int, low_first: bool
) -> None:
    low = pending.put(NOW - low_waited_m * MINUTE_MS, priority=3)
    high = pending.put(NOW - high_waited_m * MINUTE_MS, priority=5)
    ours = pending.cursor(age_boost=timedelta(minutes=30))
    assert names(ours.candidates(NOW)) == ([low, high] if low_first else [high, low])


def test_without_ageing_no_job_ever_overtakes(pending: Pending) -> None:
    low = pending.put(NOW - 10_000 * HOUR_MS, priority=0)
    high = pending.put(NOW, priority=1)
    assert names(pending.cursor().candidates(NOW)) == [high, low]


AGES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 200)), min_size=1, max_size=12)


@FEW
@given(AGES, st.integers(1, 60))
def test_with_ageing_the_order_is_that_of_levels_gained_and_then_of_age(
    jobs: list[tuple[int, int]], boost_m: int
) -> None:
    with fresh() as pending:
        expected = []
        for priority, waited_m in jobs:
            name = pending.put(NOW - waited_m * MINUTE_MS, priority=priority)
            expected.append((-min(9, priority + waited_m // boost_m), int(name[:13]), name))
        ours = pending.cursor(age_boost=timedelta(minutes=boost_m))
        found = [
            (-min(9, c.priority + (NOW - int(c.name[:13])) // MINUTE_MS // boost_m), int(c.name[:13]))
            for c in ours.candidates(NOW)
        ]
        assert found == sorted(rank[:2] for rank in expected)


# Tidiness, and strangers


def test_a_drained_bucket_of_the_past_is_removed(pending: Pending) -> None:
    ours = pending.cursor()
    pending.put(NOW)
    for candidate in ours.candidates(NOW):
        pending.take(candidate)
    bucket = Path(pending.paths.bucket(5, layout.bucket(NOW, at_once=True)))
    list(ours.candidates(NOW + MINUTE_MS))
    assert bucket.is_dir()  # somebody may be about to submit into it
    list(ours.candidates(NOW + 4 * MINUTE_MS))
    assert not bucket.exists()


def test_a_bucket_of_the_past_that_still_holds_a_job_is_not_removed(pending: Pending) -> None:
    ours = pending.cursor()
    pending.put(NOW)
    assert len(names(ours.candidates(NOW))) == 1  # named, but not taken
    list(ours.candidates(NOW + HOUR_MS))
    assert any(Path(pending.paths.bucket(5, layout.bucket(NOW, at_once=True))).iterdir())


def test_more_names_than_are_kept_in_memory_come_in_order_all_the_same(
    pending: Pending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_NAMES", 4)
    put = [pending.put(NOW + n) for n in range(15)]
    ours = pending.cursor()
    found = []
    for candidate in ours.candidates(NOW + 15):
        assert pending.take(candidate)
        found.append(candidate.name)
    assert found == put


@pytest.mark.parametrize(
    "name",
    [
        *("README", ".DS_Store", "x.json", "1795400040000-UPPER.json"),
        *([] if sys.platform == "win32" else ["a\nb", "\udcff.json"]),
    ],
)
def test_what_no_job_can_be_called_is_no_candidate_and_is_reported_once(pending: Pending, name: str) -> None:
    job = pending.put(NOW)
    stranger = Path(pending.paths.bucket(5, layout.bucket(NOW, at_once=True)), name)
    stranger.touch()
    ours = pending.cursor()
    assert names(ours.candidates(NOW)) == [job]
    assert ours.strange() == [str(stranger)]
    assert ours.strange() == []


def test_what_no_job_can_be_called_is_reported_once_when_its_bucket_was_listed_twice(pending: Pending) -> None:
    bucket = Path(pending.paths.bucket(5, layout.bucket(NOW, at_once=True)))
    ours = pending.cursor()
    for name in ("README", "TODO"):
        pending.put(NOW)
        (bucket / name).touch()
        os.utime(bucket, (0, len(name)))  # it has changed, as its times tell
        list(ours.candidates(NOW))
    assert ours.strange() == [str(bucket / "README"), str(bucket / "TODO")]


@pytest.mark.parametrize("name", ["README", "now-2026", "at-999999999999", ".now-202611230213", "later-202611230213"])
def test_a_strange_name_among_the_buckets_hides_no_job(pending: Pending, name: str) -> None:
    Path(pending.paths.priority(5), name).touch()
    job = pending.put(NOW)
    assert names(pending.cursor().candidates(NOW)) == [job]
