"""Open a spool that somebody left by dying, check it, and go on: every job ends, once, and nothing is left over."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.job import State
from bgjobs.spool.doctor import fsck
from tests.crash import oracle
from tests.crash.doing import drain
from tests.crash.world import set_clock, until_calm

if TYPE_CHECKING:
    from bgjobs.store import Session
    from tests.crash.oracle import Fate, Found
    from tests.crash.world import World

FOR_EVER = timedelta(days=9999)
LATER = timedelta(days=2)
FLAT = 2  # slashes in `/pending/PRIORITY`: what lies deeper is a bucket
KEPT = (
    "VERSION",
    "lanes",
    "doorbell",
    "locks/claim.lock",
    "locks/retried.lock",
    "retried",
    "logs/",
    "output/",
    "done/",
    "failed/",
    "cancelled/",
)


class Afterwards:
    """What a fresh worker finds and does. Each complaint is a sentence."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.complaints: list[str] = []
        self._told = world.told()
        self._strange = {job_id for fact in self._told if fact["what"] == "strange" for job_id in fact["ids"]}

    def check(self) -> None:
        """Look, take over, run everything, clear up; complain."""
        found = self._found()
        self._promises(found)
        self._retries(found)
        self._check_rules("after the death")
        fates = {job_id: oracle.fate(files[0], system.boot_id()) for job_id, files in found.items()}
        ran = self._runs()
        session = self._fresh_worker()
        self._compare("recovered", fates, self._found())
        self._check_rules("after the recovery")
        self._run_all(session)
        ends = {job_id: fate.run_once_more() for job_id, fate in fates.items()}
        self._compare("ended", ends, self._found())
        for job_id, fate in fates.items():
            again = self._runs()[job_id] - ran[job_id]
            self._expect(again == (fate.state == "pending"), f"{job_id}: {fate.state}, then ran {again} times more")
        self._answers()
        self._handed_in()
        self._clear_up(session)
        self._leftovers()

    def _expect(self, holds: bool, complaint: str) -> None:
        if not holds:
            self.complaints.append(complaint)

    def _check_rules(self, when: str) -> None:
        """Let `bgjobs doctor` look."""
        if (self.world.spool / "VERSION").exists():
            for finding in fsck.broken(self.world.open().paths):
                if not any(job_id in finding.path for job_id in self._strange):
                    self._expect(False, f"{when}, {finding.rule} is broken: {finding.message}")

    # What there is

    def _found(self) -> dict[str, list[Found]]:
        found = oracle.look(self.world.spool)
        for job_id, files in list(found.items()):
            states = [file.state for file in files]
            self._expect(len(files) == 1, f"{job_id} is in {states}")
            if job_id in self._strange:
                del found[job_id]
        return found

    def _retries(self, found: dict[str, list[Found]]) -> None:
        """Check that each retry is known: nothing that was retried is retried by condition once more."""
        retries = [json.loads(line).get("retry_of") for files in found.values() for line in files[0].lines[:1]]
        wanted = {old for old in retries if old}
        known = self.world.open().retried(wanted) if wanted else {}
        self._expect(known.keys() == wanted, f"{wanted} were retried, and {set(known)} are known")

    def _promises(self, found: dict[str, list[Found]]) -> None:
        """Check what was told before the death: accepted jobs are there, groups are whole, first lines as they were."""
        pruned = set(self._ids("prunable"))
        for job_id in set(self._ids("acked")) - self._strange:
            self._expect(job_id in found or job_id in pruned, f"{job_id} was accepted and is lost")
        for fact in self._told:
            if fact["what"] == "group":
                self._expect(len(found.keys() & set(fact["ids"])) in {0, len(fact["ids"])}, "part of a group is there")
            if fact["what"] == "planned" and fact["ids"][0] in found:
                file = found[fact["ids"][0]][0]
                self._expect(file.lines[0] == fact["line"].encode()[:-1], f"line 1 of {file.job_id} has changed")
                self._expect(len(file.lines) > 1, f"line 1 of {file.job_id} has no end")
        for job_id in found.keys() - set(self._ids("planned")):
            self._expect(b"handed in: " in found[job_id][0].lines[0], f"{job_id} was never submitted")
        self._stored(found, pruned)

    def _stored(self, found: dict[str, list[Found]], pruned: set[str]) -> None:
        """Check that what was ended, deleted or made due is so."""
        for job_id in self._ids("gone"):
            self._expect(job_id not in found, f"{job_id} was deleted and is there")
        for job_id in self._ids("due"):
            place = str(found[job_id][0].path)
            self._expect("/at-" not in place, f"{job_id} was to start at once and is at {place}")
        for fact in self._told:
            if fact["what"] == "stored":
                (job_id,), told = fact["ids"], found.get(fact["ids"][0])
                states = {file.state for file in told or []}
                is_there = fact["state"] in states or fact["state"] not in oracle.ENDED or job_id in pruned
                self._expect(is_there, f"{job_id} was stored as {fact['state']} and is {states}")
            if fact["what"] == "pruned":
                self._expect(not (found.keys() & pruned), "a pruned job is still there")

    def _ids(self, what: str) -> list[str]:
        return [job_id for fact in self._told if fact["what"] == what for job_id in fact["ids"]]

    def _runs(self) -> Counter[str]:
        return Counter(job_id for fact in self.world.told() if fact["what"] == "ran" for job_id in fact["ids"])

    # Going on

    def _fresh_worker(self) -> Session:
        """Let a worker come that takes over from all dead ones."""
        session = self.world.join()

        def is_alone() -> bool:
            self.world.recover(session)
            others = [place for place in self.world.spool.joinpath("workers").iterdir() if place.name != session.id]
            return not any(place.joinpath("ready").exists() for place in others)

        until_calm(is_alone)
        return session

    def _run_all(self, session: Session) -> None:
        """Run every job, the delayed ones too; another one that comes now runs as well."""
        set_clock(LATER)
        (extra,) = self.world.submitted()
        drain(self.world, session)
        until_calm(lambda: self._all_ended(session))
        job = self.world.open().get(extra.id)
        self._expect(job is not None and job.state is State.DONE, "a new job does not run")

    def _all_ended(self, session: Session) -> bool:
        drain(self.world, session)
        counts = self.world.open().counts()
        return not any(counts[state] for state in State if not (state.ended or state is State.CORRUPT))

    def _compare(self, when: str, fates: dict[str, Fate], found: dict[str, list[Found]]) -> None:
        """Compare what the files say, and what the queue says, with what must be."""
        queue = self.world.open()
        for job_id, expected in fates.items():
            file = found.get(job_id)
            if file is None:
                self._expect(False, f"{job_id} is lost when {when}: it was to be {expected}")
                continue
            told = oracle.told_by(file[0])
            self._expect(told == expected, f"{job_id} {when}: {told}, not {expected}")
            job = queue.get(job_id)
            assert job is not None
            shown = (len(job.attempts), job.charged, job.crashes)
            counts = (expected.attempts, expected.charged, expected.crashes)
            self._expect(shown == counts, f"{job_id} {when} is shown with {shown}, not {counts}")

    def _answers(self) -> None:
        """Check what was answered to those who asked to cancel."""
        queue = self.world.open()
        for fact in self._told:
            if fact["what"] == "asked":
                job = queue.get(fact["ids"][0])
                assert job is not None
                cancelled, answer = job.state is State.CANCELLED, fact["answer"]
                ended_before = any(
                    other["what"] == "stored" and other["ids"] == fact["ids"] and other["state"] in {"done", "failed"}
                    for other in self._told
                )
                self._expect(
                    cancelled if answer == "cancelled" or not ended_before else answer in {"requested", "too late"},
                    f"asked to cancel: {answer}, and it is {job.state}",
                )

    def _handed_in(self) -> None:
        """Check that each file that was handed in has become one job, which ran once."""
        found, ran = self._found(), self._runs()
        for name in self._ids("handed in"):
            text = f"handed in: {name}".encode()
            jobs = [file for files in found.values() for file in files if text in file.lines[0]]
            self._expect([job.state for job in jobs] == ["done"], f"{name} was handed in and is {jobs}")
            self._expect(all(ran[job.job_id] == 1 for job in jobs), f"{name} ran times more")

    # Clearing up

    def _clear_up(self, session: Session) -> None:
        """Let time pass for what was left half-done."""
        for folder in ("workers", "tmp"):
            for place in self.world.spool.joinpath(folder).iterdir():
                if place.name not in {session.id, "trash"}:
                    os.utime(place, (0, 0))
        set_clock(LATER)

        def is_clear() -> bool:
            self.world.recover(session)
            session.claim(1)
            sum(session.tidy(keep_done=FOR_EVER, keep_failed=FOR_EVER))
            return self._left_by(session) == []

        try:
            until_calm(is_clear, most=300)
        except AssertionError:
            self.complaints.append(f"left over: {self._left_by(session)}")
        session.leave()

    def _left_by(self, session: Session) -> list[str]:
        spool = self.world.spool
        kept = [f"workers/{session.id}", f"claimed/{session.id}", "tmp/trash"]
        found = [path for top in ("workers", "claimed", "tmp", "incoming") for path in oracle.below(spool / top)]
        found += [path for path in oracle.below(spool / "pending") if path.count("/", len(str(spool))) > FLAT]
        found = [os.path.relpath(path, spool) for path in found]
        kept += ["workers", "claimed", "incoming"]
        return [name for name in found if name not in kept and not name.startswith(tuple(f"{k}/" for k in kept[:2]))]

    def _leftovers(self) -> None:
        """Check that nothing is left but jobs that have ended, and what belongs to every spool."""
        spool = self.world.spool
        there = {job_id for job_id, files in oracle.look(spool).items() if files[0].state in oracle.ENDED}
        for path in oracle.below(spool):
            name = os.path.relpath(path, spool)
            if os.path.isdir(path):
                continue
            if name.startswith("corrupt/"):
                expected = any(job_id in name for job_id in self._strange) or bool(self._ids("handed in"))
                self._expect(expected, f"left over: {name}")
            elif name.startswith("incoming/"):
                self._expect(name == "incoming/README", f"left over: {name}")
            elif name.startswith("output/"):
                self._expect(os.path.basename(path)[:26] in there, f"the output of no job: {name}")
            else:
                self._expect(name.startswith(KEPT), f"left over: {name}")
        for job_id in self._strange:
            states = [file.state for file in oracle.look(spool)[job_id]]
            self._expect(states == ["corrupt"], f"the stranger is in {states}")
