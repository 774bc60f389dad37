"""Test whether disk, locks, clock and free space are fit for a spool."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Timer
from typing import TYPE_CHECKING

from bgjobs import clock, disk, files, system
from bgjobs.config import permissions
from bgjobs.config.settings import FEWEST_FILES
from bgjobs.errors import SpoolError
from bgjobs.ids import new_id
from bgjobs.locks import life_lock, taken
from bgjobs.spool import layout
from bgjobs.spool.inbox import group_access
from bgjobs.store import Finding, Fitness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.config.settings import Settings
    from bgjobs.spool.layout import Layout
    from bgjobs.system.facts import DiskFacts


COMMAND = ("-P", "-X", "utf8", "-m", "bgjobs.spool.doctor.lock_holder")
ANSWERS_S = 30.0  # a busy machine needs a while to start Python
FREED_S = 5.0
BOTH = "two processes held the same lock at the same time"


class UntriedError(Exception):
    """Why the locks could not be tried."""


def lock_problem(path: str) -> str:
    """Test a lock on the file at this path with two processes; return what is wrong, or nothing.

    Raises UntriedError when that could not be tried, and OSError where there are no locks.
    """
    ours = life_lock(path)
    if not taken(ours, 0):
        return "another process holds the lock of a file that was made a moment ago"
    child = subprocess.Popen(
        [sys.executable, *COMMAND, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = Timer(ANSWERS_S, child.kill)
    deadline.start()
    try:
        if (answer := _answer(child)) != "refused":
            if not answer:
                raise UntriedError("the second process of the self-test did not answer")
            return BOTH
        ours.release()
        if _answer(child) != "taken":
            return "a lock that was released could not be taken by another process"
        if taken(ours, 0):
            return BOTH
        child.kill()
        return "" if taken(ours, FREED_S) else "the lock of a killed process is not freed"
    finally:
        deadline.cancel()
        child.kill()
        child.communicate()
        ours.release()


def _answer(child: subprocess.Popen[str]) -> str:
    """Let the other process try, and return its answer; nothing if it has died."""
    assert child.stdin  # noqa: S101 - it was started with pipes
    assert child.stdout  # noqa: S101 - it was started with pipes
    try:
        child.stdin.write("try\n")
        child.stdin.flush()
    except OSError:
        return ""
    return child.stdout.readline().strip()


Facts = dict[str, str | int | bool | None]

MAY_BE_MOUNTED = ("logs", "cache")  # nothing is renamed into these: they may be mounted from elsewhere
LITTLE = 4  # times the room below which no new job is taken
LEAST_BYTES = 1024 * 1024  # where that is set to nothing
SKEW_MS = 2000
MANY_CORRUPT = 1000


def refuse_unfit(paths: Layout) -> None:
    """Raise SpoolError where locks or renames would not mean what they must."""
    for finding in _unfit(paths, system.disk_facts(paths.root)):
        raise SpoolError(f"the spool {paths.root} {finding.message}", hint="use another --spool", code=finding.code)


def open_to_others(paths: Layout, group: str) -> list[Finding]:
    """Return where another user could remove or add jobs. The spool may be shared with a group."""
    return [finding for finding in _open_to_others(paths, group) if finding.serious]


def unsafe_directories(paths: Layout) -> list[Finding]:
    """Return directories of the spool that another user could replace by a link to somewhere else."""
    return list(_unsafe_directories(paths))


def of_missing_spool(paths: Layout) -> Fitness:
    """Return that there is no spool to test yet."""
    message = "is not there yet: the first job that is submitted, or the first worker, makes it"
    return Fitness(facts={}, findings=[Finding(code="no-spool-yet", message=message, path=paths.root)])


def check(paths: Layout, settings: Settings) -> Fitness:
    """Test what the spool lies on."""
    try:
        disk_facts = system.disk_facts(paths.root)
    except OSError as error:
        return Fitness(facts={}, findings=[_unusable("no-disk", paths.root, error)])
    facts: Facts = {
        "locks_hold": None,
        "file_system": disk_facts.kind,
        "journal": disk_facts.journal,
        "durability": settings.durability,
        "finish_fsync": settings.finish_fsync,
        "one_sync": system.one_fsync_is_safe(paths.root),
    }
    findings = [*_unfit(paths, disk_facts), *_disk_warnings(paths, disk_facts)]
    findings += [*_open_to_others(paths, settings.shared_with), *group_access.warnings(paths, settings.shared_with)]
    findings += _free_room(paths, settings, facts)
    findings += _try_out(paths, facts)
    findings += _clock_against_ends(paths)
    findings += _logs(settings.log_dir)
    findings += _many_corrupt(paths)
    return Fitness(facts=facts, findings=findings)


def _unfit(paths: Layout, facts: DiskFacts) -> Iterator[Finding]:
    if facts.network:
        message = f"is on a network file system ({facts.kind or 'network drive'}): locks do not hold there"
        yield Finding(code="network-disk", message=message, path=paths.root, serious=True)
    inside = os.path.realpath(paths.root)
    apart = [
        path for path in facts.mounts_below if os.path.relpath(path, inside).split(os.sep)[0] not in MAY_BE_MOUNTED
    ]
    device = disk.stat(paths.root).st_dev
    apart += [path for path in paths.directories() if files.exists(path) and disk.stat(path).st_dev != device]
    for path in dict.fromkeys(apart):
        message = f"has another disk mounted inside, at {path}: jobs could not be moved there in one step"
        yield Finding(code="split-spool", message=message, path=path, serious=True)


def _disk_warnings(paths: Layout, facts: DiskFacts) -> Iterator[Finding]:
    warnings = {
        "volatile-disk": facts.volatile
        and f"is kept in memory ({facts.kind}): jobs survive a crash, but no power cut and no reboot",
        "no-journal": facts.journal is False
        and f"is on {facts.kind} without a journal, as far as one can see: after a power cut a job may have two names",
        "layered-disk": facts.kind in {"overlay", "aufs"}
        and f"is on {facts.kind}, as inside of a container: jobs are gone with the container, use a volume",
    }
    for code, message in warnings.items():
        if message:
            yield Finding(code=code, message=message, path=paths.root)


def _open_to_others(paths: Layout, group: str) -> Iterator[Finding]:
    yield from _unsafe_directories(paths)
    yield from group_access.deviations(paths, group)


def _unsafe_directories(paths: Layout) -> Iterator[Finding]:
    for weak in permissions.weaknesses(paths.root, names_matter=True):
        yield Finding(code=weak.code, message=f"{weak.what}: {weak.cure}", path=weak.path, serious=True)
    for path in paths.directories():
        if files.exists(path) and not files.is_directory(path):
            message = "is a link, or no directory: what the queue moves and deletes would lie elsewhere; remove it"
            yield Finding(code="not-a-directory", message=message, path=path, serious=True)


def _free_room(paths: Layout, settings: Settings, facts: Facts) -> Iterator[Finding]:
    free_bytes, free_files = disk.free_space(paths.root)
    facts["free_bytes"], facts["free_files"] = free_bytes, free_files
    checks = (
        ("bytes", free_bytes, max(settings.min_free, LEAST_BYTES)),
        ("files (inodes)", free_files, FEWEST_FILES),
    )
    for what, free, least in checks:
        if free is not None and free < LITTLE * least:
            message = f"has room for {free} {what} only: free some, or prune ended jobs"
            yield Finding(code="little-room", message=message, path=paths.root, serious=free < least)


def _try_out(paths: Layout, facts: Facts) -> Iterator[Finding]:
    """Make a file, and test its time and its lock."""
    path = os.path.join(paths.tmp, f"doctor.{new_id()}")
    try:
        files.create(path, b"doctor\n", sync=True)
    except OSError as error:
        yield _unusable("not-writable", paths.tmp, error)
        return
    try:
        yield from _clock_against_disk(path, facts)
        what = lock_problem(path)
        facts["locks_hold"] = not what
        if what:
            message = f"{what}: locks on this file system are no use, put the spool elsewhere"
            yield Finding(code="locks-fail", message=message, path=paths.root, serious=True)
    except UntriedError as error:
        message = f"its locks could not be tried with two processes: {error}; is the machine very busy?"
        yield Finding(code="locks-untried", message=message, path=paths.root)
    except OSError as error:
        facts["locks_hold"] = False
        yield _unusable("locks-fail", paths.root, error)
    finally:
        files.remove(path)


def _clock_against_disk(path: str, facts: Facts) -> Iterator[Finding]:
    skew_ms = disk.stat(path).st_mtime_ns // 1_000_000 - clock.now_ms()
    facts["clock_skew_ms"] = skew_ms
    if abs(skew_ms) > SKEW_MS:
        message = f"gives files a time that is {skew_ms / 1000:.1f} s off the clock: set the clocks alike"
        yield Finding(code="disk-clock", message=message, path=os.path.dirname(path))


def _clock_against_ends(paths: Layout) -> Iterator[Finding]:
    """Warn when jobs have ended in the future: delayed jobs wait until the clock has passed that moment."""
    now = layout.hour(clock.now())
    for state in layout.ENDED_DIRECTORIES:
        newest = max(filter(layout.HOUR_NAME.fullmatch, files.names(paths.ended(state))), default="")
        if newest > now:
            message = f"jobs have ended in hour {newest} (UTC), and the clock says {now}: it was ahead, or is behind"
            yield Finding(code="clock-behind", message=message, path=os.path.join(paths.ended(state), newest))


def _logs(directory: str) -> Iterator[Finding]:
    if files.exists(directory) and not os.access(directory, os.W_OK | os.X_OK):
        message = "cannot be written: jobs run, but nothing is logged; give it to the user that runs bgjobs"
        yield Finding(code="logs-closed", message=message, path=directory)


def _many_corrupt(paths: Layout) -> Iterator[Finding]:
    """Warn of many files in `corrupt/`, which no worker deletes."""
    count = sum(not name.endswith(".reason") for name in files.names(paths.corrupt))
    if count >= MANY_CORRUPT:
        message = f"holds {count} files: see why, then `bgjobs prune --state corrupt --older 1d`"
        yield Finding(code="many-corrupt", message=message, path=paths.corrupt)


def _unusable(code: str, path: str, error: OSError) -> Finding:
    message = f"cannot be used: {error.strerror}: see its permissions and the disk's health"
    return Finding(code=code, message=message, path=path, serious=True)
