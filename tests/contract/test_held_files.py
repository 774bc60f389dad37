"""What another program has open is waited for, within bounds; after that nothing is lost and the next round goes on."""

from __future__ import annotations

import ast
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bgjobs.system
from bgjobs import clock, lifecycle
from bgjobs.errors import BgjobsError, SpoolError
from bgjobs.event_log import STATUS_LOG, Log
from bgjobs.events import Submitted
from bgjobs.job import JobError, Raised, State, Succeeded
from bgjobs.lifecycle import Policy
from bgjobs.spool import cached_listing
from bgjobs.spool.inbox import importer
from bgjobs.system.retrying import HELD_BY_ANOTHER, OPEN_ELSEWHERE, PAUSES
from tests.contract.held_files import DENIED, LOCKED, RETRIED, SHARING, HeldFiles, tries
from tests.contract.stores import (
    POLICY,
    Sessions,
    SpoolKind,
    begin,
    decided,
    finish,
    got,
    new_job,
    recover,
    stored,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Job, Outcome
    from bgjobs.lifecycle import Verdict
    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Claim, Session

CODES = [DENIED, SHARING, LOCKED]
BOUND_S = 2.5
DAY = timedelta(days=1)
RAISED = Raised(JobError(type="OSError", message="no answer"), ("OSError",))


@pytest.fixture(autouse=True)
def _looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be taken is looked at again after half a minute, and imported after a second: not in tests."""
    monkeypatch.setattr(cached_listing, "RELIST_S", 0.01)
    monkeypatch.setattr(importer, "AGAIN_S", 0.01)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldFiles:
    return HeldFiles(monkeypatch)


class Scene:
    """One spool, one worker in it, and the jobs that were acknowledged: each must end, as it should, and once."""

    def __init__(self, where: Path) -> None:
        where.mkdir()
        self.store = SpoolKind(str(where))
        self.spool: SpoolStore = self.store.open()
        self.workers = Sessions(self.store)
        self.session: Session = self.workers.join()
        self.pending: list[tuple[Claim, Verdict, Job]] = []
        self.claims: list[Claim] = []
        self.delayed: list[Job] = []
        self.due: dict[str, set[State]] = {}  # the states in which a job may end up

    def submit(self, count: int = 1, **values: Any) -> list[Job]:
        jobs = [new_job(**values) for _ in range(count)]
        self.spool.submit(jobs)
        self.due |= {job.id: {State.DONE} for job in jobs}
        return jobs

    def claim(self, count: int = 1) -> list[Claim]:
        claims: list[Claim] = []

        def enough() -> bool:
            claims.extend(self.session.claim(count - len(claims)))
            return len(claims) == count

        wait_until(enough)
        return claims

    def try_to_finish(self, claim: Claim, running: Job, outcome: Outcome) -> None:
        """Store what became of a job, or keep that for later, as the worker does."""
        verdict = decided(running, outcome)
        self.pending.append((claim, verdict, running))
        stored(self.session, claim, verdict, running=running)
        self.pending.pop()

    def go_on(self) -> None:
        """Do what the next rounds of the worker do, until all is done."""
        for claim, verdict, running in self.pending:
            stored(self.session, claim, verdict, running=running)
        requests = self.session.renew({})
        for claim in self.claims:
            if claim.job.id in requests:
                stored(self.session, claim, lifecycle.cancelled("ann"))
            else:
                finish(self.session, claim, Succeeded())
        for job in self.delayed:
            assert self.spool.run_now(job.id, "ann") in {"now", "already due"}
        wait_until(self._is_all_done)

    def _is_all_done(self) -> bool:
        recover(self.session)
        self.session.import_jobs(lambda class_name, method: POLICY)
        for claim in self.session.claim(10):
            finish(self.session, claim, Succeeded())
        left = self.spool.unfinished(clock.now())
        return not (left.due or left.later or left.claimed or left.incoming)

    def check(self) -> None:
        """Fail if a job is lost, twice there, or ended otherwise than it should."""
        holders = self.store.holders()
        assert all(len(states) == 1 for states in holders.values()), holders
        ended = {job_id: states[0] for job_id, states in holders.items()}
        wrong = {job_id: ended.get(job_id) for job_id, states in self.due.items() if ended.get(job_id) not in states}
        assert wrong == {}
        assert self.spool.counts().get(State.CORRUPT, 0) == 0
        assert [finding for finding in self.spool.findings() if finding.serious] == []

    def close(self) -> None:
        self.workers.close()


# What is done while something is held: each makes a scene ready, and returns what then meets the held file


def submits(scene: Scene) -> Callable[[], object]:
    return scene.submit


def submits_many(scene: Scene) -> Callable[[], object]:
    return lambda: scene.submit(12)


def claims(scene: Scene) -> Callable[[], object]:
    scene.submit(3)
    return lambda: scene.claims.extend(scene.session.claim(3))


def ends_a_job(scene: Scene) -> Callable[[], object]:
    scene.submit()
    (claim,) = scene.claim()
    running = begin(scene.session, claim)
    return lambda: scene.try_to_finish(claim, running, Succeeded())


def tries_a_job_again(scene: Scene) -> Callable[[], object]:
    scene.submit()
    (claim,) = scene.claim()
    running = begin(scene.session, claim)
    return lambda: scene.try_to_finish(claim, running, RAISED)


def gives_a_job_back(scene: Scene) -> Callable[[], object]:
    scene.submit()
    scene.claims = scene.claim()

    def act() -> None:
        scene.session.release(scene.claims[0])
        scene.claims.clear()

    return act


def cancels_a_waiting_job(scene: Scene) -> Callable[[], object]:
    (job,) = scene.submit()
    scene.due[job.id] = {State.DONE, State.CANCELLED}
    return lambda: _asked(scene, job, scene.spool.cancel(job.id, "ann"))


def cancels_a_running_job(scene: Scene) -> Callable[[], object]:
    (job,) = scene.submit()
    scene.claims = scene.claim()
    scene.due[job.id] = {State.DONE, State.CANCELLED}
    return lambda: _asked(scene, job, scene.spool.cancel(job.id, "ann"))


def _asked(scene: Scene, job: Job, answer: str) -> None:
    if answer == "cancelled":
        scene.due[job.id] = {State.CANCELLED}


def drops_a_delay(scene: Scene) -> Callable[[], object]:
    scene.delayed = scene.submit(delay=DAY)
    return lambda: scene.spool.run_now(scene.delayed[0].id, "ann")


def _ended(scene: Scene, count: int = 3) -> list[Job]:
    jobs = scene.submit(count)
    for claim in scene.claim(count):
        finish(scene.session, claim, Succeeded())
    return jobs


def deletes(scene: Scene) -> Callable[[], object]:
    jobs = _ended(scene)

    def act() -> None:
        scene.due.pop(jobs[0].id)
        assert scene.spool.delete(jobs[0].id) == "deleted"
        assert got_none(scene, jobs[0])

    return act


def prunes(scene: Scene) -> Callable[[], object]:
    jobs = _ended(scene)

    def act() -> None:
        for job in jobs:
            scene.due.pop(job.id, None)
        scene.spool.prune([State.DONE], clock.now() + DAY)
        assert all(got_none(scene, job) for job in jobs)

    return act


def got_none(scene: Scene, job: Job) -> bool:
    return scene.spool.get(job.id) is None


def tidies_up(scene: Scene) -> Callable[[], object]:
    jobs = _ended(scene)

    def act() -> None:
        for job in jobs:
            scene.due.pop(job.id, None)
        sum(scene.session.tidy(keep_done=-DAY, keep_failed=DAY))

    return act


def recovers(scene: Scene) -> Callable[[], object]:
    scene.submit(3)
    other = scene.workers.join()
    for claim in other.claim(3)[:2]:
        begin(other, claim)
    scene.workers.abandon(other)
    return lambda: recover(scene.session)


def imports(scene: Scene) -> Callable[[], object]:
    place = Path(scene.spool.paths.incoming)
    for number in range(3):
        (place / f"{number}.json").write_bytes(b'{"format":1,"class":"Mail","method":"send"}\n')

    def act() -> None:
        scene.session.import_jobs(lambda class_name, method: Policy())

    return act


def comes_and_leaves(scene: Scene) -> Callable[[], object]:
    scene.submit()

    def act() -> None:
        session = scene.workers.join()
        scene.workers.leave(session)

    return act


ACTS = [
    submits,
    submits_many,
    claims,
    ends_a_job,
    tries_a_job_again,
    gives_a_job_back,
    cancels_a_waiting_job,
    cancels_a_running_job,
    drops_a_delay,
    deletes,
    prunes,
    tidies_up,
    recovers,
    imports,
    comes_and_leaves,
]


def steps_of(act: Callable[[Scene], Callable[[], object]], where: Path, held: HeldFiles) -> list[str]:
    """Return which steps this takes."""
    scene = Scene(where)
    do = act(scene)
    held.hold(SHARING, times=0)
    do()
    steps = sorted(held.met)
    scene.go_on()
    scene.check()
    scene.close()
    return steps


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_what_is_held_for_a_moment_is_waited_for(
    tmp_path: Path, held: HeldFiles, act: Callable[[Scene], Callable[[], object]]
) -> None:
    steps = [step for step in steps_of(act, tmp_path / "first", held) if step in RETRIED]
    assert steps
    for step in steps:
        for code, times in (SHARING, len(PAUSES)), (LOCKED, 1), (DENIED, 1):
            if code not in RETRIED[step]:
                continue
            scene = Scene(tmp_path / f"{step}-{code}")
            do = act(scene)
            held.hold(code, step, times=times)
            do()
            held.free()
            assert held.refused[step] == times
            assert len(held.pauses) == times
            scene.go_on()
            scene.check()
            scene.close()


@pytest.mark.sweep
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_what_is_held_on_and_on_is_given_up_in_time_and_done_later(
    tmp_path: Path, held: HeldFiles, act: Callable[[Scene], Callable[[], object]]
) -> None:
    steps = steps_of(act, tmp_path / "first", held)
    opening = [step for step in steps if DENIED not in RETRIED.get(step, {DENIED})]
    for step, code in [*((step, SHARING) for step in steps), *((step, DENIED) for step in opening)]:
        scene = Scene(tmp_path / f"{step}-{code}")
        do = act(scene)
        held.hold(code, step)
        try:
            do()
        except (BgjobsError, PermissionError) as error:
            # What calls this says so, or tries again in its next round; see tests/cli/test_held_files.py.
            said = str(error)
        else:
            said = ""
        assert "\n" not in said
        held.free()
        assert held.refused[step] >= tries(code, step)
        assert max(held.longest, default=0) < BOUND_S
        scene.go_on()
        scene.check()
        scene.close()


@pytest.mark.parametrize("code", CODES)
def test_one_file_that_is_held_costs_no_other_job(tmp_path: Path, held: HeldFiles, code: int) -> None:
    scene = Scene(tmp_path / "scene")
    jobs = scene.submit(3)
    held.hold(code, part=jobs[1].id)
    done: set[str] = set()

    def the_others_are_done() -> bool:
        for claim in scene.session.claim(3):
            finish(scene.session, claim, Succeeded())
            done.add(claim.job.id)
        return len(done) == 2

    wait_until(the_others_are_done)
    assert done == {jobs[0].id, jobs[2].id}
    held.free()
    scene.go_on()
    scene.check()
    scene.close()


# Directories: Windows moves none while a file in it is open


@pytest.mark.parametrize("code", [DENIED, SHARING])
def test_a_batch_whose_directory_cannot_be_moved_is_refused_as_a_whole(
    tmp_path: Path, held: HeldFiles, code: int
) -> None:
    scene = Scene(tmp_path / "scene")
    held.hold(code, "move", part=os.sep + "tmp" + os.sep)
    with pytest.raises(BgjobsError, match="cannot use the spool"):
        scene.submit(5)
    assert held.refused["move"] >= len(PAUSES) + 1
    held.free()
    assert scene.spool.counts() == dict.fromkeys(scene.spool.counts(), 0)
    assert [path.name for path in Path(scene.spool.paths.tmp).iterdir()] == ["trash"]
    jobs = scene.submit(5)
    assert [got(scene.spool, job.id) for job in jobs] == jobs
    scene.close()


@pytest.mark.parametrize("code", [DENIED, SHARING])
def test_an_hour_that_cannot_be_moved_is_pruned_later_and_holds_up_no_other(
    tmp_path: Path, held: HeldFiles, code: int
) -> None:
    scene = Scene(tmp_path / "scene")
    first, second = _ended(scene, 1), _ended(scene, 1)
    (hour,) = Path(scene.spool.paths.root, "done").iterdir()
    early, late = hour.with_name("2020010100"), hour.with_name("2020010101")
    early.mkdir()
    late.mkdir()
    (hour / f"{first[0].id}.json").rename(early / f"{first[0].id}.json")
    (hour / f"{second[0].id}.json").rename(late / f"{second[0].id}.json")
    held.hold(code, "move", part=early.name)
    with pytest.raises(PermissionError):
        sum(scene.session.tidy(keep_done=DAY, keep_failed=DAY))
    assert early.exists()
    assert not late.exists()
    assert list(Path(scene.spool.paths.trash).iterdir()) == []
    with pytest.raises(SpoolError, match="cannot use the spool"):
        scene.spool.prune([State.DONE], clock.now() - DAY)
    held.free()
    assert sum(scene.session.tidy(keep_done=DAY, keep_failed=DAY)) == 1
    assert not early.exists()
    scene.close()


# Logs


@pytest.mark.parametrize("code", CODES)
def test_a_log_that_is_held_costs_lines_and_no_job(
    tmp_path: Path, held: HeldFiles, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    scene = Scene(tmp_path / "scene")
    (job,) = scene.submit()
    log = Path(scene.spool.handle.settings.log_dir, STATUS_LOG)
    scene.spool.handle.emit(Submitted(job, clock.now()))
    before = log.read_bytes()
    held.hold(code, part=STATUS_LOG)
    scene.spool.handle.emit(Submitted(job, clock.now()))
    scene.spool.handle.emit(Submitted(job, clock.now()))
    held.free()
    assert log.read_bytes() == before
    assert isinstance(scene.spool.handle.emit, Log)
    assert scene.spool.handle.emit.dropped == 2
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("bgjobs: cannot write ")
    scene.spool.handle.emit(Submitted(job, clock.now()))
    assert log.read_bytes().count(b"\n") == 2
    scene.close()


# The table above is that of the code


def test_what_is_tried_again_here_is_what_the_code_for_windows_tries_again() -> None:
    tree = ast.parse(Path(bgjobs.system.__file__).with_name("windows.py").read_bytes())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    codes = {"HELD_BY_ANOTHER": HELD_BY_ANOTHER, "OPEN_ELSEWHERE": OPEN_ELSEWHERE}

    def retried(name: str) -> frozenset[int] | None:
        for node in ast.walk(functions[name]):
            match node:
                case ast.Call(func=ast.Name(id="retry"), keywords=[ast.keyword(arg="codes", value=ast.Name(id=given))]):
                    return codes[given]
                case ast.Call(func=ast.Name(id="retry"), keywords=[]):
                    return HELD_BY_ANOTHER
                case ast.Call(func=ast.Name(id="_open")):
                    return retried("_open")
                case _:
                    pass
        return None

    public = [name for name in functions if not name.startswith("_")]
    assert {name: retried(name) for name in public if retried(name) is not None} == RETRIED
