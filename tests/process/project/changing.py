"""Jobs that give up what their process could do: rights, files, descriptors, room."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

NOBODY = 65534
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 1 << 14, 1 << 18


def note(path: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("ran\n")


def give_up(what: str) -> None:
    match what:
        case "setuid":
            os.setuid(NOBODY)
        case "setgid":
            os.setgid(NOBODY)
        case "setresuid":
            os.setresuid(NOBODY, NOBODY, NOBODY)
        case "seteuid":
            os.seteuid(NOBODY)
        case "initgroups":
            os.initgroups("nobody", NOBODY)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        case _:
            give_up_more(what)


def give_up_more(what: str) -> None:
    match what:
        case "chroot":
            os.chroot("/proc/self/task")
            os.chdir("/")
        case "no descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        case "no room":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        case "hidden spool":
            libc = ctypes.CDLL(None)
            assert libc.unshare(CLONE_NEWNS) == 0
            assert libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) == 0
            assert libc.mount(b"none", os.environb[b"BGJOBS_SPOOL"], b"tmpfs", ctypes.c_ulong(0), None) == 0
        case "no way back":
            os.chdir(os.environ["BGJOBS_SPOOL"])
            os.setuid(NOBODY)
        case _:
            raise AssertionError(what)


class Changing:
    def change(self, what: str, path: str) -> str:
        note(path)
        print("before")
        give_up(what)
        print("after")
        return what

    def change_and_fail(self, what: str, path: str) -> None:
        note(path)
        print("before")
        give_up(what)
        raise LookupError(what)

    def who(self) -> list[int]:
        root = Path("/proc").exists()
        return [os.getuid(), os.geteuid(), os.getgid(), resource.getrlimit(resource.RLIMIT_FSIZE)[0], int(root)]
