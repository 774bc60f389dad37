"""Fill a spool with as many jobs as a busy month leaves: some wait, some are delayed, some are done.

By hand, on a disk with room for it (a million jobs take 4 GB where blocks have 4 KiB, 1.3 GB where they have 1 KiB):

    python -m benchmarks.filling /mnt/big --pending 1000000 --delayed 1000000 --done 1000000

So ten million fit into 15 GB, made as root by `truncate -s 30G big.img`, `mkfs.ext4 -b 1024 -i 2048 big.img` and
`mount -o loop big.img /mnt/big`: then `--pending 5000000 --done 5000000 --durability os`.

What waits is submitted as anybody would submit it. What is done is written to where docs/spool.md says that it lies:
running a million jobs first would take a while. The directory is a project then, with an allowlist and a spool.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.processes import ROOT
from bgjobs import clock
from bgjobs.ids import new_id
from bgjobs.job import moment
from bgjobs.queue import Queue
from bgjobs.requests import Request

CHUNK = 20_000
IN_AN_HOUR = 100_000  # ended jobs in one hour directory: about 30 a second, all day
HOUR_MS = 3_600_000
TOMORROW = timedelta(days=1)
WORKER = "01k00000000000000000000000"
ALLOWLIST = """
[bgjobs]
import_paths = [{root}]
durability = "{durability}"
max_queued = {most}

[jobs.Work]
class = "benchmarks.work"
methods = ["note"]
"""
DONE = (
    '{{"format":1,"id":"{id}","class":"Work","method":"note","args":[{number}],"priority":5,"not_before":{ms},'
    '"retries":3,"submitted_at":{ms},"submitted_by":"ann@web1"}}\n'
    '{{"event":"start","at":{ms},"wid":"{worker}","number":1,"worker":"web1:7000","slot":0,"pid":7004,'
    '"birth":"461094","boot":"0b7c6a52-3d1e-4f8a-9c25-7e1f0a9d4b63"}}\n'
    '{{"event":"end","at":{ms},"wid":"{worker}","outcome":"succeeded","state":"done","result":{number}}}\n'
)


def fill(queue: Queue, *, pending: int = 0, delayed: int = 0, done: int = 0) -> None:
    """Put so many jobs `Work.note(number)` into the queue."""
    submit(queue, pending)
    delay(queue, delayed)
    finish(queue, done)


def delay(queue: Queue, count: int) -> None:
    """Submit jobs that all wait for the same millisecond of tomorrow."""
    submit(queue, count, clock.now() + TOMORROW)


def submit(queue: Queue, count: int, at: datetime | None = None) -> None:
    """Submit jobs in groups."""
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        queue.submit_many([Request(class_name="Work", method="note", args=[number], at=at) for number in numbers])


def finish(queue: Queue, count: int) -> None:
    """Lay down jobs as they lie after they were done, `IN_AN_HOUR` in each of the hours before this one."""
    _ = queue.backend  # it sets the spool up
    this_hour = clock.now_ms() // HOUR_MS
    for back, start in enumerate(range(0, count, IN_AN_HOUR), 1):
        begin_ms, many = (this_hour - back) * HOUR_MS, min(IN_AN_HOUR, count - start)
        hour = Path(queue.settings.spool, "done", moment(begin_ms).strftime("%Y%m%d%H"))
        hour.mkdir(mode=0o700, exist_ok=True)
        for number in range(many):
            ms = begin_ms + number * HOUR_MS // many
            _write_done(f"{hour}{os.sep}", new_id(ms), ms, number)


def _write_done(hour: str, job_id: str, ms: int, number: int) -> None:
    descriptor = os.open(f"{hour}{job_id}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, DONE.format(id=job_id, ms=ms, number=number, worker=WORKER).encode())
    finally:
        os.close(descriptor)


def project(directory: Path, *, durability: str = "full", most: int = 0) -> Queue:
    """Make a project in a directory, if there is none, and open its queue. `most` jobs may wait; 0 is no limit."""
    path = directory / "allowed_jobs.toml"
    if not path.exists():
        root = json.dumps(str(ROOT))
        path.write_text(ALLOWLIST.format(root=root, durability=durability, most=most), encoding="utf-8")
    return Queue.open(config=str(path))


def main() -> None:
    """Fill a directory, and say how fast that went."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filling", description="Fill a spool with many jobs.")
    parser.add_argument("directory", type=Path)
    for name in ("pending", "delayed", "done"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--durability", choices=("full", "os"), default="full")
    asked = parser.parse_args()
    queue = project(asked.directory, durability=asked.durability)
    for name, count, put in (
        ("pending", asked.pending, submit),
        ("delayed", asked.delayed, delay),
        ("done", asked.done, finish),
    ):
        begun = time.perf_counter()
        put(queue, count)
        took = time.perf_counter() - begun
        if count:
            print(f"{name}: {count:,} jobs in {took:.0f} s, {count / took:,.0f} a second", flush=True)


if __name__ == "__main__":
    main()
