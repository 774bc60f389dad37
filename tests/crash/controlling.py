"""What people do to jobs that are there: cancel, let start at once, delete; and what a worker deletes."""

from __future__ import annotations

import os
from datetime import timedelta

from bgjobs.ids import new_id
from bgjobs.job import Cancelled, State
from bgjobs.spool import retries
from tests.crash.doing import (
    ANN,
    HOUR,
    Operation,
    cancel,
    finished,
)
from tests.crash.working import Working
from tests.crash.world import now, set_clock


class CancelPending(Operation):
    """Somebody cancels a job that waits."""

    delay = timedelta(0)

    def prepare(self) -> None:
        self.world.submitted(delay=self.delay)

    def ready(self) -> None:
        self.queue = self.world.open()
        (self.id,) = [fact["ids"][0] for fact in self.world.told() if fact["what"] == "acked"]

    def act(self) -> None:
        cancel(self.world, self.queue, self.id)

    def again(self) -> None:
        cancel(self.world, self.queue, self.id)


class CancelDelayed(CancelPending):
    """Somebody cancels a job whose moment has not come."""

    delay = HOUR


class CancelRunning(Working):
    """Somebody asks for the end of a running job, and its worker sees to it."""

    def ready(self) -> None:
        super().ready()
        (self.held,) = self.claim(1)
        self.running = self.world.begin(self.session, self.held)
        self.stored = False

    def act(self) -> None:
        cancel(self.world, self.queue, self.held.job.id)
        by = self.session.renew({}).get(self.held.job.id)
        if by is None:
            raise BlockingIOError("the wish cannot be seen now; the worker looks again")
        self.world.finish(self.session, self.held, self.world.ending(self.running, Cancelled(by)))
        self.stored = True

    def again(self) -> None:
        if not self.stored:
            self.act()
        super().again()


class StopWorker(Working):
    """Somebody asks a worker to stop, and it hears that."""

    def act(self) -> None:
        if not self.queue.stop(self.session.id):
            raise BlockingIOError("nobody can see now that the worker lives")
        if not self.session.stop_requests():
            raise BlockingIOError("the request cannot be seen now; the worker looks again")


class RunNow(CancelDelayed):
    """Somebody wants a delayed job to start at once."""

    def act(self) -> None:
        assert self.queue.run_now(self.id, ANN) in {"now", "already due"}
        self.world.tell("due", self.id)

    def again(self) -> None:
        self.act()


class Tidy(Operation):
    """A worker deletes old jobs, what they printed, and what others left half-written."""

    def prepare(self) -> None:
        jobs = self.world.submitted(4)
        finished(self.world, jobs)
        self.world.tell("prunable", *(job.id for job in jobs))
        spool = self.world.spool
        for job in jobs:
            hour = job.submitted_at.strftime("%Y%m%d%H")
            (spool / "output" / hour).mkdir(exist_ok=True)
            (spool / "output" / hour / f"{job.id}.1.log").write_text("hello\n", encoding="utf-8")
        # Much is noted of retries whose jobs are gone.
        text = "".join(f"{new_id()} {new_id()}\n" for _ in range(retries.LEAST_BYTES // 54 + 1))
        (spool / "retried").write_text(text, encoding="ascii")
        (spool / "tmp" / "group").mkdir()
        for name in ("group/half", "half"):
            (spool / "tmp" / name).write_text("half", encoding="utf-8")
        for name in ("half", "group"):
            os.utime(spool / "tmp" / name, (0, 0))

    def ready(self) -> None:
        self.session = self.world.join()
        (self.world.spool / "tmp" / "half").touch()
        os.utime(self.world.spool / "tmp" / "half", (0, 0))
        set_clock(timedelta(days=1))

    def act(self) -> None:
        sum(self.session.tidy(keep_done=HOUR, keep_failed=HOUR))

    def again(self) -> None:
        sum(self.session.tidy(keep_done=HOUR, keep_failed=HOUR))
        self.world.tell("pruned")
        self.session.leave()


class Prune(Tidy):
    """Somebody deletes old jobs by hand."""

    def ready(self) -> None:
        self.queue = self.world.open()
        set_clock(timedelta(days=1))

    def act(self) -> None:
        self.queue.prune({State.DONE, State.FAILED}, now())

    def again(self) -> None:
        self.queue.prune({State.DONE, State.FAILED}, now())
        self.world.tell("pruned")


class PruneLastHour(Prune):
    """The same within the hour: the jobs go one by one."""

    def ready(self) -> None:
        self.queue = self.world.open()
        set_clock(timedelta(milliseconds=10))


class Delete(Prune):
    """Somebody deletes one job that has ended."""

    def ready(self) -> None:
        self.queue = self.world.open()
        (*_, self.id) = [fact["ids"][0] for fact in self.world.told() if fact["what"] == "acked"]

    def act(self) -> None:
        assert self.queue.delete(self.id) == "deleted"
        self.world.tell("gone", self.id)

    def again(self) -> None:
        answer = self.queue.delete(self.id)
        assert answer in {"deleted", "unknown"}, answer
        self.world.tell("gone", self.id)
