"""Rounds of power cuts on one disk: set the load going, cut, mount again, judge; in the end run all that is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.powercut import verdict
from tests.powercut.load import Child, Tampering, kill_all, submitter, worker
from tests.powercut.verdict import Ledger

if TYPE_CHECKING:
    import random

    from tests.powercut.disks import Disk

PROJECT = Path(__file__).with_name("project")
CUTS_PER_SPOOL = 4
SUBMITTERS, WORKERS = 2, 2
PATIENCE_S = 60.0
MOST_ACKS, MOST_RUNS = 60, 30  # before each cut, at the least
NOTE_BYTES = 27  # what a job notes of one run: its id
ENOUGH = 10  # so many jobs at least, when losing them is the point
CONFIG = """
[bgjobs]
spool        = "{spool}"
durability   = "{durability}"
finish_fsync = {finish_fsync}
import_paths = ["{project}"]
retries      = 3
retry_delay  = 0.05
max_crashes  = 1000  # every job must end well, however often the power goes under it

[jobs.Work]
class   = "work:Work"
methods = ["sign", "nap", "fail_first"]
"""


class Counts(Struct):
    """What was seen on one kind of file system."""

    cuts: int = 0
    acked: int = 0
    again: int = 0
    for_good: int = 0
    cancels: int = 0
    undone: int = 0


class BrokenPromiseError(Exception):
    """A power cut did what it must not do."""


class Series:
    """One spool on one disk, from its making to the end of all its jobs."""

    def __init__(
        self, disk: Disk, folder: Path, dice: random.Random, *, durability: str = "full", finish_fsync: bool = False
    ) -> None:
        self.disk = disk
        self.spool = disk.mounted / "spool"
        self.ledger = Ledger()
        self.dice = dice
        self.notes = folder / "notes"
        self.notes.write_bytes(b"")
        self.errors = folder / "errors"
        self.errors.write_bytes(b"")
        self.config = str(folder / "allowed_jobs.toml")
        text = CONFIG.format(
            spool=self.spool, durability=durability, finish_fsync=str(finish_fsync).lower(), project=PROJECT
        )
        Path(self.config).write_text(text, encoding="utf-8")
        disk.make()

    def tampering(self, *, one_fsync: bool = True, lying: bool = False) -> Tampering:
        """Return what to change in the children of the next round: each is of another boot."""
        return Tampering(f"boot-{self.dice.getrandbits(64):x}", one_fsync=one_fsync, lying=lying)

    def load(self, tampering: Tampering) -> list[Child]:
        """Set the load going, and return those who submit first."""
        tasks = [
            submitter(self.config, tampering, str(self.notes), self.dice.getrandbits(64)) for _ in range(SUBMITTERS)
        ]
        return [Child(task, self.errors) for task in (*tasks, *(worker(self.config, tampering),) * WORKERS)]

    def listen(self, children: list[Child], acks: int, runs: int) -> None:
        """Hear the submitters until so many more jobs are acknowledged and so many have run, and a moment longer."""
        deadline = time.monotonic() + PATIENCE_S
        acks, size = acks + len(self.ledger.acked), self.notes.stat().st_size + runs * NOTE_BYTES
        while len(self.ledger.acked) < acks or self.notes.stat().st_size < size:
            for child in children:
                self.ledger.note(child.heard(), before_the_cut=True)
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"nobody could submit, or no job ran: {self.said()}")
            time.sleep(0.001)  # between two looks
        time.sleep(self.dice.uniform(0, 0.02))  # a moment that falls anywhere between two steps

    def cut(self, children: list[Child]) -> None:
        """Cut the power under all of them, and bring the disk back."""
        for child in children:
            self.ledger.note(child.heard(), before_the_cut=True)
        self.disk.cut()
        kill_all()
        for child in children:
            self.ledger.note(child.heard(), before_the_cut=False)
            child.close()
        self.disk.unmount()
        self.disk.mount()

    def drain(self) -> None:
        """Let a worker run all that is left."""
        child = Child(worker(self.config, self.tampering(), drain=True), self.errors)
        status = child.ended(PATIENCE_S)
        kill_all()
        child.close()
        if status != 0:
            raise BrokenPromiseError(f"the worker that runs the rest ended with {status}: {self.said()}")

    def check(self, broken: list[str]) -> None:
        """Raise BrokenPromiseError if anything is broken."""
        if broken:
            raise BrokenPromiseError(f"{verdict.shown(broken)}\n{self.said()}")

    def said(self) -> str:
        """Return the last that the children wrote to standard error."""
        return self.errors.read_text("utf-8", "replace")[-2000:]


def cut_again_and_again(disk: Disk, folder: Path, dice: random.Random, counts: Counts) -> None:
    """Cut the power a few times under one spool, each time in the middle of the load; nothing may be lost."""
    # By turns: the order of syncs that this file system needs, and the one for all that are not known; jobs that may
    # run again after a cut, and jobs that may not once they are done.
    turn = counts.cuts // CUTS_PER_SPOOL
    one_fsync, finish_fsync = turn % 2 == 0, turn // 2 % 2 == 1
    series = Series(disk, folder, dice, finish_fsync=finish_fsync)
    try:
        for _ in range(CUTS_PER_SPOOL):
            children = series.load(series.tampering(one_fsync=one_fsync))
            try:
                series.listen(children, dice.randint(1, MOST_ACKS), dice.choice((0, dice.randint(1, MOST_RUNS))))
                if finish_fsync:
                    series.ledger.note_done(series.spool, series.notes)
            finally:
                series.cut(children)
            counts.cuts += 1
            series.check(verdict.judge(series.ledger, series.spool))
            series.check(verdict.broken_rules(series.ledger, series.spool))
            undone = verdict.undone_cancels(series.ledger, series.spool)
            counts.undone += len(undone)
            counts.cancels += len(series.ledger.cancelled)
            series.ledger.cancelled.clear()
        series.drain()
        series.check(verdict.judge_end(series.ledger, series.spool))
        series.check(verdict.ran_after_the_end(series.ledger, series.notes))
    finally:
        disk.unmount()
    counts.for_good += len(series.ledger.done)
    counts.acked += len(series.ledger.acked)
    counts.again += verdict.run_again(series.notes)


def must_lose(disk: Disk, folder: Path, dice: random.Random) -> int:
    """Cut the power where nothing is synced, and return how many jobs were lost; a harness that works sees many."""
    series = Series(disk, folder, dice, durability="os")
    try:
        children = series.load(series.tampering())
        try:
            series.listen(children, MOST_ACKS, 0)
        finally:
            series.cut(children)
        lost = sum("lost" in line for line in verdict.judge(series.ledger, series.spool))
    finally:
        disk.unmount()
    if lost < ENOUGH:
        raise BrokenPromiseError(f"only {lost} jobs lost without a sync: these cuts cut nothing")
    return lost


def survive_lies(disk: Disk, folder: Path, dice: random.Random) -> tuple[int, int]:
    """Cut the power under syncs that do nothing. Return how many jobs were kept, and how many torn and put aside."""
    series = Series(disk, folder, dice)
    try:
        honest, lying = series.tampering(one_fsync=False), series.tampering(lying=True)
        for tampering, name in ((honest, "the honest"), (lying, "the lied to")):
            task = submitter(series.config, tampering, str(series.notes), dice.getrandbits(64), most=40)
            child = Child(task, series.errors)
            if child.ended(PATIENCE_S) != 0:
                raise BrokenPromiseError(f"{name} could not submit: {series.said()}")
            series.ledger.note(child.heard(), before_the_cut=tampering is honest)
            child.close()
        disk.commit()  # the names of the lied to, and not what is in their files
        series.cut([])
        torn = verdict.torn(series.ledger, series.spool)
        series.check(verdict.judge(series.ledger, series.spool))
        series.drain()
        series.check(verdict.judge_end(series.ledger, series.spool))
        aside = {path.name.partition(".json")[0][-26:] for path in (series.spool / "corrupt").glob("*.json*.reason")}
    finally:
        disk.unmount()
    if len(torn) < ENOUGH or aside != torn:
        raise BrokenPromiseError(f"{len(torn)} jobs torn, {len(aside)} put aside with a reason")
    return len(series.ledger.acked), len(torn)
