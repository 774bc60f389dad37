"""Every file operation on the queue's files, one name each. Nothing else in bgjobs touches these files.

The crash tests replace these names: they stop the process before and after each operation, let each fail, and record
what a power failure would lose. So they are always called through the module, as `disk.move(…)`.
"""

from os import (
    close,
    fstat,
    lseek,
    lstat,
    makedirs,
    mkdir,
    read,
    stat,
    truncate,
    write,
)

from bgjobs.system import (
    free_space,
    listdir,
    move,
    open_append,
    open_create_append,
    open_folder,
    open_new,
    open_read,
    replace,
    ring,
    rmdir,
    scandir,
    set_access,
    sync_directory,
    sync_file,
    sync_filesystem,
    unlink,
)

__all__ = [
    "close",
    "free_space",
    "fstat",
    "listdir",
    "lseek",
    "lstat",
    "makedirs",
    "mkdir",
    "move",
    "open_append",
    "open_create_append",
    "open_folder",
    "open_new",
    "open_read",
    "read",
    "replace",
    "ring",
    "rmdir",
    "scandir",
    "set_access",
    "stat",
    "sync_directory",
    "sync_file",
    "sync_filesystem",
    "truncate",
    "unlink",
    "write",
]
