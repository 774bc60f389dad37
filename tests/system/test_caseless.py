"""A disk that tells no capitals from small letters and takes no name that Windows does not: a queue's life on NTFS.

It needs root, FUSE and ntfs-3g, which has an NTFS of its own; or, where the kernel can do so, an ext4 whose
directories fold letters.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bgjobs import Queue, system
from bgjobs.errors import NoSuchTargetError, UsageError
from bgjobs.job import State
from bgjobs.spool.doctor import fsck
from bgjobs.spool.layout import Layout
from tests.process.conftest import Project, lines, request, wait_for_lines, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the mounts are those of Linux"),
    pytest.mark.skipif(not system.is_elevated(), reason="only root may mount a disk"),
]
MIB = 1 << 20


def on_ntfs(image: Path, place: Path) -> list[str]:
    # The interface that the kernel has for it would be called a disk of unknown kind too.
    return ["lowntfs-3g", "-o", "ignore_case,windows_names,permissions", str(image), str(place)]


def on_folding_ext4(image: Path, place: Path) -> list[str]:
    return ["mount", "-o", "loop", str(image), str(place)]


DISKS = {
    "ntfs": (["mkntfs", "-F", "-q", "-Q", "-s", "512", "-p", "0", "-H", "0", "-S", "0"], on_ntfs),
    "ext4": (["mkfs.ext4", "-q", "-F", "-O", "casefold", "-E", "encoding=utf8"], on_folding_ext4),
}


@pytest.fixture(params=sorted(DISKS))
def caseless(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    """Return a project on such a disk, with all that belongs to it."""
    make, mount = DISKS[request.param]
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    image.touch()
    os.truncate(image, 96 * MIB)
    if shutil.which(make[0]) is None or shutil.which(mount(image, place)[0]) is None:
        pytest.skip(f"there is no {make[0]}")
    subprocess.run([*make, str(image)], check=True, capture_output=True)
    done = subprocess.run(mount(image, place), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this machine does not let us mount: {done.stderr.strip()}")
    try:
        place.chmod(0o755)
        folder = place / "folder"
        folder.mkdir(mode=0o700)
        if request.param == "ext4":
            subprocess.run(["chattr", "+F", str(folder)], check=True, capture_output=True)
        project = Project(folder / "project")
        (folder / "Probe").touch()
        assert (folder / "pROBE").exists()
        yield project
        project.close()
    finally:
        wait_until(lambda: subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode == 0)


def test_a_queue_leads_a_full_life_there(caseless: Project, tmp_path: Path) -> None:
    project, queue = caseless, caseless.queue
    go, notes = tmp_path / "go", tmp_path / "notes"
    jobs = [queue.submit("Honest", "echo", [str(number)], priority=number % 10) for number in range(10)]
    jobs += queue.submit_many([request("Honest", "echo", "many") for _ in range(20)])
    jobs.append(queue.submit("Honest", "echo", ["late"], delay=0.3))
    unwanted = queue.submit("Honest", "echo", ["never"], delay=3600)
    queue.cancel(unwanted.id)
    soon = queue.submit("Honest", "echo", ["soon"], delay=3600)
    queue.run_now(soon.id)
    (project.spool / "incoming" / "One.JSON.json").write_bytes(b'{"format":1,"class":"Honest","method":"echo"}')
    held = queue.submit("Honest", "wait_for", [str(go), str(notes)], priority="high")
    worker = project.start(concurrency=2)
    wait_for_lines(notes)
    worker.kill()
    go.touch()
    project.drain(concurrency=2)
    assert {project.state(job) for job in [*jobs, soon, held]} == {State.DONE}
    assert project.state(unwanted) is State.CANCELLED
    assert lines(notes) == [held.id] * 2
    assert queue.get(held.id).crashes == 1
    assert queue.counts()[State.CORRUPT] == 0
    again = queue.retry(jobs[0].id)
    project.drain()
    assert project.state(again) is State.DONE
    queue.delete(again.id)
    assert [finding for finding in fsck.check(Layout(queue.settings.spool)) if finding.serious] == []
    ended = queue.counts()
    assert queue.prune(older=0) == ended[State.DONE] + ended[State.FAILED] + ended[State.CANCELLED]
    assert [path for name in ("done", "output") for path in (project.spool / name).rglob("*.*")] == []


def test_two_ways_to_write_the_spool_are_one_spool(caseless: Project) -> None:
    job = caseless.queue.submit("Honest", "echo", ["x"])
    other = Queue.open(config=str(caseless.config), spool=str(caseless.root / "SPOOL"))
    assert other.get(job.id) == job
    second = other.submit("Honest", "echo", ["y"])
    caseless.drain()
    assert {caseless.state(job), caseless.state(second)} == {State.DONE}


def test_ids_are_not_mistaken_for_each_other(caseless: Project) -> None:
    job = caseless.queue.submit("Honest", "echo", ["x"])
    (found,) = caseless.spool.glob(f"pending/*/*/*-{job.id}.json")
    assert found.with_name(found.name.upper()).exists()
    with pytest.raises(UsageError, match="bad job id"):
        caseless.queue.get(job.id.upper())
    worker = caseless.drain()
    assert "Traceback" not in worker.says()
    assert caseless.state(job) is State.DONE


def test_a_module_that_is_written_with_other_letters_is_not_imported(caseless: Project) -> None:
    """Python itself tells the letters apart; the check before it should, or a job would be taken that cannot run."""
    caseless.allow("honest:Honest", "HONEST:Honest")
    queue = Queue.open(config=str(caseless.config))
    with pytest.raises(NoSuchTargetError, match="HONEST"):
        queue.submit("Honest", "echo", ["x"])
