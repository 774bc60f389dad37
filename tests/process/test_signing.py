"""With signing keys a real worker runs what somebody with a key has submitted, once, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import Queue
from bgjobs.errors import ConfigError, RefusedError
from bgjobs.ids import new_id
from bgjobs.job import State
from tests.cli.commands import Bgjobs
from tests.process.conftest import LIMIT, Project, lines, request, wait_for_lines, wait_until
from tests.sweeping import part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX, and workers are stopped by signals")
PAGE = Path(__file__).parents[2] / "docs" / "signing.md"
OLD, NEW = hashlib.sha256(b"old").hexdigest(), hashlib.sha512(b"new").hexdigest()
TRAP = """
with open("trap", "a", encoding="utf-8") as file:
    file.write("imported\\n")


class Trap:
    def run(self, *args, **kwargs):
        return "ran"

    def other(self, *args, **kwargs):
        return "ran"
"""
ALLOW_TRAP = """
[jobs.Trap]
class = "trap:Trap"
methods = ["run", "other"]

[jobs.Trap2]
class = "trap:Trap"
methods = ["run"]
"""


def set_keys(project: Project, *keys: tuple[str, str]) -> Path:
    """Give the project these keys, in one step; the first one signs."""
    fresh, path = project.root / "keys.fresh", project.root / "signing.keys"
    fresh.touch(0o600)
    fresh.write_text("".join(f"{key_id} {key}\n" for key_id, key in keys), "utf-8")
    return fresh.replace(path)


def turn_on(project: Project) -> Project:
    set_keys(project, ("old", OLD))
    project.allow("[bgjobs]\n", '[bgjobs]\nsigning_keys = "signing.keys"\n')
    (project.root / "trap.py").write_text(TRAP, "utf-8")
    project.allow("[jobs.Functions]", f"{ALLOW_TRAP}\n[jobs.Functions]")
    project.queue = Queue.open(config=str(project.config))
    return project


@pytest.fixture
def signed(project: Project) -> Project:
    """A project with one key."""
    return turn_on(project)


def sign(data: bytes, key_id: str = "old", key: str = OLD, purpose: str = "job") -> bytes:
    """Sign a line as another program would."""
    code = hmac.new(bytes.fromhex(key), f"bgjobs {purpose} 1\n".encode() + data, hashlib.sha256).hexdigest()
    return data[:-1] + f',"sig":"{key_id}:{code}"}}'.encode()


def unsigned(line: bytes) -> bytes:
    return re.sub(rb',"sig":"[^"]*"\}$', b"}", line)


def file_of(project: Project, job_id: str, state: str = "*") -> Path:
    (path,) = project.spool.glob(f"{state}/**/*{job_id}.json")
    return path


def put_back(project: Project, data: bytes, job_id: str, *, priority: str = "9") -> Path:
    """Put a file into the queue as somebody does who can write there."""
    ms = time.time_ns() // 1_000_000
    bucket = project.spool / "pending" / priority / time.strftime("now-%Y%m%d%H%M.again", time.gmtime())
    bucket.mkdir(exist_ok=True)
    path = bucket / f"{ms:013d}-{job_id}.json"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def bgjobs(project: Project, command: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of bgjobs, with this text as its standard input."""
    return Bgjobs(project.root, project.root)(command, "--config", str(project.config), *arguments, stdin=text)


def aside(project: Project) -> dict[str, str]:
    """Return the reasons of what was put aside, by file."""
    return {
        path.name.removesuffix(".reason"): path.read_text("utf-8") for path in project.spool.glob("corrupt/*.reason")
    }


# ---------------------------------------------------------------------------------------------------- what is signed


def test_whatever_submits_signs_and_what_is_signed_runs(signed: Project) -> None:
    queue = signed.queue
    jobs = [queue.submit("Honest", "echo", ["\u00e9 \x00 \ud7ff", {"sig": "x"}][:1])]
    jobs += queue.submit_many(request("Honest", "echo", n, delay=n % 2) for n in range(10))
    jobs.append(queue.get(bgjobs(signed, "submit", "Honest", "echo", "shell").stdout.strip()))
    jobs.append(queue.get(bgjobs(signed, "batch", "-", text='{"class":"Honest","method":"echo"}').stdout.strip()))
    for job in jobs:
        first = file_of(signed, job.id, "pending").read_bytes().removesuffix(b"\n")
        assert first == sign(unsigned(first))
    signed.drain()
    jobs.append(queue.retry(jobs[1].id))
    signed.drain()
    assert {signed.state(job) for job in jobs} == {State.DONE}
    assert aside(signed) == {}
    assert signed.errors() == []


def test_without_the_setting_nothing_is_signed_and_a_signature_is_not_looked_at(project: Project) -> None:
    plain = project.queue.submit("Honest", "echo", ["plain"])
    assert b'"sig"' not in file_of(project, plain.id).read_bytes()
    other = project.queue.submit("Honest", "echo", ["other"])
    path = file_of(project, other.id)
    path.write_bytes(sign(path.read_bytes().strip(), key=NEW) + b"\n")
    project.drain()
    assert (project.queue.get(plain.id).result, project.queue.get(other.id).result) == ("plain", "other")


# ------------------------------------------------------------------------------------------------------ what is not

# What somebody does to line 1, and the code with which the job is refused. The line stays a valid job.
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "class": (lambda job: job.update({"class": "Trap2"}), "bad-signature"),
    "method": (lambda job: job.update(method="other"), "bad-signature"),
    "args": (lambda job: job.update(args=["y"]), "bad-signature"),
    "no args": (lambda job: job.pop("args"), "bad-signature"),
    "kwargs": (lambda job: job.update(kwargs={"a": 1}), "bad-signature"),
    "text": (lambda job: job.update(text=True), "bad-signature"),
    "priority": (lambda job: job.update(priority=9), "bad-signature"),
    "not_before": (lambda job: job.update(not_before=job["not_before"] - 1), "bad-signature"),
    "retries": (lambda job: job.update(retries=7), "bad-signature"),
    "retry_delay": (lambda job: job.update(retry_delay=1.5), "bad-signature"),
    "timeout": (lambda job: job.update(timeout=3), "bad-signature"),
    "tags": (lambda job: job.update(tags=["night"]), "bad-signature"),
    "retry_of": (lambda job: job.update(retry_of=new_id()), "bad-signature"),
    "submitted_at": (lambda job: job.update(submitted_at=job["submitted_at"] - 1), "bad-signature"),
    "submitted_by": (lambda job: job.update(submitted_by="root@web1"), "bad-signature"),
    "no signature": (lambda job: job.pop("sig"), "not-signed"),
    "null": (lambda job: job.update(sig=None), "not-signed"),
    "empty": (lambda job: job.update(sig=""), "not-signed"),
    "another key": (lambda job: job.update(sig=f"new:{job['sig'][4:]}"), "bad-signature"),
    "another code": (lambda job: job.update(sig=f"old:{'0' * 64}"), "bad-signature"),
    "capitals": (lambda job: job.update(sig=f"old:{job['sig'][4:].upper()}"), "not-signed"),
    "not last": (lambda job: job.update(submitted_by=job.pop("submitted_by")), "not-signed"),
}


@pytest.fixture(scope="module")
def tampered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, dict[str, Job]]]:
    """A project in which somebody has changed each of these jobs before the only worker came and went."""
    project = turn_on(Project(tmp_path_factory.mktemp("signed") / "project"))
    jobs = {}
    for name, (change, _) in CHANGES.items():
        job = jobs[name] = project.queue.submit("Trap", "run", ["x"])
        path = file_of(project, job.id)
        spec = json.loads(path.read_bytes())
        change(spec)
        if name not in {"no signature", "null", "empty", "not last"}:
            spec["sig"] = spec.pop("sig")  # behind a new field
        path.write_bytes(json.dumps(spec, separators=(",", ":")).encode() + b"\n")
    spaced = jobs["spaced"] = project.queue.submit("Trap", "run", ["x"])
    path = file_of(project, spaced.id)
    path.write_bytes(path.read_bytes().replace(b'"args":["x"]', b'"args": ["x"]'))
    project.drain()
    yield project, jobs
    project.close()


@pytest.mark.parametrize("name", [*CHANGES, "spaced"])
def test_a_changed_job_is_refused_without_another_attempt(tampered: tuple[Project, dict[str, Job]], name: str) -> None:
    project, jobs = tampered
    code = CHANGES[name][1] if name in CHANGES else "bad-signature"
    job = project.queue.get(jobs[name].id)
    assert (job.state, job.attempts) == (State.FAILED, ())
    assert job.error is not None
    assert job.error.type == code
    for log in (project.log(job), project.errors(job)):
        (record,) = [record for record in log if record["status"] != "QUEUED"]
        assert record["status"] == "REFUSED"
        assert record["message"].startswith(f"{code}: ")


def test_nothing_of_a_changed_job_was_imported_and_what_was_not_changed_runs(
    tampered: tuple[Project, dict[str, Job]],
) -> None:
    project, _ = tampered
    assert not (project.root / "trap").exists()
    good = project.queue.submit("Trap", "run", ["x"])
    project.drain()
    assert project.queue.get(good.id).result == "ran"
    assert lines(project.root / "trap") == ["imported"]


def test_a_signature_cannot_be_moved_to_another_job(signed: Project) -> None:
    wanted, other = signed.queue.submit("Trap", "run"), signed.queue.submit("Honest", "echo")
    paths = {job.id: file_of(signed, job.id) for job in (wanted, other)}
    first = paths[wanted.id].read_bytes().strip()
    code = re.findall(rb',"sig":.*', paths[other.id].read_bytes().strip())[0]
    paths[wanted.id].write_bytes(unsigned(first)[:-1] + code + b"\n")
    copied = signed.queue.submit("Honest", "echo")
    file_of(signed, copied.id).write_bytes(first + b"\n")
    signed.drain()
    assert signed.queue.get(wanted.id).state is State.FAILED
    assert signed.state(other) is State.DONE
    assert [reason for name, reason in aside(signed).items() if copied.id in name] == [
        "the id inside differs from the file's name\n"
    ]
    assert not (signed.root / "trap").exists()


def test_what_was_signed_for_another_purpose_is_no_job(signed: Project) -> None:
    job = signed.queue.submit("Trap", "run")
    path = file_of(signed, job.id)
    path.write_bytes(sign(unsigned(path.read_bytes().strip()), purpose="incoming") + b"\n")
    signed.drain()
    error = signed.queue.get(job.id).error
    assert error is not None
    assert error.type == "bad-signature"


def test_a_retry_does_not_sign_what_somebody_put_among_the_failed(signed: Project) -> None:
    honest = signed.queue.submit("Honest", "fail", ["as asked"])
    signed.drain()
    path = file_of(signed, honest.id, "failed")
    path.write_bytes(path.read_bytes().replace(b'"as asked"', b'"as forged"', 1))
    with pytest.raises(RefusedError) as caught:
        signed.queue.retry(honest.id)
    assert caught.value.code == "bad-signature"
    for option in ([], ["--dry-run"]):
        done = bgjobs(signed, "retry", honest.id, *option)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.count("\n") == 1
    assert signed.queue.counts()[State.QUEUED] == 0
    told = [record["message"] for record in signed.errors() if record["status"] == "REFUSED"]
    assert len(told) == 3
    assert all(message.startswith("bad-signature: ") for message in told)


# ----------------------------------------------------------------------------------------------------------- replays


@pytest.mark.parametrize("state", part(["done", "failed", "cancelled"]))
@pytest.mark.parametrize("whole", [False, True], ids=["line 1", "whole file"])
def test_a_job_that_has_ended_does_not_run_again_and_its_record_stays(
    signed: Project, tmp_path: Path, state: str, *, whole: bool
) -> None:
    note = tmp_path / "note"
    method, args = ("fail_first", [str(note), 9]) if state == "failed" else ("sign", [str(note)])
    job = signed.queue.submit("Honest", method, args)
    if state == "cancelled":
        signed.queue.cancel(job.id)
    signed.drain()
    record = file_of(signed, job.id, state)
    before, notes = record.read_bytes(), lines(note)
    for _ in range(2):
        put_back(signed, before if whole else before.splitlines(keepends=True)[0], job.id)
        signed.drain()
    assert record.read_bytes() == before
    assert lines(note) == notes
    assert [path for path in signed.spool.glob(f"*/**/*{job.id}*.json") if path.parent.name != "corrupt"] == [record]
    assert set(aside(signed).values()) == {"replayed: a job of this id is being run, or has ended\n"}
    assert len(aside(signed)) == 2
    assert [found["status"] for found in signed.errors()].count("REFUSED") == 2


def test_a_copy_does_not_run_beside_a_running_job_in_another_worker(signed: Project, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    signed.start().ready()
    job = signed.queue.submit("Honest", "wait_for", [str(go), str(begun)])
    wait_for_lines(begun)
    first = file_of(signed, job.id, "claimed").read_bytes().splitlines(keepends=True)[0]
    signed.start().ready()
    put_back(signed, first, job.id)
    wait_until(lambda: aside(signed))
    go.touch()
    assert signed.queue.wait(job.id, LIMIT).result == "it came"
    assert lines(begun) == [job.id]


def test_an_unsigned_copy_of_an_ended_job_leaves_its_record_alone(signed: Project) -> None:
    job = signed.queue.submit("Honest", "echo", ["once"])
    signed.drain()
    record = file_of(signed, job.id, "done")
    put_back(signed, unsigned(record.read_bytes().splitlines()[0]) + b"\n", job.id)
    signed.drain()
    assert len(aside(signed)) == 1
    assert list(signed.spool.glob(f"failed/*/{job.id}.json")) == []
    assert signed.queue.get(job.id).result == "once"


def test_further_attempts_are_no_replays(signed: Project, tmp_path: Path) -> None:
    job = signed.queue.submit("Honest", "fail_first", [str(tmp_path / "note"), 3], retries=3)
    signed.drain()
    assert signed.queue.get(job.id).result == 4
    assert aside(signed) == {}


def test_a_job_that_was_handed_back_and_one_whose_worker_died_are_no_replays(signed: Project, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    job = signed.queue.submit("Honest", "wait_for", [str(go), str(begun)], retries=0)
    waiting = [signed.queue.submit("Honest", "echo", [n]) for n in range(5)]
    stopped = signed.start(grace="0s").ready()
    wait_for_lines(begun, 1)
    assert stopped.stop() == 0
    killed = signed.start().ready()
    wait_for_lines(begun, 2)
    killed.kill()
    signed.start().ready()
    wait_for_lines(begun, 3)
    go.touch()
    ended = signed.queue.wait(job.id, LIMIT)
    assert [attempt.outcome for attempt in ended.attempts] == ["interrupted", "crashed", "succeeded"]
    assert [signed.queue.wait(other.id, LIMIT).result for other in waiting] == list(range(5))
    assert aside(signed) == {}


# ---------------------------------------------------------------------------------------------------------- the keys


def test_keys_are_replaced_while_jobs_wait(signed: Project) -> None:
    queue = signed.queue
    first = queue.submit("Honest", "echo", ["old"], delay=3600)
    worker = signed.start().ready()
    set_keys(signed, ("new", NEW), ("old", OLD))
    second = queue.submit("Honest", "echo", ["new"])  # perhaps before the worker has looked at the file
    assert b'"sig":"new:' in file_of(signed, second.id).read_bytes()
    assert queue.wait(second.id, LIMIT).result == "new"
    wait_until(lambda: "took over the changed signing keys: new signs, 2 verify" in worker.says())
    queue.run_now(first.id)
    assert queue.wait(first.id, LIMIT).result == "old"
    late = queue.submit("Honest", "echo", ["late"], delay=3600)
    path = file_of(signed, late.id)
    path.write_bytes(sign(unsigned(path.read_bytes().strip())) + b"\n")  # signed with the old one
    set_keys(signed, ("new", NEW))
    wait_until(lambda: "took over the changed signing keys: new signs, 1 verify" in worker.says())
    queue.run_now(late.id)
    refused = queue.wait_until_ended(late.id, LIMIT)
    assert refused.error is not None
    assert (refused.error.type, refused.attempts) == ("bad-signature", ())
    assert "'old'" in refused.error.message
    with pytest.raises(RefusedError):
        queue.retry(first.id)


def test_a_worker_keeps_its_keys_when_the_file_is_broken_and_says_so_once(signed: Project) -> None:
    worker = signed.start().ready()
    queue = signed.queue
    waiting = queue.submit("Honest", "echo", ["known"], delay=3600)
    forged = file_of(signed, waiting.id).read_bytes().replace(b"known", b"forgd")
    path = signed.root / "signing.keys"
    path.chmod(0o644)
    told = f"the changed signing keys are not taken over: the signing keys {path} are open to others: chmod 600 {path}"
    wait_until(lambda: told in worker.says())
    with pytest.raises(ConfigError) as caught:
        queue.submit("Honest", "echo")
    assert caught.value.code == "bad-signing-keys"
    put_back(signed, forged.replace(waiting.id.encode(), b"0" * 26), "0" * 26)
    queue.run_now(waiting.id)
    assert queue.wait(waiting.id, LIMIT).result == "known"
    wait_until(lambda: [job.id for job in queue.jobs(state="failed")] == ["0" * 26])
    path.chmod(0o600)
    queue.wait(queue.submit("Honest", "echo").id, LIMIT)
    assert worker.says().count("are not taken over") == 1


def test_a_running_worker_begins_to_check_and_ceases_to_with_the_allowlist(project: Project) -> None:
    worker = project.start().ready()
    assert project.queue.wait(project.queue.submit("Honest", "echo", ["free"]).id, LIMIT).result == "free"
    plain = project.queue
    turn_on(project)
    wait_until(lambda: worker.says().count("took over the changed allowlist") >= 1)
    wait_until(lambda: plain.wait_until_ended(plain.submit("Honest", "echo").id, LIMIT).state is State.FAILED)
    assert project.queue.wait(project.queue.submit("Honest", "echo", ["signed"]).id, LIMIT).result == "signed"
    project.allow('signing_keys = "signing.keys"\n', "")
    wait_until(lambda: plain.wait_until_ended(plain.submit("Honest", "echo").id, LIMIT).state is State.DONE)


def test_a_changed_allowlist_with_a_bad_file_of_keys_is_not_taken_over(project: Project) -> None:
    worker = project.start().ready()
    set_keys(project, ("old", OLD)).chmod(0o640)
    project.allow("[bgjobs]\n", '[bgjobs]\nsigning_keys = "signing.keys"\n')
    wait_until(lambda: "the changed allowlist is not taken over: the signing keys" in worker.says())
    assert project.queue.wait(project.queue.submit("Honest", "echo", ["as before"]).id, LIMIT).result == "as before"


BREAK: dict[str, Callable[[Path], object]] = {
    "mode": lambda path: path.chmod(0o640),
    "gone": lambda path: path.unlink(),
    "mistake": lambda path: path.write_text(f"old {OLD}\nbroken {OLD}x\n", "utf-8"),
    "link": lambda path: path.symlink_to(path.rename(path.with_name("elsewhere"))),
}


@pytest.mark.parametrize("how", BREAK)
def test_with_a_bad_file_of_keys_nothing_is_queued_no_worker_starts_and_check_names_it(
    signed: Project, how: str
) -> None:
    waiting = signed.queue.submit("Honest", "echo")
    path = signed.root / "signing.keys"
    BREAK[how](path)
    for name in (["submit", "Honest", "echo", "x"], ["batch", "-"], ["worker", "--once"], ["retry", waiting.id]):
        done = bgjobs(signed, *name, text='{"class":"Honest","method":"echo"}\n')
        if name[0] == "retry":
            assert done.returncode == 2  # it has not ended
            continue
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert done.stderr.count("\n") == 1
        assert str(path) in done.stderr
        assert OLD[:8] not in done.stderr
    assert [job.id for job in signed.queue.jobs()] == [waiting.id]  # to look needs no key
    done = bgjobs(signed, "check")
    assert done.returncode == 1
    assert str(path) in done.stdout
    assert OLD[:8] not in done.stdout + done.stderr


def test_the_keys_are_nowhere_but_in_their_file(signed: Project) -> None:
    worker = signed.start(environ={"BGJOBS_DEBUG": "1"}).ready()
    environment = signed.queue.wait(signed.queue.submit("Curious", "environment").id, LIMIT).result
    (runner,) = worker.runners()
    put_back(signed, b'{"format":1}\n', new_id())
    wait_until(lambda: aside(signed))
    shown = [worker.says(), json.dumps(environment), repr(signed.queue.settings), repr(vars(signed.queue._store))]
    if sys.platform == "linux":
        shown += [Path("/proc", str(runner), name).read_bytes().decode("latin-1") for name in ("environ", "cmdline")]
        with suppress(PermissionError), Path("/proc", str(runner), "mem").open("rb") as memory:  # where that is allowed
            assert _contains(runner, memory, [b"curious"]) != []
            assert _contains(runner, memory, [OLD.encode(), bytes.fromhex(OLD)]) == []
        assert not [
            name for name in Path("/proc", str(runner), "fd").iterdir() if name.readlink().name == "signing.keys"
        ]
    shown += [path.read_bytes().decode("latin-1") for path in signed.spool.rglob("*") if path.is_file()]
    for text in shown:
        assert OLD[:16] not in text
    assert not {"signing_keys", "BGJOBS_SIGNING_KEYS"} & set(environment)


def _contains(pid: int, memory: Any, keys: list[bytes]) -> list[str]:
    """Return in which parts of the memory of a process one of the keys is."""
    found = []
    for line in Path("/proc", str(pid), "maps").read_text("utf-8").splitlines():
        place, rights, *_ = line.split()
        start, end = (int(number, 16) for number in place.split("-"))
        if rights.startswith("rw") and end - start < 512 * 1024 * 1024:
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except OSError:
                continue
            found += [line for key in keys if key in data]
    return found


# ---------------------------------------------------------------------------------------------- from other programs


def hand_in(project: Project, data: bytes, name: str = "x") -> None:
    project.queue.submit_many([])  # sets up the spool
    folder = project.spool / "incoming"
    (folder / f".{name}").write_bytes(data)
    (folder / f".{name}").rename(folder / f"{name}.json")


def call(*args: object, **more: object) -> bytes:
    """Return an object as another program may write it, ready to be signed."""
    made = {"format": 1, "class": "Trap", "method": "run", "args": args, "submitted_at": time.time_ns() // 1_000_000}
    return json.dumps(made | {"nonce": os.urandom(8).hex()} | more).encode()


def test_a_signed_file_from_elsewhere_runs_as_a_job_that_the_worker_signs(signed: Project) -> None:
    set_keys(signed, ("new", NEW), ("old", OLD))
    for number in range(30):  # some of them in one round, also with a line end, also signed with the old key
        key = ("old", OLD) if number % 2 else ("new", NEW)
        mark, end = b"\xef\xbb\xbf" * (number % 3 == 1), b"\n" * (number % 3 == 0)  # both may be there, unsigned
        hand_in(signed, mark + sign(call(number), *key, purpose="incoming") + end, str(number))
    signed.drain()
    jobs = list(signed.queue.jobs())
    assert sorted(job.args[0] for job in jobs) == list(range(30))
    assert {job.state for job in jobs} == {State.DONE}
    for job in jobs:
        first = file_of(signed, job.id).read_bytes().splitlines()[0]
        assert first == sign(unsigned(first), "new", NEW)


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "unsigned": (call, "not-signed: "),
    "no JSON": (lambda: b"nothing", "not-signed: "),
    "tampered": (lambda: sign(call("x"), purpose="incoming").replace(b'"x"', b'"y"'), "bad-signature: "),
    "for a job file": (lambda: sign(call()), "bad-signature: "),
    "unknown key": (lambda: sign(call(), "new", NEW, purpose="incoming"), "bad-signature: "),
    "two lines": (lambda: sign(call(), purpose="incoming") + b"\n{}", "not-signed: "),
    "several lines": (lambda: sign(call().replace(b" ", b"\n"), purpose="incoming"), "not-signed: "),
    "no nonce": (lambda: sign(call(nonce=None), purpose="incoming"), "nonce"),
    "short nonce": (lambda: sign(call(nonce="x"), purpose="incoming"), "nonce"),
    "no moment": (lambda: sign(call(submitted_at=None), purpose="incoming"), "submitted_at"),
    "too old": (lambda: sign(call(submitted_at=1_600_000_000_000), purpose="incoming"), "replayed: "),
    "from tomorrow": (lambda: sign(call(submitted_at=4_000_000_000_000), purpose="incoming"), "replayed: "),
    "beyond time": (lambda: sign(call(submitted_at=2**62), purpose="incoming"), "replayed: "),
    "before time": (lambda: sign(call(submitted_at=-1), purpose="incoming"), "replayed: "),
    "an id": (lambda: sign(call(id=new_id()), purpose="incoming"), "'id' is unknown"),
    "not JSON": (lambda: sign(b'{"format":1,}', purpose="incoming"), "not a job"),
}


def test_files_from_elsewhere_that_are_not_signed_well_are_put_aside_and_nothing_is_imported(signed: Project) -> None:
    for number, (make, _) in enumerate(WRONG.values()):
        hand_in(signed, make(), str(number))
    signed.drain()
    reasons = sorted(aside(signed).values())
    assert len(reasons) == len(WRONG)
    for number, (name, (_, word)) in enumerate(WRONG.items()):
        (reason,) = [reason for reason in reasons if reason.startswith(f"incoming/{number}.json: ")]
        assert word in reason, name
    assert list(signed.queue.jobs()) == []
    assert not (signed.root / "trap").exists()
    assert {record["status"] for record in signed.errors()} == {"REFUSED"}


@pytest.mark.parametrize("line_end", [b"", b"\n"])
def test_copies_of_a_file_from_elsewhere_are_one_job(signed: Project, line_end: bytes) -> None:
    data = sign(call("once"), purpose="incoming")
    for number in range(5):
        hand_in(signed, data, str(number))
    signed.drain()
    hand_in(signed, data + line_end, "again")
    signed.drain()
    (job,) = signed.queue.jobs()
    assert (job.state, len(job.attempts)) == (State.DONE, 1)
    assert len(aside(signed)) == 5
    assert all("replayed: " in reason for reason in aside(signed).values())
    hand_in(signed, sign(call("once"), purpose="incoming"), "another")
    signed.drain()
    assert len(list(signed.queue.jobs(state="done"))) == 2


def test_a_copy_of_a_file_from_elsewhere_does_not_run_beside_its_job_nor_while_that_waits(
    signed: Project, tmp_path: Path
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    worker = signed.start().ready()
    more = {"class": "Honest", "method": "wait_for"}
    running = sign(call(str(go), str(begun), **more), purpose="incoming")
    waiting = sign(call(str(go), str(begun), **more), purpose="incoming")
    hand_in(signed, running, "running")
    wait_for_lines(begun)
    hand_in(signed, waiting, "waiting")
    wait_until(lambda: len(list(signed.queue.jobs())) == 2)
    hand_in(signed, running, "again")
    wait_until(lambda: len(aside(signed)) == 1)
    hand_in(signed, waiting, "late")
    wait_until(lambda: not [path for path in (signed.spool / "incoming").iterdir() if path.suffix == ".json"])
    go.touch()
    wait_until(lambda: len(list(signed.queue.jobs(state="done"))) == 2)
    assert worker.stop() == 0
    signed.drain()
    assert len(set(lines(begun))) == len(lines(begun)) == 2


def test_a_signed_file_is_taken_where_nothing_is_signed(project: Project) -> None:
    more = {"class": "Honest", "method": "echo"}
    hand_in(project, sign(call("x", **more), purpose="incoming"))
    hand_in(project, call("y", **more), "unsigned with a moment")
    project.drain()
    (job,) = project.queue.jobs()
    assert job.result == "x"
    assert "is unknown" in "".join(aside(project).values())


# ----------------------------------------------------------------------------------------------------------- the page


@pytest.fixture
def reports(signed: Project) -> Project:
    """The project of the page."""
    signed.rewrite("reports.py", "class Reports:\n    def build(self, month):\n        return month\n")
    added = '[jobs.Reports]\nclass = "reports:Reports"\nmethods = ["build"]\n\n[jobs.Functions]'
    signed.allow("[jobs.Functions]", added)
    signed.queue.submit_many([])
    return signed


def block(language: str, word: str) -> str:
    """Return the one example of the page in a language that has this word."""
    (found,) = [
        text
        for text in re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        if word in text
    ]
    return str(found)


needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("sh") is None, reason="the example is for sh with openssl"
)


@needs_openssl
def test_the_line_of_shell_in_the_page_makes_keys_and_the_other_one_signs_with_them(reports: Project) -> None:
    (reports.root / "signing.keys").unlink()
    subprocess.run(["sh", "-ec", block("sh", "rand -hex 32")], cwd=reports.root, check=True)
    keys = reports.root / "signing.keys"
    assert keys.stat().st_mode & 0o777 == 0o600
    keys.write_text(f"# ours\n\n{keys.read_text('utf-8')}old {OLD}\n", "utf-8")
    script, environ = block("sh", "openssl dgst"), os.environ | {"KEYS": str(keys)}
    for _ in range(2):
        subprocess.run(["sh", "-ec", script], cwd=reports.spool / "incoming", env=environ, check=True)
    reports.drain()
    assert [job.result for job in reports.queue.jobs()] == ["2026-11", "2026-11"]
    assert aside(reports) == {}


def test_the_function_in_the_page_signs_what_a_worker_takes(reports: Project) -> None:
    code = block("python", "def hand_in")
    job = {"class": "Reports", "method": "build", "args": ["\u00e9 \U0001f600 \\ \" '"]}
    use = f"{code}\nhand_in({job!r}, 'old', bytes.fromhex({OLD!r}), {str(reports.spool / 'incoming')!r})\n"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", use], check=True)
    reports.drain()
    assert [found.result for found in reports.queue.jobs()] == [job["args"][0]] * 2
    assert aside(reports) == {}


def test_a_job_signed_with_a_key_that_is_missing_for_a_moment_waits_for_it(signed: Project) -> None:
    queue = signed.queue
    first = queue.submit("Honest", "echo", ["old"], delay=3600)
    worker = signed.start().ready()
    keys = signed.root / "signing.keys"
    keys.write_text(f"new {NEW}\n", "utf-8")  # its beginning; the rest is on its way
    wait_until(lambda: "took over the changed signing keys" in worker.says())

    def is_claimed() -> bool:
        with keys.open("a", encoding="utf-8") as file:  # however long the claim takes, the file is still being written
            file.write("# more follows\n")
        return bool(list(signed.spool.glob("claimed/*/*.json")))

    queue.run_now(first.id)
    wait_until(is_claimed)
    assert queue.get(first.id).attempt == 0
    set_keys(signed, ("new", NEW), ("old", OLD))
    assert queue.wait(first.id, LIMIT).result == "old"
