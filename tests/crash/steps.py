"""Stand between `bgjobs.disk` and the system: count the steps on the disk, end the process at one, let one fail.

The processes that die here really die (SIGKILL): the kernel frees their locks, and nothing of theirs is put in order.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
import traceback
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from bgjobs import disk

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 60  # a case takes some hundredths of a second: one that takes so long hangs
OPENED = ("open_new", "open_append", "open_create_append", "open_read")
CHANGES = ("makedirs", "mkdir", "move", "replace", "rmdir", "truncate", "unlink", "write")
LOOKS = ("fstat", "listdir", "lseek", "lstat", "open_folder", "read", "scandir", "stat")
SYNCS = ("sync_directory", "sync_file", "sync_filesystem")
GROWS = ("makedirs", "mkdir", "open_create_append", "open_new")
LISTS = ("listdir", "scandir")
UNFAILING = ("ring",)  # promises never to fail

# What the system may answer, and to which steps.
ANSWERS: dict[int, tuple[str, ...]] = {
    errno.ENOSPC: (*GROWS, *SYNCS, "close", "move", "write"),
    errno.EDQUOT: ("close", "mkdir", "open_new", "write"),
    errno.EIO: (*OPENED, *CHANGES, *LOOKS, *SYNCS, "close", "free_space"),
    errno.EROFS: (*CHANGES, "open_append", "open_create_append", "open_new"),
    errno.EACCES: (*OPENED, *LISTS, "lstat", "makedirs", "mkdir", "move", "replace", "rmdir", "stat", "unlink"),
    errno.EMFILE: (*OPENED, *LISTS, "sync_directory", "sync_filesystem"),
}
# What goes on failing until somebody does something about it, and at which steps. (A rename needs no space, mostly.)
LASTING: dict[int, tuple[str, ...]] = {
    errno.ENOSPC: (*GROWS, "write"),
    errno.EROFS: ANSWERS[errno.EROFS],
    errno.EIO: ANSWERS[errno.EIO],
    errno.EMFILE: ANSWERS[errno.EMFILE],
}


class Plan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens at the n-th step: `how` is one of the methods of `Steps` below, or "" for nothing."""

    how: str = ""
    at: int = 0
    answer: int = 0

    def __str__(self) -> str:
        words = [self.how.replace("_", " ") or "nothing", f"step {self.at}"]
        return " ".join([*words, errno.errorcode[self.answer]] if self.answer else words)


class Steps:
    """Counts the steps of this process while it is armed, and carries out a plan."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.resynced: list[str] = []
        self._plan: Plan | None = None
        self._torn = False
        self._failed_syncs: set[tuple[int, int] | str] = set()
        for name in disk.__all__:
            setattr(disk, name, self._around(name, getattr(disk, name)))

    def arm(self, plan: Plan) -> None:
        """Count from now on, and do what the plan says."""
        self.names.clear()
        self._plan = plan

    def disarm(self) -> None:
        """Let all steps be as they are; the trouble is over."""
        self._plan = None
        # A directory may be synced for another job, later. The same file may not: its data may be gone.
        self._failed_syncs = {name for name in self._failed_syncs if isinstance(name, tuple)}

    def _around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **named: Any) -> Any:
            if name in SYNCS:
                self._look_at_sync(name, args)
            if self._plan is None:
                return real(*args, **named)
            self.names.append(name)
            if not self._plan.how:
                return real(*args, **named)
            return getattr(self, self._plan.how)(self._plan, name, real, args, named)

        return step

    # What a plan can do at a step

    def die_before(self, plan: Plan, _name: str, real: Any, args: Any, named: Any) -> Any:
        if len(self.names) == plan.at:
            die()
        return real(*args, **named)

    def die_after(self, plan: Plan, _name: str, real: Any, args: Any, named: Any) -> Any:
        try:
            return real(*args, **named)
        finally:
            if len(self.names) == plan.at:
                die()

    def die_within(self, plan: Plan, name: str, real: Any, args: Any, named: Any) -> Any:
        if len(self.names) == plan.at:
            if name == "write":  # listings have no order, so that the steps may come in another one
                descriptor, data = args
                real(descriptor, data[: len(data) // 2])
            die()
        return real(*args, **named)

    def fail(self, plan: Plan, name: str, real: Any, args: Any, named: Any) -> Any:
        if len(self.names) == plan.at and name not in UNFAILING:
            self._refuse(plan.answer, name, real, args)
        return real(*args, **named)

    def fail_from(self, plan: Plan, name: str, real: Any, args: Any, named: Any) -> Any:
        if len(self.names) >= plan.at and name in LASTING[plan.answer]:
            self._refuse(plan.answer, name, real, args)
        return real(*args, **named)

    def write_half(self, plan: Plan, name: str, real: Any, args: Any, named: Any) -> Any:
        if len(self.names) == plan.at and name == "write":
            descriptor, data = args
            return real(descriptor, data[: max(1, len(data) // 2)])
        return real(*args, **named)

    def tear(self, plan: Plan, name: str, real: Any, args: Any, named: Any) -> Any:
        """Take half of the data, and refuse the rest."""
        return self._tear(plan, name, real, args, named, keep=lambda length: length // 2)

    def tear_end(self, plan: Plan, name: str, real: Any, args: Any, named: Any) -> Any:
        """Take all of the data but the line end, and refuse that."""
        return self._tear(plan, name, real, args, named, keep=lambda length: length - 1)

    def _tear(self, plan: Plan, name: str, real: Any, args: Any, named: Any, *, keep: Callable[[int], int]) -> Any:
        if name == "write" and self._torn:
            self._torn = False
            self._refuse(plan.answer, name, real, args)
        if name == "write" and len(self.names) == plan.at and len(args[1]) > 1:
            self._torn = True
            return real(args[0], args[1][: keep(len(args[1]))])
        return real(*args, **named)

    def _refuse(self, answer: int, name: str, real: Any, args: Any) -> None:
        if name == "close":
            real(*args)  # a descriptor is gone even if closing it fails
        if name in SYNCS:
            self._failed_syncs.add(_identity(name, args))
        path = args[0] if args and isinstance(args[0], str) else None
        raise OSError(answer, os.strerror(answer), path)

    def _look_at_sync(self, name: str, args: Any) -> None:
        if _identity(name, args) in self._failed_syncs:
            self.resynced.append(f"{name} again, after it had failed")


def _identity(name: str, args: Any) -> tuple[int, int] | str:
    if name != "sync_file":
        return str(args[0])
    found = os.fstat(args[0])
    assert stat.S_ISREG(found.st_mode)
    return found.st_dev, found.st_ino


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(PATIENCE_S)  # it comes at once


def in_a_process(work: Callable[[], None], errors: str) -> int:
    """Do the work in a child, and return how that ended: 0, or minus the signal. What it raised goes to `errors`."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(PATIENCE_S)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a child of a fork must end here, whatever it raised
            with open(errors, "a", encoding="utf-8") as file:
                file.write(traceback.format_exc())
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
