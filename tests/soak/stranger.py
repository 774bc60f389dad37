"""A process that knows nothing of bgjobs and hands jobs in by files, as the spool page says, until it is killed."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

from tests.soak.diary import Diary, Note

if TYPE_CHECKING:
    from pathlib import Path

PAUSE_S = 0.4


def main(home: Path, name: str, seed: int) -> None:
    """Write a file under a hidden name, then give it one that workers see, again and again."""
    luck = random.Random(seed)
    diary = Diary(home / "diaries" / name)
    incoming = home / "spool" / "incoming"
    while not incoming.is_dir():
        time.sleep(PAUSE_S)
    count = 0
    while True:
        count += 1
        key = f"{name}-{count}"
        method, args = luck.choice((("step", (key,)), ("nap", (key, 0.1)), ("come_round", (key, 2))))
        wish = {"format": 1, "class": "Stormy", "method": method, "args": args, "retries": luck.randrange(4)}
        diary.write([Note(did="attempted", key=key, class_name="Stormy", method=method, args=args)])
        fresh = incoming / f".{key}.new"
        fresh.write_text(json.dumps(wish), "utf-8")
        fresh.rename(incoming / f"{key}.json")
        diary.write([Note(did="handed in", key=key)])
        time.sleep(luck.expovariate(1 / PAUSE_S))
