"""Only `bgjobs.system` knows what one system has and another has not: no such name, module or guard elsewhere."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.test_project import sources, where

if TYPE_CHECKING:
    from collections.abc import Iterator

# What Windows lacks, as the documentation of Python says ("Availability: Unix").
POSIX_ONLY = {
    "os": {
        *("chown", "chroot", "confstr", "ctermid", "fchdir", "fchmod", "fchown", "fdatasync", "fork", "forkpty"),
        *("fpathconf", "fstatvfs", "get_blocking", "getegid", "geteuid", "getgid", "getgrouplist", "getgroups"),
        *("getloadavg", "getpgid", "getpgrp", "getpriority", "getresgid", "getresuid", "getsid", "getuid", "getxattr"),
        *("initgroups", "killpg", "lchown", "listxattr", "lockf", "major", "makedev", "minor", "mkfifo", "mknod"),
        *("nice", "openpty", "pathconf", "pipe2", "posix_fadvise", "posix_fallocate", "posix_spawn", "posix_spawnp"),
        *("pread", "preadv", "pwrite", "pwritev", "readv", "register_at_fork", "removexattr", "sched_getaffinity"),
        *("sched_setaffinity", "sched_setscheduler", "sched_yield", "sendfile", "set_blocking", "setegid", "seteuid"),
        *("setgid", "setgroups", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setsid"),
        *("setuid", "setxattr", "statvfs", "sync", "sysconf", "tcgetpgrp", "tcsetpgrp", "ttyname", "uname", "wait"),
        *("wait3", "wait4", "waitid", "writev", "WCOREDUMP", "WEXITSTATUS", "WIFEXITED", "WIFSIGNALED", "WIFSTOPPED"),
        *("WNOHANG", "WSTOPSIG", "WTERMSIG", "WUNTRACED", "pidfd_open", "memfd_create", "eventfd", "splice"),
    },
    "time": {"clock_gettime", "clock_gettime_ns", "clock_settime", "pthread_getcpuclockid", "tzset"},
    "select": {"epoll", "poll"},
    "socket": {"AF_UNIX", "SCM_RIGHTS", "sethostname"},
}
# These came to Windows with the version.
CAME = {"fchmod": (3, 13), "get_blocking": (3, 12), "set_blocking": (3, 12)}
WINDOWS_ONLY = {
    "os": {"startfile", "add_dll_directory", "get_handle_inheritable", "set_handle_inheritable", "P_DETACH"},
    "sys": {"getwindowsversion", "winver", "dllhandle"},
    "subprocess": {"STARTUPINFO", "CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP", "DETACHED_PROCESS"},
}
MODULES = {
    *("fcntl", "grp", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty", "crypt", "nis"),
    *("msvcrt", "nt", "winreg", "winsound", "_winapi", "signal", "ctypes"),
}
EVERYWHERE = {"O_APPEND", "O_CREAT", "O_EXCL", "O_RDONLY", "O_RDWR", "O_TRUNC", "O_WRONLY"}
WHICH = {"sys.platform", "os.name", "platform.system", "platform.platform", "platform.uname", "platform.win32_ver"}
PARAMETERS = {"preexec_fn", "start_new_session", "creationflags", "startupinfo", "process_group", "umask", "pass_fds"}
ASKED = {"os", "sys", "time", "select", "socket", "subprocess", "signal", "posix"}


def offences(source: str) -> list[tuple[int, str]]:
    """Return what in a source is not the same on every system, or asks which one it is, each with its line."""
    tree = ast.parse(source)
    modules = dict(_modules(tree))
    nodes = [node for node in ast.walk(tree) if hasattr(node, "lineno")]
    return sorted({(node.lineno, what) for node in nodes for what in _offences(node, modules)})


def _modules(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Go through the modules that a source has, each by the name that it has there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.asname or name.name, name.name


def _offences(node: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from {name.name.partition(".")[0] for name in names} & MODULES
        case ast.ImportFrom(module=str(module), names=names, level=0):
            yield from {module.partition(".")[0]} & MODULES
            yield from (f"{module}.{name.name}" for name in names if _is_special(module, name.name))
        case ast.Attribute(value=ast.Name(id=module), attr=name) if _is_special(modules.get(module, ""), name):
            yield f"{modules[module]}.{name}"
        case ast.Call(func=ast.Name(id="hasattr" | "getattr" as asked), args=[ast.Name(id=module), name, *_]):
            # A name that is looked up at run time tells nothing of itself, unless it is that of a stream.
            plain = isinstance(name, ast.Constant) and name.value in {"stdin", "stdout", "stderr", "ps1"}
            known = modules.get(module, "")
            if known in ASKED and not plain and not (known == "sys" and isinstance(name, ast.Name)):
                yield f"{asked}({known})"
        case ast.keyword(arg=str(name)) if name in PARAMETERS:
            yield f"{name}="
        case _:
            pass


def _is_special(module: str, name: str) -> bool:
    if f"{module}.{name}" in WHICH or (module == "os" and name.startswith("O_") and name not in EVERYWHERE):
        return True
    return name in POSIX_ONLY.get(module, ()) or name in WINDOWS_ONLY.get(module, ())


def test_nothing_outside_of_the_system_package_is_only_there_on_some_systems() -> None:
    found = [
        f"{where(path, line)} {what}: belongs in bgjobs.system"
        for path in sources("src", "jobs")
        if "system" not in path.relative_to(Path(__file__).parents[2]).parts
        for line, what in offences(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import os\nos.fork()", "os.fork"),
        ("import os\nos.setsid()", "os.setsid"),
        ("import os\ndef f():\n    return os.getuid()", "os.getuid"),
        ("import os\nwho = os.getuid", "os.getuid"),
        ("import os as system\nsystem.killpg(1, 9)", "os.killpg"),
        ("from os import nice", "os.nice"),
        ("from os import path, sched_getaffinity as cores", "os.sched_getaffinity"),
        ("import os\nos.open('x', os.O_RDONLY | os.O_NOFOLLOW)", "os.O_NOFOLLOW"),
        ("import os\nos.open('x', os.O_CREAT | os.O_BINARY)", "os.O_BINARY"),
        ("import os\nif hasattr(os, 'fork'): pass", "hasattr(os)"),
        ("import os\ngetattr(os, 'fchmod', None)", "getattr(os)"),
        ("import os\nname = 'fork'\nhasattr(os, name)", "hasattr(os)"),
        ("import sys\nhasattr(sys, 'getwindowsversion')", "hasattr(sys)"),
        ("import sys\nif sys.platform == 'win32': pass", "sys.platform"),
        ("from sys import platform", "sys.platform"),
        ("import os\nif os.name == 'nt': pass", "os.name"),
        ("import platform\nplatform.system()", "platform.system"),
        ("import time\ntime.tzset()", "time.tzset"),
        ("import select\nselect.poll()", "select.poll"),
        ("import socket\nsocket.socket(socket.AF_UNIX)", "socket.AF_UNIX"),
        ("import subprocess\nsubprocess.Popen([], start_new_session=True)", "start_new_session="),
        ("import subprocess\nsubprocess.Popen([], preexec_fn=f)", "preexec_fn="),
        *((f"import {name}", name) for name in sorted(MODULES)),
        ("def f():\n    from signal import SIGTERM", "signal"),
        ("import ctypes.util", "ctypes"),
    ],
)
def test_whatever_one_system_lacks_is_found(source: str, what: str) -> None:
    assert {found for _, found in offences(source)} == {what}


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.open('x', os.O_RDWR | os.O_CREAT)\nos.getpid()\nos.environ['x']",
        "import sys\nfor name in ('stdout', 'stderr'): getattr(sys, name)",
        "import os\nself.os.fork()\nuname()\nos.environ.get('name')",
        "from bgjobs import system\nsystem.cores()",
    ],
)
def test_what_every_system_has_is_none(source: str) -> None:
    assert offences(source) == []


def test_the_names_in_the_table_are_what_this_system_has_or_lacks() -> None:
    """So that no slip of the pen stays in the table: on Linux all are there, on Windows none is."""
    is_windows, is_linux = sys.platform == "win32", sys.platform == "linux"
    for module, names in POSIX_ONLY.items():
        there = {name for name in names if hasattr(importlib.import_module(module), name)}
        assert not is_linux or there == names
        assert not is_windows or there == {name for name in there if sys.version_info >= CAME.get(name, (9, 9))}
    for module, names in WINDOWS_ONLY.items():
        there = {name for name in names if hasattr(importlib.import_module(module), name)}
        assert there == (names if is_windows else set())
    assert all(hasattr(os, name) for name in EVERYWHERE)
