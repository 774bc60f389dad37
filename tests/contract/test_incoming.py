"""What other programs put into `incoming/` becomes one job each, whatever dies or fails on the way."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import disk, signing, system
from bgjobs.ids import LANE as LANE_IN_ID
from bgjobs.ids import lane_of
from bgjobs.job import State, Succeeded, milliseconds
from bgjobs.lifecycle import Policy
from bgjobs.spool import layout, quota
from bgjobs.spool.inbox import importer, request_file
from bgjobs.store import Selection, Unfinished
from tests.contract.stores import (
    FAR,
    Sessions,
    SpoolKind,
    claim_all,
    each_once,
    finish,
    got,
    new_job,
    now,
    recover,
    recover_all,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from bgjobs.job import Job
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Session

if sys.platform != "win32":
    import grp

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, links and modes are POSIX")
POLICY = Policy(priority=7, retries=2, delay=timedelta(0))
CALL = {"format": 1, "class": "Mail", "method": "send", "args": ["Tony"]}
SUCCEEDED = Succeeded()
NOBODY, GROUP = 65534, 1
DISK = [name for name in disk.__all__ if name != "ring"]
# To die before a look is to die before the next change.
LOOKS = {
    "close",
    "free_space",
    "fstat",
    "listdir",
    "lseek",
    "lstat",
    "open_folder",
    "open_read",
    "read",
    "scandir",
    "stat",
}
CHANGES = set(DISK) - LOOKS
# What is not closed keeps its name on Windows, even when it is deleted: there, a failed `close` that leaves it open is
# no failure as the system has it.
FAILING = set(DISK) - ({"close"} if sys.platform == "win32" else set())


class DeathError(BaseException):
    """The process ends here: nothing that comes later takes place."""


@pytest.fixture(params=["os", "full", "shared"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SpoolKind:
    """Return a store of ours alone, or one that is shared, where each file is another user's."""
    says = f'durability = "{request.param}"'
    if request.param == "shared":
        if not system.is_elevated() or sys.platform == "win32":
            pytest.skip("only root can give files to another user")
        says = f'shared_with = "{grp.getgrgid(GROUP).gr_name}"'
    (tmp_path / "allowed_jobs.toml").write_text(f"[bgjobs]\n{says}\n", "utf-8")
    return SpoolKind(str(tmp_path))


@pytest.fixture
def signing_store(tmp_path: Path) -> SpoolKind:
    """A store where jobs are signed, and so is what `hand_in` hands in."""
    keys, allowed = tmp_path / "signing.keys", tmp_path / "allowed_jobs.toml"
    keys.touch(0o600)
    keys.write_text(f"key {'ab' * 32}\n", "utf-8")
    allowed.write_text(f'[bgjobs]\ndurability = "full"\nsigning_keys = "{keys.as_posix()}"\n', "utf-8")
    return SpoolKind(str(tmp_path))


# Of dying at each step, `make test` tries one kind of store. An error at each step takes ten times as many.
@pytest.fixture(
    params=["os", pytest.param("full", marks=pytest.mark.sweep), pytest.param("signed", marks=pytest.mark.sweep)]
)
def any_store(request: pytest.FixtureRequest) -> SpoolKind:
    """One of the stores, or the one where jobs are signed."""
    if request.param == "signed":
        found: SpoolKind = request.getfixturevalue("signing_store")
        return found
    tmp_path = request.getfixturevalue("tmp_path")
    (tmp_path / "allowed_jobs.toml").write_text(f'[bgjobs]\ndurability = "{request.param}"\n', "utf-8")
    return SpoolKind(str(tmp_path))


@pytest.fixture
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "AGAIN_S", 0.001)


def hand_in(spool: SpoolStore, name: str = "x.json", content: object = CALL) -> Path:
    """Do what another program does: write under a dot-name, then rename."""
    folder = Path(spool.paths.incoming)
    hidden = folder / f".{name}"
    if spool.handle.keyring is not None and isinstance(content, dict):
        fresh = {**content, "submitted_at": milliseconds(now()), "nonce": os.urandom(8).hex()}
        content = spool.handle.keyring.keys().sign(signing.INCOMING, json.dumps(fresh).encode())
    hidden.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    if spool.handle.settings.shared_with:
        os.chown(hidden, NOBODY, -1)
        hidden.chmod(0o640)
    return hidden.rename(folder / name)


def import_jobs(session: Session, policy: Policy = POLICY) -> int:
    return session.import_jobs(lambda _class, _method: policy)


def is_done(spool: SpoolStore) -> bool:
    return not spool.unfinished(now()).incoming


def import_all(spool: SpoolStore, session: Session, policy: Policy = POLICY) -> int:
    """Import until nothing is left that can be."""
    count = 0

    def all_are_imported() -> bool:
        nonlocal count
        count += import_jobs(session, policy)
        return is_done(spool)

    wait_until(all_are_imported)
    return count


def stored(spool: SpoolStore) -> list[Job]:
    """Return all jobs, oldest first."""
    return sorted((job for state in State for job in jobs_in(spool, state)), key=lambda job: job.id)


def jobs_in(spool: SpoolStore, state: State) -> list[Job]:
    from bgjobs.store import Filter  # noqa: PLC0415 - only here

    return list(spool.jobs(Filter(states=frozenset({state}))))


def imported(spool: SpoolStore, session: Session, content: object, policy: Policy = POLICY) -> Job:
    """Hand in one file and return the job that it became."""
    hand_in(spool, content=content)
    assert import_all(spool, session, policy) == 1
    (job,) = stored(spool)
    return job


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).rglob("*"))


def corrupt(spool: SpoolStore) -> list[Path]:
    return [path for path in Path(spool.paths.corrupt).iterdir() if path.suffix != ".reason"]


def reason(spool: SpoolStore) -> str:
    (found,) = Path(spool.paths.corrupt).glob("*.reason")
    return found.read_text("utf-8")


def log(spool: SpoolStore, name: str) -> list[str]:
    path = Path(spool.handle.settings.log_dir, name)
    return path.read_text("utf-8").splitlines() if path.exists() else []


# What becomes of a file


def test_a_file_becomes_a_job_that_can_be_claimed(spool: SpoolStore, workers: Sessions) -> None:
    session = workers.join()
    job = imported(spool, session, CALL)
    assert (job.class_name, job.method, job.args, job.kwargs, job.text) == ("Mail", "send", ("Tony",), {}, False)
    assert job.state is State.QUEUED
    assert job.not_before == job.submitted_at
    assert [line for line in log(spool, "background_jobs.log") if job.id in line and "Status: QUEUED" in line]
    (claim,) = claim_all(session, 1)
    assert claim.job.id == job.id
    assert names(spool.paths.incoming) == []


def test_the_id_of_a_job_tells_its_class_and_method(any_store: SpoolKind) -> None:
    spool = any_store.open()
    workers = Sessions(any_store)
    session = workers.join()
    for method in ("send", "read"):
        hand_in(spool, f"{method}.json", CALL | {"method": method})
    assert import_all(spool, session) == 2
    assert {job.id[LANE_IN_ID] for job in stored(spool)} == {lane_of("Mail", "send"), lane_of("Mail", "read")}
    workers.close()


def test_a_file_that_is_replaced_while_it_is_taken_becomes_the_job_that_it_asks_for_then(
    spool: SpoolStore, workers: Sessions
) -> None:
    session = workers.join()
    path = hand_in(spool, "x.json", CALL)

    def replace_it(step: str, about: str) -> None:
        if step == "move" and about.startswith(f"{path} -> "):
            path.write_bytes(json.dumps(CALL | {"class": "Post"}).encode())

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, replace_it)
        import_all(spool, session)
    (job,) = stored(spool)
    assert (job.class_name, job.id[LANE_IN_ID]) == ("Post", lane_of("Mail", "send"))
    only_post = workers.join(Selection(classes=frozenset({"Post"})))
    assert [claim.job.id for claim in claim_all(only_post, 1)] == [job.id]


def test_a_signed_file_that_an_older_bgjobs_had_taken_becomes_its_job_and_no_copy_of_it_another(
    signing_store: SpoolKind,
) -> None:
    spool, workers = signing_store.open(), Sessions(signing_store)
    session = workers.join()
    path = hand_in(spool)
    content = path.read_bytes()
    path.unlink()
    assert spool.handle.keyring is not None
    kept_ms = 3_600_000
    ids = request_file.signed_ids(content, spool.handle.keyring, now_ms=milliseconds(now()), kept_ms=kept_ms)
    lost = workers.join()
    Path(spool.paths.imported(lost.id, ids.without_lane)).write_bytes(content)
    workers.abandon(lost)
    recover_all(spool, session)
    wait_until(lambda: import_jobs(session) == 1)
    finish(session, claim_all(session, 1)[0], SUCCEEDED)
    hand_in(spool, "copy.json", content)
    wait_until(lambda: not (import_jobs(session) or names(spool.paths.incoming)))
    assert [job.id for job in stored(spool)] == [ids.without_lane]
    assert "replayed" in reason(spool)
    workers.close()


def test_a_byte_order_mark_before_the_object_is_skipped(spool: SpoolStore, workers: Sessions) -> None:
    job = imported(spool, workers.join(), b"\xef\xbb\xbf" + json.dumps(CALL).encode())
    assert (job.class_name, job.method, job.args) == ("Mail", "send", ("Tony",))


def test_what_a_file_does_not_say_comes_from_the_allowlist(spool: SpoolStore, workers: Sessions) -> None:
    job = imported(spool, workers.join(), CALL, Policy(priority=3, retries=7, delay=timedelta(minutes=90)))
    assert (job.priority, job.retries, job.retry_delay, job.timeout) == (3, 7, None, None)
    assert job.not_before - job.submitted_at == timedelta(minutes=90)
    assert job.state is State.SCHEDULED
    assert "@" in job.submitted_by


def test_what_a_file_says_wins(spool: SpoolStore, workers: Sessions) -> None:
    later = now() + FAR
    asked = {
        "args": [1, 2.5, None, {"a": [True]}],
        "kwargs": {"to": "Ann"},
        "text": True,
        "priority": 0,
        "not_before": milliseconds(later),
        "retries": 0,
        "retry_delay": 1.5,
        "timeout": 60,
        "tags": ["night", "a:b"],
        "submitted_by": "shop@web1",
    }
    job = imported(spool, workers.join(), CALL | asked, Policy(delay=timedelta(days=7)))
    assert job.args == (1, 2.5, None, {"a": [True]})
    assert (job.kwargs, job.text, job.priority, job.retries) == ({"to": "Ann"}, True, 0, 0)
    assert (job.not_before, job.retry_delay, job.timeout) == (later, timedelta(seconds=1.5), timedelta(minutes=1))
    assert (job.tags, job.submitted_by) == (("night", "a:b"), "shop@web1")


def test_a_moment_that_has_passed_means_at_once(spool: SpoolStore, workers: Sessions) -> None:
    job = imported(spool, workers.join(), CALL | {"not_before": 1})
    assert job.not_before == job.submitted_at


def test_the_object_may_be_laid_out_in_lines(spool: SpoolStore, workers: Sessions) -> None:
    text = json.dumps(CALL, indent=4).replace("\n", "\r\n") + "\r\n\n"
    assert imported(spool, workers.join(), text.encode()).args == ("Tony",)


def test_older_files_become_older_jobs(spool: SpoolStore, workers: Sessions) -> None:
    for number in range(30):
        path = hand_in(spool, f"{number * 7 % 30}.json", CALL | {"args": [number]})
        os.utime(path, ns=(0, 10**18 + number * 1000))
    session = workers.join()
    assert import_all(spool, session) == 30
    assert [claim.job.args for claim in claim_all(session, 30)] == [(number,) for number in range(30)]


def test_a_file_that_is_still_written_is_left_alone(spool: SpoolStore, workers: Sessions) -> None:
    folder = Path(spool.paths.incoming)
    for name in (".x.json", ".json", "x.json.part", "x.JSON", "x"):
        (folder / name).write_bytes(b'{"format":1,"cl')
    session = workers.join()
    hand_in(spool, "whole.json")
    assert import_all(spool, session) == 1
    assert names(spool.paths.incoming) == sorted([".x.json", ".json", "x.json.part", "x.JSON", "x"])
    assert corrupt(spool) == []


def test_a_name_may_be_used_again(spool: SpoolStore, workers: Sessions) -> None:
    session = workers.join()
    for _ in range(5):
        hand_in(spool)
        assert import_all(spool, session) == 1
    assert len(stored(spool)) == 5


def test_an_odd_name_is_as_good_as_any(spool: SpoolStore, workers: Sessions) -> None:
    for name in ("a b.json", "-rf.json", "ünder.json", "x" * 200 + ".json"):
        hand_in(spool, name)
    assert import_all(spool, workers.join()) == 4


def test_a_file_named_after_a_job_becomes_another_job(spool: SpoolStore, workers: Sessions) -> None:
    old = new_job()
    spool.submit([old])
    hand_in(spool, f"{old.id}.json", CALL | {"args": ["new"]})
    assert import_all(spool, workers.join()) == 1
    assert got(spool, old.id) == old
    assert [job.args for job in stored(spool)] == [("Tony",), ("new",)]


def test_a_spool_that_had_no_incoming_gets_one_from_the_next_worker(spool: SpoolStore, workers: Sessions) -> None:
    Path(spool.paths.incoming).rmdir()
    assert spool.unfinished(now()) == Unfinished(due=False, later=False, claimed=False)
    session = workers.join()
    mode = 0o3730 if spool.handle.settings.shared_with else 0o700
    assert stat.S_IMODE(Path(spool.paths.incoming).stat().st_mode) == mode or sys.platform == "win32"
    assert imported(spool, session, CALL).state is State.QUEUED


def test_an_idle_look_costs_one_stat(spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    session = workers.join()
    import_jobs(session)
    steps = watch(monkeypatch)

    def look() -> list[str]:
        steps.clear()
        import_jobs(session)
        return [step for step, _ in steps]

    wait_until(lambda: look() == ["stat"])  # when the first look is old enough to be sure of
    for _ in range(20):
        assert look() in ([], ["stat"])  # none, where the last look was less than a quarter ago


# What is no job


def deep(depth: int) -> bytes:
    return json.dumps(CALL).encode()[:-1] + b',"kwargs":{"a":' + b"[" * depth + b"]" * depth + b"}}"


BAD: dict[str, tuple[object, str]] = {
    "nothing": (b"", "empty"),
    "half": (b'{"format":1,"class":"Ma', "truncated"),
    "zeros": (b"\x00" * 100, "not JSON at character 1"),
    "garbage": (bytes(range(256)), "not UTF-8 at byte 129"),
    "a list": ([CALL], "must be an object"),
    "no format": ({"class": "Mail", "method": "send"}, "'format' is missing"),
    "no class": ({"format": 1, "method": "send"}, "'class' is missing"),
    "no method": ({"format": 1, "class": "Mail"}, "'method' is missing"),
    "a newer format": (CALL | {"format": 2}, "format 2 is unknown"),
    "an unknown field": (CALL | {"colour": "red"}, "'colour' is unknown"),
    "an id": (CALL | {"id": "01m83kpb1n0007mc6vwgzvtyxa"}, "'id' is unknown"),
    "a submit moment": (CALL | {"submitted_at": 1}, "'submitted_at' is unknown"),
    "an older job": (CALL | {"retry_of": "01m83kpb1n0007mc6vwgzvtyxa"}, "'retry_of' is unknown"),
    "two objects": (b'{"format":1,"class":"Mail","method":"send"}\n{"event":"end"}', "something follows its end"),
    "a key twice": (b'{"format":1,"class":"Mail","method":"send","method":"steal"}', "twice"),
    "a key twice, deep": (b'{"format":1,"class":"Mail","method":"send","args":[{"a":1,"a":2}]}', "twice"),
    "UTF-16": (json.dumps(CALL).encode("utf-16"), "not UTF-8 at byte 1"),
    "only a byte order mark": (b"\xef\xbb\xbf", "empty"),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + json.dumps(CALL).encode(), "begins with a byte order mark"),
    "bad UTF-8": (b'{"format":1,"class":"Mail","method":"send","args":["\xff"]}', "not UTF-8 at byte 53"),
    "a lone surrogate": (b'{"format":1,"class":"Mail","method":"send","args":["\\ud800"]}', "half of a surrogate pair"),
    "not a number": (b'{"format":1,"class":"Mail","method":"send","args":[NaN]}', "NaN is not JSON"),
    "too large a number": (b'{"format":1,"class":"Mail","method":"send","args":[1e999]}', "out of range"),
    "too long a number": (CALL | {"args": [2**64]}, "beyond 64 bits"),
    "5000 digits": (b'{"format":1,"class":"Mail","method":"send","args":[' + b"7" * 5000 + b"]}", "a job"),
    "text as format": (CALL | {"format": "1"}, "'format' must be a whole number"),
    "true as priority": (CALL | {"priority": True}, "'priority' must be a whole number or null"),
    "a priority of 10": (CALL | {"priority": 10}, "'priority'"),
    "a fraction of retries": (CALL | {"retries": 1.0}, "'retries' must be a whole number or null"),
    "retries below 0": (CALL | {"retries": -1}, "'retries'"),
    "a moment before 1970": (CALL | {"not_before": -1}, "'not_before'"),
    "a moment in the year 5000": (CALL | {"not_before": 10**14}, "'not_before'"),
    "no time at all": (CALL | {"timeout": 0}, "'timeout'"),
    "a negative wait": (CALL | {"retry_delay": -1}, "'retry_delay'"),
    "a tag with a blank": (CALL | {"tags": ["a b"]}, "'tags'"),
    "a path as class": (CALL | {"class": "../Mail"}, "'class'"),
    "an escape in the method": (CALL | {"method": "send\x1b[31m"}, "'method'"),
    "args as text": (CALL | {"args": "Tony"}, "'args' must be a list"),
    "too many arguments": (CALL | {"args": ["x" * 300_000]}, "300009 bytes"),
    "too large a file": (CALL | {"submitted_by": "x" * 2**20}, "more than 1048576"),
    "too deep": (deep(31), "deeper than 32"),
    "far too deep": (deep(100_000), "deeper than 32"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_job_goes_to_corrupt_with_the_reason(spool: SpoolStore, workers: Sessions, kind: str) -> None:
    content, expected = BAD[kind]
    path = hand_in(spool, "bad.json", content)
    data = path.read_bytes()
    hand_in(spool, "good.json")
    session = workers.join()
    assert import_all(spool, session) == 1
    assert expected in reason(spool)
    assert "incoming/bad.json" in reason(spool)
    assert [found.read_bytes() for found in corrupt(spool)] == [data]
    assert [line for line in log(spool, "background_jobs_errors.log") if "incoming/bad.json" in line]
    assert len(stored(spool)) == 1
    assert names(spool.paths.incoming) == []


def test_what_is_as_deep_as_allowed_is_a_job(spool: SpoolStore, workers: Sessions) -> None:
    assert imported(spool, workers.join(), deep(29)).kwargs


def test_a_reason_is_fit_for_a_terminal(spool: SpoolStore, workers: Sessions) -> None:
    hand_in(spool, content=CALL | {"\x1b[2J\n": 1})
    import_all(spool, workers.join())
    assert "\x1b" not in reason(spool)
    assert reason(spool).count("\n") == 1


@posix_only
@pytest.mark.timeout(30)
def test_what_is_no_plain_file_goes_to_corrupt_and_holds_up_nobody(
    spool: SpoolStore, workers: Sessions, tmp_path: Path
) -> None:
    folder, target = Path(spool.paths.incoming), tmp_path / "target.json"
    target.write_text(json.dumps(CALL), "utf-8")
    os.mkfifo(folder / "fifo.json")
    (folder / "link.json").symlink_to(target)
    (folder / "nowhere.json").symlink_to(tmp_path / "nowhere")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    os.link(target, folder / "hard.json")
    is_shared = bool(spool.handle.settings.shared_with)
    if not is_shared:  # there a directory stays where it is
        (folder / "directory.json").mkdir()
        (folder / "directory.json" / "x.json").write_text(json.dumps(CALL), "utf-8")
    with (folder / "sparse.json").open("wb") as file:
        file.truncate(2**40)
    with chdir(folder), socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.json")  # the address of a socket is short
    hand_in(spool, "good.json")
    assert import_all(spool, workers.join()) == 1
    assert len(stored(spool)) == 1
    assert names(spool.paths.incoming) == []
    assert len(corrupt(spool)) == 8 - is_shared
    assert json.loads(target.read_text("utf-8")) == CALL


@posix_only
def test_a_name_that_is_no_text_is_shown_escaped(spool: SpoolStore, workers: Sessions) -> None:
    hand_in(spool, os.fsdecode(b"\xff\n.json"), {})
    import_all(spool, workers.join())
    assert r"\udcff\n.json" in reason(spool)
    assert any(r"\udcff\n.json" in line for line in log(spool, "background_jobs_errors.log"))


# Several workers


def test_two_workers_that_race_import_each_file_once(spool: SpoolStore, workers: Sessions) -> None:
    for number in range(200):
        hand_in(spool, f"{number}.json", CALL | {"args": [number]})
    sessions, start = [workers.join(), workers.join()], Barrier(2)

    def race(session: Session) -> int:
        start.wait()
        return import_all(spool, session)

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(race, sessions)) == 200
    assert each_once(str(job.args[0]) for job in stored(spool)) == {str(number) for number in range(200)}
    claims = [claim.job.id for claim in claim_all(sessions[0], 200)]
    assert each_once(claims) == {job.id for job in stored(spool)}


def test_files_to_import_are_no_jobs_yet(store: SpoolKind, spool: SpoolStore, workers: Sessions) -> None:
    session = workers.join()
    hand_in(spool)
    assert spool.unfinished(now()) == Unfinished(due=False, later=False, claimed=False, incoming=True)
    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, at_the_file("open_read"))
        with pytest.raises(DeathError):
            wait_until(lambda: import_jobs(session) > 0)
    assert names(spool.paths.claims_of(session.id)) != []
    assert spool.unfinished(now()) == Unfinished(due=False, later=False, claimed=False, incoming=True)
    assert set(spool.counts().values()) == {0}
    assert stored(spool) == []


# Death and failure at each step


def watch(patch: pytest.MonkeyPatch, before: Callable[[str, str], None] | None = None) -> list[tuple[str, str]]:
    """Note every step on the disk with its first argument; `before` may raise instead of it."""
    steps: list[tuple[str, str]] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **named: Any) -> Any:
            about = f"{args[0]} -> {args[1]}" if name == "move" else str(args[0])
            if before is not None:
                try:
                    before(name, about)
                except DeathError:
                    if name == "close":
                        real(*args)  # the system does that for a process that ends, and locks go with it
                    raise
            steps.append((name, about))
            return real(*args, **named)

        return step

    for name in DISK:
        patch.setattr(disk, name, watched(name, getattr(disk, name)))
    return steps


def die_before(patch: pytest.MonkeyPatch, when: Callable[[str, str], bool]) -> list[tuple[str, str]]:
    """Let everything on the disk end before the step for which this is true."""
    dead = False

    def before(step: str, path: str) -> None:
        nonlocal dead
        dead = dead or when(step, path)
        if dead:
            raise DeathError

    return watch(patch, before)


def at_the_file(name: str) -> Callable[[str, str], bool]:
    """Return a condition that is true for this step on a file that is being imported."""
    return lambda step, path: step == name and f"{os.sep}in." in path


def counted(most: int, among: Container[str]) -> Callable[[str, str], bool]:
    """Return a condition that is true for the step after so many of these."""
    left = most

    def is_over(step: str, _path: str) -> bool:
        nonlocal left
        left -= step in among
        return left < 0 and step in among

    return is_over


def recover_and_import(spool: SpoolStore, session: Session) -> None:
    """Take over from dead workers, and import, until nothing is left that can be."""

    def all_is_done() -> bool:
        recover(session)
        import_jobs(session)
        return is_done(spool)

    wait_until(all_is_done)


def import_despite_an_error(spool: SpoolStore, session: Session) -> None:
    """Import until nothing is left, where one step fails, which may be one of our own looks."""

    def all_is_done() -> bool:
        import_jobs(session)
        try:
            return is_done(spool)
        except OSError:
            return False

    wait_until(all_is_done)


def gets_through(workers: Sessions, spool: SpoolStore, session: Session, steps: int) -> bool:
    """Import, and die after so many steps; return whether there were fewer."""
    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, counted(steps, CHANGES))
        try:
            recover_and_import(spool, session)
            through = True
        except DeathError:
            through = False
    (workers.leave if through else workers.abandon)(session)
    return through


def one_job_is_left(spool: SpoolStore, workers: Sessions) -> None:
    """Let a last worker look after it all, and check that there is one job, and nothing else."""
    session = workers.join()
    recover_and_import(spool, session)
    (job,) = stored(spool)
    assert job.args == ("Tony",)
    (claim,) = claim_all(session, 1)
    finish(session, claim, SUCCEEDED)
    assert import_jobs(session) == 0
    assert session.claim(5) == []
    assert {job.id: job.state for job in stored(spool)} == {claim.job.id: State.DONE}
    workers.leave(session)
    assert names(spool.paths.claimed) == names(spool.paths.incoming) == []
    assert corrupt(spool) == []


def new_spool(tmp_path: Path, store: SpoolKind, number: int) -> tuple[SpoolStore, Sessions]:
    where = tmp_path / str(number)
    where.mkdir()
    (where / "allowed_jobs.toml").write_bytes(Path(store.where, "allowed_jobs.toml").read_bytes())
    fresh = SpoolKind(str(where))
    return fresh.open(), Sessions(fresh)


@pytest.mark.timeout(300)
def test_a_worker_that_dies_at_any_step_of_an_import_leaves_one_job(tmp_path: Path, any_store: SpoolKind) -> None:
    for steps in range(1000):
        spool, workers = new_spool(tmp_path, any_store, steps)
        hand_in(spool)
        through = gets_through(workers, spool, workers.join(), steps)
        one_job_is_left(spool, workers)
        if through:
            break
    assert steps > 5


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", ["taken", "published"])
def test_a_worker_that_dies_at_any_step_of_taking_over_an_import_leaves_one_job(
    tmp_path: Path, any_store: SpoolKind, stage: str
) -> None:
    for steps in range(1000):
        spool, workers = new_spool(tmp_path, any_store, steps)
        hand_in(spool)
        first = workers.join()
        with pytest.MonkeyPatch.context() as patch:
            die_before(patch, at_the_file("open_read" if stage == "taken" else "unlink"))
            with pytest.raises(DeathError):
                import_all(spool, first)
        workers.abandon(first)
        through = gets_through(workers, spool, workers.join(), steps)
        one_job_is_left(spool, workers)
        if through:
            break
    assert steps > 5


@pytest.mark.timeout(300)
@pytest.mark.sweep
@pytest.mark.usefixtures("_no_pause")
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_at_any_step_of_an_import_leaves_one_job(tmp_path: Path, any_store: SpoolKind, number: int) -> None:
    for steps in range(1000):
        spool, workers = new_spool(tmp_path, any_store, steps)
        hand_in(spool)
        session, is_over, failed = workers.join(), counted(steps, FAILING), False

        def fail_once(step: str, path: str, is_over: Callable[[str, str], bool] = is_over) -> None:
            nonlocal failed
            if not failed and is_over(step, path):
                failed = True
                raise OSError(number, os.strerror(number), path)

        with pytest.MonkeyPatch.context() as patch:
            watch(patch, fail_once)
            import_despite_an_error(spool, session)
        workers.leave(session)
        one_job_is_left(spool, workers)
        if not failed:
            break
    assert steps > 15


@pytest.mark.usefixtures("_no_pause")
def test_what_cannot_be_published_waits_named_once_while_others_go_on(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = workers.join()
    shut = spool.paths.priority(2)

    def full(step: str, path: str) -> None:
        if step in {"mkdir", "move"} and shut in path:
            raise OSError(errno.ENOSPC, "No space left on device", path)

    with monkeypatch.context() as patch:
        watch(patch, full)
        for number in range(3):
            hand_in(spool, f"low{number}.json", CALL | {"priority": 2})
        hand_in(spool, "high.json", CALL | {"priority": 8})
        wait_until(lambda: import_jobs(session) >= 0 and [job.priority for job in stored(spool)] == [8])
        for _ in range(20):
            import_jobs(session)
        told = [line for line in log(spool, "background_jobs_errors.log") if "left alone" in line]
        assert sorted(line.split("left alone: ")[1].split(":")[0] for line in told if "low" in line) == [
            "low0.json",
            "low1.json",
            "low2.json",
        ]
        assert not is_done(spool)
    import_all(spool, session)
    assert sorted(job.priority for job in stored(spool)) == [2, 2, 2, 8]


@pytest.mark.usefixtures("_no_pause")
def test_files_wait_while_the_queue_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "FRESH_MS", 0)
    (tmp_path / "allowed_jobs.toml").write_text("[bgjobs]\nmax_queued = 2\n", "utf-8")
    store = SpoolKind(str(tmp_path))
    spool, workers = store.open(), Sessions(store)
    try:
        session = workers.join()
        spool.submit([new_job(), new_job()])
        hand_in(spool)
        assert import_jobs(session) == 0
        assert not is_done(spool)
        assert spool.counts()[State.QUEUED] == 2
        log = Path(spool.handle.settings.log_dir, "background_jobs_errors.log").read_text("utf-8")
        assert log.count("is full: 2 jobs wait") == 1
        for job_id in spool.ids(""):
            spool.cancel(job_id, "ann@web1")
        assert import_all(spool, session) == 1
    finally:
        workers.close()


def test_a_worker_that_leaves_puts_back_what_it_could_not_import(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = workers.join()
    hand_in(spool)

    def full(step: str, path: str) -> None:
        if step == "open_new" and path.startswith(spool.paths.tmp):
            raise OSError(errno.ENOSPC, "No space left on device", path)

    with monkeypatch.context() as patch:
        watch(patch, full)
        wait_until(lambda: import_jobs(session) == 0 and bool(names(spool.paths.claims_of(session.id))))
    workers.leave(session)
    (name,) = names(spool.paths.incoming)
    assert layout.ENDED_NAME.fullmatch(name)
    assert names(spool.paths.claimed) == names(spool.paths.workers) == []
    one_job_is_left(spool, workers)


def test_a_worker_that_leaves_puts_back_no_file_whose_job_is_there(spool: SpoolStore, workers: Sessions) -> None:
    session = workers.join()
    hand_in(spool)

    def stuck(step: str, path: str) -> None:
        if step == "unlink" and "in." in path:
            raise OSError(errno.EIO, "Input/output error", path)

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, stuck)
        wait_until(lambda: import_jobs(session) == 1)
        assert import_jobs(session) == 0
    workers.leave(session)
    one_job_is_left(spool, workers)


def test_an_import_that_came_to_an_end_elsewhere_is_not_repeated_when_its_job_has_ended(
    spool: SpoolStore, workers: Sessions
) -> None:
    first, second = workers.join(), workers.join()
    hand_in(spool)
    with pytest.MonkeyPatch.context() as patch:
        die_before(patch, at_the_file("unlink"))
        with pytest.raises(DeathError):
            import_all(spool, first)
    (claim,) = claim_all(second, 1)
    finish(second, claim, SUCCEEDED)
    workers.abandon(first)
    recover_all(spool, second)
    assert import_all(spool, second) == 0
    assert [job.state for job in stored(spool)] == [State.DONE]


# Power


def in_order(steps: list[tuple[str, str]], *wanted: tuple[str, str]) -> bool:
    """Tell whether these steps, by name and part of the path, were taken in this order."""
    left = iter(steps)
    return all(any(step == name and part in path for step, path in left) for name, part in wanted)


@pytest.mark.parametrize("store", ["full"], indirect=True)
def test_a_job_is_published_only_when_no_power_cut_can_bring_its_file_back(
    spool: SpoolStore, workers: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = workers.join()
    import_jobs(session)
    hand_in(spool)
    with monkeypatch.context() as patch:
        steps = watch(patch)
        import_all(spool, session)
    mine = spool.paths.claims_of(session.id)
    assert in_order(
        steps,
        ("move", f"{mine}{os.sep}in."),
        ("sync_directory", mine),
        ("sync_directory", spool.paths.incoming),
        ("move", spool.paths.pending),
        ("unlink", f"{mine}{os.sep}in."),
    )
    assert not in_order(steps, ("move", spool.paths.pending), ("sync_directory", spool.paths.incoming))
    assert in_order(steps, ("sync_file", ""), ("unlink", f"{mine}{os.sep}in."))


@pytest.mark.parametrize("store", ["full"], indirect=True)
def test_a_job_whose_importer_died_before_the_sync_is_synced_before_its_file_goes(
    spool: SpoolStore, workers: Sessions
) -> None:
    first, second = workers.join(), workers.join()
    hand_in(spool)
    with pytest.MonkeyPatch.context() as patch:
        published = False

        def sync_comes(step: str, path: str) -> bool:
            nonlocal published
            published = published or (step == "move" and path.startswith(spool.paths.tmp))
            return published and step in {"sync_file", "sync_directory", "unlink"}

        die_before(patch, sync_comes)
        with pytest.raises(DeathError):
            import_all(spool, first)
    (job,) = stored(spool)
    workers.abandon(first)
    with pytest.MonkeyPatch.context() as patch:
        steps = watch(patch)
        recover_all(spool, second)
        assert import_all(spool, second) == 0
    assert in_order(steps, ("open_append", job.id), ("sync_file", ""), ("sync_directory", "now-"), ("unlink", "in."))
