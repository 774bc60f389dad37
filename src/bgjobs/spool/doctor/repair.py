"""Repair what workers do not: jobs with two files, names in `pending/` that do not belong there, unfinished moves.

Every step is one rename, as a claim or a cancel is one, so that workers may go on meanwhile: whoever is faster wins.
Nothing is deleted but a second name of the same file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from bgjobs import clock, disk, files
from bgjobs.events import Corrupt
from bgjobs.job import State, moment
from bgjobs.spool import layout, record, transitions
from bgjobs.spool.doctor import fsck, process_check, worker_check
from bgjobs.spool.line1 import CorruptError, NewerFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.events import Emit
    from bgjobs.spool.layout import Layout
    from bgjobs.store import Finding

Target = TypeVar("Target")
RANKS = {"done": 3, "failed": 3, "cancelled": 3, "claimed": 2, "pending": 1, "waiting": 1}
DUPLICATE = "duplicate: another file of this job was kept"


class Repair:
    """One walk through a spool that repairs what it finds."""

    def __init__(self, paths: Layout, emit: Emit) -> None:
        """Repair nothing yet."""
        self._paths = paths
        self._emit = emit
        self._repairs: dict[str, Callable[[Finding], Iterator[str]]] = {
            "no-claim-lock": self._make_claim_lock,
            "strange-name": self._put_aside,
            "not-a-job": self._put_aside,
            "ended-pending": self._finish_move,
            "drained-buckets": self._remove_buckets,
            process_check.CODE: self._end_processes,
        }

    def run(self) -> list[str]:
        """Repair what can be repaired; return what was done, in words."""
        done: list[str] = []
        for where in fsck.duplicates(self._paths):
            done += _attempted(self._resolve_duplicates, where)
        for finding in fsck.check(self._paths, quick=True):
            repair = self._repairs.get(finding.code)
            if repair and finding.repairable:
                done += _attempted(repair, finding)
        return done

    def _resolve_duplicates(self, where: frozenset[str]) -> Iterator[str]:
        """Keep one file of a job: an ended one wins over a claimed one, and that over a pending one."""
        whole = [path for path in where if self._weight(path)]
        if not whole:
            return  # none of them is a job: each has a finding of its own
        winner = max(sorted(whole), key=self._weight)
        for path in sorted({*where} - {winner}):
            yield from self._drop(path, winner)

    def _weight(self, path: str) -> tuple[int, ...]:
        """Return the rank of a file among those of its job; nothing for one that is no job."""
        rank = RANKS.get(self._state_of(path), 0)
        name = fsck.ANY_ID.search(os.path.basename(path))
        try:
            data = files.read(path, record.MOST_BYTES)
            record.decode(data, job_id=name[0] if name else "", state=State.CORRUPT, priority=None, not_before_ms=None)
        except files.StrangeFileError:
            return (rank, 0, 0) if _is_linked(path) else ()
        except (OSError, CorruptError, NewerFormatError):
            return ()
        has_ended = any(isinstance(event, record.End) for event in record.events(data))
        return rank, int(has_ended), len(data)

    def _drop(self, path: str, winner: str) -> Iterator[str]:
        match self._state_of(path):
            case "claimed" if worker_check.status(self._paths, os.path.basename(os.path.dirname(path))) != "dead":
                return  # only the living worker may touch it
            case "corrupt":
                reason = files.read_note(f"{path}.reason") or ""
                files.replace_content(f"{path}.reason", f"{DUPLICATE}\n{reason}".encode())
                yield f"noted that {path} is a copy of {winner}"
            case _ if disk.lstat(path).st_ino == disk.lstat(winner).st_ino:
                files.remove(path)
                yield f"removed {path}, a second name of {winner}"
            case _:
                yield f"moved {path} to {self._quarantine(path, DUPLICATE)}: {winner} is the job"

    def _state_of(self, path: str) -> str:
        return os.path.relpath(path, self._paths.root).split(os.sep)[0]

    def _make_claim_lock(self, finding: Finding) -> Iterator[str]:
        disk.close(disk.open_create_append(finding.path))
        yield f"made {finding.path}"

    def _put_aside(self, finding: Finding) -> Iterator[str]:
        if self._state_of(finding.path) == "pending":
            yield f"moved {finding.path} to {self._quarantine(finding.path, finding.message)}"

    def _finish_move(self, finding: Finding) -> Iterator[str]:
        """Move a job that has ended out of `pending/`, before somebody runs it again."""
        ends = [e for e in record.events(files.read(finding.path, record.MOST_BYTES)) if isinstance(e, record.End)]
        parts = layout.parse_pending(os.path.basename(finding.path))
        if not ends or parts is None or ends[-1].state not in layout.ENDED_DIRECTORIES:
            return
        target = self._paths.ended_path(ends[-1].state, layout.hour(moment(ends[-1].at)), parts.job_id)
        files.make_directory(os.path.dirname(target))
        if files.exists(target):
            target = self._quarantine(finding.path, DUPLICATE)
        else:
            files.move(finding.path, target)
        yield f"moved {finding.path} to {target}"

    def _end_processes(self, finding: Finding) -> Iterator[str]:
        yield from process_check.end(self._paths, finding.path)

    def _remove_buckets(self, _: Finding) -> Iterator[str]:
        count = sum(files.remove_directory(path) for path in worker_check.drained(self._paths))
        if count:
            yield f"removed {count} empty buckets"

    def _quarantine(self, path: str, reason: str) -> str:
        target = transitions.quarantine(self._paths, path, reason)
        self._emit(Corrupt(os.path.basename(path), reason, clock.now()))
        return target


def _attempted(repair: Callable[[Target], Iterator[str]], target: Target) -> list[str]:
    try:
        return list(repair(target))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"could not repair {error.filename}: {error.strerror}"]


def _is_linked(path: str) -> bool:
    return files.exists(path) and disk.lstat(path).st_nlink > 1
