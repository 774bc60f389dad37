"""Take over from a worker that died with a job in each row of the recovery table."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.job import Interrupted, Job, Succeeded
from bgjobs.spool.session import SpoolSession
from bgjobs.store import Claim, Selection
from tests.contract.stores import info
from tests.crash.doing import (
    ANN,
    HOUR,
    RAISED,
    Operation,
    claim_all,
    drain,
    no_moves,
    take_over_all,
)
from tests.crash.world import LONG_AGO, RUNNER, set_clock

if TYPE_CHECKING:
    from bgjobs.spool.store import SpoolStore
    from tests.crash.world import Decided


class Recover(Operation):
    """A worker takes over from one that died with a job in each row of the recovery table."""

    def prepare(self) -> None:
        self.jobs = self.world.submitted(10)
        queue = self.world.open()
        for crashes in (1, 2):  # two jobs that have been lost before, one of them twice
            self._lose(self.jobs[:crashes], queue)
        self.session = queue.join(info(), Selection())
        claims = {claim.job.id: claim for claim in self._all(10)}
        self.held = [claims[job.id] for job in self.jobs]
        Path(self.session.slots.output(0)).write_text("hello\n", encoding="utf-8")
        self.session.slots.started(0, RUNNER, LONG_AGO)
        begun = [self.world.begin(self.session, claim) for claim in self.held[:8]]
        for number, outcome in ((4, Succeeded()), (5, RAISED), (6, Interrupted())):
            self._decide(number, self.world.ending(begun[number], outcome))
        for number in (3, 5, 9):  # begun, to be tried again, not begun
            assert queue.cancel(self.jobs[number].id, ANN) == "requested"

    def _lose(self, jobs: list[Job], queue: SpoolStore) -> None:
        """Let a worker be lost with these."""
        self.session = queue.join(info(), Selection())
        wanted = {job.id for job in jobs}
        for claim in self._all(10):
            if claim.job.id in wanted:
                self.world.begin(self.session, claim)
            else:
                self.session.release(claim)
        assert isinstance(self.session, SpoolSession)
        self.session._dir.release()
        self.session = queue.join(info(), Selection())
        take_over_all(self.world, self.session)
        self.session.leave()
        set_clock(HOUR)  # the second loss is followed by a wait

    def _all(self, count: int) -> list[Claim]:
        return claim_all(self.session, count)

    def _decide(self, number: int, ending: Decided) -> None:
        """Write down what becomes of a job, and go no further."""
        with no_moves(), suppress(OSError):
            self.world.finish(self.session, self.held[number], ending)

    def ready(self) -> None:
        self.session = self.world.join()

    def act(self) -> None:
        for _ in range(2):  # the second time to clear away
            self.world.recover(self.session)

    def again(self) -> None:
        take_over_all(self.world, self.session)
        drain(self.world, self.session)
        self.session.leave()


class RecoverAfterBoot(Recover):
    """The machine went down as well: what may have been begun counts as begun."""

    def prepare(self) -> None:
        jobs = self.world.submitted(3)
        queue = self.world.open()
        self.session = queue.join(info(), Selection())
        claims = {claim.job.id: claim for claim in self._all(3)}
        self.world.begin(self.session, claims[jobs[0].id])
        assert queue.cancel(jobs[2].id, ANN) == "requested"
        path = self.world.spool / "workers" / self.session.id / "info"
        path.write_text(path.read_text("utf-8").replace(system.boot_id(), "another"), encoding="utf-8")
