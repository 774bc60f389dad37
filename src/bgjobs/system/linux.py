"""What only Linux has: its ways to sync, its mount table, its boot id."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bgjobs.system.facts import DiskFacts

assert sys.platform == "linux"  # noqa: S101 - tells the type checker which names the system has

from bgjobs.system.posix import open_directory  # noqa: E402 - on this system only

# Network and cluster file systems: locks and renames of other machines are not those of this kernel. 9p is how Linux
# under Windows mounts Windows disks, where a Windows worker may hold locks of its own.
NETWORK = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs"}
    | {"fuse." + name for name in ("ceph", "gcsfuse", "glusterfs", "moosefs", "rclone", "s3fs", "sshfs", "juicefs")}
)

_VOLATILE = frozenset({"tmpfs", "ramfs", "rootfs"})
_JOURNALING = frozenset({"xfs", "jfs", "reiserfs"})
_NEVER_JOURNALING = frozenset({"ext2", "vfat", "exfat", "msdos"})

# Since this kernel syncfs(2) reports write errors; before, it succeeded all the same.
_SYNCFS_REPORTS = (5, 8)

_one_fsync_is_safe: dict[int, bool] = {}


class Mount(NamedTuple):
    """One line of the mount table."""

    device: str
    point: str
    kind: str


def sync_file(fd: int) -> None:
    """Make the content of the file durable. After an OSError the content may be lost: never retry."""
    os.fsync(fd)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = open_directory(path)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> bool:
    """Make everything on the file system of the directory `path` durable, in one call.

    Returns False if the kernel has no such call, or one that does not report errors: then each file needs its own
    sync. Raises OSError if something could not be written.
    """
    import ctypes  # noqa: PLC0415 - only the submitting of many jobs at once needs it

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None or _kernel() < _SYNCFS_REPORTS:
        return False
    fd = open_directory(path)
    try:
        if syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
    return True


def _kernel() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".")
    return int(major), int("".join(digit for digit in minor if digit.isdigit()))


def one_fsync_is_safe(path: str) -> bool:
    """Tell whether syncing a file that was renamed first makes its content and its new name durable together.

    True on xfs, and on ext4 with a journal; False on others, which were not tested by cutting the power.
    """
    device = os.stat(path).st_dev
    if device not in _one_fsync_is_safe:
        _one_fsync_is_safe[device] = _commits_names_with_files(device)
    return _one_fsync_is_safe[device]


def _commits_names_with_files(device: int) -> bool:
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = {mount.kind for mount in mounts() if mount.device == number}
    return kinds == {"xfs"} or (kinds == {"ext4"} and has_journal(number))


def has_journal(device: str) -> bool:
    """Tell whether the ext4 file system on this device, such as 8:1, is known to have a journal."""
    # The mount table may call the device /dev/root or /dev/mapper/…; ext4 goes by the kernel's own name for it.
    try:
        name = os.path.basename(os.readlink(f"/sys/dev/block/{device}"))
        return _read(f"/sys/fs/ext4/{name}/journal_task").strip() not in ("", "<none>")
    except OSError:
        return False


def network_filesystem(path: str) -> str | None:
    """Return the kind of network or cluster file system that `path` lies on, or None if it is a local one."""
    kind = kind_of(os.path.realpath(path), os.stat(path).st_dev, mounts())
    return kind if kind in NETWORK else None


def kind_of(real_path: str, device: int, table: list[Mount]) -> str | None:
    """Return the kind of file system of a path without links, given its device and the mount table."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for mount in table:
        if mount.device == number:
            return mount.kind
    # btrfs gives each subvolume a device number of its own, which the table does not show.
    above = [mount for mount in table if (real_path + "/").startswith(mount.point.rstrip("/") + "/")]
    return max(above, key=lambda mount: len(mount.point)).kind if above else None


def mounts() -> list[Mount]:
    """Return the mount table; empty where there is no /proc."""
    try:
        return [parse_mount(line) for line in _read("/proc/self/mountinfo").splitlines()]
    except FileNotFoundError:
        return []


def parse_mount(line: str) -> Mount:
    """Read one line of /proc/self/mountinfo, where white space in a mount point is written as an octal number."""
    before, _, after = line.partition(" - ")
    fields = before.split(" ")
    point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    return Mount(device=fields[2], point=point, kind=after.split(" ")[0])


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def boot_id() -> str:
    """Return a text that no other boot of any machine shares. Raises OSError where there is no /proc."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def links_are_guarded() -> bool:
    """Tell whether users may make hard links to their own files only, so that they cannot hand in others' files."""
    try:
        with open("/proc/sys/fs/protected_hardlinks", "rb") as file:
            return file.read().strip() == b"1"
    except OSError:
        return False


def disk_facts(path: str) -> DiskFacts:
    """Return what is known about the file system of the directory `path`. Raises OSError."""
    return facts_of(os.path.realpath(path), os.stat(path).st_dev, mounts())


def facts_of(real_path: str, device: int, table: list[Mount]) -> DiskFacts:
    """Return the facts for a path without links, given its device and the mount table."""
    from bgjobs.system.facts import DiskFacts  # noqa: PLC0415 - only the checks of a disk need it

    kind = kind_of(real_path, device, table) or ""
    inside = real_path.rstrip("/") + "/"
    return DiskFacts(
        kind=kind,
        network=kind in NETWORK,
        volatile=kind in _VOLATILE,
        journal=_journal(kind, device),
        mounts_below=tuple(sorted({mount.point for mount in table if mount.point.startswith(inside)})),
    )


def _journal(kind: str, device: int) -> bool | None:
    if kind in {"ext3", "ext4"}:
        return has_journal(f"{os.major(device)}:{os.minor(device)}")
    if kind in _JOURNALING:
        return True
    return False if kind in _NEVER_JOURNALING else None
