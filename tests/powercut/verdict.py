"""What must be true of a spool after a power cut: Jepsen's total queue, and every promise of the spool page."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from bgjobs.spool.doctor import fsck
from bgjobs.spool.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

PLACES = ("pending", "claimed", "waiting", "done", "failed", "cancelled", "corrupt")
ENDED = ("done", "failed", "cancelled")


class Ledger:
    """What the submitters tried, and what was acknowledged before the power went."""

    def __init__(self) -> None:
        self.tried: dict[str, str] = {}
        self.acked: set[str] = set()
        self.cancels: set[str] = set()
        self.cancelled: set[str] = set()
        self.deleted: set[str] = set()
        self.done: dict[str, int] = {}

    def note(self, told: list[dict[str, Any]], *, before_the_cut: bool) -> None:
        """Write down what a submitter told. After the cut an acknowledgement counts as one that never came."""
        for what in told:
            self.tried |= what.get("try", {})
            self.cancels |= {what["cancel"]} if "cancel" in what else set()
            self.deleted |= {what["delete"]} if "delete" in what else set()
            if before_the_cut:
                self.acked |= set(what.get("ack", ()))
                self.cancelled |= {what["cancelled"]} if "cancelled" in what else set()

    def note_done(self, spool: Path, notes: Path) -> None:
        """Write down which jobs are done, for good, and how often they had run."""
        # In this order: what is done has run, and what runs meanwhile is not among the done.
        done = [path.stem for path in (spool / "done").rglob("*.json")]
        runs = _runs(notes)
        for job_id in done:
            self.done.setdefault(job_id, runs[job_id])


class Found:
    """All job files in a spool: a raw look, with none of the code under test."""

    def __init__(self, spool: Path) -> None:
        self.places: dict[str, list[str]] = defaultdict(list)
        self.lines: dict[str, bytes] = {}
        for place in PLACES:
            for path in (spool / place).rglob("*.json*"):
                if path.name.endswith(".reason"):
                    continue
                job_id = path.name.partition(".json")[0][-26:]
                self.places[job_id].append(place)
                self.lines[job_id] = path.read_bytes().split(b"\n", 1)[0] + b"\n"


def judge(ledger: Ledger, spool: Path) -> list[str]:
    """Return what a power cut must not have done to this spool, a line each."""
    found = Found(spool)
    lost = ledger.acked - ledger.deleted - found.places.keys()
    broken = [f"lost: {job_id} was acknowledged and is gone" for job_id in sorted(lost)]
    broken += [f"unexpected: nobody submitted {job_id}" for job_id in sorted(found.places.keys() - ledger.tried.keys())]
    for job_id, places in found.places.items():
        if len(places) > 1:
            broken.append(f"twice: {job_id} is in {' and in '.join(places)}")
        if job_id not in ledger.acked:
            continue
        if found.lines[job_id] != ledger.tried[job_id].encode():
            broken.append(f"torn: line 1 of {job_id} is {found.lines[job_id][:60]!r}")
        if "corrupt" in places:
            broken.append(f"corrupt: {job_id} was acknowledged")
    return broken


def torn(ledger: Ledger, spool: Path) -> set[str]:
    """Return the jobs that have not ended and whose line 1 is not what was written."""
    found = Found(spool)
    whole = {job_id for job_id, line in found.lines.items() if line == ledger.tried.get(job_id, "").encode()}
    return {job_id for job_id, places in found.places.items() if not {*places} & {*ENDED}} - whole


def undone_cancels(ledger: Ledger, spool: Path) -> set[str]:
    """Return the jobs that somebody was told are cancelled, and that are not."""
    places = Found(spool).places
    return {job_id for job_id in ledger.cancelled if places.get(job_id, ["cancelled"]) != ["cancelled"]}


def judge_end(ledger: Ledger, spool: Path) -> list[str]:
    """Return what is wrong after a worker has run all that was left."""
    broken = [*judge(ledger, spool), *broken_rules(ledger, spool)]
    for job_id, places in Found(spool).places.items():
        if job_id not in ledger.acked:
            if not set(places) <= {*ENDED, "corrupt"}:
                broken.append(f"unfinished: {job_id} is in {places}")
        elif places == ["cancelled"] and job_id not in ledger.cancels:
            broken.append(f"cancelled: {job_id}, and nobody asked for it")
        elif places not in (["done"], ["cancelled"]):
            broken.append(f"unfinished: {job_id} is in {places}")
    # One that died while it took its place, before it was `ready`, is left alone for ten minutes.
    left = [path for path in (spool / "workers").iterdir() if (path / "ready").exists()]
    left += [path for path in (spool / "claimed").iterdir() if any(path.iterdir())]
    return broken + [f"left over: {path}" for path in sorted(left)]


def broken_rules(ledger: Ledger, spool: Path) -> list[str]:
    """Return which rules of docs/internals/spool.md doctor's own look finds broken.

    A job that nobody was told about may be torn: it is put aside when a worker meets it.
    """
    return [
        f"{finding.rule}: {finding.code}: {finding.path} {finding.message}"
        for finding in fsck.broken(Layout(str(spool)))
        if finding.code != "not-a-job" or any(job_id in finding.path for job_id in ledger.acked)
    ]


def ran_after_the_end(ledger: Ledger, notes: Path) -> list[str]:
    """Return which jobs ran again though they were done for good."""
    runs = _runs(notes)
    return [f"ran again: {job_id} was done" for job_id, before in ledger.done.items() if runs[job_id] != before]


def run_again(notes: Path) -> int:
    """Return how many jobs noted more than one run."""
    return sum(runs > 1 for runs in _runs(notes).values())


def _runs(notes: Path) -> Counter[str]:
    return Counter(notes.read_text(encoding="ascii").split())


def shown(broken: list[str], most: int = 12) -> str:
    """Return the findings as text, the first ones of many."""
    more = len(broken) - most
    return "\n".join([*broken[:most], *([f"… and {more} more"] if more > 0 else [])])
