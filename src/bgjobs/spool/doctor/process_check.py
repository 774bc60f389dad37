"""Find processes that jobs have started and that live on after them, and end these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs import files, system
from bgjobs.ids import ID
from bgjobs.spool import layout
from bgjobs.spool.doctor import worker_check
from bgjobs.store import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.spool.layout import Layout
    from bgjobs.system.facts import Marked

CODE = "orphan-process"
MOST_SHOWN = 5


def inspect(paths: Layout) -> Iterator[Finding]:
    """Name each job, or runner, of which processes live on. The path of a finding is the id of the job, not a pid.

    A process that forks and ends all the time has another pid each time.
    """
    left: dict[str, list[int]] = {}
    for one in orphans(paths):
        left.setdefault(source(one), []).append(one.process.pid)
    for where, pids in sorted(left.items()):
        yield Finding(code=CODE, message=_message(sorted(pids)), path=where, serious=True, repairable=True)


def orphans(paths: Layout) -> list[Marked]:
    """Return the processes that began for this spool and whose job does not run any more, or whose worker is dead."""
    found = system.marked(paths.root)
    return [one for one in found if is_orphan(paths, one)] if found else []


def is_orphan(paths: Layout, one: Marked) -> bool:
    """Tell whether the process belongs to no runner of a living worker, and to no job that runs."""
    pid = one.process.pid
    marks = [one.runner, *system.runners_above(pid)]
    # What a job has started belongs to the runner above it. If there is none, as after a double fork on a system
    # without subreapers, it belongs to the job: while that runs, its worker ends the process.
    return not (any(_runner_lives(paths, mark) for mark in marks if mark) or _job_runs(paths, one.job_id))


def source(one: Marked) -> str:
    """Return what has started the process, as far as its marks tell."""
    return f"job {one.job_id}" if ID.fullmatch(one.job_id) else "a job"


def _runner_lives(paths: Layout, mark: str) -> bool:
    """Tell whether the process that started the runner of this mark lives: a worker, or a `bgjobs run`."""
    wid, _, _ = mark.rpartition("-")
    if layout.WORKER_NAME.fullmatch(wid):
        return _worker_lives(paths, wid)
    _, pid, birth = (*wid.split(".", 2), "", "")[:3]
    return pid.isascii() and pid.isdigit() and system.birth(int(pid)) == birth


def _job_runs(paths: Layout, job_id: str) -> bool:
    if not ID.fullmatch(job_id):
        return False
    for wid in files.names(paths.claimed):
        if layout.WORKER_NAME.fullmatch(wid):
            claims = map(layout.parse_claimed, files.names(paths.claims_of(wid)))
            if any(claim is not None and claim[2] == job_id for claim in claims):
                return _worker_lives(paths, wid)
    return False


def _worker_lives(paths: Layout, wid: str) -> bool:
    return files.exists(paths.worker(wid)) and worker_check.status(paths, wid) != "dead"


def _message(pids: list[int]) -> str:
    shown = ", ".join(map(str, pids[:MOST_SHOWN])) + (" …" if len(pids) > MOST_SHOWN else "")
    one = len(pids) == 1
    return (
        f"has started process{'' if one else 'es'} {shown}, which live{'s' if one else ''} on without it: "
        f"`kill` {'it' if one else 'them'}, or let `bgjobs doctor --repair` end {'it' if one else 'them'}"
    )


def end(paths: Layout, where: str) -> Iterator[str]:
    """End the processes that this job has left; return what was done. Each is tested again before it is ended."""
    ended: set[int] = set()

    def is_left(one: Marked) -> bool:
        if source(one) != where or not is_orphan(paths, one):
            return False
        ended.add(one.process.pid)
        return True

    living = system.kill_marked_where(paths.root, is_left)
    ended -= {*living}
    if ended:
        shown = ", ".join(map(str, sorted(ended)[:MOST_SHOWN]))
        yield f"ended process {shown}, which {where} had left"
    for pid in living:
        yield f"could not end process {pid}, which {where} has left"
