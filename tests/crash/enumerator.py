"""Try every state that a power cut can leave: record what a scenario does to the disk, build each state, go on from it.

    python -m tests.crash.enumerator [SCENARIO …]

What must hold in each: the spool opens, doctor finds no rule broken once the dead are buried, and every job that was
promised is there once, ends, and has the first line that it was given.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import Struct

from bgjobs import clock, disk, files, system
from bgjobs.errors import BgjobsError
from bgjobs.job import Succeeded
from bgjobs.spool import recover as recovery
from bgjobs.spool.doctor import fsck
from bgjobs.store import Unfinished
from bgjobs.system.doorbell import PolledDoorbell
from tests.contract.stores import POLICY, finish, recover
from tests.crash.enumerator_model import Model, states
from tests.crash.enumerator_scenarios import SCENARIOS, SETTINGS
from tests.crash.enumerator_stage import ONCE, ONE_OF, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Claim, Session
    from tests.crash.enumerator_model import State
    from tests.crash.enumerator_scenarios import Play

IN_MEMORY = Path("/dev/shm")  # where it is there: thousands of small directories are made and removed
ENDED = ("done", "failed", "cancelled")
PLACES = ("pending", "claimed", "waiting", *ENDED, "corrupt")
LATER = timedelta(days=1)  # no job is still waiting for its moment then, and none is pruned yet
ROUNDS = 20
NOTHING = Unfinished(due=False, later=False, claimed=False)


class Counts(Struct):
    """How much was tried."""

    scenarios: int = 0
    states: int = 0
    broken: int = 0


def enumerate_states(
    play: Play,
    model: Model,
    *,
    one_fsync: bool,
    durability: str = "full",
    by_file: bool = False,
) -> tuple[int, list[str]]:
    """Play a scenario, and check every state that it can leave; return how many, and what is wrong with which.

    What a scenario does before its `yield` is on the disk before it begins. `by_file` stands for kernels that cannot
    sync a whole file system in one call.
    """
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None, prefix="bgjobs-states-") as name:
        with pytest.MonkeyPatch.context() as patch:
            _as_if(patch, "before the cut", one_fsync=one_fsync, by_file=by_file)
            stage = Stage(Path(name, "stage"), patch, durability=durability, settings=SETTINGS.get(play.__name__, ""))
            playing = play(stage)
            next(playing)
            recorder = stage.record()
            next(playing, None)
            base, steps = recorder.base, recorder.steps
            stage.close()
        with pytest.MonkeyPatch.context() as patch:
            _as_if(patch, "after the cut", one_fsync=one_fsync, by_file=by_file)
            checked: dict[int, list[frozenset[str]]] = {}
            count, broken = 0, []
            for state in states(base, steps, model):
                paths = state.tree.paths()
                known = checked.setdefault(hash(frozenset(paths.items())), [])
                if any(state.promised <= promised for promised in known):
                    continue
                known.append(state.promised)
                count += 1
                wrong = _check(Path(name, "state"), patch, paths, state, stage)
                broken += [f"{wrong}\n  {state}"] if wrong else []
    return count, broken


def _as_if(patch: pytest.MonkeyPatch, boot: str, *, one_fsync: bool, by_file: bool) -> None:
    patch.setattr(system, "boot_id", lambda: boot)
    patch.setattr(system, "one_fsync_is_safe", lambda path: one_fsync)
    patch.setattr(disk, "sync_file", lambda fd: None)  # the memory that this runs on needs none
    patch.setattr(disk, "sync_directory", lambda path: None)
    patch.setattr(disk, "sync_filesystem", lambda path: not by_file)
    # What waits for others to look again need not wait here: nobody else is there.
    patch.setattr(recovery, "LOST_PLACE_S", -1.0)
    patch.setattr(recovery, "UNREADY_S", -1.0)
    patch.setattr(fsck, "PAUSES_S", ())
    patch.setattr(system, "Doorbell", PolledDoorbell)  # to let go of one of Linux's takes as long as all the rest


def _check(folder: Path, patch: pytest.MonkeyPatch, paths: dict[str, bytes | None], state: State, told: Stage) -> str:
    """Build a state, go on from it with real code, and return what is wrong with it, or nothing."""
    stage = Stage(folder, patch, durability="os")
    try:
        for path, content in paths.items():
            if content is None:
                (stage.disk / path).mkdir()
            else:
                _put(stage.disk / path, content)
        stage.pass_time(LATER)
        return "; ".join(_go_on(stage, state.promised, told))
    finally:
        stage.close()
        shutil.rmtree(folder)


def _put(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)


def _go_on(stage: Stage, promised: frozenset[str], told: Stage) -> Iterator[str]:
    try:
        spool = stage.open()
        session = stage.join()
        for _ in range(ROUNDS):
            if not _round(session) and spool.unfinished(clock.now()) == NOTHING and _only(spool, session):
                break
        stage.leave(session)
    except (BgjobsError, OSError) as error:
        yield f"cannot go on: {error!r}"
        return
    found = _found(stage.disk / "spool")
    for promise in sorted(promised):
        job_id, _, what = promise.partition(" ")
        if what == ONE_OF:
            yield from _not_one(job_id, found)
        else:
            yield from _broken(job_id, found.get(job_id, []), told.line_1(job_id), once=what == ONCE)
    for job_id in found.keys() - promised:
        if len(found[job_id]) > 1 or found[job_id][0][0] not in (*ENDED, "corrupt"):
            yield f"{job_id}, that nobody was told of, is in {[place for place, _ in found[job_id]]}"
    left = [str(path) for name in ("workers", "claimed") for path in (stage.disk / "spool" / name).iterdir()]
    yield from (f"left over: {path}" for path in left)
    yield from (f"{finding.rule} {finding.code}: {finding.path}" for finding in fsck.broken(spool.paths))


def _not_one(mark: str, found: dict[str, list[tuple[str, bytes]]]) -> Iterator[str]:
    places = [place for where in found.values() for place, content in where if mark.encode() in content]
    if len(places) != 1 or places[0] not in ENDED:
        yield f"{mark} is in {places}"


def _broken(job_id: str, where: list[tuple[str, bytes]], line_1: bytes, *, once: bool) -> Iterator[str]:
    """Return what is wrong with a job that was promised, given where its files are and what is in them."""
    if len(where) != 1 or where[0][0] not in ENDED:
        yield f"{job_id} was promised and is in {[place for place, _ in where]}"
        return
    content = where[0][1]
    if not content.startswith(line_1):
        yield f"line 1 of {job_id} is {content[:200]!r}"
    if once and content.count(b'{"event":"start"') != 1:
        yield f"{job_id} ran again: {content!r}"


def _round(session: Session) -> list[Claim]:
    """Bury the dead, and run what is there; return what ran."""
    recover(session)
    session.import_jobs(lambda class_name, method: POLICY)
    claims = session.claim(100)
    for claim in claims:
        finish(session, claim, Succeeded())
    return claims


def _only(spool: SpoolStore, session: Session) -> bool:
    """Tell whether no other worker has left anything."""
    paths = spool.paths
    return {*files.names(paths.workers), *files.names(paths.claimed)} == {session.id}


def _found(spool: Path) -> dict[str, list[tuple[str, bytes]]]:
    """Return where each job is, and its file's content: a raw look, with none of the code under test."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for place in PLACES:
        for path in (spool / place).rglob("*.json*"):
            if not path.name.endswith(".reason"):
                found.setdefault(path.name.partition(".json")[0][-26:], []).append((place, path.read_bytes()))
    return found


MODELS = {
    # The one sync of ext4 and xfs, and the two of everything else, must be enough for what the file system promises.
    "ordered, one fsync": (Model.ORDERED, True),
    "ordered, two fsyncs": (Model.ORDERED, False),
    "weak, two fsyncs": (Model.WEAK, False),
}


def main(names: list[str]) -> int:
    """Try the scenarios, all if none is named; print what was tried, and return the exit status."""
    counts = Counts()
    for name, play in SCENARIOS.items():
        if not names or name in names:
            counts.scenarios += 1
            for title, (model, one_fsync) in MODELS.items():
                tried, broken = enumerate_states(play, model, one_fsync=one_fsync)
                counts.states += tried
                counts.broken += len(broken)
                print("\n".join(f"enumerator: {name}, {title}: {text}" for text in broken[:3]), end="")
    print(f"enumerator: {counts.scenarios} scenarios, {counts.states:,} states, {counts.broken} broken")
    return 1 if counts.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
