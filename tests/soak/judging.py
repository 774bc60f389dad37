"""Judge what the storm has left: pure rules, from what was wished for, what jobs noted, and what their files tell."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tests.soak.evidence import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.soak.diary import Wishes
    from tests.soak.evidence import Attempt, Records, Told

MAX_CRASHES = {"Stormy": 3, "Tough": 30}
UNCHARGED = frozenset({"interrupted"})
# An attempt may have come to its end and yet be over otherwise: its process or worker died before anybody heard of it,
# or it was asked to stop in its last moment.
MAY_HAVE_RETURNED = frozenset({"succeeded", "crashed", "interrupted", "cancelled", "timed_out"})
MAY_HAVE_RAISED = frozenset({"raised", "crashed", "interrupted", "cancelled", "timed_out"})
COME_TO_AN_END = frozenset({"succeeded", "raised"})
ORDINARY_ERRORS = frozenset({"stormy.StormError"})


class Violation(NamedTuple):
    """A promise that was broken: which one, of which job, and how."""

    kind: str
    job: str
    text: str


def judge(told: Sequence[Told], wishes: Wishes, records: Mapping[str, Records]) -> list[Violation]:
    """Return every violation that there is."""
    return [
        *lost(told, wishes, records),
        *unexpected(told, wishes),
        *in_two_places(told),
        *(found for job in told for found in history(job, MAX_CRASHES.get(job.call[0], 0))),
        *(found for job in told for found in runs(job, records.get(job.id))),
        *(found for job_id, noted in records.items() for found in overlaps(job_id, noted)),
    ]


def lost(told: Sequence[Told], wishes: Wishes, records: Iterable[str]) -> Iterator[Violation]:
    """Find the jobs that are gone, or will not end: acknowledged ones, and those that have begun."""
    states = {job.id: job.state for job in told}
    for job_id in sorted({*wishes.acknowledged, *records} - wishes.deleting.keys()):
        if job_id not in states:
            yield Violation("lost", job_id, "it is nowhere, and nobody deleted it")
    for key in sorted(wishes.handed_in - {job.key for job in told} - {*wishes.deleting.values()}):
        yield Violation("lost", key, "it was handed in, and nobody made a job of it")
    for job_id, state in states.items():
        if state not in ENDED:
            yield Violation("lost", job_id, f"it has not ended: it lies in {state}")


def unexpected(told: Iterable[Told], wishes: Wishes) -> Iterator[Violation]:
    """Find the jobs that nobody asked for, or that came more often than they were asked for."""
    ids: dict[str, set[str]] = defaultdict(set)
    again: dict[str, set[str]] = defaultdict(set)
    for job in told:
        if wishes.attempted.get(job.key) != job.call:
            yield Violation("unexpected", job.id, f"nobody submitted {job.call}")
        (again[job.retry_of] if job.retry_of else ids[job.key]).add(job.id)
        if job.state == "cancelled" and job.id not in wishes.cancelling:
            yield Violation("unexpected", job.id, "it was cancelled, and nobody asked for that")
    for key, found in ids.items():
        if len(found) > 1:
            yield Violation("unexpected", min(found), f"{key} was submitted once, and became {len(found)} jobs")
    for old, found in again.items():
        if len(found) > wishes.retrying[old]:
            yield Violation("unexpected", min(found), f"{old} was retried {wishes.retrying[old]} times: {found}")


def in_two_places(told: Iterable[Told]) -> Iterator[Violation]:
    """Find the jobs of which there is more than one file."""
    paths: dict[str, list[str]] = defaultdict(list)
    for job in told:
        paths[job.id].append(job.path)
    for job_id, found in paths.items():
        if len(found) > 1:
            yield Violation("two places", job_id, " and ".join(found))


def history(job: Told, max_crashes: int) -> Iterator[Violation]:
    """Find what cannot be in the file of one job, or must not: more attempts than were due, or fewer."""
    for fault in job.faults:
        yield Violation("history", job.id, fault)
    lost_ones = sum(attempt.lost for attempt in job.attempts)
    charged = sum(not attempt.lost and attempt.outcome not in UNCHARGED for attempt in job.attempts)
    if lost_ones > max_crashes:
        yield Violation("history", job.id, f"{lost_ones} attempts were lost, {max_crashes} may be")
    if charged > job.retries + 1:
        yield Violation("history", job.id, f"{charged} attempts were charged, {job.retries + 1} may be")
    for attempt in job.attempts:
        if attempt.outcome == "raised" and attempt.error not in ORDINARY_ERRORS:
            yield Violation("history", job.id, f"attempt {attempt.number} raised {attempt.error}")
    outcomes = [attempt.outcome for attempt in job.attempts]
    if "succeeded" in outcomes[:-1]:
        yield Violation("history", job.id, f"an attempt followed one that succeeded: {outcomes}")
    if job.state == "failed" and not (charged == job.retries + 1 or lost_ones == max_crashes):
        yield Violation("history", job.id, f"it failed with attempts left: {outcomes}")
    if (job.state == "done") != (outcomes[-1:] == ["succeeded"]):
        yield Violation("history", job.id, f"it is {job.state} after {outcomes}")


def runs(job: Told, records: Records | None) -> Iterator[Violation]:
    """Find the attempts of one job that its file does not tell of, or tells otherwise than the job itself."""
    attempts = {attempt.place: attempt for attempt in job.attempts}
    noted = records.runs if records is not None else []
    for place, count in Counter(run.place for run in noted).items():
        if count > 1:
            yield Violation("duplicate", job.id, f"attempt {place} began {count} times")
    for run in noted:
        attempt = attempts.pop(run.place, None)
        if attempt is None:
            yield Violation("duplicate", job.id, f"attempt {run.place} began, and its file does not tell of it")
        elif not _agree(attempt, run.how):
            text = f"attempt {run.number} {run.how or 'did not end'}, and its file says {attempt.outcome or 'nothing'}"
            yield Violation("duplicate" if run.how == "returned" else "history", job.id, text)
    for attempt in attempts.values():
        if attempt.outcome in COME_TO_AN_END:
            yield Violation("history", job.id, f"attempt {attempt.number} {attempt.outcome}, and never began")


def _agree(attempt: Attempt, how: str) -> bool:
    match how:
        case "returned":
            return attempt.outcome in MAY_HAVE_RETURNED
        case "raised":
            return attempt.outcome in MAY_HAVE_RAISED
        case _:
            return attempt.outcome not in COME_TO_AN_END


def overlaps(job_id: str, records: Records) -> Iterator[Violation]:
    """Find two attempts of one job at the same time, and all else that its attempts complained of."""
    for complaint in records.complaints:
        yield Violation(complaint.split()[0], job_id, complaint)
    ordered = sorted(records.runs, key=lambda run: run.begun_ns)
    for index, run in enumerate(ordered):
        for later in ordered[index + 1 :]:
            if run.ended_ns is not None and later.begun_ns < run.ended_ns:
                text = f"attempt {later.number} began {run.ended_ns - later.begun_ns} ns before {run.number} ended"
                yield Violation("overlap", job_id, text)


def duplicates_after_crash(records: Iterable[Records]) -> int:
    """Count the runs that came to their end although one of the same job already had."""
    return sum(max(0, sum(run.how == "returned" for run in noted.runs) - 1) for noted in records)
