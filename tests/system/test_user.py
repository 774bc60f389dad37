"""A worker of root runs the jobs of an entry with a `user` as that user: as well as others, and with no way back."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bgjobs
from bgjobs import Queue
from bgjobs.job import State
from tests.process.conftest import LIMIT, Project, Worker, gone, lines, numbers, wait_for_lines, wait_until

if not TYPE_CHECKING and sys.platform == "win32":
    pytest.skip("no process becomes another user there", allow_module_level=True)
assert sys.platform != "win32"

import grp  # noqa: E402 - POSIX only
import pty  # noqa: E402 - POSIX only
import pwd  # noqa: E402 - POSIX only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.job import Job

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can run jobs as another user; /proc is looked at"
)
NAME = "nobody"
ALLOWED = """
[bgjobs]
durability  = "os"
retry_delay = 0
retries     = 0
timeout     = "60s"
user        = "nobody"

[jobs.Restrained]
class      = "restrained:Restrained"
methods    = [
    "come_back", "death_signal", "descriptors", "fail", "hold_on", "identity", "look_into_parent", "reach",
    "read_terminal", "submit", "threads", "write",
]
kill_after = "0.5s"

[jobs.Root]
class   = "restrained:Restrained"
methods = ["identity", "write"]
user    = ""

[jobs.Honest]
class   = "honest:Honest"
methods = ["interval", "step", "wait_for", "who"]

[jobs.Stubborn]
class      = "stubborn:Stubborn"
methods    = ["ignore_all"]
kill_after = "0.5s"

[jobs.Willing]
class      = "stubborn:Stubborn"
methods    = ["back_away"]
kill_after = "60s"

[jobs.Fatal]
class   = "fatal:Fatal"
methods = ["close_descriptors", "leave_unsaid"]

[jobs.Messy]
class   = "messy:Messy"
methods = ["leave_daemon"]

[jobs.Noisy]
class   = "noisy:Noisy"
methods = ["crash", "print_both", "print_lines", "say", "start_writer", "write_raw", "write_raw_and_wait"]

[jobs.Terse]
class      = "noisy:Noisy"
methods    = ["print_lines", "say", "start_writer", "write_raw", "write_raw_and_crash"]
max_output = "16KiB"

[jobs.Limited]
class      = "greedy:Greedy"
methods    = ["allocate", "limits"]
max_memory = "512MiB"
max_files  = 64
"""
LITTLE = 16 * 1024


def readable_python(place: Path) -> str:
    """Return a Python that imports bgjobs for everyone; one of the system if ours lies where only root may look."""
    systems = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, borrowed(systems, place)):
        try:
            command = [python, "-c", "import bgjobs, psutil, subprocess, sys; subprocess.run([sys.executable, '-V'])"]
            subprocess.run(command, user=NAME, group=account().pw_gid, extra_groups=[], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"no Python that {NAME} may read")


def borrowed(python: str, place: Path) -> str:
    """Make an environment of another Python of our version, with what we have installed."""
    packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    ours = [str(Path(bgjobs.__file__).parents[1]), str(Path(pytest.__file__).parents[1])]
    (packages / "ours.pth").write_text("\n".join(ours), "utf-8")
    (place / "pyvenv.cfg").write_text(f"home = {Path(python).parent}\n", "utf-8")
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(python)
    return str(place / "bin" / "python")


def account() -> pwd.struct_passwd:
    return pwd.getpwnam(NAME)


class Shop(Project):
    """A project that all users may read, with jobs for two of them."""

    def __init__(self, place: Path, python: str) -> None:
        super().__init__(place / "project")
        self.rewrite("allowed_jobs.toml", ALLOWED)
        self.queue = Queue.open(config=str(self.config))
        self.notes = place / "notes"  # where everyone may write
        self.notes.mkdir()
        self.notes.chmod(0o1777)
        self.python = python

    def start(self, **options: Any) -> Worker:
        through = ["/bin/sh", "-c", 'python=$0; shift; exec "$python" "$@"', self.python]
        return super().start(**({"through": through} | options))

    def command(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of bgjobs to its end."""
        return subprocess.run(
            [self.python, "-m", "bgjobs", *words],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * LIMIT,
            **options,
        )


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory into which everyone may look."""
    made = Path(tempfile.mkdtemp(prefix="bgjobs-user-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def python(place: Path) -> str:
    return readable_python(place / "python")


@pytest.fixture(scope="module")
def home(place: Path, python: str) -> Iterator[tuple[Project, Worker]]:
    (place / "shared").mkdir()
    made = Shop(place / "shared", python)
    yield made, made.start().ready()
    made.close()


@pytest.fixture
def project(place: Path, python: str) -> Iterator[Shop]:
    own = Path(tempfile.mkdtemp(dir=place))
    own.chmod(0o755)
    made = Shop(own, python)
    yield made
    made.close()


@pytest.fixture
def shared(home: tuple[Shop, Worker]) -> Iterator[Shop]:
    shop, worker = home
    yield shop
    assert worker.runs(), worker.says()
    for unfinished in shop.queue.jobs(state=["queued", "scheduled", "running"]):
        shop.queue.cancel(unfinished.id)
    assert identity(shop, "Root")["user"] == [0, 0]  # whatever the test did, the next job of root is root's
    assert "Traceback" not in worker.says()


def result(shop: Project, class_name: str, method: str, *args: object) -> Any:
    return shop.queue.wait(shop.queue.submit(class_name, method, args).id, LIMIT).result


def identity(shop: Project, class_name: str = "Restrained") -> Any:
    return result(shop, class_name, "identity")


def ended(shop: Project, class_name: str, method: str, *args: object, **options: Any) -> Job:
    return shop.queue.wait_until_ended(shop.queue.submit(class_name, method, args, **options).id, LIMIT)


# Its rights


def test_a_job_has_the_rights_of_its_user_and_those_of_no_group_of_root(shared: Shop) -> None:
    found = identity(shared)
    nobody = account()
    assert (found["user"], found["group"]) == ([nobody.pw_uid] * 2, [nobody.pw_gid] * 2)
    assert found["groups"] == sorted(set(os.getgrouplist(NAME, nobody.pw_gid)))
    assert grp.getgrnam("root").gr_gid not in found["groups"]
    assert found["umask"] == 0o077
    assert found["place"] == str(shared.root)


def test_its_environment_is_that_of_other_jobs_with_its_own_home(shared: Shop) -> None:
    own, roots = identity(shared)["environment"], identity(shared, "Root")["environment"]
    nobody = account()
    changed = {"HOME": nobody.pw_dir, "SHELL": nobody.pw_shell, "USER": NAME, "LOGNAME": NAME}
    told = {name: own[name] for name in ("BGJOBS_ID", "BGJOBS_CLASS")}
    assert own == roots | changed | told


def test_all_its_threads_have_these_rights_and_none_has_any_of_root(shared: Shop) -> None:
    nobody = account()
    threads = result(shared, "Restrained", "threads")
    assert len(threads) >= 8  # four lines for each: the one that runs the job, the one that hears the worker
    assert {line.split()[0] for line in threads} == {"Uid:", "Gid:", "CapPrm:", "CapEff:"}
    for line in threads:
        kind, *values = line.split()
        if kind.startswith("Cap"):
            assert int(values[0], 16) == 0
        else:
            assert values == [str(nobody.pw_uid if kind == "Uid:" else nobody.pw_gid)] * 4


def test_it_cannot_get_the_rights_of_root_back(shared: Shop) -> None:
    assert result(shared, "Restrained", "come_back") == []


def test_it_reaches_nothing_of_the_spool_nor_writes_what_is_root_s(shared: Shop) -> None:
    secret = shared.root / "secret"
    secret.write_text("of root\n", "utf-8")
    secret.chmod(0o600)
    public = {shared.spool / "README.md", shared.spool / ".gitignore"}
    paths = [path for path in shared.spool.rglob("*") if path not in public] + [secret]
    assert len(paths) > 20
    assert result(shared, "Restrained", "reach", [str(path) for path in paths]) == []
    job = ended(shared, "Restrained", "write", str(shared.root / "restrained.py"))
    assert job.error is not None
    assert job.error.type == "PermissionError"
    assert result(shared, "Root", "write", str(secret)) is None


def test_what_it_writes_belongs_to_its_user(shared: Shop) -> None:
    result(shared, "Restrained", "write", str(shared.notes / "own"))
    state = (shared.notes / "own").stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (account().pw_uid, account().pw_gid, 0o600)


def test_it_has_no_descriptor_but_pipes_its_lock_and_its_output(shared: Shop) -> None:
    found = result(shared, "Restrained", "descriptors")
    (inside,) = (shared.spool / "workers").iterdir()
    assert found.pop("0") == os.devnull
    assert (found.pop("1"), found.pop("2")) == (str(inside / "r0.out"),) * 2
    links = (link for link in found.values() if "/libffi.so" not in link)  # some builds of ctypes read their own file
    others = sorted("pipe" if link.startswith("pipe:") else link for link in links)
    # The pipes come from the worker, lead to it, and break when it dies.
    # The output and an empty input are held a second time: by these the standard ones are made whole again.
    assert others == [os.devnull, str(inside / "r0.lock"), str(inside / "r0.out"), "pipe", "pipe", "pipe"]


def test_no_other_process_with_its_rights_can_look_into_it(shared: Shop) -> None:
    assert result(shared, "Restrained", "look_into_parent").startswith("PermissionError")


def test_it_cannot_submit_into_the_spool(shared: Shop) -> None:
    job = ended(shared, "Restrained", "submit")
    assert job.error is not None
    assert "SpoolError" in job.error.type
    assert "belongs to user root" in job.error.message


def test_limits_hold_for_it_too(shared: Shop) -> None:
    found = result(shared, "Limited", "limits")
    assert (found["AS"][0], found["NOFILE"][0]) == (512 << 20, 64)
    job = ended(shared, "Limited", "allocate", 600)
    assert job.error is not None
    assert job.error.message == f"max_memory is {512 << 20} bytes"


# Its process


def test_jobs_of_root_and_of_a_user_never_share_a_process_nor_do_two_of_a_user(shared: Shop) -> None:
    classes = ["Root", "Restrained", "Root", "Restrained", "Restrained", "Root"]
    jobs = [shared.queue.submit(name, "identity") for name in classes]
    found = [shared.queue.wait(job.id, LIMIT).result for job in jobs]
    assert [one["user"][0] for one in found] == [0 if name == "Root" else account().pw_uid for name in classes]
    assert len({one["pid"] for one in found}) == len(classes)  # also those of root: each had one of a user before it
    for job in jobs:
        # None was sent to a process that could not run it. (One that waits long for a process may be put back first.)
        log = shared.whole_log(job)
        assert [record["status"] for record in log if record["status"] != "QUEUED"] == ["RUNNING", "SUCCESS"]


def test_many_jobs_of_both_end_with_several_runners(project: Shop) -> None:
    jobs = [project.queue.submit("Root" if n % 3 else "Restrained", "identity") for n in range(30)]
    project.drain(concurrency=3)
    for number, job in enumerate(jobs):
        done = project.queue.get(job.id)
        assert (done.state, len(done.attempts)) == (State.DONE, 1)
        assert done.result["user"][0] == (0 if number % 3 else account().pw_uid)
    assert project.traces() == []


def test_a_job_of_a_user_gets_its_turn_among_short_ones_of_root(project: Shop) -> None:
    quick = [project.queue.submit("Root", "identity", priority=5) for _ in range(200)]
    job = project.queue.submit("Restrained", "identity", priority=6)
    project.drain(concurrency=2)
    begun = project.queue.get(job.id).attempts[0].started_at
    later = [one for one in quick if project.queue.get(one.id).attempts[0].started_at > begun]
    assert len(later) > 100


# What is kept of it


def test_all_that_it_and_its_children_print_is_kept(shared: Shop) -> None:
    job = ended(shared, "Noisy", "print_both")
    assert sorted(shared.output(job).decode().splitlines()) == [
        "from a child",
        "to descriptor 1",
        "to descriptor 2",
        "to standard error",
        "to standard output",
    ]


def test_each_attempt_keeps_its_own_output_whoever_ran_before(shared: Shop) -> None:
    jobs = [shared.queue.submit(*call) for number in range(3) for call in calls(number)]
    for job in jobs:
        shared.queue.wait_until_ended(job.id, LIMIT)
    printed = [shared.output(job) for job in jobs]
    assert printed == [out for number in range(3) for out in (f"user {number}\n".encode(), b"", f"{number}\n".encode())]
    crashed = ended(shared, "Noisy", "crash", "goodbye", retries=1)
    assert [shared.output(crashed, number) for number in (1, 2)] == [b"goodbye\n", b"goodbye\n"]
    assert list((shared.spool / "output").rglob(f"{jobs[1].id}*")) == []  # what prints nothing leaves no file


def calls(number: int) -> list[tuple[str, str, list[str]]]:
    return [("Noisy", "say", [f"user {number}"]), ("Restrained", "identity", []), ("Terse", "say", [f"{number}"])]


@pytest.mark.parametrize("method", ["print_lines", "start_writer", "write_raw"])
def test_its_output_is_cut_at_the_limit_and_says_so(shared: Shop, method: str) -> None:
    size = {"print_lines": 100_000, "start_writer": 6_000_000, "write_raw": 6_000_000}[method]
    whole, cut = (ended(shared, "Noisy", method, size // 4), ended(shared, "Terse", method, size))
    assert (whole.state, cut.state) == (State.DONE, State.DONE)
    mark = f"\n[output cut: more than {LITTLE} bytes]\n".encode()
    kept = shared.output(cut)
    assert kept.count(b"[output cut") == 1
    assert kept.endswith(mark)
    body = kept.removesuffix(mark)
    assert LITTLE - 100 < len(body) <= LITTLE
    assert shared.output(whole).startswith(body)
    assert b"output cut" not in shared.output(whole)


def test_the_output_of_one_that_dies_is_cut_as_well(shared: Shop) -> None:
    job = ended(shared, "Terse", "write_raw_and_crash", 5 << 20)
    assert shared.output(job) == b"y" * LITTLE + f"\n[output cut: more than {LITTLE} bytes]\n".encode()
    assert shared.output(ended(shared, "Fatal", "leave_unsaid")) == b"these are my last words"


def test_its_output_can_be_read_and_is_bounded_while_it_runs(shared: Shop) -> None:
    gate = shared.notes / "gate"
    job = shared.queue.submit("Noisy", "write_raw_and_wait", [65_536, str(gate)])
    wait_until(lambda: len(shared.output(job)) == 65_536)
    gate.touch()
    assert shared.queue.wait_until_ended(job.id, LIMIT).state is State.DONE
    assert len(shared.output(job)) == 65_536


def test_its_error_is_kept_with_its_traceback(shared: Shop) -> None:
    job = ended(shared, "Restrained", "fail")
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("ValueError", "no luck")
    assert 'restrained.py", line ' in job.error.traceback
    assert "bgjobs/worker" not in job.error.traceback


def test_its_progress_is_seen(shared: Shop) -> None:
    gate = shared.notes / "progress"
    job = shared.queue.submit("Honest", "step", [str(gate), 3, 4])
    wait_until(lambda: getattr(shared.queue.get(job.id).progress, "done", None) == 3)
    gate.touch()
    assert shared.queue.wait_until_ended(job.id, LIMIT).state is State.DONE


# Its end


def test_one_that_ignores_a_cancel_is_killed_with_all_its_family(shared: Shop) -> None:
    pids = shared.notes / "cancelled"
    job = shared.queue.submit("Stubborn", "ignore_all", [str(pids)])
    wait_for_lines(pids, 4)
    shared.queue.cancel(job.id)
    assert shared.queue.wait_until_ended(job.id, LIMIT).state is State.CANCELLED
    assert gone(*numbers(pids))


def test_one_that_ignores_its_timeout_is_killed_with_all_its_family(shared: Shop) -> None:
    pids = shared.notes / "timed out"
    job = shared.queue.submit("Stubborn", "ignore_all", [str(pids)], timeout=3)
    wait_for_lines(pids, 4)
    done = shared.queue.wait_until_ended(job.id, LIMIT)
    assert [attempt.outcome for attempt in done.attempts] == ["timed_out"]
    assert gone(*numbers(pids))


def test_one_that_is_asked_to_stop_may_clean_up(shared: Shop) -> None:
    notes = shared.notes / "polite"
    job = shared.queue.submit("Willing", "back_away", [str(notes)])
    wait_for_lines(notes)
    shared.queue.cancel(job.id)
    assert shared.queue.wait_until_ended(job.id, LIMIT).state is State.CANCELLED
    assert lines(notes) == ["begun", "left"]


def test_what_it_leaves_behind_is_killed(shared: Shop) -> None:
    pids = shared.notes / "left"
    assert ended(shared, "Messy", "leave_daemon", str(pids)).state is State.DONE
    assert gone(*numbers(pids))


def test_one_that_closes_all_descriptors_fails_and_harms_no_other(shared: Shop) -> None:
    assert ended(shared, "Fatal", "close_descriptors").state is State.FAILED
    assert shared.output(ended(shared, "Noisy", "say", "next")) == b"next\n"


def test_a_worker_that_stops_puts_it_back_uncharged(project: Shop) -> None:
    notes = project.notes / "notes"
    worker = project.start(grace="0s")
    job = project.queue.submit("Willing", "back_away", [str(notes)])
    wait_for_lines(notes)
    assert worker.stop() == 0
    back = project.queue.get(job.id)
    assert (back.state, back.attempt) == (State.QUEUED, 0)
    assert lines(notes) == ["begun", "left"]
    assert project.traces() == []


def test_it_and_its_family_die_with_their_worker_and_another_worker_runs_it_again(project: Shop) -> None:
    notes, pids, go = project.notes / "notes", project.notes / "pids", project.notes / "go"
    first = project.start()
    job = project.queue.submit("Honest", "interval", [str(notes), str(pids), str(go)])
    wait_for_lines(pids, 3)
    second = project.start().ready()
    first.kill()
    wait_for_lines(notes, 2)
    go.touch()
    done = project.queue.wait_until_ended(job.id, LIMIT)
    assert [attempt.outcome for attempt in done.attempts] == ["crashed", "succeeded"]
    assert [attempt.worker for attempt in done.attempts] == [first.name, second.name]
    assert (done.state, done.crashes, done.result) == (State.DONE, 1, [])
    assert gone(*numbers(pids))


def test_one_that_holds_the_interpreter_dies_with_its_worker_and_so_does_its_child(
    project: Shop,
) -> None:
    pids = project.notes / "pids"
    worker = project.start()
    job = project.queue.submit("Restrained", "hold_on", [str(pids)])
    wait_for_lines(pids, 2)
    worker.kill()
    # The signal at a parent's death would leave the child: it is the pipe that ends the whole group.
    wait_until(lambda: gone(*numbers(pids)), limit=10)
    project.start()
    wait_for_lines(pids, 4)
    assert [attempt.outcome for attempt in project.queue.get(job.id).attempts] == ["crashed", ""]
    project.queue.cancel(job.id)
    assert project.queue.wait_until_ended(job.id, LIMIT).state is State.CANCELLED


def test_it_has_asked_again_for_a_signal_at_the_death_of_its_worker(shared: Shop) -> None:
    assert result(shared, "Restrained", "death_signal") == signal.SIGKILL


# Who may have it so


def test_a_worker_says_that_it_runs_as_root_only_if_jobs_do(project: Shop) -> None:
    assert "running as root: so do all jobs without a user\n" in project.drain().says()
    assert "running as root" not in project.drain(only=["Restrained", "Noisy"]).says()
    assert "running as root: so do all jobs\n" in project.drain(only=["Root"]).says()


def test_an_unknown_user_is_refused_by_worker_and_run_and_named_by_check(project: Shop) -> None:
    project.allow('user    = ""', 'user    = "nobody-at-all"')
    why = "there is no user nobody-at-all: correct the name"
    worker = project.start()
    assert worker.ended() == 1
    assert worker.says() == f"bgjobs: Root.identity cannot run: {why}\n"
    ran = project.command("run", "Root", "identity")
    assert (ran.returncode, ran.stderr) == (1, f"bgjobs: Root.identity cannot run: {why}\n")
    checked = project.command("check")
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [f"Root.identity: {why}", f"Root.write: {why}"]
    project.drain(only=["Restrained"])  # which may not run it


def test_a_worker_keeps_its_list_when_the_new_one_has_an_unknown_user(project: Shop) -> None:
    worker = project.start().ready()
    text = project.config.read_text("utf-8")
    project.allow('user    = ""', 'user    = "nobody-at-all"')
    wait_until(lambda: "not taken over: Root.identity cannot run: there is no user nobody-at-all" in worker.says())
    assert identity(project, "Root")["user"] == [0, 0]
    project.rewrite("allowed_jobs.toml", text.replace('user    = ""', f'user    = "{NAME}"'))
    wait_until(lambda: "took over the changed allowlist" in worker.says())
    assert identity(project, "Root")["user"] == [account().pw_uid] * 2


def test_who_is_not_root_can_only_run_what_is_their_own(project: Shop) -> None:
    daemon: dict[str, Any] = {"user": "daemon", "group": pwd.getpwnam("daemon").pw_gid, "extra_groups": []}
    shutil.rmtree(project.spool, ignore_errors=True)
    project.spool.mkdir()
    shutil.chown(project.spool, "daemon", daemon["group"])
    project.spool.chmod(0o700)
    why = "daemon cannot run jobs as user nobody: do it as root, or as nobody"
    refused = project.command("worker", "--drain", **daemon)
    assert (refused.returncode, refused.stderr) == (1, f"bgjobs: Restrained.come_back cannot run: {why}\n")
    refused = project.command("run", "Noisy", "say", "hello", **daemon)
    assert (refused.returncode, refused.stderr) == (1, f"bgjobs: Noisy.say cannot run: {why}\n")
    checked = project.command("check", **daemon)
    assert checked.returncode == 1
    assert f"Noisy.say: {why}\n" in checked.stdout
    assert not [line for line in checked.stdout.splitlines() if line.startswith("Root.")]
    assert project.command("submit", "Noisy", "say", "hello", **daemon).returncode == 0
    assert project.command("worker", "--drain", "--only", "Root", **daemon).returncode == 0
    project.allow('user        = "nobody"', 'user        = "daemon"')
    assert project.command("worker", "--drain", **daemon).returncode == 0
    assert '"state":"done"' in project.command("list", "--json", **daemon).stdout


def test_a_root_that_may_not_end_what_it_has_become_is_refused(project: Shop) -> None:
    limited = ["setpriv", "--bounding-set=-kill", "--inh-caps=-all", project.python]
    worker = project.start(through=["/bin/sh", "-c", f'shift; exec {shlex.join(limited)} "$@"', "sh"])
    assert worker.ended() == 1
    why = "root cannot run jobs as user nobody without CAP_KILL: do not take that away from it"
    assert worker.says() == f"bgjobs: Restrained.come_back cannot run: {why}\n"


# In the foreground


def test_run_has_the_rights_of_the_user_too(project: Shop) -> None:
    found = [json.loads(project.command("run", name, "identity").stdout) for name in ("Restrained", "Root")]
    assert [one["user"][0] for one in found] == [account().pw_uid, 0]
    assert found[0]["environment"]["HOME"] == account().pw_dir
    said = project.command("run", "Noisy", "print_both")
    assert said.returncode == 0
    assert len(said.stderr.splitlines()) == 5


def test_what_root_types_while_run_runs_cannot_be_read(project: Shop) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"secret\n")
    command = [project.python, "-m", "bgjobs", "run", "Restrained", "read_terminal"]
    done = subprocess.run(command, cwd=project.root, stdout=subprocess.PIPE, stderr=theirs, check=False, timeout=LIMIT)
    assert json.loads(done.stdout) == ["True", "OSError9", "OSError9"]
    os.close(theirs)
    os.close(ours)


def test_check_imports_as_the_user(project: Shop) -> None:
    assert project.command("check").stdout.startswith("no problem found: ")
    (project.root / "fatal.py").chmod(0o600)
    (project.root / "restrained.py").chmod(0o600)
    said = project.command("check").stdout
    assert "Fatal.leave_unsaid: PermissionError: " in said
    assert "Restrained.identity: PermissionError: " in said
    assert "Root." not in said


def test_jobs_shows_the_user(project: Shop) -> None:
    shown = [json.loads(line) for line in project.command("jobs", "--json").stdout.splitlines()]
    assert {one["class"]: one["user"] for one in shown} == dict.fromkeys(
        ("Restrained", "Honest", "Stubborn", "Willing", "Fatal", "Messy", "Noisy", "Terse", "Limited"), NAME
    ) | {"Root": None}
    assert "  identity()  as nobody\n" in project.command("jobs").stdout
