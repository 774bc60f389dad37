"""`bgjobs service`: what it shows is what it writes, and nothing of anybody else is touched."""

from __future__ import annotations

import json
import plistlib
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.commands import Bgjobs, environment, make_project, on_terminal
from tests.measuring import unmeasured
from tests.system.people import NOBODY, needs_root, public_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="installs as one does with systemd")

# Stands for systemd, which no test can have: notes how it was called, and answers as it was told to.
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
case "$*" in *{refused}*) echo 'Failed to do it: no' >&2; exit 1;; esac
"""


class Systemd:
    """A systemctl for commands to find."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.answer()

    def answer(self, refused: str = "nothing") -> None:
        program = self._folder / "systemctl"
        program.write_text(SYSTEMCTL.format(refused=refused), "utf-8")
        program.chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self._folder}:/usr/bin:/bin"}

    def calls(self) -> list[str]:
        """Return what it was asked to do since the last call, but for whether it is there."""
        path = self._folder / "calls"
        calls = path.read_text("utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [call.removeprefix("--user ") for call in calls if "show --property" not in call]


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path / "bin")


@pytest.fixture
def absent(systemd: Systemd) -> dict[str, str]:
    """An environment in which systemd does not answer."""
    systemd.answer(refused="show")
    return systemd.env


def unit(tmp_path: Path, name: str = "bgjobs-project") -> Path:
    return tmp_path / ".config" / "systemd" / "user" / f"{name}.service"


def test_install_writes_what_show_prints_and_starts_it(bgjobs: Bgjobs, tmp_path: Path, systemd: Systemd) -> None:
    shown = bgjobs("service", "show", "-c", "3", env=systemd.env)
    assert shown.stderr == f"bgjobs: install would write this to {unit(tmp_path)}\n"
    assert not unit(tmp_path).exists()
    assert systemd.calls() == []
    done = bgjobs("service", "install", "-c", "3", env=systemd.env)
    assert (done.returncode, done.stdout) == (0, f"installed {unit(tmp_path)}\n")
    assert done.stderr == "bgjobs: it runs while you are logged in; from boot on after: loginctl enable-linger\n"
    assert unit(tmp_path).read_text("utf-8") == shown.stdout
    assert systemd.calls() == ["daemon-reload", "enable --now bgjobs-project.service"]


def test_the_command_of_the_service_runs_a_worker_of_the_project(
    bgjobs: Bgjobs, project: Path, tmp_path: Path, systemd: Systemd
) -> None:
    shown = json.loads(bgjobs("service", "show", "--json", "--only", "Work", "--min-priority", "low").stdout)
    [line] = [line for line in shown["content"].splitlines() if line.startswith("ExecStart=")]
    words = line.removeprefix("ExecStart=").split()
    assert words[:5] == [sys.executable, "-P", "-m", "bgjobs", "worker"]
    assert words[5:] == [
        *("--config", str(project / "allowed_jobs.toml"), "--spool", str(project / "spool")),
        *("--grace", "30s", "--only", "Work", "--min-priority", "2"),
    ]
    done = bgjobs(*words[4:], "--once", cwd=tmp_path)
    assert (done.returncode, "methods may run" in done.stderr) == (0, True), done.stderr


def test_a_changed_service_is_started_anew(bgjobs: Bgjobs, systemd: Systemd) -> None:
    bgjobs("service", "install", env=systemd.env)
    bgjobs("service", "install", env=systemd.env)
    systemd.calls()
    bgjobs("service", "install", "-c", "2", env=systemd.env)
    assert systemd.calls() == [
        "disable --now bgjobs-project.service",
        "daemon-reload",
        "enable --now bgjobs-project.service",
    ]


def test_uninstall_stops_and_removes_it(bgjobs: Bgjobs, tmp_path: Path, systemd: Systemd) -> None:
    bgjobs("service", "install", "--name", "other", env=systemd.env)
    systemd.calls()
    done = bgjobs("service", "uninstall", "--name", "other", "--json", env=systemd.env)
    path = unit(tmp_path, "other")
    expected = {"name": "other", "path": str(path), "result": "removed", "commands": []}
    assert (done.returncode, json.loads(done.stdout)) == (0, expected)
    assert systemd.calls() == ["disable --now other.service", "daemon-reload"]
    assert not path.exists()
    again = bgjobs("service", "uninstall", "--name", "other", env=systemd.env)
    assert (again.returncode, again.stderr) == (1, f"bgjobs: no service at {path}: name it with --name\n")


def test_without_systemd_the_commands_are_printed(bgjobs: Bgjobs, tmp_path: Path, absent: dict[str, str]) -> None:
    done = bgjobs("service", "install", env=absent)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            f"written {unit(tmp_path)}",
            "  systemctl --user daemon-reload",
            "  systemctl --user enable --now bgjobs-project.service",
        ],
    )
    assert "bgjobs: now run:\n" in done.stderr
    removed = json.loads(bgjobs("service", "uninstall", "--json", env=absent).stdout)
    assert removed["commands"] == [
        ["systemctl", "--user", "disable", "--now", "bgjobs-project.service"],
        ["systemctl", "--user", "daemon-reload"],
    ]
    assert not unit(tmp_path).exists()


def test_without_systemd_a_change_is_a_stop_and_a_start(bgjobs: Bgjobs, absent: dict[str, str]) -> None:
    bgjobs("service", "install", env=absent)
    changed = json.loads(bgjobs("service", "install", "-c", "2", "--json", env=absent).stdout)
    assert changed["commands"] == [
        ["systemctl", "--user", "disable", "--now", "bgjobs-project.service"],
        ["systemctl", "--user", "daemon-reload"],
        ["systemctl", "--user", "enable", "--now", "bgjobs-project.service"],
    ]


def test_what_systemd_refuses_is_said_in_one_line_and_not_installed(
    bgjobs: Bgjobs, tmp_path: Path, systemd: Systemd
) -> None:
    systemd.answer(refused="enable")
    done = bgjobs("service", "install", env=systemd.env)
    assert done.returncode == 1
    assert done.stderr == (
        "bgjobs: systemctl --user enable --now bgjobs-project.service failed: Failed to do it: no: see its journal\n"
    )
    assert list(unit(tmp_path).parent.iterdir()) == []
    assert systemd.calls()[-2:] == ["disable --now bgjobs-project.service", "daemon-reload"]


def test_a_change_that_systemd_refuses_is_taken_back(bgjobs: Bgjobs, tmp_path: Path, systemd: Systemd) -> None:
    bgjobs("service", "install", env=systemd.env)
    before = unit(tmp_path).read_bytes()
    systemd.answer(refused="enable")
    assert bgjobs("service", "install", "-c", "2", env=systemd.env).returncode == 1
    assert unit(tmp_path).read_bytes() == before
    assert systemd.calls()[-1] == "enable --now bgjobs-project.service"  # once more, of what was there before


def test_a_full_disk_leaves_nothing_that_looks_like_a_service_of_somebody_else(
    project: Path, tmp_path: Path, systemd: Systemd
) -> None:
    full = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "bgjobs", "service", "install"]
    env = environment(tmp_path) | systemd.env
    done = subprocess.run(full, cwd=project, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bgjobs: cannot go on: File too large")
    assert list(unit(tmp_path).parent.iterdir()) == []


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_the_file_of_another_project_is_not_touched(
    bgjobs: Bgjobs, project: Path, tmp_path: Path, systemd: Systemd, action: str
) -> None:
    other = tmp_path / "other" / "project"
    other.mkdir(parents=True)
    (other / "allowed_jobs.toml").write_text((project / "allowed_jobs.toml").read_text("utf-8"), "utf-8")
    assert bgjobs("service", "install", cwd=other, env=systemd.env).returncode == 0
    systemd.calls()
    before = unit(tmp_path).read_bytes()
    done = bgjobs("service", action, env=systemd.env)
    assert done.stderr == f"bgjobs: {unit(tmp_path)} is of another project or program: choose a --name\n"
    assert (done.returncode, unit(tmp_path).read_bytes(), systemd.calls()) == (1, before, [])


def test_it_goes_where_the_user_keeps_settings(bgjobs: Bgjobs, tmp_path: Path, systemd: Systemd) -> None:
    env = systemd.env | {"XDG_CONFIG_HOME": str(tmp_path / "settings")}
    bgjobs("service", "install", env=env)
    assert (tmp_path / "settings" / "systemd" / "user" / "bgjobs-project.service").is_file()
    shown = json.loads(bgjobs("service", "show", "--json", env=env | {"XDG_CONFIG_HOME": "relative"}).stdout)
    assert shown["path"] == str(unit(tmp_path))


def test_a_service_of_the_machine_goes_where_root_keeps_them(bgjobs: Bgjobs) -> None:
    shown = json.loads(bgjobs("service", "show", "--system", "--user", "shop", "--json").stdout)
    assert shown["path"] == "/etc/systemd/system/bgjobs-project.service"
    assert shown["commands"] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--now", "bgjobs-project.service"],
    ]
    assert "\nUser=shop\n" in shown["content"]


def test_the_files_of_other_systems_can_be_shown(bgjobs: Bgjobs, project: Path, tmp_path: Path) -> None:
    config = str(project / "allowed_jobs.toml")
    agent = plistlib.loads(bgjobs("service", "show", "--for", "launchd").stdout.encode())
    assert config in agent["ProgramArguments"]
    shown = json.loads(bgjobs("service", "show", "--for", "windows", "--json").stdout)
    assert config in (ET.fromstring(shown["content"].partition("?>")[2]).findtext(".//{*}Arguments") or "")
    assert [command[:2] for command in shown["commands"]] == [["schtasks", "/Create"], ["schtasks", "/Run"]]
    status, seen = on_terminal(["service", "show", "--for", "windows"], cwd=project, env=environment(tmp_path))
    assert (status, seen.count("\r\r"), "</Task>" in seen) == (0, 0, True)


@needs_root
def test_who_may_not_install_a_service_of_the_machine_is_told_who_may(tmp_path: Path) -> None:
    with public_folder() as folder:
        root = make_project(Path(folder) / "project")
        command = [sys.executable, "-m", "bgjobs", "service", "install", "--system", "--user", "nobody"]
        done = subprocess.run(
            [*NOBODY.through(), *command],
            cwd=root,
            env=unmeasured(environment(tmp_path)),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    path = "/etc/systemd/system/bgjobs-project.service"
    hint = "a service of the machine is for root to install"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"bgjobs: cannot write {path}: Permission denied: {hint}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["remove"], "no action 'remove': show, install or uninstall"),
        (["show", "--for", "upstart"], "bad --for 'upstart': one of systemd, launchd, windows"),
        (["install", "--for", "windows"], "cannot install a service for windows here: it can only be shown"),
        (["show", "--system"], "--system needs --user: name the user whose rights the jobs have"),
        (["show", "--user", "shop"], "--user is for --system"),
        (["show", "--name", "../x"], "bad --name '../x'"),
        (["show", "--name", ""], "bad --name ''"),
        (["install", "--system", "--user", "no-body"], "bad --user 'no-body': no such user here: make it first"),
        (["show", "--only", "Nobody"], "bad --only 'Nobody'"),
        (["show", "--grace", "soon"], "bad --grace 'soon'"),
    ],
)
def test_what_makes_no_sense_is_refused(bgjobs: Bgjobs, words: list[str], said: str) -> None:
    done = bgjobs("service", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"bgjobs: {said}")
    assert len(done.stderr.splitlines()) == 1
