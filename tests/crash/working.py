"""The operations of a worker: take a place, claim, begin, finish, put back, leave."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from bgjobs import lifecycle
from bgjobs.errors import SpoolError
from bgjobs.job import Interrupted, Job, Outcome, Progress, Succeeded
from bgjobs.store import Claim, Selection
from tests.contract.stores import info, output_of
from tests.crash.doing import (
    ANN,
    FINAL,
    RAISED,
    Operation,
    claim_all,
    drain,
    store,
)
from tests.crash.world import LONG_AGO, RUNNER, now


class Join(Operation):
    """A worker takes its place."""

    raises = (SpoolError,)

    def act(self) -> None:
        self.session = self.world.join()

    def again(self) -> None:
        self.world.join().leave()


class JoinOlder(Join):
    """A worker takes its place in a spool that was set up before ids told lanes."""

    def prepare(self) -> None:
        Path(self.world.open().paths.lanes).unlink()


class Working(Operation):
    """What a worker does that has joined, and holds claims."""

    count = 1
    selection = Selection()

    def prepare(self) -> None:
        self.world.submitted(self.count)

    def ready(self) -> None:
        self.queue = self.world.open()
        self.session = self.queue.join(info(), self.selection)
        self.claims: list[Claim] = []

    def claim(self, count: int) -> list[Claim]:
        """Claim so many jobs, however often it has to be tried."""
        return claim_all(self.session, count)

    def again(self) -> None:
        drain(self.world, self.session)
        self.session.leave()


class Claiming(Working):
    """Three priorities, a delayed job that is due, and a stranger among them."""

    def prepare(self) -> None:
        for priority in (2, 5, 8):
            self.world.submitted(priority=priority)
        self.world.submitted(delay=timedelta(milliseconds=1))
        (stranger,) = self.world.submitted()
        (path,) = self.world.spool.glob(f"pending/*/*/*{stranger.id}.json")
        path.write_bytes(b"torn")
        self.world.tell("strange", stranger.id)

    def act(self) -> None:
        for _ in range(2):
            self.claims += self.session.claim(2)

    def again(self) -> None:
        for claim in self.claims:
            store(self.world, self.session, claim, Succeeded())
        super().again()


class ClaimingBySelection(Claiming):
    """A worker that takes some classes only, and looks into the files before it claims them."""

    selection = Selection(classes=frozenset({"Mail"}))

    def again(self) -> None:
        for claim in [*self.claims, *self.claim(4 - len(self.claims))]:
            store(self.world, self.session, claim, Succeeded())
        self.session.leave()  # the stranger is left for a worker that takes all


class Begin(Working):
    """A runner begins an attempt, after the worker noted which process it is."""

    def ready(self) -> None:
        super().ready()
        (self.held,) = self.claim(1)
        self.running: Job | None = None

    def act(self) -> None:
        self.session.slots.started(0, RUNNER, LONG_AGO)
        self.running = self.world.begin(self.session, self.held)

    def again(self) -> None:
        if self.running is not None:
            store(self.world, self.session, self.held, Succeeded(), running=self.running)
        elif self.session.attempt(self.held).begun:
            self.running = lifecycle.started(self.held.job, worker="web1:1", at=now())
            store(self.world, self.session, self.held, Interrupted(), running=self.running)
        else:
            self.session.release(self.held)
        super().again()


class Finish(Working):
    """An attempt ends, and with it the job."""

    outcome: Outcome = Succeeded()
    wish = ""

    def ready(self) -> None:
        super().ready()
        (self.held,) = self.claim(1)
        self.running = self.world.begin(self.session, self.held)
        self.ending = self.world.ending(self.running, self.outcome)
        Path(self.session.slots.output(0)).write_text("hello\n", encoding="utf-8")
        self.output = str(output_of(self.session, self.held))
        if self.wish:
            Path(self.world.spool, "workers", self.session.id, f"cancel-{self.held.job.id}").write_text(
                self.wish, "utf-8"
            )
            self.world.tell("asked", self.held.job.id, answer="requested")
        self.stored = False

    def act(self) -> None:
        self.session.slots.keep_output(0, self.output)
        self.world.finish(self.session, self.held, self.ending)
        self.stored = True

    def again(self) -> None:
        if not self.stored:
            self.world.finish(self.session, self.held, self.ending)
        super().again()


class FinishFailed(Finish):
    """No attempt is left."""

    outcome = FINAL


class AnotherAttempt(Finish):
    """An attempt fails, and another one follows later."""

    outcome = RAISED


class AnotherAttemptUnwanted(AnotherAttempt):
    """The same, while somebody asks to cancel the job."""

    wish = ANN


class HandBackBegun(Finish):
    """A stopping worker interrupts an attempt."""

    outcome = Interrupted()


class HandBack(Working):
    """A worker puts back what it has not begun."""

    wish = ""

    def ready(self) -> None:
        super().ready()
        (self.held,) = self.claim(1)
        self.returned = False
        if self.wish:
            wish = Path(self.world.spool, "workers", self.session.id, f"cancel-{self.held.job.id}")
            wish.write_text(self.wish, encoding="utf-8")
            self.world.tell("asked", self.held.job.id, answer="requested")

    def act(self) -> None:
        self.session.release(self.held)
        self.returned = True

    def again(self) -> None:
        if not self.returned:
            self.session.release(self.held)
        super().again()


class HandBackUnwanted(HandBack):
    """The same, while somebody asks to cancel the job."""

    wish = ANN


class Renew(Working):
    """A worker stores progress, and looks for wishes."""

    def ready(self) -> None:
        super().ready()
        (self.held,) = self.claim(1)
        self.running = self.world.begin(self.session, self.held)

    def act(self) -> None:
        for done in (1, 2):
            self.session.renew({self.held.job.id: Progress(done=done, total=2)})

    def again(self) -> None:
        store(self.world, self.session, self.held, Succeeded(), running=self.running)
        super().again()


class Leave(Working):
    """A worker gives up its place."""

    def ready(self) -> None:
        super().ready()
        for claim in self.claim(self.count):
            store(self.world, self.session, claim, Succeeded())
        self.session.slots.started(0, RUNNER, LONG_AGO)

    def act(self) -> None:
        self.session.leave()

    def again(self) -> None:
        pass  # the worker announces that its files are still there, and ends
