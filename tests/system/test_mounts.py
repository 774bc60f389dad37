"""A disk that goes away, turns read-only or stands still under a running worker. For root alone, who may mount one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bgjobs import Queue, system
from bgjobs.job import State
from tests.process.conftest import LIMIT, Project, gone, lines, numbers, request, wait_for_lines, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.job import Job

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the mounts are those of Linux"),
    pytest.mark.skipif(not system.is_elevated(), reason="only root may mount a disk"),
]
MIB = 1 << 20


def outcomes(job: Job) -> list[str]:
    return [attempt.outcome for attempt in job.attempts]


def call(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mount something for one test: `mount(place, options…)`. A machine that does not allow it skips the test."""
    places: list[str] = []

    def mounted(place: Path, *options: str) -> None:
        place.mkdir(exist_ok=True)
        try:
            call("mount", *options, str(place))
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this machine does not let us mount: {error}")
        places.append(str(place))

    yield mounted
    for place in reversed(places):
        # Some are gone already; a lazy one ends as soon as nobody uses it any more.
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)


@pytest.fixture
def on_ext4(tmp_path: Path, mount: Callable[..., None]) -> Iterator[tuple[Project, Callable[[], None], str]]:
    """A project whose spool is an ext4 of its own, how to mount that anew, and its device."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 48 * MIB)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    call("mkfs.ext4", "-q", "-F", str(image))
    project = Project(tmp_path / "project")
    project.allow('durability  = "os"', 'durability  = "full"')  # as for every disk that may go away
    project.queue = Queue.open(config=str(project.config))

    def mount_it() -> None:
        mount(project.spool, "-o", "loop,errors=remount-ro", str(image))

    mount_it()
    (project.spool / "lost+found").rmdir()
    yield project, mount_it, device_of(project.spool)
    project.close()


def device_of(place: Path) -> str:
    return Path(call("findmnt", "-n", "-o", "SOURCE", str(place))).name


def test_a_worker_whose_spool_is_unmounted_stops_and_makes_none_beneath(
    project: Project, tmp_path: Path, mount: Callable[..., None]
) -> None:
    disk, signed = tmp_path / "disk", tmp_path / "signed"
    mount(disk, "-t", "tmpfs", "-o", "size=32m,mode=700", "none")
    mount(project.spool, "--bind", str(disk))
    jobs = project.queue.submit_many([request("Honest", "sign", str(signed), 0.002) for _ in range(200)])
    worker = project.start(concurrency=2)
    wait_for_lines(signed, 10)
    call("umount", "-l", str(project.spool))
    assert worker.ended() == 1
    assert "is gone or was replaced" in worker.says()
    assert list(project.spool.iterdir()) == []
    mount(project.spool, "--bind", str(disk))
    project.drain(concurrency=2)
    assert {project.state(job) for job in jobs} == {State.DONE}
    for job in jobs:
        assert 1 <= lines(signed).count(job.id) <= len(project.queue.get(job.id).attempts)
    project.close()


def test_a_worker_whose_disk_turns_read_only_loses_no_job(
    on_ext4: tuple[Project, Callable[[], None], str], tmp_path: Path
) -> None:
    project, mount_it, device = on_ext4
    trigger = Path("/sys/fs/ext4", device, "trigger_fs_error")
    if not trigger.exists():
        pytest.skip("this kernel cannot feign an error of the disk")
    go, notes, signed = tmp_path / "go", tmp_path / "notes", tmp_path / "signed"
    worker = project.start()
    held = project.queue.submit("Honest", "wait_for", [str(go), str(notes)])
    wait_for_lines(notes)
    waiting = project.queue.submit_many([request("Honest", "sign", str(signed)) for _ in range(5)])
    trigger.write_text("feigned for a test", "utf-8")
    go.touch()  # the running job may end, and nothing can be written about that
    wait_until(lambda: "Read-only file system" in worker.says())
    wait_until(lambda: worker.says().count(f"cannot store how job {held.id} ended") > 2)
    assert lines(signed) == []  # nothing more was begun
    assert worker.stop() == 1
    assert "Traceback" not in worker.says()
    call("umount", str(project.spool))
    # A process that began meanwhile in a mount namespace of its own, as another test's service, holds a copy of the
    # mount: as long as it lives, mounting the image anew gives the same file system, which stays read-only.
    wait_until(lambda: not trigger.exists())
    # 4 and more: not mended, as while the loop device is still about to let go of the image.
    mend = ["e2fsck", "-f", "-y", str(tmp_path / "image")]
    wait_until(lambda: subprocess.run(mend, check=False, capture_output=True).returncode < 4)
    mount_it()
    project.drain()
    done = project.queue.get(held.id)
    assert done.state is State.DONE
    assert done.crashes <= 1  # what is not synced is lost with such a disk, and that the attempt began is not
    assert lines(notes) == [held.id] * 2  # nobody could write down that it had ended: it ran again
    assert lines(signed) == [job.id for job in waiting]
    assert project.traces() == []


READING = ["status", "list", "wait ID", "logs", "logs ID"]
WRITING = ["submit Honest echo x", "cancel LATER", "run-now LATER", "delete ID", "worker --once"]


def test_a_disk_that_is_read_only_can_be_looked_at_and_who_must_write_is_told_in_one_line(
    tmp_path: Path, mount: Callable[..., None]
) -> None:
    project = Project(tmp_path / "project")
    later = project.queue.submit("Honest", "echo", ["y"], delay=3600)
    worker = project.start()
    ended = project.queue.wait(project.queue.submit("Honest", "echo", ["x"]).id, LIMIT)  # its runner is there, too
    mount(project.spool, "--bind", str(project.spool))
    call("mount", "-o", "remount,ro,bind", str(project.spool))

    def bgjobs(words: str) -> subprocess.CompletedProcess[str]:
        argv = [{"ID": ended.id, "LATER": later.id}.get(word, word) for word in words.split()]
        command = [sys.executable, "-m", "bgjobs", *argv, "--spool", str(project.spool)]
        return subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False, timeout=LIMIT)

    for words in READING:
        looked = bgjobs(words)
        assert (looked.returncode, looked.stderr) == (0, ""), words
    assert worker.name in bgjobs("status").stdout
    found = bgjobs("doctor")
    assert (found.returncode, found.stderr) == (1, "")
    assert str(project.spool / "tmp") in found.stdout
    for words in WRITING:
        refused = bgjobs(words)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), words
        assert refused.stderr.startswith(f"bgjobs: the disk of the spool {project.spool} is read-only: "), words
    call("umount", str(project.spool))
    assert project.state(later) is State.SCHEDULED
    assert worker.stop() == 0, worker.says()
    project.close()


def test_a_job_whose_runner_hangs_in_the_kernel_waits_until_that_is_gone(
    on_ext4: tuple[Project, Callable[[], None], str], tmp_path: Path, mount: Callable[..., None]
) -> None:
    project, _, _ = on_ext4
    frozen, go, image = tmp_path / "frozen", tmp_path / "go", tmp_path / "other image"
    image.touch()
    os.truncate(image, 16 * MIB)
    call("mkfs.ext4", "-q", "-F", str(image))
    mount(frozen, "-o", "loop", str(image))
    first = project.start()
    job = project.queue.submit("Fearsome", "write", [str(frozen / "file"), str(go)], timeout=60)
    wait_for_lines(frozen / "file.begun")
    (runner,) = numbers(frozen / "file.begun")
    second = project.start().ready()
    call("fsfreeze", "-f", str(frozen))
    try:
        go.touch()
        wait_until(lambda: psutil.Process(runner).status() == psutil.STATUS_DISK_SLEEP)
        first.kill()
        # It is killed, and cannot die: its job must wait for it, and other jobs must not wait for that.
        wait_until(lambda: "a runner of this dead worker cannot be killed" in str(project.errors()))
        other = project.queue.submit("Honest", "echo", ["beside it"], delay=1)
        assert project.queue.wait_until_ended(other.id, LIMIT).worker == second.name
        assert project.state(job) is State.RUNNING
        assert not gone(runner)
    finally:
        call("fsfreeze", "-u", str(frozen))
    wait_until(lambda: gone(runner))
    wait_for_lines(frozen / "file.begun", 2)
    assert project.queue.get(job.id).crashes == 1
    second.send(signal.SIGKILL)
    second.ended()
    project.queue.cancel(job.id)
    project.drain()
    assert project.state(job) is State.CANCELLED
