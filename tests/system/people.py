"""Other users, for real: processes with their rights, and a way for them to run Python wherever it is installed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = 1  # "daemon", on every system
HERE = Path(__file__).parents[2]
# In a view of the disk of its own, where the directory that closes the way is open: a new one, with what is needed.
OPENED = """
set -e
mount -t tmpfs none /mnt
number=0
for place in $PLACES; do
    number=$((number + 1)); mkdir /mnt/$number; mount --bind "$place" /mnt/$number
done
mount -t tmpfs -o mode=755 none "$CLOSED"
number=0
for place in $PLACES; do
    number=$((number + 1)); mkdir -p "$place"; mount --bind /mnt/$number "$place"
done
exec "$@"
"""

needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("setpriv"),
    reason="only root can act as other users, and setpriv is on Linux",
)


class Person(Struct, frozen=True):
    """A user, by number, with one group and perhaps that with which spools are shared."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = (GROUP,)

    def does(self, what: Callable[[], Any]) -> Any:
        """Do something in a process of this user, and return what came of it: a JSON value, or an error's name."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self.become()
                os.write(writing, json.dumps(_tried(what)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        return json.loads(said)

    def become(self) -> None:
        """Turn this process into one of this user."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        os.umask(0o022)

    def through(self) -> list[str]:
        """Return the command that runs another one as this user, with Python within reach."""
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        own = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", groups]
        closed = _closed()
        if not closed:
            return own
        places = [os.path.realpath(sys.base_prefix), sys.prefix, str(HERE)]
        inside = shlex.join(place for place in places if place.startswith(f"{closed}/"))
        view = ["unshare", "--mount", "env", f"CLOSED={closed}", f"PLACES={inside}", "sh", "-c", OPENED, "sh"]
        if subprocess.run([*view, "true"], capture_output=True, check=False).returncode:
            pytest.skip("other users cannot run this Python, and no view of the disk can be made in which they can")
        return [*view, *own]

    def hand_in(self, folder: Path, name: str, content: dict[str, Any] | bytes, mode: int = 0o640) -> Any:
        """Submit as another program does: write under a name that begins with a dot, then rename."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()

        def write() -> None:
            hidden = folder / f".{name}"
            hidden.write_bytes(data)
            hidden.chmod(mode)
            hidden.rename(folder / name)

        assert self.does(write) is None


def _tried(what: Callable[[], Any]) -> Any:
    try:
        return what()
    except OSError as error:
        return type(error).__name__


def _closed() -> str:
    """Return the directory that keeps others from this Python, if there is one."""
    path = Path(os.path.realpath(sys.executable))
    return next((str(above) for above in reversed(path.parents) if not above.stat().st_mode & 0o001), "")


def public_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new directory that others may enter, unlike those of pytest."""
    folder = tempfile.TemporaryDirectory(prefix="bgjobs-shared-")
    Path(folder.name).chmod(0o755)
    return folder


NOBODY = Person("nobody", 65534, 65534)
DAEMON = Person("daemon", 1, GROUP)
STRANGER = Person("nobody", 65534, 65534, groups=())  # the same user, but not in the group
NAMELESS = Person("#54321", 54321, 54321)
ROOT = Person("root", 0, 0)
