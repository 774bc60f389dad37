"""What happens on the disk before the power goes: each operation of the queue, played by real code in one process.

What a scenario does before its `yield` is long on the disk when the part that is enumerated begins.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from bgjobs import clock, disk, files
from bgjobs.job import Interrupted, Job, JobError, Raised, State, Succeeded, milliseconds
from bgjobs.spool import layout
from tests.contract.stores import POLICY, begin, finish, new_job, recover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.store import Claim, Session
    from tests.crash.enumerator_stage import Stage

    Play = Callable[[Stage], Iterator[None]]

FAILED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))
LONG_AGO = timedelta(minutes=10)  # after so long a bucket that is empty goes


def _job(**options: object) -> Job:
    return new_job(**options)  # type: ignore[arg-type]  # handed on as they are


def _claimed(stage: Stage, session: Session) -> Claim:
    (claim,) = session.claim(1)
    return claim


def set_up_and_submit(stage: Stage) -> Iterator[None]:
    """The first submission of all makes the spool."""
    yield
    stage.submit(_job())


def submit_two(stage: Stage) -> Iterator[None]:
    """Two people submit one after the other: the second finds the first one's bucket."""
    stage.open()
    yield
    stage.submit(_job())
    stage.submit(_job())


def submit_elsewhere(stage: Stage) -> Iterator[None]:
    """One process submits jobs of several priorities, now and later."""
    queue = stage.open()
    yield
    stage.submit(_job(priority=8), queue=queue)
    stage.submit(_job(delay=timedelta(hours=1)), queue=queue)
    stage.submit(_job(priority=8), queue=queue)


def submit_a_group(stage: Stage) -> Iterator[None]:
    """Three jobs in one group, then one more by itself."""
    queue = stage.open()
    yield
    stage.submit(_job(), _job(), _job(), queue=queue)
    stage.submit(_job(), queue=queue)


def submit_groups(stage: Stage) -> Iterator[None]:
    """Jobs of two priorities and of another time, all together: several groups, two of them of one job."""
    queue = stage.open()
    yield
    stage.submit(_job(), _job(priority=8), _job(), _job(delay=timedelta(hours=1)), queue=queue)


def submit_into_a_bucket_that_was_gone(stage: Stage) -> Iterator[None]:
    """A worker removes a drained bucket, somebody else has just made it again, and has not synced its name yet."""
    queue = stage.open()
    first, second = _job(), _job()
    stage.submit(first, queue=queue)
    session = stage.join()
    finish(session, _claimed(stage, session), Succeeded())
    yield
    stage.pass_time(LONG_AGO)
    session.claim(1)
    bucket = queue.paths.bucket(5, layout.bucket(milliseconds(first.not_before), at_once=True))
    if not files.exists(bucket):
        disk.mkdir(bucket, 0o700)
    stage.submit(second, queue=queue)


def join_and_leave(stage: Stage) -> Iterator[None]:
    """A worker comes and goes while a job waits."""
    stage.submit(_job(delay=timedelta(hours=1)))
    yield
    stage.leave(stage.join())


def run(stage: Stage) -> Iterator[None]:
    """A worker comes, claims a job, runs it and ends it."""
    stage.submit(_job())
    yield
    session = stage.join()
    claim = _claimed(stage, session)
    finish(session, claim, Succeeded(msgspec.Raw(b'"sent"')))


def run_for_good(stage: Stage) -> Iterator[None]:
    """A worker runs a job, and its end is synced: it must not run again."""
    (job_id,) = stage.submit(_job())
    yield
    session = stage.join()
    finish(session, _claimed(stage, session), Succeeded())
    stage.promise_once(job_id)


def run_two(stage: Stage) -> Iterator[None]:
    """A worker that is there runs two jobs at a time."""
    stage.submit(_job(), _job())
    session = stage.join()
    yield
    claims = session.claim(2)
    begun = [begin(session, claim) for claim in claims]
    for claim, running in zip(claims, begun, strict=True):
        finish(session, claim, Succeeded(), running=running)


def run_and_submit(stage: Stage) -> Iterator[None]:
    """A worker runs a job while others come into the same bucket: their syncs take half of its steps with them."""
    queue = stage.open()
    stage.submit(_job(), queue=queue)
    session = stage.join()
    yield
    claim = _claimed(stage, session)
    running = begin(session, claim)
    stage.submit(_job(), queue=queue)
    finish(session, claim, Succeeded(), running=running)
    stage.submit(_job(), queue=queue)


def give_back(stage: Stage) -> Iterator[None]:
    """A worker claims a job, puts it back and leaves."""
    stage.submit(_job())
    session = stage.join()
    yield
    session.release(_claimed(stage, session))
    stage.leave(session)


def another_attempt(stage: Stage) -> Iterator[None]:
    """An attempt fails, and the next one is done."""
    stage.submit(_job())
    session = stage.join()
    yield
    finish(session, _claimed(stage, session), FAILED)
    finish(session, _claimed(stage, session), Succeeded())


def fail(stage: Stage) -> Iterator[None]:
    """The last attempt fails."""
    stage.submit(_job(retries=0))
    session = stage.join()
    yield
    finish(session, _claimed(stage, session), FAILED)


def hand_back(stage: Stage) -> Iterator[None]:
    """A worker that is asked to stop interrupts an attempt and leaves."""
    stage.submit(_job())
    session = stage.join()
    yield
    finish(session, _claimed(stage, session), Interrupted())
    stage.leave(session)


def cancel_pending(stage: Stage) -> Iterator[None]:
    """Somebody cancels a job that waits."""
    (job_id, _) = stage.submit(_job(), _job())
    queue = stage.open()
    yield
    assert queue.cancel(job_id, "ann") == "cancelled"


def cancel_running(stage: Stage) -> Iterator[None]:
    """Somebody asks for the end of a running job; it ends first."""
    (job_id,) = stage.submit(_job())
    session, queue = stage.join(), stage.open()
    claim = _claimed(stage, session)
    running = begin(session, claim)
    yield
    assert queue.cancel(job_id, "ann") == "requested"
    session.renew({})
    finish(session, claim, Succeeded(), running=running)


def recover_begun(stage: Stage) -> Iterator[None]:
    """A worker has died during an attempt, and another one takes over and runs the job again."""
    stage.submit(_job(), _job())
    dead = stage.join()
    for claim in dead.claim(1):
        begin(dead, claim)
    stage.die(dead)
    session = stage.join()
    yield
    recover(session)
    finish(session, _claimed(stage, session), Succeeded())


def recover_not_begun(stage: Stage) -> Iterator[None]:
    """A worker has died with a claim that it had not begun."""
    stage.submit(_job())
    dead = stage.join()
    dead.claim(1)
    stage.die(dead)
    session = stage.join()
    yield
    recover(session)


def recover_cancelled(stage: Stage) -> Iterator[None]:
    """A worker has died that was asked to end a job."""
    (job_id,) = stage.submit(_job())
    dead = stage.join()
    begin(dead, _claimed(stage, dead))
    assert stage.open().cancel(job_id, "ann") == "requested"
    stage.die(dead)
    session = stage.join()
    yield
    recover(session)


def prune(stage: Stage) -> Iterator[None]:
    """A worker throws away what ended long ago; one job of today stays."""
    old = stage.submit(_job(), _job())
    session = stage.join()
    for claim in session.claim(2):
        finish(session, claim, Succeeded())
    stage.pass_time(timedelta(hours=5))
    stage.submit(_job())
    for claim in session.claim(1):
        finish(session, claim, Succeeded())
    yield
    stage.promise(*old, kept=False)
    sum(session.tidy(keep_done=timedelta(hours=1), keep_failed=timedelta(hours=1)))


def run_now(stage: Stage) -> Iterator[None]:
    """Somebody drops the delay of a job, and a worker runs it."""
    (job_id,) = stage.submit(_job(delay=timedelta(hours=1)))
    session, queue = stage.join(), stage.open()
    yield
    assert queue.run_now(job_id, "ann") == "now"
    finish(session, _claimed(stage, session), Succeeded())


def delete(stage: Stage) -> Iterator[None]:
    """Somebody deletes a job that has ended; another one stays."""
    (job_id, _) = stage.submit(_job(), _job())
    session, queue = stage.join(), stage.open()
    for claim in session.claim(2):
        finish(session, claim, Succeeded())
    yield
    stage.promise(job_id, kept=False)
    assert queue.delete(job_id) == "deleted"


def prune_by_hand(stage: Stage) -> Iterator[None]:
    """Somebody prunes what ended before this moment; a job that ends later stays."""
    old = stage.submit(_job(), _job(), _job())
    session, queue = stage.join(), stage.open()
    for claim in session.claim(2):
        finish(session, claim, Succeeded())
    stage.pass_time(timedelta(minutes=1))
    moment = clock.now()
    stage.pass_time(timedelta(minutes=1))
    kept = _claimed(stage, session)
    finish(session, kept, Succeeded())
    yield
    stage.promise(*(set(old) - {kept.job.id}), kept=False)
    assert queue.prune([State.DONE], moment) == len(old) - 1


def take_in(stage: Stage) -> Iterator[None]:
    """A worker makes jobs of what another program has put into `incoming/`, and synced."""
    queue = stage.open()
    for mark in ("mark1", "mark2"):
        call = f'{{"format":1,"class":"Mail","method":"send","args":["{mark}"]}}\n'
        files.create(f"{queue.paths.incoming}/{mark}.json", call.encode(), sync=True)
    session = stage.join()
    yield
    stage.promise_one_of("mark1")
    stage.promise_one_of("mark2")
    assert session.import_jobs(lambda class_name, method: POLICY) == 2
    for claim in session.claim(2):
        finish(session, claim, Succeeded())


def put_aside(stage: Stage) -> Iterator[None]:
    """A worker meets a file that is no job, beside one that is."""
    (job_id,) = stage.submit(_job())
    queue = stage.open()
    (bucket,) = (queue.paths.bucket(5, name) for name in files.names(queue.paths.priority(5)))
    (name,) = files.names(bucket)
    files.create(f"{bucket}/{name.replace(job_id, _job().id)}", b"not a job\n", sync=False)
    session = stage.join()
    yield
    for claim in session.claim(2):
        finish(session, claim, Succeeded())


SCENARIOS: dict[str, Play] = {
    play.__name__: play
    for play in (
        set_up_and_submit,
        submit_two,
        submit_elsewhere,
        submit_a_group,
        submit_groups,
        submit_into_a_bucket_that_was_gone,
        join_and_leave,
        run,
        run_for_good,
        run_two,
        run_and_submit,
        give_back,
        another_attempt,
        fail,
        hand_back,
        cancel_pending,
        cancel_running,
        recover_begun,
        recover_not_begun,
        recover_cancelled,
        prune,
        run_now,
        delete,
        prune_by_hand,
        take_in,
        put_aside,
    )
}

SETTINGS = {"run_for_good": "finish_fsync = true"}
