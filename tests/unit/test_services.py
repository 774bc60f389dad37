"""What the systems are given: each file says what it should, and is read back by its own rules."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bgjobs.config import settings
from bgjobs.config.allowlist import Allowlist
from bgjobs.errors import UsageError
from bgjobs.services import launchd, systemd, windows
from bgjobs.services.service import Service, default_name, plan

WEIRD = "we ird %d $HOME ${X} é ;'\"\\x"
TASK = f"{{{windows.NAMESPACE}}}"
SHOP = Service(
    name="bgjobs-shop",
    command=(
        *("/srv/shop/.venv/bin/python", "-P", "-m", "bgjobs", "worker", "--config", "/srv/shop/allowed_jobs.toml"),
        *("--spool", "/var/spool/bgjobs", "--grace", "30s"),
    ),
    stop=("/srv/shop/.venv/bin/python", "-P", "-m", "bgjobs", "worker", "--stop"),
    config="/srv/shop/allowed_jobs.toml",
    reads=("/srv/shop/.venv", "/srv/shop"),
    writes=("/var/spool/bgjobs",),
    stop_s=50,
)
# What a path may hold: all that prints. But for quotes and backslashes in that of the program itself.
PATHS = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=20).map("/".__add__)
PROGRAMS = PATHS.filter(lambda path: not set(path) & set("'\"\\"))


def lines(unit: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]


def words_of(line: str, *, escapes: bool) -> list[str]:
    """Read a line as systemd.syntax(7) says: words, quotes, backslashes; then the specifiers in each word."""
    found: list[str] = []
    for part in re.findall(r'(?:"(?:\\.|[^"\\])*"|[^ "]+)', line):
        text = part[1:-1] if part.startswith('"') else part
        # With C escapes only these two mean the letter itself; without, each letter does.
        assert not escapes or set(re.findall(r"\\(.)", text)) <= {"\\", '"'}
        text = re.sub(r"\\(.)", r"\1", text)
        assert not re.search(r"(?<!%)(%%)*%(?!%)", text)
        found.append(text.replace("%%", "%"))
    return found


# ------------------------------------------------------------------------------------------------------------ systemd


@given(PROGRAMS, st.lists(PATHS, max_size=4))
def test_systemd_reads_back_the_words_of_the_command(program: str, rest: list[str]) -> None:
    line = systemd.command_line((program, *rest))
    words = words_of(line, escapes=True)
    literal = words[0].startswith(":")
    assert [words[0].removeprefix(":"), *words[1:]] == [program, *rest]
    assert literal or not any("$" in word for word in words)


@given(st.lists(PATHS, min_size=1, max_size=3))
def test_systemd_reads_back_the_places_to_write_to(places: list[str]) -> None:
    unit = systemd.text(replace(SHOP, writes=tuple(places), user="shop"))
    assert [words_of(line, escapes=False) for line in lines(unit, "ReadWritePaths")] == [[place] for place in places]


@pytest.mark.parametrize("program", ["/a'b/python", '/a"b/python', "/a\\b/python"])
def test_a_program_that_systemd_cannot_name_is_refused(program: str) -> None:
    with pytest.raises(UsageError, match="quote or backslash"):
        systemd.text(replace(SHOP, command=(program, "-m", "bgjobs")))


def test_a_unit_of_a_user_has_no_line_that_its_systemd_cannot_carry_out() -> None:
    unit = systemd.text(SHOP)
    assert lines(unit, "WantedBy") == ["default.target"]
    needs_root = "User|CapabilityBoundingSet|Protect.*|Private.*|ReadWritePaths|After"
    assert re.findall(rf"^(?:{needs_root})=", unit, re.MULTILINE) == []
    kept = ("NoNewPrivileges", "RestrictSUIDSGID", "RestrictNamespaces", "RestrictRealtime", "LockPersonality")
    assert [lines(unit, name) for name in kept] == [["yes"]] * len(kept)


def test_a_unit_of_the_system_is_the_one_that_the_page_about_hardening_shows() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hardening.md").read_text("utf-8")
    [shown] = re.findall(r"^```ini\n(\[Unit\].*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert systemd.text(replace(SHOP, user="bgjobs")) == shown


@pytest.mark.parametrize(
    ("place", "home", "tmp"),
    [
        ("/srv/shop", "yes", ["yes"]),
        ("/home/ann/shop", "read-only", ["yes"]),
        ("/root", "read-only", ["yes"]),
        ("/homes/ann", "yes", ["yes"]),
        ("/tmp/shop", "yes", []),
    ],
)
def test_what_the_worker_needs_is_not_hidden_from_it(place: str, home: str, tmp: list[str]) -> None:
    unit = systemd.text(replace(SHOP, user="shop", reads=(place,)))
    assert (lines(unit, "ProtectHome"), lines(unit, "PrivateTmp")) == ([home], tmp)


def test_the_worker_has_the_time_to_stop_and_more_than_one_sign_of_life_for_each_look() -> None:
    unit = systemd.text(SHOP)
    assert (lines(unit, "Type"), lines(unit, "TimeoutStopSec"), lines(unit, "KillMode")) == (
        ["notify"],
        ["50"],
        ["mixed"],
    )
    assert lines(unit, "Restart") == ["on-failure"]
    assert int(lines(unit, "WatchdogSec")[0]) >= 60


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("user", ["", "daemon"])
def test_systemd_finds_no_fault_with_the_unit_wherever_the_project_lies(tmp_path: Path, user: str) -> None:
    folder = tmp_path / WEIRD.replace("'", "").replace('"', "").replace("\\", "")
    folder.mkdir()
    program = folder / "python"
    program.symlink_to(sys.executable)
    (tmp_path / "run").mkdir()
    command = (str(program), "-P", "-m", "bgjobs", "worker", "--config", f"/{WEIRD}", "$HOME", "%h")
    unit = systemd.text(replace(SHOP, command=command, writes=(f"/{WEIRD}", str(folder)), user=user))
    assert verified(tmp_path, unit, user) == (0, "")
    program.unlink()  # it does look: the same unit is wrong once the program is not there
    status, said = verified(tmp_path, unit, user)
    assert status == 1
    assert f"{program} is not executable" in said


def verified(folder: Path, unit: str, user: str) -> tuple[int, str]:
    path = folder / "bgjobs-shop.service"
    path.write_text(unit, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", *([] if user else ["--user"]), "--man=no", "verify", str(path)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # What else is wrong on this machine is not ours.
    return done.returncode, "".join(line for line in done.stderr.splitlines(keepends=True) if "bgjobs" in line)


# ------------------------------------------------------------------------------------------------------------ launchd


@given(PATHS, PATHS)
def test_launchd_reads_back_what_it_runs(program: str, config: str) -> None:
    found = plistlib.loads(launchd.plist(replace(SHOP, command=(program, "--config", config)), "/logs"))
    assert found["ProgramArguments"] == [program, "--config", config, "--log"]


def test_launchd_starts_it_again_when_it_dies_but_not_when_it_was_stopped() -> None:
    found: dict[str, Any] = plistlib.loads(launchd.plist(SHOP, "/Users/ann/Library/Logs"))
    assert (found["Label"], found["RunAtLoad"], found["KeepAlive"]) == ("bgjobs-shop", True, {"SuccessfulExit": False})
    assert (found["ExitTimeOut"], found["Umask"]) == (50, 0o077)
    assert found["StandardErrorPath"] == "/Users/ann/Library/Logs/bgjobs-shop.log"
    assert "UserName" not in found
    assert plistlib.loads(launchd.plist(replace(SHOP, user="shop"), "/logs"))["UserName"] == "shop"


def test_launchd_is_told_nothing_that_apple_does_not_document() -> None:
    found = plistlib.loads(launchd.plist(replace(SHOP, user="shop"), "/logs"))
    documented = {  # launchd.plist(5), and the type that it gives for each
        "Label": str,
        "UserName": str,
        "ProgramArguments": list,
        "RunAtLoad": bool,
        "KeepAlive": dict,
        "ThrottleInterval": int,
        "ExitTimeOut": int,
        "Umask": int,
        "StandardErrorPath": str,
    }
    assert {name: type(value) for name, value in found.items()} == documented


# ------------------------------------------------------------------------------------------------------------ Windows


def parsed(service: Service) -> ET.Element:
    content = windows.task(service, "WEB1\\ann")
    assert content.startswith(b"\xff\xfe")
    assert "\n" not in content.decode("utf-16").replace("\r\n", "")
    return ET.fromstring(content)


def text(root: ET.Element, path: str) -> str | None:
    return root.findtext("/".join(f"{TASK}{name}" for name in path.split("/")))


@given(PATHS, PATHS)
def test_the_task_scheduler_reads_back_what_it_runs(program: str, config: str) -> None:
    root = parsed(replace(SHOP, command=(program, "--config", config, 'a "b" c\\')))
    assert text(root, "Actions/Exec/Command") == program
    assert split(text(root, "Actions/Exec/Arguments") or "") == ["--config", config, 'a "b" c\\', "--log"]


def split(line: str) -> list[str]:
    """Take a command line apart as the C library of Windows does."""
    words: list[str] = []
    word, inside, begun = "", False, False
    for slashes, letter in re.findall(r"(\\*)(.?)", line):
        escaped = letter == '"' and len(slashes) % 2
        word += "\\" * (len(slashes) // 2 if letter == '"' else len(slashes))
        begun = begun or bool(slashes)
        if letter == '"' and not escaped:
            inside, begun = not inside, True
        elif letter == " " and not inside:
            words += [word] if begun else []
            word, begun = "", False
        else:
            word, begun = word + letter, begun or bool(letter)
    return [*words, word] if begun else words


def test_the_task_runs_at_logon_without_a_limit_and_again_after_a_failure() -> None:
    root = parsed(SHOP)
    assert text(root, "Triggers/LogonTrigger/UserId") == text(root, "Principals/Principal/UserId") == "WEB1\\ann"
    assert text(root, "Principals/Principal/RunLevel") == "LeastPrivilege"
    assert (text(root, "Settings/ExecutionTimeLimit"), text(root, "Settings/RestartOnFailure/Interval")) == (
        "PT0S",
        "PT1M",
    )
    assert text(root, "Settings/DisallowStartIfOnBatteries") == "false"


def test_the_task_is_one_that_the_schema_of_tasks_allows() -> None:
    root = parsed(SHOP)
    # The parts of a task, its settings and what restarts it may come in any order, each once; a trigger may not.
    known = {
        "RestartOnFailure", "MultipleInstancesPolicy", "DisallowStartIfOnBatteries", "StopIfGoingOnBatteries",
        "StartWhenAvailable", "RunOnlyIfNetworkAvailable", "WakeToRun", "Enabled", "Hidden", "ExecutionTimeLimit",
        "Priority",
    }  # fmt: skip
    settings_found = [part.tag.removeprefix(TASK) for part in root.findall(f"{TASK}Settings/*")]
    assert sorted(settings_found) == sorted(known)
    assert [part.tag.removeprefix(TASK) for part in root.findall(f"{TASK}Triggers/*/*")] == ["Enabled", "UserId"]
    assert 1 <= int(text(root, "Settings/RestartOnFailure/Count") or "") <= 255  # a byte
    assert 0 <= int(text(root, "Settings/Priority") or "") <= 10
    [actions], [principal] = root.findall(f"{TASK}Actions"), root.findall(f"{TASK}Principals/{TASK}Principal")
    assert actions.get("Context") == principal.get("id") == "Author"


def test_a_task_is_ended_in_good_order_before_it_goes() -> None:
    recipe = windows.recipe(SHOP, "C:\\data", "WEB1\\ann")
    assert recipe.stop == (SHOP.stop, ("schtasks", "/Delete", "/TN", "bgjobs-shop", "/F"))


def test_the_task_of_the_machine_runs_from_boot_on_as_the_user_that_was_named() -> None:
    root = parsed(replace(SHOP, user="shop"))
    assert root.find(f"{TASK}Triggers/{TASK}BootTrigger") is not None
    assert (text(root, "Principals/Principal/UserId"), text(root, "Principals/Principal/LogonType")) == (
        "shop",
        "Password",
    )


def test_no_window_opens_where_python_has_a_twin_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert text(parsed(replace(SHOP, command=("python.exe",))), "Actions/Exec/Command") == "python.exe"
    (tmp_path / "pythonw.exe").touch()
    assert text(parsed(replace(SHOP, command=("python.exe",))), "Actions/Exec/Command") == "pythonw.exe"


# --------------------------------------------------------------------------------------------------------------- plan


@pytest.mark.parametrize(
    ("folder", "name"),
    [("/srv/shop", "bgjobs-shop"), ("/srv/My Shop.2", "bgjobs-my-shop-2"), ("/", "bgjobs"), ("/é", "bgjobs")],
)
def test_it_is_called_after_the_directory_of_the_project(folder: str, name: str) -> None:
    assert default_name(folder) == name


ALLOWED = """
[bgjobs]
kill_after = "5s"
log_dir = "logs"

[jobs.Mail]
class = "mail:Mail"
methods = ["send", "store"]

[jobs.Mail.method.store]
kill_after = "2m"
"""


def planned(folder: Path, **given: Any) -> Service:
    (folder / "allowed_jobs.toml").write_text(ALLOWED, "utf-8")
    found = settings.load(config=str(folder / "allowed_jobs.toml"), environ={})
    return plan(found, Allowlist(found), **({"grace": timedelta(seconds=30)} | given))


def test_every_path_is_absolute_and_there_is_time_for_the_job_that_takes_longest_to_end(tmp_path: Path) -> None:
    service = planned(tmp_path)
    assert service.command == (
        *(sys.executable, "-P", "-m", "bgjobs", "worker"),
        *("--config", str(tmp_path / "allowed_jobs.toml"), "--spool", str(tmp_path / "spool")),
    )
    assert service.stop_s == 30 + 120 + 10
    assert service.writes == (str(tmp_path / "spool"), str(tmp_path / "logs"))
    assert service.stop == (*service.command, "--stop")
    assert planned(tmp_path, options=("-c", "2", "--grace", "1m")).stop == service.stop  # which takes none of these
    assert all(Path(place).is_absolute() for place in (*service.reads, *service.writes))


@pytest.mark.parametrize(
    "given_",
    [
        {"name": ""},
        {"name": "../x"},
        {"name": "Shop"},
        {"name": "-x"},
        {"user": "a b"},
        {"user": "x\nExecStart=/bin/sh"},
    ],
)
def test_a_name_that_could_be_something_else_is_refused(tmp_path: Path, given_: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        planned(tmp_path, **given_)


@pytest.mark.skipif(sys.platform == "win32", reason="no such names on Windows")
@pytest.mark.parametrize("letter", ["\n", "\x1b", "\udcff", "\u2028"])
def test_a_path_that_no_file_of_a_system_could_hold_is_refused(tmp_path: Path, letter: str) -> None:
    folder = tmp_path / f"a{letter}b"
    folder.mkdir()
    with pytest.raises(UsageError, match="cannot be part of a service"):
        planned(folder)
