"""A systemd at work for tests: in namespaces of its own, with a control group of its own, and gone with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.system.people import public_folder

if TYPE_CHECKING:
    from tests.system.people import Person

PROGRAM = "/lib/systemd/systemd"
CANNOT = 77  # what the script ends with where it may not do what it has to
START_S = 60.0
needs_systemd = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", PROGRAM))),
    reason="runs a systemd of its own, in namespaces: that takes Linux, root and systemd",
)
# A tree of control groups in which ours is the root; then processes of its own. They end when nobody holds our input
# any more, however the test came to its end: the kernel kills all that is in a pid namespace with its first process.
SCRIPT = f"""
cannot() {{ echo "$1"; exit {CANNOT}; }}
mount --make-rprivate / || cannot 'mounts cannot be made private'
mount -t cgroup2 none /sys/fs/cgroup || cannot 'control groups cannot be mounted'
own=/sys/fs/cgroup/bgjobs-test-$$
before=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir $own || cannot 'no control group can be made'
echo $$ >$own/cgroup.procs || cannot 'no control group can be entered'
chown -R "$OWNER" $own
exec 3<&0
unshare --pid --fork --kill-child --mount --mount-proc --cgroup --uts --ipc sh -c "$INSIDE" sh "$@" </dev/null 3<&- &
child=$!
(read -r nothing <&3; kill -KILL $child) &
watcher=$!
wait $child
status=$?
kill $watcher
echo $$ >$before/cgroup.procs
for again in $(seq 100); do  # until the last of them is dead
    find $own -depth -type d -exec rmdir {{}} + 2>/dev/null && break
    sleep 0.1
done
exit $status
"""
INSIDE = f"""
umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && mkdir -p /run/systemd || exit {CANNOT}
"""
OF_A_USER = f"""{INSIDE}
mount -t tmpfs -o mode=755 none /run/systemd && mkdir /run/systemd/system || exit {CANNOT}
"$@" &
wait
"""
# The first process of them all. Nothing of the machine is its own to change.
OF_THE_SYSTEM = f"""{INSIDE}
mount -t tmpfs -o mode=755 none /run || exit {CANNOT}
for place in /etc /proc/sys; do
    mount --bind $place $place && mount -o remount,bind,ro $place || exit {CANNOT}
done
mount -t tmpfs -o mode=755 none /etc/systemd/system || exit {CANNOT}
exec "$@"
"""
# The machine's own units are none of ours. These are what every unit wants to be there.
TARGETS = ("basic", "default", "local-fs", "multi-user", "shutdown", "sysinit")


class Manager:
    """The systemd of a user, or with root that of a whole system. Ends when it is closed, or when the test run ends."""

    def __init__(self, person: Person) -> None:
        """Start it, and wait until it answers."""
        if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode:
            pytest.skip("no namespaces can be made here")
        self._person = person
        self._mode = "--user" if person.uid else "--system"
        self._folder = public_folder()
        self.home = Path(self._folder.name)
        self._units = self.home / "targets"
        self._units.mkdir()
        for name in TARGETS:
            (self._units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n", "utf-8")
        runtime = self.home / "run"
        runtime.mkdir(mode=0o700)
        os.chown(self.home, person.uid, person.gid)
        os.chown(runtime, person.uid, person.gid)
        own = f"{self.home}/.config/systemd/user" if person.uid else "/etc/systemd/system"
        self._environment = {
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/bin:/bin",
            "SYSTEMD_GENERATOR_PATH": str(self._units),  # none
            "SYSTEMD_UNIT_PATH": f"{own}:{self._units}",
            "XDG_RUNTIME_DIR": str(runtime),
        }
        with (self.home / "said").open("wb") as said:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", *person.through(), PROGRAM, self._mode],
                env=self._environment
                | {"INSIDE": OF_A_USER if person.uid else OF_THE_SYSTEM, "OWNER": f"{person.uid}:{person.gid}"}
                | {"container": "test"},
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._answers():
            said = (self.home / "said").read_text("utf-8", "replace")
            if self._process.poll() == CANNOT:
                pytest.skip(f"no systemd can run here: {said.strip()}")
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def _answers(self) -> bool:
        return self._pid() != 0 and self.control("show", "--property=Version").returncode == 0

    def _pid(self) -> int:
        """Return the pid of systemd as it is seen from here, or 0."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.name() == "systemd":
                    return process.pid
        return 0

    def does(
        self, *command: str, cwd: Path | None = None, person: Person | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where systemd is, as its user or somebody else."""
        whose = person or self._person
        inside = ["nsenter", f"--target={self._pid()}", "--mount", "--pid", "--cgroup", "--uts", "--ipc"]
        rights = [f"--reuid={whose.uid}", f"--regid={whose.gid}", "--clear-groups"]
        return subprocess.run(
            [*inside, f"--wd={cwd or self.home}", "setpriv", *rights, *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `systemctl`."""
        return self.does("systemctl", self._mode, *words)

    def facts(self, unit: str) -> dict[str, str]:
        """Return what systemd knows of a unit."""
        shown = self.control("show", unit).stdout
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def kill(self, unit: str, signal: str) -> None:
        """Send a signal to the worker alone."""
        done = self.control("kill", "--kill-whom=main", f"--signal={signal}", unit)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """End it with all that it has started."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._folder.cleanup()
