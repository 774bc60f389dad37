"""Basic file operations: create, append, read, move and cut files, with or without sync.

Each raises OSError as the system gives it. None of them repeats a failed sync: after an error the kernel may have
dropped the data and marked it clean, so a second success would mean nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from bgjobs import disk, system
from bgjobs.errors import SyncFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Errors about one unreadable file or directory, which must not affect others. (A full table of descriptors or a full
# disk concerns all of them.)
UNREADABLE = frozenset({errno.EACCES, errno.EIO, errno.EPERM})
LINKS = frozenset({errno.ELOOP, errno.ENXIO, errno.EMLINK})  # the errors of opening a link, a socket or a device


class StrangeFileError(Exception):
    """The file is not a plain file of ours: a link, a pipe, too large, or another user's."""


def create(path: str, data: bytes, *, sync: bool) -> None:
    """Create a new file with this content, durable if `sync`. Leaves nothing behind on failure."""
    descriptor = disk.open_new(path)
    try:
        try:
            write_all(descriptor, data)
            if sync:
                disk.sync_file(descriptor)
        finally:
            disk.close(descriptor)
    except OSError:
        discard(path)
        raise


def create_and_publish(path: str, data: bytes, target: str, *, moved: Callable[[], None]) -> None:
    """Create a file, move it to where it is visible, call `moved`, then sync it once.

    Only where syncing a moved file also makes its new name durable (`system.one_fsync_is_safe`).
    """
    descriptor = disk.open_new(path)
    place = path
    try:
        try:
            write_all(descriptor, data)
            disk.move(path, target)
            place = target
            moved()
            disk.sync_file(descriptor)
        finally:
            disk.close(descriptor)
    except OSError:
        # Unlinking the published name may miss: a worker can have claimed the job already. It was not acknowledged,
        # so it may run or not.
        discard(place)
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data, in several writes if need be."""
    view = memoryview(data)
    while view:
        view = view[disk.write(descriptor, view) :]


def append(path: str, line: bytes, *, sync: bool = False, whole: bool = False, make: bool = False) -> None:
    """Append one line, in one write, to a file of ours. A torn line before it is ended first.

    `whole`: the file is known to have no torn line. `make`: create a missing file. With `sync` the line is durable when
    this returns, or SyncFailedError is raised.
    """
    descriptor = disk.open_create_append(path) if make else disk.open_append(path)
    try:
        state = disk.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a plain file", path)
        if not whole and state.st_size and end(descriptor, 1) != b"\n":
            line = b"\n" + line
        write_all(descriptor, line)
        if sync:
            _sync_appended(descriptor, path)
    finally:
        with suppress(OSError):  # the line is written, and no more was promised
            disk.close(descriptor)


def _sync_appended(descriptor: int, path: str) -> None:
    try:
        disk.sync_file(descriptor)
    except OSError as error:
        raise SyncFailedError(f"cannot sync {path}: {error.strerror}", hint="check the disk") from error


def end(descriptor: int, size: int) -> bytes:
    """Return the last bytes of an open file."""
    disk.lseek(descriptor, -size, os.SEEK_END)
    return disk.read(descriptor, size)


def refuse_others(state: os.stat_result) -> None:
    """Raise StrangeFileError for a file that is not ours."""
    if not system.is_mine(state):
        raise StrangeFileError("belongs to another user")


def read(path: str, most: int, look: Callable[[os.stat_result], None] = refuse_others) -> bytes:
    """Return the content of a plain file of at most `most` bytes, or raise StrangeFileError.

    `look` is called with the state of the open file, and raises that error for a file of a wrong owner.
    """
    try:
        descriptor = disk.open_read(path)
    except OSError as error:
        if error.errno in LINKS:
            raise StrangeFileError("a symbolic link, socket or device") from None
        if error.errno == errno.EISDIR:  # Windows opens no directory
            raise StrangeFileError("not a plain file") from None
        raise
    try:
        state = disk.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise StrangeFileError("not a plain file")
        if state.st_nlink > 1:
            raise StrangeFileError("has more than one name (hard link)")
        look(state)
        if state.st_size > most:
            raise StrangeFileError(f"{state.st_size} bytes, more than {most}")
        return _read_all(descriptor, state.st_size)
    finally:
        disk.close(descriptor)


def read_on(path: str, inode: int, size: int) -> tuple[int, int, bytes]:
    """Return the inode of a growing file of ours, the offset from which it was read, and its content from there.

    The offset is `size` if the file still has this inode, else 0.
    """
    descriptor = disk.open_read(path)
    try:
        state = disk.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise StrangeFileError("not a plain file")
        refuse_others(state)
        start = size if state.st_ino == inode and state.st_size >= size else 0
        disk.lseek(descriptor, start, os.SEEK_SET)
        return state.st_ino, start, _read_all(descriptor, state.st_size - start)
    finally:
        disk.close(descriptor)


def read_note(path: str) -> str | None:
    """Return the text of a small file of ours; None if it is missing, strange, or still empty."""
    try:
        return read(path, 65_536).decode("utf-8", "replace") or None
    except (OSError, StrangeFileError):
        return None


def _read_all(descriptor: int, size: int) -> bytes:
    data = disk.read(descriptor, size + 1)
    while len(data) < size:
        more = disk.read(descriptor, size - len(data))
        if not more:
            break
        data += more
    return data


def move(source: str, target: str) -> None:
    """Move a file or directory atomically. Raises FileNotFoundError if another process was faster."""
    disk.move(source, target)


def move_into(source: str, target: str) -> None:
    """Move a file into a directory, which is made if it is missing; its parents are not."""
    while exists(source):
        make_directory(os.path.dirname(target))  # again, if another process removes it while it is empty
        try:
            disk.move(source, target)
        except FileNotFoundError:
            continue
        return
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)


def replace(source: str, target: str) -> None:
    """Replace an older file by a small file of ours, atomically."""
    disk.replace(source, target)


def replace_content(path: str, data: bytes) -> None:
    """Replace the content of a small file of ours atomically; not durable, for what may be lost."""
    fresh = f"{path}.new"
    remove(fresh)
    create(fresh, data, sync=False)
    replace(fresh, path)


def remove(path: str, *, folder: int | None = None) -> None:
    """Remove a file, if it is there; with `folder` from that open directory."""
    try:
        disk.unlink(path, folder=folder)
    except FileNotFoundError:
        pass


def discard(path: str) -> None:
    """Remove a file after a failure, if possible: the failure is what has to be reported."""
    with suppress(OSError):
        disk.unlink(path)


def make_directory(path: str) -> None:
    """Make a directory that only its owner may enter, if it is not there. Raises OSError for a link in its place."""
    try:
        disk.mkdir(path, 0o700)
    except FileExistsError:
        if not is_directory(path) and exists(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


def make_directories(path: str) -> None:
    """Make a directory and its missing parents, and make their names durable."""
    new = []
    above = path
    while not exists(above):
        new.append(above)
        above = os.path.dirname(above)
    disk.makedirs(path, exist_ok=True)
    for directory in reversed(new):
        try:
            sync_directory(os.path.dirname(directory))
        except PermissionError:
            pass  # a directory that we may write to but not read cannot be synced


def remove_directory(path: str, *, folder: int | None = None) -> bool:
    """Remove an empty directory; return whether it is gone."""
    try:
        disk.rmdir(path, folder=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    disk.sync_directory(path)


def exists(path: str) -> bool:
    """Tell whether anything has this name, a dangling link included."""
    try:
        disk.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_directory(path: str) -> bool:
    """Tell whether a directory lies there, and not just a link to one."""
    try:
        return stat.S_ISDIR(disk.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def names(path: str) -> list[str]:
    """Return the names in a directory, unsorted; none if it does not exist."""
    try:
        return disk.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def readable_names(path: str) -> list[str]:
    """Return the names in a directory; none if it cannot be read, so that others can still be searched."""
    try:
        return names(path)
    except OSError as error:
        if error.errno in UNREADABLE:
            return []
        raise


def each_name(path: str) -> Iterator[str]:
    """Go through the names in a directory one by one, for large ones; none if it does not exist."""
    try:
        for name, _ in disk.scandir(path):
            yield name
    except (FileNotFoundError, NotADirectoryError):
        return


def changed_ns(path: str) -> int | None:
    """Return when the names in a directory last changed, in ns, or None if it does not exist."""
    try:
        return disk.stat(path).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def directory_state(path: str) -> tuple[int, int] | None:
    """Return inode and mtime in ns, which tell whether a directory has changed or was replaced; None if it is gone."""
    try:
        state = disk.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_ino, state.st_mtime_ns


def sync(path: str) -> None:
    """Make the content of a file durable."""
    descriptor = disk.open_append(path)
    try:
        disk.sync_file(descriptor)
    finally:
        disk.close(descriptor)


Pid = Annotated[int, Meta(ge=1, le=0x7FFF_FFFF)]  # what system calls accept
T = TypeVar("T")


def decoded(data: bytes, kind: type[T]) -> T | None:
    """Decode JSON as a value of this type; None if it is not one."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # half written, zeros, not UTF-8, or nested too deeply


def limit(path: str, most: int) -> None:
    """Cut a file of output that has grown to more than twice `most` bytes; never the target of a link.

    It is left as long as `cut` leaves it: whoever may append to it may call `cut` just before it is cut here, and then
    keeps the mark. It is still longer than `most`, so that `cut` sees that something is missing.
    """
    try:
        with _grown(path) as (descriptor, size):
            kept = most + len(cut_mark(most))
            if size > 2 * kept:
                disk.truncate(descriptor, kept)
    except OSError as error:
        if error.errno not in {errno.ENOENT, *LINKS}:
            raise


def cut_mark(most: int) -> bytes:
    """Return the mark at the end of output that was cut."""
    return f"\n[output cut: more than {most} bytes]\n".encode()


def cut(path: str, most: int, *, lost: bool = False) -> int:
    """Cut a file of output to `most` bytes if it is longer, and append the mark; return its length before.

    With `lost` the mark is appended in any case: some output has not reached the file. A file that is marked already
    is not changed. Raises OSError for a link in its place.
    """
    with _grown(path) as (descriptor, size):
        mark = cut_mark(most)
        is_marked = most < size <= most + len(mark) and end(descriptor, len(mark)) == mark
        if size > most and not is_marked:
            disk.truncate(descriptor, most)
        if (lost or size > most) and not is_marked:
            write_all(descriptor, mark)
        return size


def add(path: str, text: str) -> None:
    """Append a text to a file of output. Raises OSError for a link in its place."""
    with _grown(path) as (descriptor, _):
        write_all(descriptor, text.encode())


@contextmanager
def _grown(path: str) -> Iterator[tuple[int, int]]:
    """Open a file to cut it; give its descriptor and size. A file with a second name counts as empty."""
    descriptor = disk.open_append(path)
    try:
        state = disk.fstat(descriptor)
        yield descriptor, state.st_size if stat.S_ISREG(state.st_mode) and state.st_nlink == 1 else 0
    finally:
        disk.close(descriptor)
