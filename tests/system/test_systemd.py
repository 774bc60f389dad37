"""An installed service under a systemd at work: begun, killed, stuck, stopped, changed and removed for real."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.conftest import PROJECT, wait_for_lines, wait_until
from tests.system.managers import Manager, needs_systemd
from tests.system.people import NOBODY, ROOT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = needs_systemd
SLOW = 90.0  # s; systemd waits before it starts something again


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    """The systemd of a user without any rights."""
    made = Manager(NOBODY)
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole() -> Iterator[Manager]:
    """The systemd of a whole system."""
    made = Manager(ROOT)
    yield made
    made.close()


class Shop:
    """A project of nobody, and the service of it, installed with these words."""

    def __init__(self, manager: Manager, root: Path, *words: str) -> None:
        self.manager = manager
        self.root = root
        self._words = words
        shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "signs").mkdir()
        for path in (root, *root.rglob("*")):
            os.chown(path, NOBODY.uid, NOBODY.gid)
        self.file = json.loads(self.service("show", "--json").stdout)["path"]
        self.unit = Path(self.file).name

    def service(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `bgjobs service`, as the user of systemd."""
        command = (sys.executable, "-m", "bgjobs", "service", *words, *self._words)
        return self.manager.does(*command, cwd=self.root)

    def install(self, *words: str) -> None:
        done = self.service("install", "-c", "1", *words)
        assert (done.returncode, done.stdout) == (0, f"installed {self.file}\n"), done.stderr

    def is_installed(self) -> bool:
        return self.manager.does("test", "-e", self.file).returncode == 0

    def does(self, *words: str) -> str:
        """Run another command of ours, as the user of the project, and return what it prints."""
        done = self.manager.does(sys.executable, "-m", "bgjobs", *words, cwd=self.root, person=NOBODY)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def facts(self) -> dict[str, str]:
        return self.manager.facts(self.unit)

    def submit(self, *words: str) -> str:
        return self.does("submit", *words).strip()

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.does("status", job_id, "--json"))
        return found

    def ended(self, job_id: str) -> dict[str, Any]:
        wait_until(lambda: self.job(job_id)["state"] in {"done", "failed"}, limit=SLOW)
        return self.job(job_id)

    def path(self, name: str) -> Path:
        """Return a path to which jobs may write, unless systemd forbids it."""
        return self.root / "signs" / name

    def close(self) -> None:
        if self.is_installed():
            self.service("uninstall")
        shutil.rmtree(self.root)


@pytest.fixture(params=["shop"])
def shop(manager: Manager, request: pytest.FixtureRequest) -> Iterator[Shop]:
    made = Shop(manager, manager.home / request.param)
    yield made
    made.close()


@pytest.fixture(params=["shop"])
def machine_shop(whole: Manager, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A project whose service is one of the whole machine."""
    made = Shop(whole, whole.home / request.param, "--system", "--user", "nobody")
    (made.root / "spool").mkdir(mode=0o700)
    os.chown(made.root / "spool", NOBODY.uid, NOBODY.gid)
    yield made
    made.close()


# --------------------------------------------------------------------------------------------------------- of a user


@pytest.mark.parametrize("shop", ["shop", "we ird %d $HOME ${X} é ;'\"\\x"], indirect=True)
def test_what_is_installed_is_at_work_and_runs_jobs(shop: Shop) -> None:
    shop.install()
    facts = shop.facts()  # it has said that it is ready by then
    assert (facts["ActiveState"], facts["SubState"], facts["UnitFileState"]) == ("active", "running", "enabled")
    assert facts["StatusText"] == "0 of 1 runners busy, jobs ended: 0"
    job = shop.ended(shop.submit("Honest", "echo", "hello"))
    assert (job["result"], job["worker"].rpartition(":")[2]) == ("hello", facts["MainPID"])
    wait_until(lambda: shop.facts()["StatusText"] == "0 of 1 runners busy, jobs ended: 1")


def test_a_killed_worker_is_started_again_and_its_job_runs_again(shop: Shop) -> None:
    go, notes = shop.path("go"), shop.path("notes")
    shop.install()
    job = shop.submit("Honest", "wait_for", str(go), str(notes))
    wait_for_lines(notes)
    before = shop.facts()["MainPID"]
    shop.manager.kill(shop.unit, "KILL")
    wait_for_lines(notes, 2)
    assert shop.facts()["MainPID"] not in {"0", before}
    assert shop.facts()["NRestarts"] == "1"
    go.touch()
    ended = shop.ended(job)
    assert (ended["state"], ended["attempt"], ended["crashes"]) == ("done", 1, 1)


def test_a_worker_that_stands_still_is_killed_and_started_again(shop: Shop) -> None:
    override = Path(f"{shop.file}.d")
    shop.install()
    override.mkdir()
    (override / "sooner.conf").write_text("[Service]\nWatchdogSec=2\n", "utf-8")
    shop.manager.control("daemon-reload")
    shop.manager.control("restart", shop.unit)
    wait_until(lambda: shop.facts()["StatusText"].startswith("0 of 1 runners"))
    before = shop.facts()
    assert before["WatchdogUSec"] == "2s"
    wait_until(lambda: int(shop.facts()["WatchdogTimestampMonotonic"]) > int(before["WatchdogTimestampMonotonic"]))
    assert shop.facts()["MainPID"] == before["MainPID"]  # who gives a sign of life is left alone
    shop.manager.kill(shop.unit, "STOP")
    wait_until(lambda: shop.facts()["MainPID"] not in {"0", before["MainPID"]}, limit=SLOW)
    assert shop.facts()["NRestarts"] == "1"
    assert shop.ended(shop.submit("Honest", "echo", "hello"))["result"] == "hello"
    shutil.rmtree(override)


def test_a_stop_waits_for_the_running_job(shop: Shop) -> None:
    go, notes = shop.path("go"), shop.path("notes")
    shop.install("--grace", "1h")
    job = shop.submit("Honest", "wait_for", str(go), str(notes))
    wait_for_lines(notes)
    shop.manager.control("stop", "--no-block", shop.unit)
    wait_until(lambda: shop.facts()["SubState"] == "stop-sigterm")
    assert shop.job(job)["state"] == "running"
    go.touch()
    wait_until(lambda: shop.facts()["ActiveState"] == "inactive")
    ended = shop.job(job)
    assert (ended["state"], [attempt["outcome"] for attempt in ended["attempts"]]) == ("done", ["succeeded"])
    assert (shop.facts()["Result"], shop.facts()["NRestarts"]) == ("success", "0")


def test_what_runs_beyond_the_grace_is_put_back_uncharged(shop: Shop) -> None:
    notes = shop.path("notes")
    shop.install("--grace", "0.1s")
    job = shop.submit("Honest", "wait_for", str(shop.path("never")), str(notes))
    wait_for_lines(notes)
    assert shop.manager.control("stop", shop.unit).returncode == 0
    assert shop.facts()["Result"] == "success"
    back = shop.job(job)
    assert (back["state"], back["attempt"], [attempt["outcome"] for attempt in back["attempts"]]) == (
        "queued",
        0,
        ["interrupted"],
    )


def test_what_bgjobs_stops_stays_stopped(shop: Shop) -> None:
    shop.install()
    assert shop.does("worker", "--stop") == "stopped 1 worker\n"
    wait_until(lambda: shop.facts()["ActiveState"] == "inactive")
    assert (shop.facts()["Result"], shop.facts()["NRestarts"]) == ("success", "0")
    assert shop.manager.control("start", shop.unit).returncode == 0
    assert shop.facts()["ActiveState"] == "active"


def test_a_changed_service_goes_on_with_its_new_options(shop: Shop) -> None:
    shop.install()
    before = shop.facts()["MainPID"]
    shop.install()  # nothing has changed
    assert shop.facts()["MainPID"] == before
    shop.install("-c", "3")
    assert shop.facts()["MainPID"] != before
    assert shop.facts()["StatusText"] == "0 of 3 runners busy, jobs ended: 0"


def test_jobs_do_not_hear_of_systemd_and_get_no_further_rights(shop: Shop) -> None:
    shop.install()
    told = shop.ended(shop.submit("Curious", "environment"))["result"]
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(told)
    pid = shop.facts()["MainPID"]
    status = shop.manager.does("cat", f"/proc/{pid}/status").stdout
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status


def test_uninstall_leaves_nothing(shop: Shop) -> None:
    shop.install()
    done = shop.service("uninstall")
    assert (done.returncode, done.stdout) == (0, f"removed {shop.file}\n"), done.stderr
    assert [path for path in Path(shop.file).parent.rglob("*") if not path.is_dir()] == []
    assert shop.facts()["LoadState"] == "not-found"
    assert json.loads(shop.does("status", "--json"))["workers"] == []


def test_what_cannot_begin_is_not_installed(shop: Shop) -> None:
    (shop.root / "honest.py").chmod(0o666)
    done = shop.service("install")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"bgjobs: systemctl .* failed: Job for .* failed because .*\n", done.stderr)
    assert not shop.is_installed()
    assert shop.facts()["LoadState"] == "not-found"


# ---------------------------------------------------------------------------------------------------- of the machine


@pytest.mark.parametrize("machine_shop", ["shop", "we ird %d $HOME ${X} é ;'\"\\x"], indirect=True)
def test_a_service_of_the_machine_runs_jobs_as_its_user_and_writes_to_the_spool_alone(machine_shop: Shop) -> None:
    machine_shop.install()
    facts = machine_shop.facts()
    assert (facts["ActiveState"], facts["SubState"], facts["UnitFileState"]) == ("active", "running", "enabled")
    job = machine_shop.ended(machine_shop.submit("Honest", "echo", "hello"))
    assert (job["result"], job["worker"].rpartition(":")[2]) == ("hello", facts["MainPID"])
    status = machine_shop.manager.does("cat", f"/proc/{facts['MainPID']}/status").stdout
    assert "Uid:\t65534\t65534\t65534\t65534\n" in status
    assert "CapBnd:\t0000000000000000\n" in status
    denied = machine_shop.ended(machine_shop.submit("Honest", "sign", str(machine_shop.path("sign"))))
    assert (denied["state"], denied["error"]["type"]) == ("failed", "OSError")
    assert "Read-only file system" in denied["error"]["message"]
    signed = machine_shop.root / "spool" / "sign"
    assert machine_shop.ended(machine_shop.submit("Honest", "sign", str(signed)))["state"] == "done"
    assert signed.stat().st_uid == NOBODY.uid


def test_a_killed_worker_of_the_machine_is_started_again_and_its_job_runs_again(machine_shop: Shop) -> None:
    spool = machine_shop.root / "spool"
    machine_shop.install()
    job = machine_shop.submit("Honest", "wait_for", str(machine_shop.path("go")), str(spool / "notes"))
    wait_for_lines(spool / "notes")
    machine_shop.manager.kill(machine_shop.unit, "KILL")
    wait_for_lines(spool / "notes", 2)
    machine_shop.path("go").touch()
    ended = machine_shop.ended(job)
    assert (ended["state"], ended["crashes"], machine_shop.facts()["NRestarts"]) == ("done", 1, "1")
    assert machine_shop.manager.control("stop", machine_shop.unit).returncode == 0
    assert machine_shop.facts()["Result"] == "success"
    assert machine_shop.service("uninstall").returncode == 0
    assert machine_shop.facts()["LoadState"] == "not-found"


def test_without_its_spool_a_service_of_the_machine_is_not_installed(machine_shop: Shop) -> None:
    (machine_shop.root / "spool").rmdir()
    done = machine_shop.service("install")
    assert (done.returncode, done.stdout) == (1, "")
    hint = "make it, for nobody alone, and install again"
    assert done.stderr == f"bgjobs: {machine_shop.root / 'spool'} is not there: {hint}\n"
    assert not machine_shop.is_installed()
