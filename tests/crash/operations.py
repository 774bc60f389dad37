"""Everything that changes a spool, each as: what was there before, the steps, and how one goes on after an error."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bgjobs import clock, disk, lifecycle, system
from bgjobs.backend import Claim, Selection
from bgjobs.errors import SpoolError
from bgjobs.job import Cancelled, Interrupted, Job, JobError, Outcome, Progress, Raised, State, Succeeded
from bgjobs.spool.claims import SpoolSession
from tests.contract.stores import info
from tests.crash.world import LONG_AGO, POLICY, RUNNER, World, now, set_clock, until_calm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.backend import Session
    from bgjobs.lifecycle import Policy
    from bgjobs.spool.spool_queue import SpoolQueue

HOUR = timedelta(hours=1)
RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))
FINAL = Raised(JobError(type="ValueError", message="no such person"), ("ValueError",), final=True)
ANN = "ann@web1"


class Operation:
    """One operation. A new object, in a new process, carries out each case."""

    raises: ClassVar[tuple[type[Exception], ...]] = (OSError, SpoolError)

    def __init__(self, world: World) -> None:
        self.world = world

    def prepare(self) -> None:
        """Make what is there before. Done once, by a process that then dies: it may leave claims behind."""
        self.world.open()

    def ready(self) -> None:
        """Do what the process that is going to die has done before."""

    def act(self) -> None:
        """Do it. Each step on the disk in here is tried."""
        raise NotImplementedError

    def again(self) -> None:
        """Go on after an error, as the program does, once the trouble is over; and leave."""
        raise NotImplementedError


# Producer


class SetUp(Operation):
    """The first command makes the spool."""

    raises = (SpoolError,)

    def prepare(self) -> None:
        pass

    def act(self) -> None:
        self.world.open()

    def again(self) -> None:
        self.world.submitted()


class Submit(Operation):
    """One job, another one to the same bucket, and a delayed one."""

    raises = (SpoolError,)
    one_sync = False

    def ready(self) -> None:
        system.one_fsync_is_safe = lambda path: self.one_sync
        self.queue = self.world.open()
        self.jobs = [*self.world.planned(2), *self.world.planned(delay=HOUR)]

    def act(self) -> None:
        for job in self.jobs:
            self.world.submit(self.queue, [job])

    def again(self) -> None:
        self.world.submit(self.queue, self.world.planned())
        self.world.submit(self.queue, self.world.planned(delay=HOUR))


class SubmitWithOneSync(Submit):
    """The order for file systems that keep a synced file's new name."""

    one_sync = True


class SubmitGroup(Operation):
    """Five jobs at once, three of them of one priority and minute."""

    raises = (SpoolError,)
    whole_filesystem = True

    def ready(self) -> None:
        if not self.whole_filesystem:
            disk.sync_filesystem = lambda path: False  # as a kernel without a trustworthy syncfs has it
        self.queue = self.world.open()
        self.jobs = [*self.world.planned(3), *self.world.planned(2, delay=HOUR, priority=8)]
        self.world.tell("group", *(job.id for job in self.jobs[:3]))
        self.world.tell("group", *(job.id for job in self.jobs[3:]))

    def act(self) -> None:
        self.world.submit(self.queue, self.jobs)

    def again(self) -> None:
        self.world.submit(self.queue, self.world.planned(2))


class SubmitGroupFileByFile(SubmitGroup):
    """The same, each file synced by itself."""

    whole_filesystem = False


class Retry(Operation):
    """A new job that repeats one that has ended."""

    raises = (SpoolError,)

    def prepare(self) -> None:
        finished(self.world, self.world.submitted())

    def ready(self) -> None:
        self.queue = self.world.open()
        (done,) = [fact["ids"][0] for fact in self.world.told() if fact["what"] == "acked"]
        (self.job,) = self.world.planned(retry_of=done)

    def act(self) -> None:
        self.world.submit(self.queue, [self.job])

    def again(self) -> None:
        self.world.submit(self.queue, self.world.planned())


# Worker


class Join(Operation):
    """A worker takes its place."""

    raises = (SpoolError,)

    def act(self) -> None:
        self.session = self.world.join()

    def again(self) -> None:
        self.world.join().leave()


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
        self.session.runner_started(0, RUNNER, LONG_AGO)
        self.running = self.world.begin(self.session, self.held)

    def again(self) -> None:
        if self.running is not None:
            store(self.world, self.session, self.held, Succeeded(), running=self.running)
        elif self.session.has_begun(self.held):
            self.running = lifecycle.started(self.held.job, worker="web1:1", at=now())
            store(self.world, self.session, self.held, Interrupted(), running=self.running)
        else:
            self.session.give_back(self.held)
        super().again()


class Finish(Working):
    """An attempt ends, and with it the job."""

    outcome: Outcome = Succeeded()
    wish = ""

    def ready(self) -> None:
        super().ready()
        (self.held,) = self.claim(1)
        self.running = self.world.begin(self.session, self.held)
        self.job = self.world.ending(self.running, self.outcome)
        Path(self.session.runner_output(0)).write_text("hello\n", encoding="utf-8")
        self.output = self.session.output_path(self.held)
        if self.wish:
            Path(self.world.spool, "workers", self.session.id, f"cancel-{self.job.id}").write_text(self.wish, "utf-8")
        self.stored = False

    def act(self) -> None:
        self.session.keep_output(0, self.output)
        self.world.finish(self.session, self.held, self.job)
        self.stored = True

    def again(self) -> None:
        if not self.stored:
            self.world.finish(self.session, self.held, self.job)
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

    def act(self) -> None:
        self.session.give_back(self.held)
        self.returned = True

    def again(self) -> None:
        if not self.returned:
            self.session.give_back(self.held)
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
        self.session.runner_started(0, RUNNER, LONG_AGO)

    def act(self) -> None:
        self.session.leave()

    def again(self) -> None:
        pass  # the worker says that it left traces behind, and ends


# Cancel


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


# Recovery and cleaning up


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
        Path(self.session.runner_output(0)).write_text("hello\n", encoding="utf-8")
        self.session.runner_started(0, RUNNER, LONG_AGO)
        begun = [self.world.begin(self.session, claim) for claim in self.held[:8]]
        for number, outcome in ((4, Succeeded()), (5, RAISED), (6, Interrupted())):
            self._decide(number, self.world.ending(begun[number], outcome))
        for number in (3, 5, 9):  # begun, to be tried again, not begun
            assert queue.cancel(self.jobs[number].id, ANN) == "requested"

    def _lose(self, jobs: list[Job], queue: SpoolQueue) -> None:
        """Let a worker be lost with these."""
        self.session = queue.join(info(), Selection())
        wanted = {job.id for job in jobs}
        for claim in self._all(10):
            if claim.job.id in wanted:
                self.world.begin(self.session, claim)
            else:
                self.session.give_back(claim)
        assert isinstance(self.session, SpoolSession)
        self.session._place.release()
        self.session = queue.join(info(), Selection())
        take_over_all(self.world, self.session)
        self.session.leave()
        set_clock(HOUR)  # the second loss is followed by a wait

    def _all(self, count: int) -> list[Claim]:
        return claim_all(self.session, count)

    def _decide(self, number: int, job: Job) -> None:
        """Write down what becomes of a job, and go no further."""
        with _no_moves(), suppress(OSError):
            self.session.finish(self.held[number], job)

    def ready(self) -> None:
        self.session = self.world.join()

    def act(self) -> None:
        self.world.recover(self.session)

    def again(self) -> None:
        take_over_all(self.world, self.session)
        drain(self.world, self.session)
        self.session.leave()


class RecoverAfterBoot(Recover):
    """The same, by another boot of the machine: what may have been begun counts as begun."""

    def prepare(self) -> None:
        super().prepare()
        path = self.world.spool / "workers" / self.session.id / "info"
        path.write_text(path.read_text("utf-8").replace(system.boot_id(), "another"), encoding="utf-8")


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


class RunNow(CancelDelayed):
    """Somebody wants a delayed job to start at once."""

    def act(self) -> None:
        assert self.queue.run_now(self.id, ANN) in {"now", "already due"}
        self.world.tell("due", self.id)

    def again(self) -> None:
        self.act()


class Import(Operation):
    """Other programs have handed in two jobs, and something that is none."""

    def prepare(self) -> None:
        self.world.open()
        for name in ("one", "two"):
            text = f'{{"format":1,"class":"Mail","method":"send","args":["handed in: {name}"]}}'
            (self.world.spool / "incoming" / f"{name}.json").write_text(text, encoding="utf-8")
            self.world.tell("handed in", name)
        (self.world.spool / "incoming" / "three.json").write_text("{", encoding="utf-8")

    def ready(self) -> None:
        self.session = self.world.join()

    def act(self) -> None:
        self.session.import_jobs(policy_of)

    def again(self) -> None:
        drain(self.world, self.session)
        self.session.leave()


OPERATIONS: dict[str, type[Operation]] = {
    "set up": SetUp,
    "submit": Submit,
    "submit with one sync": SubmitWithOneSync,
    "submit a group": SubmitGroup,
    "submit a group file by file": SubmitGroupFileByFile,
    "retry": Retry,
    "join": Join,
    "claim": Claiming,
    "claim by selection": ClaimingBySelection,
    "begin": Begin,
    "finish": Finish,
    "finish as failed": FinishFailed,
    "another attempt": AnotherAttempt,
    "another attempt of an unwanted job": AnotherAttemptUnwanted,
    "hand back": HandBack,
    "hand back an unwanted job": HandBackUnwanted,
    "hand back a begun job": HandBackBegun,
    "renew": Renew,
    "leave": Leave,
    "cancel a pending job": CancelPending,
    "cancel a delayed job": CancelDelayed,
    "cancel a running job": CancelRunning,
    "recover": Recover,
    "recover after a boot": RecoverAfterBoot,
    "tidy": Tidy,
    "prune": Prune,
    "prune the last hour": PruneLastHour,
    "delete": Delete,
    "run now": RunNow,
    "import": Import,
}


# What several of them need


def store(world: World, session: Session, claim: Claim, outcome: Outcome, *, running: Job | None = None) -> None:
    """End an attempt, beginning it if it was not."""
    running = world.begin(session, claim) if running is None else running
    world.finish(session, claim, world.ending(running, outcome))


def drain(world: World, session: Session) -> None:
    """Run all that may run."""

    def nothing_is_left() -> bool:
        session.import_jobs(policy_of)
        for claim in session.claim(10):
            store(world, session, claim, Succeeded())
        handed_in = [name for name in os.listdir(world.spool / "incoming") if name.endswith(".json")]
        return not (handed_in or world.open().unfinished(clock.now()).due)

    until_calm(nothing_is_left)


def policy_of(class_name: str, method: str) -> Policy:
    """Return how jobs that are handed in are to be treated."""
    return POLICY


def finished(world: World, jobs: list[Job]) -> None:
    """Let a worker come, run these jobs, and leave."""
    session = world.join()
    drain(world, session)
    session.leave()


def cancel(world: World, queue: SpoolQueue, job_id: str) -> None:
    """Cancel a job, and tell what the answer was."""
    answer = queue.cancel(job_id, ANN)
    world.tell("asked", job_id, answer=answer)


def claim_all(session: Session, count: int) -> list[Claim]:
    """Claim so many jobs, however often it has to be tried."""
    found: list[Claim] = []

    def enough() -> bool:
        found.extend(session.claim(count - len(found)))
        return len(found) == count

    until_calm(enough)
    return found


def take_over_all(world: World, session: Session) -> None:
    """Recover until no other worker has a place."""

    def is_alone() -> bool:
        world.recover(session)
        return len(os.listdir(world.spool / "workers")) == 1

    until_calm(is_alone)


@contextmanager
def _no_moves() -> Iterator[None]:
    """Let every move fail meanwhile."""
    real = disk.move

    def never(source: str, target: str) -> None:
        raise OSError(f"{source} cannot be moved to {target} now")

    disk.move = never
    try:
        yield
    finally:
        disk.move = real
