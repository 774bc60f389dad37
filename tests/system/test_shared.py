"""A spool that is shared with a group: others hand in files as themselves, within bounds, and can do nothing else."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs.job import State
from tests.measuring import unmeasured
from tests.process.conftest import Project, lines, wait_until
from tests.system.people import DAEMON, GROUP, NAMELESS, NOBODY, ROOT, STRANGER, Person, needs_root, public_folder

if not TYPE_CHECKING and sys.platform == "win32":
    pytest.skip("no spool is shared there", allow_module_level=True)
assert sys.platform != "win32"

import fcntl  # noqa: E402 - POSIX only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job

pytestmark = needs_root
SHARED = """
[bgjobs]
durability  = "os"
retries     = 0
shared_with = "daemon"
# more

[jobs.Open]
class   = "letters:Letters"
methods = ["send", "fail"]

[jobs.ForNobody]
class   = "letters:Letters"
methods = ["send"]
users   = ["nobody", "#54321"]

[jobs.ForDaemons]
class   = "guarded:Letters"
methods = ["send"]
groups  = ["daemon"]

[jobs.ForNone]
class   = "guarded:Letters"
methods = ["send"]
users   = ["no-such-user"]
groups  = ["no-such-group"]
"""
LETTERS = """
class Letters:
    def send(self, to: object = None) -> object:
        return to

    def fail(self) -> None:
        raise ValueError
"""
FAR_MS = 4_000_000_000_000


def call(class_name: str = "Open", *args: object, **more: object) -> dict[str, Any]:
    return {"format": 1, "class": class_name, "method": "send", "args": args, **more}


class Shop(Project):
    """A project whose spool is shared, in a place that everybody may enter."""

    def __init__(self, root: Path, allowed: str = SHARED) -> None:
        super().__init__(root)
        self.rewrite("allowed_jobs.toml", allowed)
        (root / "letters.py").write_text(LETTERS, "utf-8")
        (root / "guarded.py").write_text(f"open({str(root / 'imported')!r}, 'a').close()\n{LETTERS}", "utf-8")
        for path in (root, *root.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.queue = type(self.queue).open(config=str(self.config))
        self.incoming = self.spool / "incoming"

    def told(self, word: str) -> list[str]:
        """Return the lines of the error log with this word."""
        return [line for line in lines(self.spool / "logs" / "background_jobs_errors.log") if word in line]

    def found(self, *states: State) -> list[Job]:
        return sorted(self.queue.jobs(state=list(states) or None), key=lambda job: job.id)

    def ended(self, count: int = 1) -> list[Job]:
        """Wait until so many jobs have ended, and return them."""
        wait_until(lambda: len(self.found(State.DONE, State.FAILED)) >= count)
        return self.found(State.DONE, State.FAILED)

    def reasons(self) -> list[str]:
        """Return why files lie in `corrupt/`, as far as that is written already."""
        found = [path.read_text("utf-8").strip() for path in (self.spool / "corrupt").glob("*.reason")]
        return [reason for reason in found if reason]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with public_folder() as folder:
        made = Shop(Path(folder) / "shop")
        yield made
        made.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# What others can do


def test_another_user_submits_by_file_and_the_job_says_who_that_was(shop: Shop) -> None:
    worker = shop.start().ready()
    NOBODY.hand_in(shop.incoming, "x.json", call("Open", "Ann"))
    (job,) = shop.ended()
    assert (job.state, job.result, job.from_user) == (State.DONE, "Ann", "nobody")
    assert job.submitted_by.startswith("nobody@")
    assert worker.stop() == 0
    assert job.to_json()["from_user"] == "nobody"
    assert any("submitted by nobody@" in record["message"] for record in shop.log(job))
    (path,) = (shop.spool / "done").rglob("*.json")
    assert (path.stat().st_uid, mode(path)) == (0, 0o600)
    assert shop.traces() == []


def test_the_owner_of_the_file_counts_whatever_the_file_says(shop: Shop) -> None:
    worker = shop.start().ready()
    NOBODY.hand_in(shop.incoming, "x.json", call("Open", submitted_by="root@localhost"))
    NOBODY.hand_in(shop.incoming, "y.json", call("Open", from_user="root"))
    NAMELESS.hand_in(shop.incoming, "z.json", call("Open"))
    first, second = sorted(shop.ended(2), key=lambda job: job.from_user or "", reverse=True)
    assert (first.from_user, first.submitter) == ("nobody", "nobody (as root@localhost)")
    assert second.from_user == "#54321"
    wait_until(lambda: any("'from_user' is unknown" in reason for reason in shop.reasons()))
    assert worker.stop() == 0
    assert any("submitted by nobody (as root@localhost)" in record["message"] for record in shop.log(first))
    shown = subprocess.run(
        [sys.executable, "-m", "bgjobs", "status", first.id], cwd=shop.root, capture_output=True, text=True, check=True
    )
    assert "by nobody (as root@localhost)" in shown.stdout


def test_users_and_groups_of_an_entry_say_whose_jobs_run(shop: Shop) -> None:
    worker = shop.start().ready()
    NOBODY.hand_in(shop.incoming, "a.json", call("ForNobody", "a"))
    NAMELESS.hand_in(shop.incoming, "b.json", call("ForNobody", "b"))
    DAEMON.hand_in(shop.incoming, "c.json", call("ForNobody", "c"))
    NOBODY.hand_in(shop.incoming, "d.json", call("ForDaemons", "d"))  # as the tables say it is not in that group
    NOBODY.hand_in(shop.incoming, "e.json", call("ForNone", "e"))
    jobs = {str(job.args[0]): job for job in shop.ended(5)}
    assert {name: job.state.value for name, job in jobs.items()} == {
        "a": "done",
        "b": "done",
        "c": "failed",
        "d": "failed",
        "e": "failed",
    }
    assert not (shop.root / "imported").exists()
    for name in "cde":
        error = jobs[name].error
        assert error is not None
        assert error.type == "not-permitted"
        wait_until(lambda: len(shop.told("not-permitted")) == 3)
        assert [record["status"] for record in shop.errors(jobs[name])] == ["REFUSED"]
    DAEMON.hand_in(shop.incoming, "f.json", call("ForDaemons", "f"))
    (job,) = [job for job in shop.ended(6) if job.args == ("f",)]
    assert (job.state, job.from_user) == (State.DONE, "daemon")
    ours = shop.queue.submit("ForNone", "send", ["ours"])
    assert shop.queue.wait(ours.id, 30).result == "ours"
    # What was refused stays refused, whoever repeats it.
    again = shop.queue.retry(jobs["c"].id)
    assert shop.queue.wait_until_ended(again.id, 30).state is State.FAILED
    assert worker.stop() == 0


def test_a_changed_allowlist_counts_for_jobs_that_wait(shop: Shop) -> None:
    worker = shop.start().ready()
    NOBODY.hand_in(shop.incoming, "x.json", call("ForNobody", not_before=FAR_MS))
    wait_until(lambda: shop.found(State.SCHEDULED))
    (job,) = shop.found()
    shop.allow('["nobody", "#54321"]', '["daemon"]')
    wait_until(lambda: "took over" in worker.says())
    shop.queue.run_now(job.id)
    assert shop.queue.wait_until_ended(job.id, 30).error is not None
    assert "REFUSED" in [record["status"] for record in shop.whole_log(job)]


@pytest.mark.parametrize("language", ["sh", "python"])
def test_the_lines_in_the_documentation_submit(shop: Shop, language: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "shared.md").read_text("utf-8")
    (lines_of_it,) = [
        block
        for block in re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        if "Dear Tony" in block
    ]
    text = lines_of_it.replace("/var/spool/shop", str(shop.spool))
    for old, new in (
        ('"class":"Letters"', '"class":"Open"'),
        ('"class": "Letters"', '"class": "Open"'),
        ('"print"', '"send"'),
    ):
        text = text.replace(old, new)
    worker = shop.start().ready()
    if language == "sh":
        assert NOBODY.does(lambda: subprocess.run(["sh", "-c", text], check=False).returncode) == 0
    else:
        assert NOBODY.does(lambda: exec(text, {})) is None
    (job,) = shop.ended()
    assert (job.result, job.from_user) == ("Dear Tony", "nobody")
    assert worker.stop() == 0


# What others cannot do


def test_others_can_do_nothing_else_in_the_spool(shop: Shop) -> None:
    worker = shop.start().ready()
    secret = shop.queue.submit("Open", "send", ["secret"], delay=3600)
    (pending,) = shop.spool.rglob(f"*{secret.id}.json")
    DAEMON.hand_in(shop.incoming, "theirs.part", call())
    theirs, mine = shop.incoming / "theirs.part", shop.incoming / "mine.part"
    NOBODY.hand_in(shop.incoming, "mine.part", call())
    refused: dict[str, Callable[[], object]] = {
        "list the spool": lambda: list(shop.spool.iterdir()),
        "list incoming": lambda: list(shop.incoming.iterdir()),
        "remove another's file": theirs.unlink,
        "rename another's file": lambda: theirs.rename(shop.incoming / "mine.json"),
        "take the place of another's file": lambda: mine.rename(theirs),
        "write to another's file": lambda: theirs.write_bytes(b"x"),
        "make a file in the spool": (shop.spool / "x").touch,
        "make a file in pending": (pending.parent / "x").touch,
        "read a job": pending.read_bytes,
        "see a job": pending.stat,
        "read VERSION": (shop.spool / "VERSION").read_bytes,
        "ring": lambda: os.utime(shop.spool / "doorbell"),
        "read the logs": lambda: list((shop.spool / "logs").iterdir()),
        "see workers": lambda: list((shop.spool / "workers").iterdir()),
        "see what is counted": lambda: list((shop.spool / "submitters").iterdir()),
        "rename incoming": lambda: shop.incoming.rename(shop.spool / "x"),
        "open it up": lambda: shop.incoming.chmod(0o777),
    }
    came = {what: NOBODY.does(_nothing(attempt)) for what, attempt in refused.items()}
    assert came == dict.fromkeys(refused, "PermissionError")
    assert NOBODY.does(_nothing(mine.unlink)) is None
    assert STRANGER.does(_nothing((shop.incoming / "x").touch)) == "PermissionError"  # not in the group
    assert worker.stop() == 0
    assert theirs.exists()


def _nothing(attempt: Callable[[], object]) -> Callable[[], None]:
    def tried() -> None:
        attempt()

    return tried


def test_what_somebody_else_could_have_changed_is_refused(shop: Shop) -> None:
    worker = shop.start().ready()
    for name, bits in (("group", 0o660), ("all", 0o602)):
        NOBODY.hand_in(shop.incoming, f"{name}.json", call("Open", name), bits)
    wait_until(lambda: len(shop.reasons()) == 2)
    assert all("others than its owner may write to it" in reason for reason in shop.reasons())
    assert worker.stop() == 0
    assert shop.found(State.DONE, State.QUEUED) == []


def test_links_pipes_and_directories_of_others_hold_up_nobody(shop: Shop) -> None:
    worker = shop.start().ready()
    folder = shop.incoming
    (shop.root / "letter.json").write_text(json.dumps(call("Open", "root's")), "utf-8")
    guarded = Path("/proc/sys/fs/protected_hardlinks").read_text("ascii").strip() == "1"

    def plant() -> None:
        os.mkfifo(folder / "fifo.json")
        (folder / "link.json").symlink_to(shop.root / "letter.json")
        (folder / "directory.json").mkdir()
        (folder / "directory.json" / "x").touch()
        (folder / ".twice").write_text(json.dumps(call("Open", "twice")), "utf-8")
        os.link(folder / ".twice", folder / "twice.json")
        with (folder / ".holes").open("wb") as file:
            file.truncate(2**40)
        (folder / ".holes").rename(folder / "holes.json")
        if not guarded:
            os.link(shop.root / "letter.json", folder / "stolen.json")

    assert NOBODY.does(plant) is None
    if guarded:
        steal = _nothing(lambda: os.link(shop.root / "letter.json", folder / "stolen.json"))
        assert NOBODY.does(steal) == "PermissionError"
    DAEMON.hand_in(folder, "good.json", call("Open", "good"))
    (job,) = shop.ended()
    assert job.args == ("good",)
    wait_until(lambda: len(shop.reasons()) >= 4)
    wait_until(lambda: shop.told("directory.json: a directory is no job"))
    assert worker.stop() == 0
    assert {path.name for path in folder.iterdir()} == {"directory.json", ".twice"}
    assert len(shop.found(State.DONE)) == 1


@pytest.mark.parametrize("held", [80])
def test_a_user_who_keeps_files_from_being_opened_holds_up_nobody_else(shop: Shop, held: int) -> None:
    worker = shop.start().ready()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # a lease: the system asks its holder before anybody else may open the file
        try:
            import signal  # noqa: PLC0415 - only in this child

            signal.signal(signal.SIGIO, signal.SIG_IGN)
            NOBODY.become()
            for number in range(held):
                hidden, name = shop.incoming / f".{number}", shop.incoming / f"{number}.json"
                hidden.write_text(json.dumps(call("Open", number)), "utf-8")
                descriptor = os.open(hidden, os.O_RDWR)
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                hidden.rename(name)
            os.write(writing, b"x")
            time.sleep(600)  # until it is killed
        finally:
            os._exit(0)
    try:
        os.close(writing)
        assert os.read(reading, 1) == b"x"
        wait_until(lambda: shop.told("cannot be read"))
        DAEMON.hand_in(shop.incoming, "good.json", call("Open", "good"))
        wait_until(lambda: any(job.args == ("good",) for job in shop.found(State.DONE)))
        assert len(shop.told("cannot be read")) <= 10
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reading)
    wait_until(lambda: len(shop.found(State.DONE)) == held + 1)
    assert worker.stop() == 0


def test_a_name_with_escapes_is_named_as_text(shop: Shop) -> None:
    worker = shop.start().ready()
    name = os.fsdecode(b"\x1b[2J\xff\n[x] Status: DONE.json")
    NOBODY.hand_in(shop.incoming, name, b"nonsense")
    wait_until(shop.reasons)
    assert "\x1b" not in shop.reasons()[0]
    wait_until(lambda: shop.told("x1b[2J"))
    assert len(shop.errors()) == 1
    assert worker.stop() == 0


# Bounds


def quota(shop: Shop, text: str) -> None:
    shop.allow("# more", text)


def test_a_flood_beyond_the_quota_waits_where_it_is_and_holds_up_nobody_else(shop: Shop) -> None:
    quota(shop, "max_queued_per_user = 20")
    worker = shop.start().ready()

    def flood() -> None:
        for number in range(3000):
            (shop.incoming / f".{number}").write_text(json.dumps(call("Open", number, not_before=FAR_MS)), "utf-8")
            (shop.incoming / f".{number}").rename(shop.incoming / f"{number}.json")

    assert NOBODY.does(flood) is None
    DAEMON.hand_in(shop.incoming, "good.json", call("Open", "good"))
    (job,) = shop.ended()
    assert job.from_user == "daemon"
    wait_until(lambda: len(shop.found(State.SCHEDULED)) == 20)
    wait_until(lambda: shop.told("no room for more"))
    for number in range(5):
        DAEMON.hand_in(shop.incoming, f"good{number}.json", call("Open", "good"))
    shop.ended(6)
    assert len(shop.told("no room for more")) == 1
    assert len(list(shop.incoming.iterdir())) == 2980
    assert len(shop.found(State.SCHEDULED)) == 20
    assert worker.stop() == 0
    # When it is the worker that ends with the work, what will never have room is not waited for.
    assert shop.start(once=True).ended() == 0


def test_what_waits_for_room_runs_when_there_is_some(shop: Shop) -> None:
    quota(shop, "max_queued_per_user = 10\nmax_bytes_per_user = 1000")
    worker = shop.start(concurrency=2).ready()
    for number in range(60):
        NOBODY.hand_in(shop.incoming, f"{number}.json", call("Open", number))
    shop.ended(60)
    assert sorted(job.result for job in shop.found(State.DONE)) == list(range(60))
    NOBODY.hand_in(shop.incoming, "large.json", call("Open", "x" * 1000))
    wait_until(lambda: shop.told("more than max_bytes_per_user"))
    assert worker.stop() == 0
    assert [path.name for path in shop.incoming.iterdir()] == ["large.json"]


def test_jobs_that_are_tried_again_and_files_in_corrupt_count_too(shop: Shop) -> None:
    quota(shop, "max_queued_per_user = 5\nretry_delay = 3600")
    worker = shop.start().ready()
    for number in range(4):
        NOBODY.hand_in(shop.incoming, f"{number}.json", call("Open", retries=3) | {"method": "fail"})
    NOBODY.hand_in(shop.incoming, "bad.json", b"nonsense")
    wait_until(lambda: len(shop.found(State.SCHEDULED)) == 4 and shop.reasons())
    assert all(job.attempt == 1 for job in shop.found(State.SCHEDULED))
    NOBODY.hand_in(shop.incoming, "more.json", call())
    wait_until(lambda: shop.told("no room for more"))
    for path in (shop.spool / "corrupt").iterdir():
        path.unlink()
    shop.ended(1)
    assert worker.stop() == 0


# A worker that is not root


class Own(Shop):
    """The same, but the spool belongs to daemon, who runs the worker."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.spool.mkdir(mode=0o700)
        os.chown(self.spool, DAEMON.uid, DAEMON.gid)
        (root / "errors").mkdir()

    def begin(self, person: Person = DAEMON, **options: Any) -> Any:
        return self.start(through=person.through(), environ={"HOME": "/"}, errors=self.root / "worker.err", **options)

    def bgjobs(self, *argv: str, person: Person = DAEMON) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*person.through(), sys.executable, "-m", "bgjobs", *argv],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=unmeasured({name: text for name, text in os.environ.items() if not name.startswith("BGJOBS_")}),
        )

    def results(self) -> list[Any]:
        """Return what the jobs that are done have returned."""
        return [json.loads(path.read_bytes().splitlines()[-1])["result"] for path in self.spool.glob("done/*/*.json")]


@pytest.fixture
def own() -> Iterator[Own]:
    with public_folder() as folder:
        made = Own(Path(folder) / "shop")
        yield made
        made.close()


def test_a_worker_that_is_not_root_shares_its_spool(own: Own) -> None:
    worker = own.begin().ready()
    assert (mode(own.spool), own.spool.stat().st_gid) == (0o710, GROUP)
    assert (mode(own.incoming), own.incoming.stat().st_gid) == (0o3730, GROUP)
    others = [path for path in own.spool.iterdir() if path.is_dir() and path != own.incoming]
    assert {mode(path) for path in others} == {0o700}
    NOBODY.hand_in(own.incoming, "x.json", call("ForNobody", "theirs"))
    wait_until(lambda: own.results() == ["theirs"])
    assert own.bgjobs("submit", "Open", "send", "ours").returncode == 0
    wait_until(lambda: sorted(own.results()) == ["ours", "theirs"])
    doctor = own.bgjobs("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert worker.stop() == 0


def test_what_the_worker_may_not_read_stays_is_named_once_and_runs_when_it_may(own: Own) -> None:
    worker = own.begin().ready()

    def flood() -> None:
        for number in range(2000):
            (own.incoming / f".{number}").write_text(json.dumps(call("Open", number)), "utf-8")
            (own.incoming / f".{number}").chmod(0o600)
            (own.incoming / f".{number}").rename(own.incoming / f"{number}.json")

    assert NAMELESS.does(flood) is None
    NOBODY.hand_in(own.incoming, "closed.json", call("Open", "closed"), 0o600)
    NOBODY.hand_in(own.incoming, "good.json", call("Open", "good"))
    wait_until(lambda: "good" in own.results())
    wait_until(lambda: own.told("closed.json: of user nobody: we may not read it (mode 0600): chmod g+r it"))
    assert NOBODY.does(_nothing(lambda: (own.incoming / "closed.json").chmod(0o640))) is None
    wait_until(lambda: "closed" in own.results())
    assert len(own.told("closed.json")) == 1
    assert len(own.told("#54321")) == 10  # not two thousand lines
    assert worker.stop() == 0
    assert own.begin(once=True).ended() == 0  # what may not be read is not waited for
    assert len(list(own.incoming.iterdir())) == 2000


def test_a_directory_that_the_worker_cannot_move_holds_up_nobody(own: Own) -> None:
    worker = own.begin().ready()

    def plant() -> None:
        for number in range(200):
            (own.incoming / f"{number}.json" / "x").mkdir(parents=True)

    assert NOBODY.does(plant) is None
    NOBODY.hand_in(own.incoming, "good.json", call("Open", "good"))
    wait_until(lambda: own.results() == ["good"])
    assert worker.stop() == 0


def test_without_the_setting_the_spool_becomes_private_again(own: Own) -> None:
    assert own.begin().ready().stop() == 0
    own.allow('shared_with = "daemon"', "")
    assert own.begin().ready().stop() == 0
    assert {mode(path) for path in (own.spool, own.incoming)} == {0o700}
    assert NOBODY.does(_nothing((own.incoming / "x").touch)) == "PermissionError"


def test_without_the_setting_a_file_of_another_user_is_refused_as_ever(own: Own) -> None:
    own.allow('shared_with = "daemon"', "")
    worker = own.begin().ready()
    assert {mode(path) for path in (own.spool, own.incoming)} == {0o700}
    hidden = own.incoming / ".x"
    hidden.write_text(json.dumps(call()), "utf-8")
    os.chown(hidden, NOBODY.uid, GROUP)
    hidden.chmod(0o644)
    hidden.rename(own.incoming / "x.json")
    wait_until(own.reasons)
    assert "belongs to another user" in own.reasons()[0]
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("group", "words"), [("no-such-group", "there is no such group"), ("tty", "daemon is not in it")]
)
def test_a_worker_that_cannot_share_its_spool_says_why_in_one_line(own: Own, group: str, words: str) -> None:
    own.allow('"daemon"\n#', f'"{group}"\n#')
    assert own.bgjobs("list").returncode == 0
    result = own.bgjobs("worker", "--drain")
    assert (result.returncode, result.stdout) == (1, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert mode(own.spool) == 0o700


@pytest.mark.parametrize("argv", [["submit", "Open", "send", "x"], ["status"], ["list"], ["cancel", "--all"]], ids=str)
@pytest.mark.parametrize("person", [NOBODY, NAMELESS, ROOT], ids=["nobody", "nameless", "root"])
def test_the_commands_of_other_users_end_with_one_line_that_says_what_to_do(
    own: Own, argv: list[str], person: Person
) -> None:
    assert own.begin().ready().stop() == 0
    result = own.bgjobs(*argv, person=person)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "belongs to user daemon, who alone can look into it or change it" in result.stderr
    assert f"to submit, put a file into {own.incoming} (docs/shared.md says how)" in result.stderr
    assert list(own.spool.glob("pending/*/*")) == []


@pytest.mark.parametrize("modes", [(0o755, 0o644), (0o750, 0o640), (0o700, 0o600)], ids=["all", "group", "none"])
def test_the_spool_of_another_user_is_not_looked_into_whatever_its_modes(own: Own, modes: tuple[int, int]) -> None:
    own.allow('shared_with = "daemon"\n', "")
    assert own.bgjobs("submit", "Open", "send", "ours").returncode == 0
    for path in [own.spool, *own.spool.rglob("*")]:
        path.chmod(modes[0] if path.is_dir() else modes[1])
    for words, person in (("status", NOBODY), ("list", NAMELESS), ("status", ROOT), ("submit Open send x", NOBODY)):
        result = own.bgjobs(*words.split(), person=person)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert "belongs to user daemon, who alone can look into it or change it" in result.stderr
        assert "`sudo -u daemon bgjobs ...`" in result.stderr


@pytest.mark.parametrize(
    ("place", "bits", "words"),
    [
        ("", 0o711, "mode 0711"),
        ("", 0o750, "mode 0750"),
        ("incoming", 0o3770, "mode 3770"),
        ("incoming", 0o0730, "not shared with group 'daemon' yet"),
        ("incoming", 0o3733, "mode 3733"),
        ("done", 0o750, "mode 0750"),
        ("logs", 0o755, "mode 0755"),
    ],
)
def test_doctor_accepts_a_shared_spool_exactly_and_nothing_more(own: Own, place: str, bits: int, words: str) -> None:
    assert own.begin().ready().stop() == 0
    assert own.bgjobs("submit", "--delay", "1h", "Open", "send", "x").returncode == 0  # which makes the logs
    assert own.bgjobs("doctor").returncode == 0
    (own.spool / place).chmod(bits)
    result = own.bgjobs("doctor")
    assert words in result.stdout
    assert str(own.spool / place) in result.stdout
    assert result.returncode == int(bits != 0o0730)
    if place in {"done", "logs"}:
        refused = own.bgjobs("worker", "--drain")
        assert refused.returncode == 1
        assert words in refused.stderr
    else:
        assert own.bgjobs("worker", "--once").returncode == 0  # it puts that right
        assert own.bgjobs("doctor").returncode == 0


def test_a_group_that_is_not_the_one_is_found(own: Own) -> None:
    assert own.begin().ready().stop() == 0
    os.chown(own.incoming, -1, 5)
    own.incoming.chmod(0o3730)
    result = own.bgjobs("doctor")
    assert result.returncode == 1
    assert f"{own.incoming} is open to others than group 'daemon'" in result.stdout


def test_check_names_users_and_groups_that_do_not_exist(own: Own) -> None:
    own.rewrite("guarded.py", LETTERS)
    (own.root / "guarded.py").chmod(0o644)
    result = own.bgjobs("check")
    assert result.returncode == 1
    assert "ForNone: users: there is no user 'no-such-user'" in result.stdout
    assert "ForNone: groups: there is no group 'no-such-group'" in result.stdout
    assert result.stdout.count("\n") == 2
