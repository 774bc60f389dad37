"""The checker of the spool's promises: it finds each kind of damage, and none where there is none."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import disk, locks, system
from bgjobs.ids import new_id
from bgjobs.job import Cancelled, JobError, Raised, Refused, State, Succeeded, milliseconds
from bgjobs.lifecycle import Policy
from bgjobs.spool import layout, record
from bgjobs.spool.doctor import fsck, job_check
from tests.contract.stores import (
    FAR,
    Sessions,
    SpoolKind,
    claim_all,
    finish,
    new_job,
    now,
    recover_all,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Finding

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links, modes and signals are POSIX")
RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))
HOURLY = Policy(retry_delay=timedelta(hours=1), backoff="fixed")
RUNNER = """
import sys
from bgjobs.locks import hold_for_life
held = hold_for_life(sys.argv[1]) if sys.argv[1:] else None
print("ready", flush=True)
sys.stdin.read()  # until it is killed
"""


PATIENT = fsck.PAUSES_S


@pytest.fixture(autouse=True)
def _nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding is looked at again and again, for half a second: here no worker is at work meanwhile."""
    monkeypatch.setattr(fsck, "PAUSES_S", tuple(0.001 for _ in PATIENT))


def submitted(spool: SpoolStore, *, delay: timedelta = timedelta(0), priority: int = 5) -> Job:
    job = new_job(delay=delay, priority=priority)
    spool.submit([job])
    return job


def path_of(spool: SpoolStore, job: Job) -> Path:
    """Return where the file of a job lies."""
    (found,) = Path(spool.paths.root).rglob(f"*{job.id}.json")
    return found


def ended_job(spool: SpoolStore, workers: Sessions) -> Path:
    """Return the file of a job that is done."""
    job, session = submitted(spool), workers.join()
    finish(session, claim_all(session, 1)[0], Succeeded())
    workers.leave(session)
    return path_of(spool, job)


def codes(findings: list[Finding]) -> dict[str, str]:
    """Return the rule of each finding by its code."""
    return {finding.code: finding.rule for finding in findings}


def only(spool: SpoolStore, code: str, rule: str) -> Finding:
    """Return the one finding that there is, which has this code and breaks this rule."""
    found = fsck.check(spool.paths)
    assert codes(found) == {code: rule}, found
    assert codes(fsck.broken(spool.paths)) == ({code: rule} if rule else {})
    return found[0]


def append(path: Path, *events: record.AnyEvent | bytes) -> None:
    with path.open("ab") as file:
        for event in events:
            file.write(event if isinstance(event, bytes) else record.encoded(event))


@contextmanager
def runner(*args: str) -> Iterator[tuple[int, str]]:
    """Run a process that could be a runner; it holds the lock that is named."""
    process = subprocess.Popen([sys.executable, "-c", RUNNER, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().split() == [b"ready"]
        yield process.pid, system.birth(process.pid) or ""
    finally:
        process.kill()
        process.communicate()


# A spool in order


def test_a_spool_in_the_middle_of_all_kinds_of_work_has_no_finding(spool: SpoolStore, workers: Sessions) -> None:
    """Queued, delayed, claimed, running, retried, handed back, done, failed, cancelled, refused, half-way in."""
    for n in range(20):
        submitted(spool, delay=FAR if n % 5 == 0 else timedelta(0), priority=n % 10)
    session, other = workers.join(), workers.join()
    done, failed, retried, back, cancelled, refused, running, _claimed = claim_all(session, 8)
    finish(session, done, Succeeded())
    finish(session, failed, RAISED, policy=Policy(retries=0))
    finish(session, retried, RAISED, policy=HOURLY)
    session.release(back)
    finish(session, cancelled, Cancelled("ann@web1"))
    finish(session, refused, Refused(JobError(type="Refused", message="no")))
    spool.cancel(submitted(spool, delay=FAR).id, "ann@web1")
    claim_all(other, 2)
    Path(spool.paths.tmp, "half-written").write_bytes(b'{"format":1,"id":')
    Path(spool.paths.claims_of(session.id), f"in.{new_id()}.json").write_bytes(b"{}")
    with runner(session.slots.lock(0)) as (pid, birth):
        todo = session.begin(running, slot=0, pid=pid, birth=birth)
        assert todo is not None
        append(Path(todo.path), f"{todo.head}{milliseconds(now())}{todo.tail}".encode())
        assert fsck.check(spool.paths) == []
        assert spool.findings(quick=True) == []


def test_a_new_spool_has_no_finding(spool: SpoolStore) -> None:
    assert fsck.check(spool.paths) == []


@pytest.mark.timeout(300)
def test_workers_at_work_give_no_false_alarm(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck, "PAUSES_S", PATIENT)
    spool.submit([new_job(priority=n % 10) for n in range(1500)])
    processes = [workers.process(hammer=3) for _ in range(3)]
    for process in processes:
        process.said()
    for process in processes:
        process.tell("go")
    looks = 0
    while looks < 2 or spool.unfinished(now()).due:  # once quick, and once whole
        assert [finding for finding in fsck.check(spool.paths, quick=bool(looks % 2)) if finding.rule] == []
        looks += 1
    claimed = [job_id for process in processes for job_id in process.said()["claimed"]]
    assert len(set(claimed)) == len(claimed) == 1500
    assert fsck.check(spool.paths) == []


def test_what_a_dead_worker_left_breaks_no_rule_and_is_named_once(spool: SpoolStore, workers: Sessions) -> None:
    spool.submit([new_job() for _ in range(3)])
    (wid,) = workers.dead(claim=3, begin=2)["id"]
    found = only(spool, "dead-worker", "")
    assert found.repairable
    assert found.path == spool.paths.worker(wid)
    assert "3 jobs" in found.message
    recover_all(spool, workers.join())
    assert fsck.check(spool.paths) == []


@pytest.mark.parametrize(("ending", "code"), [("done", "unfinished-move"), ("retry", "dead-worker")])
def test_a_move_that_was_broken_off_breaks_no_rule(
    spool: SpoolStore, workers: Sessions, *, ending: str, code: str
) -> None:
    submitted(spool)
    workers.dead(claim=1, begin=1, decide=ending)
    found = codes(fsck.check(spool.paths))
    assert found == {"dead-worker": "", code: ""}
    recover_all(spool, workers.join())
    assert fsck.check(spool.paths) == []


@pytest.mark.parametrize("how", ["moved", "restored from a backup"])
def test_a_spool_that_was_moved_or_restored_as_a_whole_is_sound_and_its_jobs_run(
    store: SpoolKind, spool: SpoolStore, workers: Sessions, tmp_path: Path, how: str
) -> None:
    spool.submit([new_job() for _ in range(6)])
    workers.dead(claim=3, begin=2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = Path(spool.paths.root)
    if how == "moved":
        root.rename(elsewhere / "spool")
    else:
        shutil.copytree(root, elsewhere / "spool")
        # The machine was another one, or has been started anew since.
        about = next((elsewhere / "spool" / "workers").glob("*/info"))
        about.write_text(about.read_text("utf-8").replace(system.boot_id(), "another-boot"), encoding="utf-8")
    there = SpoolKind(str(elsewhere))
    spool, sessions = there.open(), Sessions(there)
    try:
        assert codes(fsck.check(spool.paths)) == {"dead-worker": ""}
        session = sessions.join()
        lost = recover_all(spool, session)
        # After a restart every claim counts as begun, for its line may be lost.
        assert len(lost) == (2 if how == "moved" else 3)
        for claim in claim_all(session, 6):
            finish(session, claim, Succeeded())
        assert fsck.check(spool.paths) == []
        assert spool.counts()[State.DONE] == 6
    finally:
        sessions.close()


# I1


@pytest.mark.parametrize("place", ["bucket", "priority", "done", "waiting"])
def test_a_copy_of_a_job_is_found_wherever_it_lies(spool: SpoolStore, place: str) -> None:
    job = submitted(spool)
    path = path_of(spool, job)
    copy = {
        "bucket": path.parent.with_name(f"{path.parent.name}.copy") / path.name,
        "priority": Path(spool.paths.bucket(9, path.parent.name), path.name),
        "done": Path(spool.paths.ended_path(State.DONE, "2026112307", job.id)),
        "waiting": Path(spool.paths.waiting, new_id(), f"{job.id}.json"),
    }[place]
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    found = fsck.broken(spool.paths)
    assert codes(found) == {"two-places": "I1"}
    assert {str(path), str(copy)} == {found[0].path, found[0].message.split()[-1]}
    assert job.id in found[0].message
    path.unlink()
    assert fsck.broken(spool.paths) == []


def test_a_copy_with_another_moment_in_the_same_bucket_is_found(spool: SpoolStore) -> None:
    path = path_of(spool, submitted(spool))
    path.with_name(f"1{path.name[1:]}".replace(path.name[:13], "1795400000123")).write_bytes(path.read_bytes())
    only(spool, "two-places", "I1")


def test_a_job_in_corrupt_that_lies_elsewhere_too_is_found_unless_it_is_a_known_copy(spool: SpoolStore) -> None:
    job = submitted(spool)
    path = path_of(spool, job)
    aside = Path(spool.paths.corrupt, path.name)
    aside.write_bytes(path.read_bytes())
    Path(f"{aside}.reason").write_text("somebody put it here\n", encoding="utf-8")
    only(spool, "two-places", "I1")
    Path(f"{aside}.reason").write_text("duplicate: a job of this id has ended already\n", encoding="utf-8")
    assert fsck.check(spool.paths) == []
    aside.write_bytes(b"half of a co")  # what is no whole job is no second one
    Path(f"{aside}.reason").write_text("line 1 is not a job\n", encoding="utf-8")
    assert fsck.check(spool.paths) == []


# I2


@pytest.mark.parametrize("content", [b"", bytes(300), b"\xff\xfe{", b'{"format":1}\n', b"[" * 100_000])
def test_a_pending_file_that_is_no_job_is_found(spool: SpoolStore, content: bytes) -> None:
    path = path_of(spool, submitted(spool))
    path.write_bytes(content)
    assert only(spool, "not-a-job", "I2").repairable


def test_a_file_under_the_name_of_another_job_is_found(spool: SpoolStore) -> None:
    path = path_of(spool, submitted(spool))
    path.rename(path.with_name(layout.pending_name(1795400000123, new_id())))
    assert "id inside differs" in only(spool, "not-a-job", "I2").message


def test_an_ended_job_whose_line_1_is_gone_is_found_unless_the_look_is_quick(
    spool: SpoolStore, workers: Sessions
) -> None:
    path = ended_job(spool, workers)
    path.write_bytes(b"\n".join([b"{}", *path.read_bytes().split(b"\n")[1:]]))
    assert not only(spool, "not-a-job", "I2").repairable
    assert fsck.check(spool.paths, quick=True) == []


def start(number: int, wid: str = "a") -> record.Start:
    return record.Start(at=1, wid=wid, number=number, worker="web1:1", slot=0, pid=1, birth="1", boot="1")


TRY = record.Try(at=2, wid="a", outcome="raised", not_before=3)
LOST = record.Lost(at=2, wid="a", outcome="crashed", not_before=3)
BACK = record.Back(at=2, wid="a")
END = record.End(at=4, wid="a", state=State.DONE, outcome="succeeded")
CANCELLED = record.End(at=4, state=State.CANCELLED)
TORN = b'{"event":"start","at":17'


def lines(events: tuple[record.AnyEvent | bytes, ...]) -> list[bytes]:
    return [event if isinstance(event, bytes) else record.encoded(event).strip() for event in events]


@pytest.mark.parametrize(
    "events",
    [
        (),
        (start(1), END),
        (start(1), TRY, start(2), LOST, start(3), BACK, start(4), END),
        (CANCELLED,),
        (start(1), TRY, CANCELLED),
        (LOST, start(1), END),  # a reboot took the start line with it
        (start(1), start(2, "b")),  # a power cut took the `try` line, not the move after it
        (TORN,),
        (start(1), TORN, TRY),
        (start(1), TRY, bytes(200), start(3), END),
        (TORN, END),
    ],
    ids=str,
)
def test_histories_that_can_happen_are_believed(events: tuple[record.AnyEvent | bytes, ...]) -> None:
    assert job_check.contradictions(lines(events)) == []


@pytest.mark.parametrize(
    ("events", "line", "what"),
    [
        ((start(1), END, start(2)), 4, "after the end"),
        ((start(1), END, END), 4, "after the end"),
        ((start(2),), 2, "attempt 2 begins where 1 should"),
        ((start(1), TRY, start(1)), 4, "attempt 1 begins where 2 should"),
        ((start(1), TRY, start(3)), 4, "attempt 3 begins where 2 should"),
        ((start(1), start(2)), 3, "same worker begins before"),
        ((TRY,), 2, "had not begun"),
        ((start(1), BACK, BACK), 4, "had not begun"),
        ((start(1, "b"), TRY), 3, "had not begun"),
        ((END,), 2, "success without an attempt"),
        ((start(1), TRY, END), 4, "success without an attempt"),
    ],
    ids=str,
)
def test_histories_that_cannot_happen_are_found(
    events: tuple[record.AnyEvent | bytes, ...], line: int, what: str
) -> None:
    found = job_check.contradictions(lines(events))
    assert found
    assert found[0].startswith(f"line {line}: ")
    assert what in found[0]


def test_a_job_file_with_such_a_history_is_found(spool: SpoolStore) -> None:
    append(path_of(spool, submitted(spool)), start(1), TRY, start(3), TRY)
    assert "attempt 3 begins where 2 should" in only(spool, "wrong-order", "I2").message


def test_a_job_of_a_newer_bgjobs_is_named_and_breaks_nothing(spool: SpoolStore) -> None:
    path = path_of(spool, submitted(spool))
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    only(spool, "newer-format", "")


# I3, I5, I7


def test_claims_without_their_worker_are_found(spool: SpoolStore, workers: Sessions) -> None:
    path = path_of(spool, submitted(spool))
    claims = Path(spool.paths.claims_of(new_id()))
    claims.mkdir()
    path.rename(claims / layout.claimed_name(5, path.name))
    found = only(spool, "claims-without-worker", "I3")
    assert found.path == str(claims)
    assert found.repairable
    session = workers.join()
    wait_until(lambda: [*session.recover()] == [] and not claims.exists())
    assert fsck.check(spool.paths) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a lock file that is held")
def test_a_living_worker_without_its_lock_is_found(spool: SpoolStore, store: SpoolKind, workers: Sessions) -> None:
    session = workers.join()
    lock = Path(spool.paths.worker(session.id, "alive.lock"))
    lock.unlink()
    assert only(spool, "lock-gone", "I7").path == str(lock)


def begun(spool: SpoolStore, workers: Sessions, pid: int, birth: str) -> Path:
    """Return the claimed file of a job that a runner in slot 0 of a living worker began."""
    submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    todo = session.begin(claim, slot=0, pid=pid, birth=birth)
    assert todo is not None
    append(Path(todo.path), f"{todo.head}{milliseconds(now())}{todo.tail}".encode())
    Path(session.slots.lock(0)).touch()
    return Path(todo.path)


def test_a_job_that_runs_without_its_runner_lock_is_found(spool: SpoolStore, workers: Sessions) -> None:
    with runner() as (pid, birth):
        path = begun(spool, workers, pid, birth)
        assert only(spool, "runs-unlocked", "I5").path == str(path)


def test_a_dead_runner_that_its_worker_has_not_noticed_breaks_no_rule(spool: SpoolStore, workers: Sessions) -> None:
    with runner() as (pid, birth):
        pass
    begun(spool, workers, pid, birth)
    only(spool, "runner-gone", "")


def test_a_runner_that_outlives_its_worker_is_named(spool: SpoolStore, workers: Sessions) -> None:
    submitted(spool)
    said = workers.dead(claim=1, begin=1, runner=True)
    found = fsck.check(spool.paths)
    assert codes(found) == {"dead-worker": "", "orphan-runner": ""}
    recover_all(spool, workers.join())
    assert fsck.check(spool.paths) == []
    assert system.birth(int(said["runner"][0])) != said["runner"][1]


def test_the_lock_of_a_worker_is_not_tried_before_it_is_ready(spool: SpoolStore) -> None:
    """Else one that is just taking it could find it in our hands, and give up."""
    wid = new_id()
    Path(spool.paths.worker(wid)).mkdir()
    Path(spool.paths.claims_of(wid)).mkdir()
    lock = locks.life_lock(spool.paths.worker(wid, "alive.lock"))
    lock.acquire()
    lock.release()  # free, as it is for a moment between its making and its taking
    assert fsck.check(spool.paths) == []


def test_a_missing_claim_lock_is_named_and_made_again(spool: SpoolStore, workers: Sessions) -> None:
    Path(spool.paths.claim_lock).unlink()
    only(spool, "no-claim-lock", "")
    workers.join().claim(1)
    assert fsck.check(spool.paths) == []


# I4


@posix_only
def test_a_job_file_with_a_second_name_is_found(spool: SpoolStore, tmp_path: Path) -> None:
    path = path_of(spool, submitted(spool))
    (tmp_path / "backup.json").hardlink_to(path)
    only(spool, "two-names", "I4")


@posix_only
def test_a_second_name_inside_of_the_spool_is_a_second_place(spool: SpoolStore) -> None:
    path = path_of(spool, submitted(spool))
    Path(spool.paths.bucket(9, path.parent.name)).mkdir()
    Path(spool.paths.bucket(9, path.parent.name), path.name).hardlink_to(path)
    assert codes(fsck.check(spool.paths)) == {"two-names": "I4", "two-places": "I1"}


@posix_only
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_plain_file_is_found(spool: SpoolStore, tmp_path: Path, kind: str) -> None:
    path = path_of(spool, submitted(spool))
    path.rename(tmp_path / "moved.json")
    if kind == "link":
        path.symlink_to(tmp_path / "moved.json")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    only(spool, "not-a-job", "I2")


# I6


def test_an_ended_job_in_pending_is_found(spool: SpoolStore, workers: Sessions) -> None:
    path = path_of(spool, submitted(spool))
    append(path, start(1), END)
    assert only(spool, "ended-pending", "I6").repairable


def test_an_ended_job_among_those_of_another_state_is_found(spool: SpoolStore, workers: Sessions) -> None:
    path = ended_job(spool, workers)
    elsewhere = Path(spool.paths.ended(State.FAILED), path.parent.name)
    elsewhere.mkdir()
    path.rename(elsewhere / path.name)
    only(spool, "ended-elsewhere", "I6")


def test_an_ended_job_without_its_end_line_has_lost_its_result_and_breaks_nothing(
    spool: SpoolStore, workers: Sessions
) -> None:
    path = ended_job(spool, workers)
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:2]) + b"\n")
    only(spool, "result-lost", "")


def test_a_claimed_job_that_has_ended_waits_for_its_move(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(spool)
    session = workers.join()
    (claim,) = claim_all(session, 1)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "move", failing)
        with pytest.raises(OSError, match="Input/output"):
            finish(session, claim, Succeeded())
    only(spool, "unfinished-move", "")


def failing(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


# I9


@pytest.mark.parametrize(
    ("where", "repairable"),
    [
        ("pending/10", True),
        ("pending/5-normal/now-2026", True),
        ("pending/5-normal/now-209912312359/x.json", True),
        ("pending/5-normal/now-209912312359/.1795400000123-01m83tzxaa0042v34ev6qwevd1.json", True),
        ("claimed/somebody", False),
        ("claimed/01m83tzxaa0042v34ev6qwevd1/1795400000123-01m83tzxaa0042v34ev6qwevd1.json", True),
        ("done/today", False),
        ("failed/2026112307/01M83TZXAA0042V34EV6QWEVD1.json", False),
        ("cancelled/2026112307/x", False),
        ("workers/me", False),
        ("waiting/x", False),
    ],
)
def test_names_that_do_not_belong_are_found(spool: SpoolStore, where: str, *, repairable: bool) -> None:
    path = Path(spool.paths.root, where)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    (found,) = [finding for finding in fsck.check(spool.paths) if finding.code == "strange-name"]
    assert (found.path, found.rule, found.repairable) == (str(path), "I9", repairable)


@posix_only
@pytest.mark.parametrize("where", ["pending/5-normal/now-209912312359", "done/2026112307"])
def test_a_link_in_place_of_a_directory_is_found(spool: SpoolStore, tmp_path: Path, where: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path(spool.paths.root, where).symlink_to(elsewhere)
    only(spool, "strange-name", "I9")


# What every spool has, and leftovers


def test_a_missing_directory_is_found_and_made_by_the_next_worker(spool: SpoolStore, workers: Sessions) -> None:
    for name in ("pending/9", "done", "tmp/trash"):
        Path(spool.paths.root, name).rmdir()
    assert codes(fsck.check(spool.paths)) == {"missing-directory": ""}
    assert all(finding.wrong for finding in fsck.check(spool.paths))
    workers.join()
    assert fsck.check(spool.paths) == []


def test_a_missing_version_is_found(spool: SpoolStore) -> None:
    Path(spool.paths.version).unlink()
    assert only(spool, "no-version", "").wrong


def test_leftovers_are_counted_by_kind(spool: SpoolStore) -> None:
    old = time.time() - 2 * 24 * 3600
    for name in ("one", "two"):
        path = Path(spool.paths.tmp, name)
        path.touch()
        os.utime(path, (old, old))
    Path(spool.paths.trash, "gone").mkdir()
    Path(spool.paths.bucket(5, "now-202601010000")).mkdir()
    found = {finding.code: finding for finding in fsck.check(spool.paths)}
    assert set(found) == {"old-tmp", "trash", "drained-buckets"}
    assert all(finding.repairable and not finding.wrong for finding in found.values())
    assert found["old-tmp"].message.startswith("2 ")


def test_leftovers_block_nothing_and_are_cleared_away(spool: SpoolStore, workers: Sessions) -> None:
    minute = layout.bucket(milliseconds(now()), at_once=True)
    Path(spool.paths.bucket(5, f"{minute}.half")).mkdir()
    Path(spool.paths.bucket(5, "now-202601010000")).mkdir()
    Path(spool.paths.tmp, "half-written").write_bytes(b"{")
    os.utime(Path(spool.paths.tmp, "half-written"), (0, 0))
    Path(spool.paths.tmp, "group").mkdir()
    Path(spool.paths.tmp, "group", "job").touch()
    Path(spool.paths.trash, "gone").mkdir()
    Path(spool.paths.trash, "gone", f"{new_id()}.json").touch()
    job, session = submitted(spool), workers.join()
    (claim,) = claim_all(session, 1)
    assert claim.job.id == job.id
    finish(session, claim, Succeeded())
    sum(session.tidy(keep_done=FAR, keep_failed=FAR))
    assert fsck.check(spool.paths) == []


def test_what_cannot_be_read_is_named_and_the_rest_is_looked_at(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended_job(spool, workers)
    bad, good = submitted(spool), submitted(spool, priority=9)
    good_path, bad_path = path_of(spool, good), path_of(spool, bad)
    good_path.write_bytes(b"")
    hours = spool.paths.ended(State.DONE)

    def broken(real: Callable[[str], object]) -> Callable[[str], object]:
        return lambda path: failing() if path in {str(bad_path), hours} else real(path)

    monkeypatch.setattr(disk, "open_read", broken(disk.open_read))
    monkeypatch.setattr(disk, "listdir", broken(disk.listdir))
    found = fsck.check(spool.paths)
    assert {(finding.code, finding.path) for finding in found} == {
        ("unreadable", str(bad_path)),
        ("unreadable", hours),
        ("not-a-job", str(good_path)),
    }
    assert all(finding.wrong for finding in found)
    assert codes(fsck.broken(spool.paths)) == {"not-a-job": "I2"}
