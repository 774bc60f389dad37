"""A systemd at work for tests: in namespaces of its own, with a control group of its own, and gone with the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.measuring import unmeasured
from tests.process.people import NOBODY, public_folder

if TYPE_CHECKING:
    from tests.process.people import Person

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
unshare --pid --fork --kill-child --mount --mount-proc --cgroup sh -c "$INSIDE" sh "$@" </dev/null &
child=$!
cat >/dev/null
kill -KILL $child
wait $child
echo $$ >$before/cgroup.procs
for again in $(seq 100); do  # until the last of them is dead
    find $own -depth -type d -exec rmdir {{}} + 2>/dev/null && break
    sleep 0.1
done
"""
INSIDE = """
set -e
umount /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 none /run/systemd
mkdir /run/systemd/system
"$@" &
wait
"""
# The machine's own units are none of ours. These are what every unit wants to be there.
TARGETS = ("basic", "default", "shutdown", "sysinit")


class Manager:
    """The systemd of a user, who can run commands beside it. Ends when it is closed, or when the test run ends."""

    def __init__(self, person: Person) -> None:
        """Start it, and wait until it answers."""
        self._person = person
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
        self._environment = {
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin",
            "SYSTEMD_UNIT_PATH": f"{self.home}/.config/systemd/user:{self._units}",
            "XDG_RUNTIME_DIR": str(runtime),
        }
        with (self.home / "said").open("wb") as said:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", *person.through(), PROGRAM, "--user"],
                env=unmeasured(self._environment | {"INSIDE": INSIDE, "OWNER": f"{person.uid}:{person.gid}"}),
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

    def does(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, where systemd is."""
        inside = ["nsenter", f"--target={self._pid()}", "--mount", "--pid", "--cgroup", f"--wd={cwd or self.home}"]
        person = [f"--reuid={self._person.uid}", f"--regid={self._person.gid}", "--clear-groups"]
        return subprocess.run(
            [*inside, "setpriv", *person, *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `systemctl --user`."""
        return self.does("systemctl", "--user", *words)

    def facts(self, unit: str) -> dict[str, str]:
        """Return what systemd knows of a unit."""
        shown = self.control("show", unit).stdout
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def kill(self, unit: str, signal: str) -> None:
        """Send a signal to the worker alone."""
        done = self.control("kill", "--kill-whom=main", f"--signal={signal}", unit)
        assert done.returncode == 0, done.stderr

    def bgjobs(self, *words: str, cwd: Path) -> str:
        """Run a command of ours in a project, and return what it prints."""
        done = self.does(sys.executable, "-m", "bgjobs", *words, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def job(self, cwd: Path, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.bgjobs("status", job_id, "--json", cwd=cwd))
        return found

    def close(self) -> None:
        """End it with all that it has started."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._folder.cleanup()


def of_nobody() -> Manager:
    """Return one of a user without any rights."""
    return Manager(NOBODY)
