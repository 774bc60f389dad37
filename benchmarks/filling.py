"""Fill a spool with as many jobs as a busy month leaves: some wait, some are delayed, some are done.

By hand, on a disk with room for it (a million jobs take 4 GB where blocks have 4 KiB, 1.3 GB where they have 1 KiB):

    python -m benchmarks.filling /mnt/big --pending 1000000 --delayed 1000000 --done 1000000

So ten million fit into 15 GB, made as root by `truncate -s 30G big.img`, `mkfs.ext4 -b 1024 -i 2048 big.img` and
`mount -o loop big.img /mnt/big`: then `--pending 5000000 --done 5000000 --durability os`.

What waits is submitted as anybody would submit it. What is done is written to where the spool page says that it lies:
running a million jobs first would take a while. The directory is a project then, with an allowlist and a spool.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contestants.bgjobs import opened
from bgjobs import clock
from bgjobs.ids import lane_of, new_id
from bgjobs.job import moment
from bgjobs.queue import store_of
from bgjobs.requests import Request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from bgjobs.queue import Queue

GROUP = 1000
IN_AN_HOUR = 100_000  # ended jobs in one hour directory: about 30 a second, all day
HOUR_MS = 3_600_000
TOMORROW, A_MINUTE = timedelta(days=1), timedelta(minutes=1)
LANE = lane_of("Work", "note")
WORKER = "01k00000000000000000000000"
DONE = (
    '{{"format":1,"id":"{id}","class":"Work","method":"note","args":[{number}],"priority":5,"not_before":{ms},'
    '"retries":3,"submitted_at":{ms},"submitted_by":"ann@web1"}}\n'
    '{{"event":"start","at":{ms},"wid":"{worker}","number":1,"worker":"web1:7000","slot":0,"pid":7004,'
    '"birth":"461094","boot":"0b7c6a52-3d1e-4f8a-9c25-7e1f0a9d4b63"}}\n'
    '{{"event":"end","at":{ms},"wid":"{worker}","outcome":"succeeded","state":"done","result":{number}}}\n'
)


def submit(queue: Queue, count: int, first: int = 0) -> str:
    """Submit jobs `Work.note(number)` in groups, with numbers from `first` on; return the id of the last."""
    last = ""
    for numbers in _groups(first, count, GROUP):
        last = _submitted(queue, numbers)
    return last


def delay(queue: Queue, count: int, first: int = 0) -> str:
    """Submit jobs that are due from tomorrow on, each group a minute later than the one before."""
    last, due = "", clock.now() + TOMORROW
    for numbers in _groups(first, count, GROUP):
        last, due = _submitted(queue, numbers, due), due + A_MINUTE
    return last


def finish(queue: Queue, count: int, first: int = 0) -> str:
    """Lay down jobs as they lie after they were done, `IN_AN_HOUR` in each of the hours before this one."""
    _ = store_of(queue)  # it sets the spool up
    last, this_hour = "", clock.now_ms() // HOUR_MS
    for back, numbers in enumerate(_groups(first, count, IN_AN_HOUR), 1):
        begin_ms = (this_hour - back) * HOUR_MS
        hour = Path(queue.settings.spool, "done", moment(begin_ms).strftime("%Y%m%d%H"))
        hour.mkdir(mode=0o700, exist_ok=True)
        for place, number in enumerate(numbers):
            ms = begin_ms + place * HOUR_MS // len(numbers)
            last = new_id(ms, lane=LANE)
            _write_done(f"{hour}{os.sep}", last, ms, number)
    return last


def _submitted(queue: Queue, numbers: range, due: datetime | None = None) -> str:
    jobs = [Request(class_name="Work", method="note", args=[number], at=due) for number in numbers]
    return queue.submit_many(jobs)[-1].id


def _groups(first: int, count: int, size: int) -> Iterator[range]:
    for start in range(first, first + count, size):
        yield range(start, min(start + size, first + count))


def _write_done(hour: str, job_id: str, ms: int, number: int) -> None:
    descriptor = os.open(f"{hour}{job_id}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, DONE.format(id=job_id, ms=ms, number=number, worker=WORKER).encode())
    finally:
        os.close(descriptor)


def main() -> None:
    """Fill a directory, and say how fast that went."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filling", description="Fill a spool with many jobs.")
    parser.add_argument("directory", type=Path)
    for name in ("pending", "delayed", "done"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--durability", choices=("full", "os"), default="full")
    asked = parser.parse_args()
    queue = opened(asked.directory, asked.durability, limited=False)
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
