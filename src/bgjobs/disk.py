"""Every step on the disk that the queue takes, one name each. Nothing else in bgjobs touches the queue's files.

The crash tests put themselves between these names and the system: they stop the process before and after each step, let
each fail, and write down what would be lost without power. So they are called by their module, `disk.move(…)`.
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
