"""What other users have in a shared spool is counted, by all workers together, and for as long as it is there."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import disk, system
from bgjobs.job import State, Succeeded
from bgjobs.lifecycle import Policy
from bgjobs.spool.inbox import accounts, arrivals
from bgjobs.store import Filter
from tests.contract.stores import NO_SELECTION, Sessions, SpoolKind, claim_all, finish, info, now, recover, wait_until

if TYPE_CHECKING:
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Session

if sys.platform != "win32":
    import grp

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not system.is_elevated(), reason="only root can give files to other users"
)
ANN, BEN = 54321, 54322
CALL = {"format": 1, "class": "Mail", "method": "send"}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "FRESH_S", 0.0)
    monkeypatch.setattr(accounts, "TIMES_ITS_COST", 0)
    monkeypatch.setattr(arrivals, "AGAIN_S", 0.0)
    monkeypatch.setattr(arrivals, "TIMES_ITS_COST", 0)
    monkeypatch.setattr(arrivals, "SKIP_TIMES_SCAN", 0)


def shared_store(where: Path, **settings: int) -> SpoolKind:
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    text = f'[bgjobs]\ndurability = "os"\nshared_with = "{grp.getgrgid(1).gr_name}"\n{lines}'
    (where / "allowed_jobs.toml").write_text(text, "utf-8")
    return SpoolKind(str(where))


def hand_in(spool: SpoolStore, uid: int, name: str, *args: Any) -> None:
    hidden = Path(spool.paths.incoming, f".{name}")
    hidden.write_text(json.dumps(CALL | {"args": args}), "utf-8")
    hidden.chmod(0o640)
    os.chown(hidden, uid, -1)
    hidden.rename(Path(spool.paths.incoming, f"{name}.json"))


def import_all(session: Session) -> int:
    """Import until a few looks in a row have found nothing more."""
    count = 0
    idle = 0
    while idle < 5:
        found = session.import_jobs(lambda _class, _method: Policy())
        count, idle = count + found, 0 if found else idle + 1
    return count


def left(spool: SpoolStore) -> list[str]:
    return sorted(path.name for path in Path(spool.paths.incoming).iterdir())


def filter_of(state: State) -> Filter:
    return Filter(states=frozenset({state}))


def told(spool: SpoolStore, word: str) -> list[str]:
    path = Path(spool.handle.settings.log_dir, "background_jobs_errors.log")
    return [line for line in path.read_text("utf-8").splitlines() if word in line] if path.exists() else []


def test_what_two_workers_take_counts_together(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_queued_per_user=10)
    spools = store.open(), store.open()
    sessions = [spool.join(info(), NO_SELECTION) for spool in spools]
    for number in range(8):
        hand_in(spools[0], ANN, f"a{number}")
    assert import_all(sessions[0]) == 8
    for number in range(8):
        hand_in(spools[0], ANN, f"b{number}")
        hand_in(spools[0], BEN, f"c{number}")
    assert import_all(sessions[1]) == 2 + 8
    assert import_all(sessions[0]) == 0
    assert len(left(spools[0])) == 6
    for session in sessions:
        session.leave()


def test_there_is_room_again_when_jobs_have_ended_were_deleted_or_left_corrupt(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_queued_per_user=3)
    spool, workers = store.open(), Sessions(store)
    session = workers.join()
    for number in range(9):
        hand_in(spool, ANN, str(number), number)
    assert import_all(session) == 3
    claims = claim_all(session, 2)
    assert import_all(session) == 0  # a running job counts
    for claim in claims:
        finish(session, claim, Succeeded())
    assert import_all(session) == 2
    (first, *_) = [job.id for job in spool.jobs(filter_of(State.QUEUED))]
    spool.cancel(first, "root")
    assert import_all(session) == 1
    assert len(left(spool)) == 3
    (path,) = Path(spool.paths.submitters).iterdir()
    assert path.name == str(ANN)
    assert len(list(path.iterdir())) == 3
    workers.leave(session)


def test_bytes_are_counted_as_handed_in(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_bytes_per_user=1000, max_queued_per_user=0)
    spool, workers = store.open(), Sessions(store)
    session = workers.join()
    for number in range(4):
        hand_in(spool, ANN, str(number), "x" * 250)
        hand_in(spool, BEN, f"b{number}", "x" * 10)
    assert import_all(session) == 3 + 4
    assert len(left(spool)) == 1
    for claim in claim_all(session, 7):
        finish(session, claim, Succeeded())
    assert import_all(session) == 1
    workers.leave(session)


def test_the_counts_may_be_removed_at_any_time(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_queued_per_user=3)
    spool, workers = store.open(), Sessions(store)
    session = workers.join()
    for number in range(4):
        hand_in(spool, ANN, str(number))
        shutil.rmtree(spool.paths.submitters)
        assert import_all(session) == 1
    workers.leave(session)


def test_no_limit_means_that_nothing_is_counted(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_bytes_per_user=0, max_queued_per_user=0)
    spool, workers = store.open(), Sessions(store)
    session = workers.join()
    for number in range(20):
        hand_in(spool, ANN, str(number), "x")
    assert import_all(session) == 20
    assert list(Path(spool.paths.submitters).iterdir()) == []
    workers.leave(session)


def test_what_a_worker_that_died_had_counted_is_not_counted_twice(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_queued_per_user=1)
    spool, workers = store.open(), Sessions(store)
    first = workers.join()
    hand_in(spool, ANN, "x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "ring", _die)  # the job is there, its file is not gone
        with pytest.raises(KeyboardInterrupt):
            import_all(first)
    workers.abandon(first)
    (entry,) = next(iter(Path(spool.paths.submitters).iterdir())).iterdir()
    second = workers.join()
    recover(second)
    import_all(second)
    assert len(list(spool.jobs(filter_of(State.QUEUED)))) == 1
    assert list(entry.parent.iterdir()) == [entry]
    workers.leave(second)


def _die(_path: str) -> None:
    raise KeyboardInterrupt


def test_a_file_that_changes_its_owner_while_it_is_taken_counts_for_the_new_one(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_queued_per_user=1)
    spool, workers = store.open(), Sessions(store)
    session = workers.join()
    hand_in(spool, ANN, "ann")
    assert import_all(session) == 1
    hand_in(spool, BEN, "ben")
    move = disk.move

    def swapped(source: str, target: str) -> None:
        if source.endswith("ben.json"):
            os.chown(source, ANN, -1)  # as if Ben had removed his, and Ann made one of that name
        move(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "move", swapped)
        assert import_all(session) == 0
    assert len(left(spool)) == 1
    assert [job.from_user for job in spool.jobs(filter_of(State.QUEUED))] == [f"#{ANN}"]
    workers.leave(session)
    assert len(left(spool)) == 1


@pytest.mark.sweep
@pytest.mark.parametrize("many", [800])  # three times as many as are taken at once
def test_each_user_has_a_turn_however_many_files_another_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(arrivals, "SLICE_S", 60.0)  # all is seen before the first is taken
    store = shared_store(tmp_path)
    spool, workers = store.open(), Sessions(store)
    for number in range(many):
        hand_in(spool, ANN, f"a{number}")
    hand_in(spool, BEN, "ben")
    hand_in(spool, os.geteuid(), "ours")
    session = workers.join()
    wait_until(lambda: session.import_jobs(lambda _class, _method: Policy()) > 0)
    assert {job.from_user for job in spool.jobs(filter_of(State.QUEUED))} == {f"#{ANN}", f"#{BEN}", None}
    assert import_all(session) > many / 2
    assert import_all(session) + len(list(spool.jobs(filter_of(State.QUEUED)))) == many + 2
    workers.leave(session)


def test_those_of_one_user_are_taken_by_age(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_queued_per_user=5)
    spool, workers = store.open(), Sessions(store)
    for number in range(20):
        hand_in(spool, ANN, str(number * 7 % 20), number)
        os.utime(Path(spool.paths.incoming, f"{number * 7 % 20}.json"), ns=(0, 10**18 + number))
    session = workers.join()
    assert import_all(session) == 5
    assert sorted(job.args[0] for job in spool.jobs(filter_of(State.QUEUED))) == [0, 1, 2, 3, 4]
    workers.leave(session)


def test_a_full_user_is_told_again_only_after_all_was_taken(tmp_path: Path) -> None:
    store = shared_store(tmp_path, max_queued_per_user=1)
    spool, workers = store.open(), Sessions(store)
    session = workers.join()
    for turn in range(2):
        for number in range(3):
            hand_in(spool, ANN, f"{turn}{number}")
        for _ in range(3):
            assert import_all(session) == 1
            (claim,) = claim_all(session, 1)
            finish(session, claim, Succeeded())
        assert import_all(session) == 0
        assert len(told(spool, "no room for more")) == turn + 1
    assert not spool.unfinished(now()).incoming
    workers.leave(session)
