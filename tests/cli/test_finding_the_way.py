"""Help, versions, completion, unknown commands, and bugs: what helps a person who is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bgjobs as package
from bgjobs import system
from bgjobs.cli.app import COMMANDS
from tests.cli.commands import Bgjobs, Finished, environment, error, wait_until

if TYPE_CHECKING:
    from bgjobs import Queue

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of POSIX systems")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_how_it_is_used(bgjobs: Bgjobs, command: str) -> None:
    result = bgjobs(command, "-h")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: bgjobs {command} ")
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_help_lists_every_command_in_full(bgjobs: Bgjobs) -> None:
    for argv in ([], ["-h"], ["--help"]):
        result = bgjobs(*argv)
        assert (result.returncode, result.stderr) == (0, "")
        listed = result.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in listed.splitlines()] == list(COMMANDS)
        assert "..." not in listed


def test_the_version_is_that_of_the_package(bgjobs: Bgjobs) -> None:
    assert bgjobs("--version").stdout == f"bgjobs {package.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sumbit", "Work", "echo"], "bgjobs: no command 'sumbit': did you mean submit?"),
        (["frobnicate"], "bgjobs: no command 'frobnicate': see `bgjobs -h` for what there is"),
        (["list", "--stat", "done"], "bgjobs: no such option: --stat: did you mean"),
        (["--config", "x", "list"], "bgjobs: no such option: --config: options go after the command"),
        (["list", "--colour"], "bgjobs: no such option: --colour: see `bgjobs list -h`"),
        (["submit", "Work", "echo", "-z"], "bgjobs: no such option: -z: an argument that begins with - goes after --"),
        (["status", "a", "b", "c"], "bgjobs: too many arguments: 'b c': see `bgjobs status -h`"),
        (["wait"], "bgjobs: ID is missing: see `bgjobs wait -h`"),
        (["submit"], "bgjobs: CLASS is missing"),
        (["submit", "Work"], "bgjobs: METHOD is missing"),
        (["list", "--limit"], "bgjobs: --limit needs a value"),
        (["logs", "-n"], "bgjobs: -n needs a value"),
        (["list", "--json=5"], "bgjobs: --json takes no value"),
        (["list", "--limit", "x"], "bgjobs: bad --limit"),
        (["list", "--limit", "-1"], "bgjobs: bad --limit"),
        (["worker", "-c", "0"], "bgjobs: bad --concurrency: use a whole number from 1 on"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line_with_a_way_out(bgjobs: Bgjobs, argv: list[str], said: str) -> None:
    result = bgjobs(*argv)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(said)


def test_wrong_usage_as_json_is_one_object(bgjobs: Bgjobs) -> None:
    assert error(bgjobs("list", "--json", "--colour"))["code"] == "usage"
    assert error(bgjobs("lst", "--json"))["hint"] == "did you mean list?"


def break_queue(project: Path) -> dict[str, str]:
    """Return an environment in which `Queue.open` has a bug."""
    (project / "sitecustomize.py").write_text(
        "import bgjobs.queue\ndef broken(**_): raise ZeroDivisionError('one\\nbug')\nbgjobs.queue.Queue.open = broken\n"
    )
    return {"PYTHONPATH": str(project)}


def test_a_bug_is_one_line_and_its_traceback_is_for_those_who_ask(bgjobs: Bgjobs, project: Path) -> None:
    env = break_queue(project)
    result = bgjobs.process("list", env=env)
    said = "bgjobs: internal error: ZeroDivisionError: one\\nbug: set BGJOBS_DEBUG=1 for the traceback\n"
    assert (result.returncode, result.stderr) == (1, said)
    debugged = bgjobs.process("list", env=env | {"BGJOBS_DEBUG": "1"})
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr
    assert debugged.stderr.endswith(said)
    assert error(bgjobs.process("list", "--json", env=env))["code"] == "internal-error"


def completed(bgjobs: Bgjobs, *words: str) -> list[str]:
    """Return what bash would offer after these words."""
    result = bgjobs(
        env={
            "_BGJOBS_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["bgjobs", *words]),
            "COMP_CWORD": str(len(words)),
        }
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_the_shell_completes_commands_names_and_ids(finished: Finished) -> None:
    assert {"service", "status", "submit"} == set(completed(finished.bgjobs, "s"))
    assert completed(finished.bgjobs, "submit", "W") == ["Work"]
    assert completed(finished.bgjobs, "submit", "Work", "ad") == ["add"]
    assert completed(finished.bgjobs, "run", "Other", "") == ["handle"]
    assert completed(finished.bgjobs, "service", "") == ["show", "install", "uninstall"]
    assert set(completed(finished.bgjobs, "status", "")) == {job.id for job in finished.jobs.values()}
    assert set(completed(finished.bgjobs, "cancel", "")) == {finished.jobs[name].id for name in ("queued", "scheduled")}
    assert finished.jobs["queued"].id not in completed(finished.bgjobs, "retry", "")
    assert completed(finished.bgjobs, "list", "--state", "fa") == ["failed"]


def test_the_shell_completes_the_names_of_workers(bgjobs: Bgjobs, queue: Queue, worker: subprocess.Popen[str]) -> None:
    wait_until(lambda: [view.info.pid for view in queue.workers() if view.alive] == [worker.pid])
    assert completed(bgjobs, "worker", "--stop", "") == [f"{system.host()}:{worker.pid}"]


@pytest.mark.parametrize(
    ("words", "env"),
    [("bgjobs submit ", {"BGJOBS_CONFIG": "gone.toml"}), ("bgjobs status ", {"BGJOBS_SPOOL": "work.py"})],
)
def test_where_something_is_wrong_there_is_nothing_to_complete(bgjobs: Bgjobs, words: str, env: dict[str, str]) -> None:
    result = bgjobs(env=env | {"_BGJOBS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"})
    assert (result.stdout.strip(), result.stderr) == ("", "")


@posix
def test_the_completion_script_of_each_shell_can_be_shown(bgjobs: Bgjobs, tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "bgjobs", "--show-completion"],
            env=environment(tmp_path) | {"SHELL": f"/bin/{shell}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        if done.returncode == 0:  # the shell is found by looking at the parents of the process
            assert "_BGJOBS_COMPLETE" in done.stdout


def test_a_closed_stdout_is_no_bug(project: Path, tmp_path: Path) -> None:
    program = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'bgjobs', 'list'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "internal error" not in done.stderr
    assert done.stderr == ""


# Slips of the pen


@pytest.mark.parametrize(
    "words", ["status", "list", "logs", "wait 01m00000000000000000000000", "cancel --all", "prune", "doctor"]
)
def test_a_mistyped_spool_is_named_and_not_made(bgjobs: Bgjobs, project: Path, words: str) -> None:
    result = bgjobs(*words.split(), "--spool", "typo", "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert error(result)["code"] == "no-spool"
    assert "--spool" in error(result)["hint"]
    assert not (project / "typo").exists()


def test_a_mistyped_spool_in_a_variable_is_named_and_not_made(bgjobs: Bgjobs, project: Path) -> None:
    result = bgjobs("worker", "--stop", env={"BGJOBS_SPOOL": "typo"})
    assert result.returncode == 1
    assert result.stderr.startswith(f"bgjobs: there is no spool at {project / 'typo'}: check BGJOBS_SPOOL; ")
    assert not (project / "typo").exists()


NONE = "01m00000000000000000000000"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("status", 0),
        (f"status {NONE}", 4),
        ("status --json", 0),
        ("list", 0),
        ("logs", 0),
        ("jobs", 0),
        ("doctor", 0),
        ("doctor --repair", 0),
        ("worker --stop", 0),
        ("prune", 0),
        ("cancel --all", 0),
        ("retry --all", 0),
        (f"wait {NONE}", 4),
        (f"retry {NONE}", 4),
        (f"cancel {NONE}", 4),
        (f"delete {NONE}", 4),
        (f"run-now {NONE}", 4),
        ("submit Work echo x --dry-run", 0),
    ],
)
def test_a_look_at_a_spool_that_is_not_there_yet_finds_it_empty_and_makes_nothing(
    bgjobs: Bgjobs, project: Path, words: str, status: int
) -> None:
    result = bgjobs(*words.split())
    assert (result.returncode, "Traceback" in result.stderr) == (status, False)
    assert not (project / "spool").exists()


def test_check_makes_no_mistyped_spool_and_says_so(bgjobs: Bgjobs, project: Path) -> None:
    result = bgjobs("check", "--spool", "typo")
    assert result.returncode == 1
    assert f"there is no spool at {project / 'typo'}" in result.stdout
    assert bgjobs("jobs", "--spool", "typo").returncode == 0
    assert not (project / "typo").exists()
    own = bgjobs("check")
    assert "there is no spool" not in own.stdout
    assert not (project / "spool").exists()


@pytest.mark.parametrize("words", ["submit Work echo x", "worker --once"])
def test_a_spool_is_made_in_an_empty_directory_alone(bgjobs: Bgjobs, project: Path, words: str) -> None:
    other = project / "other"
    other.mkdir()
    (other / "letter.txt").touch()
    result = bgjobs(*words.split(), "--spool", "other", "--json")
    assert (result.returncode, error(result)["code"]) == (1, "not-empty")
    assert "letter.txt" in error(result)["message"]
    assert [path.name for path in other.iterdir()] == ["letter.txt"]
    (other / "letter.txt").rename(other / ".gitkeep")
    assert bgjobs(*words.split(), "--spool", "other").returncode == 0
    assert bgjobs("status", "--spool", "other").returncode == 0


@pytest.mark.parametrize("inside", ["spool/done", "spool/tmp/new", "spool/new"])
def test_no_spool_is_made_within_another(bgjobs: Bgjobs, project: Path, inside: str) -> None:
    assert bgjobs("submit", "Work", "echo", "x").returncode == 0
    before = sorted((project / "spool").rglob("*"))
    result = bgjobs("submit", "Work", "echo", "x", "--spool", inside, "--json")
    assert (result.returncode, error(result)["code"]) == (1, "not-empty")
    assert str(project / "spool") in error(result)["message"]
    assert sorted((project / "spool").rglob("*")) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("words", ["status", "list --json", "jobs --schema", "check", "--version", "doctor"])
def test_what_cannot_be_printed_is_told_of_by_name(bgjobs: Bgjobs, project: Path, words: str) -> None:
    assert bgjobs("submit", "Work", "echo", "x").returncode == 0
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bgjobs", *words.split()],
            cwd=project,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 1
    assert "cannot write standard output: " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("submit Work nothing -r", "--retries"),
        ("list --limit", "--limit"),
        ("logs -n", "--lines"),
        ("worker --once -c", "--concurrency"),
    ],
)
@pytest.mark.parametrize("number", ["\u0663", "1_0", " 3", "+3", "3.0", "9" * 30])
def test_a_number_has_ascii_digits_alone(bgjobs: Bgjobs, words: str, option: str, number: str) -> None:
    result = bgjobs(*words.split(), number, "--json")
    assert (result.returncode, result.stdout) == (2, "")
    assert error(result)["message"] == f"bad {option} {number[:40]!a}"


def test_an_unknown_variable_is_named_and_nothing_else_changes(bgjobs: Bgjobs) -> None:
    known = {"BGJOBS_RETRIES": "2", "BGJOBS_ID": "x", "BGJOBS_DEBUG": "1"}
    assert bgjobs("status", env=known).stderr == ""
    result = bgjobs("status", env=known | {"BGJOBS_RETRYS": "3"})
    assert result.returncode == 0
    assert result.stderr == "bgjobs: warning: unknown variable BGJOBS_RETRYS: did you mean BGJOBS_RETRIES?\n"
    result = bgjobs("status", "--json", env={"BGJOBS_XYZZY": ""})
    assert json.loads(result.stderr)["warning"]["message"] == "unknown variable BGJOBS_XYZZY"


@posix
@pytest.mark.parametrize("words", [["status"], ["init"], ["worker", "--once"]])
def test_a_directory_that_was_deleted_is_named(project: Path, words: list[str]) -> None:
    gone = project / "gone"
    gone.mkdir()
    script = 'rmdir "$PWD"; exec "$@"'
    result = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "bgjobs", *words],
        cwd=gone,
        env=environment(project.parent),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "bgjobs: the current directory was deleted: change to one that is there\n"


@posix
@pytest.mark.parametrize(
    ("words", "what"),
    [([b"\xff"], "argument 1"), ([b"-k", b"text=\xff"], "-k text"), ([b"--args", b'["\xff"]'], "--args")],
)
def test_a_word_that_is_no_text_is_named(project: Path, words: list[bytes], what: str) -> None:
    argv = [os.fsencode(sys.executable), b"-m", b"bgjobs", b"submit", b"Work", b"echo", *words]
    result = subprocess.run(
        argv, cwd=project, env=environment(project.parent), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith(f"bgjobs: {what} is not UTF-8 text: ")
    assert result.stderr.count("\n") == 1
