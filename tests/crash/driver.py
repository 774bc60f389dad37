"""Try one operation in one way at each of its steps, each time in a process of its own; say what came of it.

    python driver.py OPERATION kill|error|lasting PLACE

Prints one line of JSON: how many cases there were, and what was wrong in which.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

from bgjobs.spool import cached_listing
from bgjobs.spool.doctor import fsck
from bgjobs.spool.inbox import importer
from tests.crash.afterwards import Afterwards
from tests.crash.doing import Operation, finished
from tests.crash.operations import OPERATIONS
from tests.crash.steps import ANSWERS, LASTING, UNFAILING, Plan, Steps, in_a_process
from tests.crash.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLED, FINE = -9, 0
MOST_SHOWN = 10
MANY = 5
LONG = 40


class Copy:
    """A directory tree held in memory: much quicker to put somewhere than to copy."""

    def __init__(self, root: str) -> None:
        self._folders: list[str] = []
        self._files: list[tuple[str, bytes]] = []
        self._old: list[str] = []
        for folder, _, names in os.walk(root):
            self._folders.append(os.path.relpath(folder, root))
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    self._files.append((os.path.relpath(file.name, root), file.read()))
        self._old = [
            name
            for name in (*(name for name, _ in self._files), *reversed(self._folders))
            if os.stat(os.path.join(root, name)).st_mtime == 0
        ]

    def put(self, root: str) -> None:
        """Make the tree anew."""
        for folder in self._folders:
            os.mkdir(os.path.normpath(os.path.join(root, folder)), 0o700)
        for name, data in self._files:
            with open(os.path.join(root, name), "wb") as file:
                file.write(data)
        for name in self._old:
            os.utime(os.path.join(root, name), (0, 0))


class Driver:
    """Tries one operation."""

    def __init__(self, operation: type[Operation], place: str) -> None:
        self._operation = operation
        self._template = os.path.join(place, "template")
        self._case = os.path.join(place, "case")
        self._errors = os.path.join(place, "errors")
        self._steps = Steps()
        self.cases = self.missed = 0
        self.wrong: list[str] = []

    def run(self, mode: str) -> None:
        """Learn the steps, then try each of them."""
        os.mkdir(self._template)
        self._warm_up()
        self._must(in_a_process(lambda: self._operation(World(self._template)).prepare(), self._errors) == FINE)
        self._copy = Copy(self._template)
        names = self._learn()
        for plan in PLANS[mode](names):
            self.try_(plan)
        # Listings have no order, and a moment more or less decides about a second look: not every run is the same.
        if self.missed > self.cases // MANY:
            self.wrong.append(f"{self.missed} of {self.cases} never got to the step at which they were to die")

    def _warm_up(self) -> None:
        """Load all that is loaded when it is needed, so that not every child has to."""
        fsck.PAUSES_S = ()  # nothing moves while it looks
        importer.AGAIN_S, cached_listing.RELIST_S = 0.0, 0.05  # nobody has to be spared
        world = World(os.path.join(os.path.dirname(self._case), "warm"))
        finished(world, world.submitted())
        fsck.broken(world.open().paths)
        gc.freeze()

    def _learn(self) -> list[str]:
        """Return the names of the steps, in order, of a run in which nothing happens."""
        self._fresh()
        status = in_a_process(lambda: self._work(Plan()), self._errors)
        self._must(status == FINE)
        self._afterwards(Plan())
        with open(os.path.join(self._case, "steps"), encoding="utf-8") as file:
            return file.read().split()

    def try_(self, plan: Plan) -> None:
        """Try one case: from a copy, in one process; then look at it, in another one."""
        self.cases += 1
        self._fresh()
        if os.path.exists(self._errors):
            os.unlink(self._errors)
        status = in_a_process(lambda: self._work(plan), self._errors)
        dies = plan.how.startswith("die")
        self.missed += dies and status == FINE
        if status not in {FINE, KILLED if dies else FINE}:
            self.complain(plan, f"ended with {status}: {self._said()}")
        self._afterwards(plan)

    def _work(self, plan: Plan) -> None:
        """Do the operation with this plan. A process that is not killed goes on after the error, and leaves."""
        world = World(self._case)
        operation = self._operation(world)
        operation.ready()
        self._steps.arm(plan)
        try:
            operation.act()
        except operation.raises:
            if not plan.how:
                raise
        finally:
            self._steps.disarm()
        if not plan.how:
            with open(os.path.join(self._case, "steps"), "w", encoding="utf-8") as file:
                file.write(" ".join(self._steps.names))
        operation.again()
        assert not self._steps.resynced, self._steps.resynced

    def _afterwards(self, plan: Plan) -> None:
        def look() -> None:
            after = Afterwards(World(self._case))
            try:
                after.check()
            finally:
                if after.complaints:
                    raise AssertionError("; ".join(after.complaints))

        if in_a_process(look, self._errors) != FINE:
            self.complain(plan, f"afterwards: {self._said()}")

    def _fresh(self) -> None:
        shutil.rmtree(self._case, ignore_errors=True)
        self._copy.put(self._case)

    def _said(self) -> str:
        if not os.path.exists(self._errors):
            return "nothing"
        with open(self._errors, encoding="utf-8") as file:
            return file.read()[-3000:]

    def complain(self, plan: Plan, what: str) -> None:
        """Take down what was wrong."""
        self.wrong.append(f"{plan}: {what}")

    def _must(self, holds: bool) -> None:
        if not holds:
            raise AssertionError(self._said())


def kills(names: list[str]) -> Iterator[Plan]:
    """Die before and after each step, and half-way through each write."""
    for at, name in enumerate(names, 1):
        yield Plan(how="die_before", at=at)
        yield Plan(how="die_after", at=at)
        if name == "write":
            yield Plan(how="die_within", at=at)


def errors(names: list[str]) -> Iterator[Plan]:
    """Let each step fail in every way that it can."""
    for at, name in enumerate(names, 1):
        for answer, where in ANSWERS.items():
            if name in where and answer != errno.EROFS:  # which does not pass: see below
                yield Plan(how="fail", at=at, answer=answer)
        if name == "write":
            yield Plan(how="write_half", at=at)
            for how in ("tear", "tear_end"):
                yield Plan(how=how, at=at, answer=errno.ENOSPC)


def lasting(names: list[str]) -> Iterator[Plan]:
    """Let every step fail from one on, until the operation is over; of many steps, from every second, third… on."""
    for answer, where in LASTING.items():
        for at, name in list(enumerate(names, 1))[:: 1 + len(names) // LONG]:
            if name in where and name not in UNFAILING:
                yield Plan(how="fail_from", at=at, answer=answer)


PLANS = {"kill": kills, "error": errors, "lasting": lasting}


def main() -> None:
    """Try the operation that the command line names."""
    name, mode, place = sys.argv[1:]
    driver = Driver(OPERATIONS[name], place)
    driver.run(mode)
    answer = {
        "cases": driver.cases,
        "missed": driver.missed,
        "broken": len(driver.wrong),
        "wrong": driver.wrong[:MOST_SHOWN],
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
