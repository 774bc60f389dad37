"""Which pending jobs a worker with a selection claims: by their names where these tell, else by their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from bgjobs.ids import first_id, id_ms, lane_of, new_id
from bgjobs.job import milliseconds
from bgjobs.spool import lanes, layout, record
from bgjobs.spool.lanes import ClassFilter
from bgjobs.spool.layout import Layout
from tests.contract.stores import new_job

NOW = 1_795_400_040_000
SINCE = first_id(0)
# Two pairs whose lanes are the same.
MAIL, POST = ("Mail", "send1599"), ("Post", "send1361")
PAIRS = frozenset({("Mail", "send"), ("Post", "send"), MAIL, POST})
GONE = "/there/is/no/such/file"  # to look into it is to refuse it


class Allowlist:
    """What is allowed, and may change."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = frozenset(pairs)

    def __call__(self) -> frozenset[tuple[str, str]]:
        return self.pairs


def filter_of(*classes: str, allowed: Allowlist | None = None, since: str = SINCE) -> ClassFilter:
    found = ClassFilter(frozenset(classes), allowed or Allowlist(*PAIRS), since)
    found.refresh()
    found.begin_slice()
    return found


def name_of(class_name: str, method: str) -> str:
    return layout.pending_name(NOW, new_id(NOW, lane=lane_of(class_name, method)))


def file_of(folder: Path, class_name: str, method: str, *, lane: str | None = None) -> tuple[str, str]:
    """Write the file of a job; return its path and its name."""
    job = new_job(class_name=class_name, method=method)
    ms = milliseconds(job.submitted_at)
    job = replace(job, id=new_id(ms, lane=lane_of(class_name, method) if lane is None else lane))
    path = folder / layout.pending_name(ms, job.id)
    path.write_bytes(record.line_1(job))
    return str(path), path.name


def test_the_pairs_of_these_tests_share_a_lane() -> None:
    assert lane_of(*MAIL) == lane_of(*POST)


def test_a_name_tells_that_a_job_is_of_a_class_that_is_taken() -> None:
    assert filter_of("Mail").takes(GONE, name_of("Mail", "send"))


def test_a_name_tells_that_a_job_is_of_another_class(tmp_path: Path) -> None:
    ours = filter_of("Mail")
    assert lane_of("Post", "send") in ours.closed
    path, name = file_of(tmp_path, "Mail", "send", lane=lane_of("Post", "send"))
    assert not ours.takes(path, name)  # it is not opened


@pytest.mark.parametrize("pair", [MAIL, POST])
def test_a_name_that_two_pairs_may_have_tells_nothing(tmp_path: Path, pair: tuple[str, str]) -> None:
    ours = filter_of("Mail")
    assert lane_of(*pair) not in ours.closed
    assert ours.takes(*file_of(tmp_path, *pair)) is (pair == MAIL)


def test_two_pairs_of_one_lane_tell_where_both_are_taken_or_none_is() -> None:
    assert filter_of("Mail", "Post").takes(GONE, name_of(*MAIL))
    neither = filter_of("Work", allowed=Allowlist(("Work", "note"), *PAIRS))
    assert lane_of(*MAIL) in neither.closed


@pytest.mark.parametrize("class_name", ["Mail", "Post"])
def test_an_id_from_before_there_were_lanes_tells_nothing(tmp_path: Path, class_name: str) -> None:
    ours = filter_of("Mail", since=lanes.NO_ID_HAS_LANE)
    for told in ("Mail", "Post"):
        path, name = file_of(tmp_path, class_name, "send", lane=lane_of(told, "send"))
        assert ours.takes(path, name) is (class_name == "Mail")


def test_a_job_of_a_method_that_is_not_allowed_is_taken_to_be_refused(tmp_path: Path) -> None:
    assert filter_of("Mail").takes(*file_of(tmp_path, "Mail", "removed"))


def test_of_a_pair_that_is_not_allowed_only_the_first_file_is_opened(tmp_path: Path) -> None:
    ours = filter_of("Mail")
    before = ours.closed
    assert not ours.takes(*file_of(tmp_path, "Old", "job"))
    assert ours.closed == before | {lane_of("Old", "job")}
    assert not ours.takes(*file_of(tmp_path, "Mail", "send", lane=lane_of("Old", "job")))


def test_no_lane_is_learned_from_an_id_that_does_not_tell_the_truth(tmp_path: Path) -> None:
    ours = filter_of("Mail")
    before = ours.closed
    assert not ours.takes(*file_of(tmp_path, "Old", "job", lane="00000"))
    assert ours.closed is before


def test_a_lane_that_was_learned_opens_when_a_pair_of_ours_has_it(tmp_path: Path) -> None:
    allowed = Allowlist(("Mail", "send"))
    ours = filter_of("Mail", allowed=allowed)
    assert not ours.takes(*file_of(tmp_path, *POST))
    assert lane_of(*POST) in ours.closed
    allowed.pairs |= {MAIL}
    ours.refresh()
    assert lane_of(*MAIL) not in ours.closed


def test_a_changed_allowlist_counts_from_the_next_round_on() -> None:
    allowed = Allowlist(("Mail", "send"))
    ours = filter_of("Mail", allowed=allowed)
    assert not ours.takes(GONE, name_of("Mail", "read"))
    allowed.pairs |= {("Mail", "read"), ("Post", "send")}
    ours.refresh()
    assert ours.takes(GONE, name_of("Mail", "read"))
    assert lane_of("Post", "send") in ours.closed
    closed = ours.closed
    ours.refresh()
    assert ours.closed is closed


def test_a_job_that_turned_out_to_be_of_another_class_is_not_taken_again() -> None:
    ours = filter_of("Mail")
    name = name_of("Mail", "send")
    assert ours.wants("Mail", name[14:40])
    assert ours.takes(GONE, name)
    assert not ours.wants("Post", name[14:40])
    assert not ours.takes(GONE, name)


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"format":2}\n'])
def test_what_is_no_job_to_this_bgjobs_is_left_to_a_worker_that_takes_all(tmp_path: Path, content: bytes) -> None:
    path, name = file_of(tmp_path, "Mail", "unknown")
    Path(path).write_bytes(content)
    assert not filter_of("Mail").takes(path, name)


def test_files_are_looked_into_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "SLICE_S", -1.0)
    ours = filter_of("Mail", since=lanes.NO_ID_HAS_LANE)
    for _ in range(lanes.FEW):
        ours.takes(GONE, name_of("Mail", "send"))
        assert not ours.is_late()
    ours.takes(GONE, name_of("Mail", "send"))
    assert ours.is_late()
    ours.begin_slice()
    assert not ours.is_late()


# The file `lanes`


@pytest.fixture
def paths(tmp_path: Path) -> Layout:
    found = Layout(str(tmp_path))
    Path(found.tmp).mkdir()
    return found


def test_without_the_file_no_id_tells_and_the_first_worker_makes_it(paths: Layout) -> None:
    assert lanes.first_with_lane(paths) > new_id(2**44 - 1)
    assert lanes.ensure_first_with_lane(paths, NOW) == first_id(NOW)
    assert lanes.first_with_lane(paths) == first_id(NOW)
    assert lanes.ensure_first_with_lane(paths, NOW + 5) == first_id(NOW)
    assert Path(paths.lanes).read_bytes() == b'{"since":1795400040000}\n'
    assert list(Path(paths.tmp).iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", bytes(30), b"{}", b'{"since":"now"}', b'{"since":-1}', b'{"since":99999999999999999}', b"\xff"]
)
def test_a_file_that_says_nothing_is_written_anew(paths: Layout, content: bytes) -> None:
    Path(paths.lanes).write_bytes(content)
    assert lanes.first_with_lane(paths) == lanes.NO_ID_HAS_LANE
    assert id_ms(lanes.ensure_first_with_lane(paths, NOW)) == NOW
    assert lanes.first_with_lane(paths) == first_id(NOW)


def test_a_moment_that_lies_ahead_is_corrected(paths: Layout) -> None:
    lanes.publish(paths, NOW + 1)
    assert lanes.ensure_first_with_lane(paths, NOW) == first_id(NOW)
    assert lanes.first_with_lane(paths) == first_id(NOW)


def test_where_it_cannot_be_written_no_id_tells(paths: Layout) -> None:
    Path(paths.tmp).rmdir()
    assert lanes.ensure_first_with_lane(paths, NOW) == lanes.NO_ID_HAS_LANE


def test_a_directory_in_its_place_is_no_trouble(paths: Layout) -> None:
    Path(paths.lanes, "x").mkdir(parents=True)
    assert lanes.ensure_first_with_lane(paths, NOW) == lanes.NO_ID_HAS_LANE
    assert lanes.first_with_lane(paths) == lanes.NO_ID_HAS_LANE
