"""The operations of those who want something done: set up, submit, hand in."""

from __future__ import annotations

from bgjobs import disk, system
from bgjobs.errors import SpoolError
from tests.crash.doing import (
    HOUR,
    Operation,
    drain,
    finished,
    policy_of,
)


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
        (self.done,) = [fact["ids"][0] for fact in self.world.told() if fact["what"] == "acked"]
        (self.job,) = self.world.planned(retry_of=self.done)

    def act(self) -> None:
        self.world.submit(self.queue, [self.job])

    def again(self) -> None:
        known, is_there = self.queue.retried([self.done]), self.queue.get(self.job.id) is not None
        assert known == ({self.done: self.job.id} if is_there else {})
        self.world.submit(self.queue, self.world.planned())


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
