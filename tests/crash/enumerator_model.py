"""What a power cut can leave of a series of steps, by two models of a file system.

ORDERED is ext4 with a journal (data=ordered, its default) and xfs. Steps on names reach the disk in the order in which
they were taken: after a cut a first part of them is there, and the rest is not. Any sync brings all steps on names
before it to the disk. What was written to a file is on the disk once that file was synced. Without that it is there or
not, or half of it, or zeros in its place, whatever happens to other files; but never without the steps on names that
came before it, for the file's length is noted in the same journal.

WEAK stands for file systems that promise no more than POSIX. Each step on names may be lost on its own, whatever came
after it, unless the directory that *got* the name (or lost a file for good) was synced after it; then so were the
earlier steps of the same file or directory. The name of that directory itself is another matter: it lies in the one
above. A rename happens whole or not at all, also between two directories; a file system on which a cut can leave both
names, or neither (ext2, FAT), is none to keep a queue on. Syncing a file brings its content to the disk, and no name.
A step whose ground is lost (the directory, or the file under its earlier name) is lost with it.

From both follow many states for every moment; `states` names them all where few steps are open, and else those with no
loss, one loss or two, and the one in which all is lost that can be.
"""

from __future__ import annotations

import itertools
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.crash.enumerator_tree import Drop, Link, Move, Promise, SyncAll, SyncFile, SyncFolder, Write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.crash.enumerator_tree import Step, Tree

FEW = 8  # so many open steps are tried in every combination,
SOME = 14  # and of so many every pair
NameStep = Link | Move | Drop
Tail = Literal["gone", "half", "zeros"]  # what became of the last, unsynced data of a file
TAILS: tuple[Tail, ...] = ("gone", "half", "zeros")


class Model(Enum):
    """How much a file system promises."""

    ORDERED = "ordered"
    WEAK = "weak"


class Loss(NamedTuple):
    """What a cut takes: steps on names, all that came after `end`, and for some files their unsynced data."""

    names: frozenset[int]
    files: tuple[tuple[int, Tail], ...]
    end: int


class State(NamedTuple):
    """What a cut left, and what had been promised by then."""

    tree: Tree
    promised: frozenset[str]
    moment: Moment
    loss: Loss

    def __str__(self) -> str:
        taken, (names, files, end) = self.moment.taken, self.loss
        lost = [f"{n} {taken[n]}" for n in sorted(names)] + [f"data of {node}: {tail}" for node, tail in files]
        told = "\n    ".join(str(step)[:160] for step in taken)
        return f"cut after {len(taken)} steps, the journal ends at {end}, lost: {'; '.join(lost)}\n    {told}"


def states(base: Tree, steps: Sequence[Step], model: Model) -> Iterator[State]:
    """Go through all states that a cut at any moment can leave. Many are equal."""
    for end in range(len(steps) + 1):
        moment = Moment(base, steps[:end])
        for loss in moment.losses(model):
            yield State(moment.without(loss), moment.promised, moment, loss)


class Moment:
    """The moment after some steps: what had been promised, and what was not safe yet."""

    def __init__(self, base: Tree, taken: Sequence[Step]) -> None:
        self.taken = taken
        self._base = base
        promised: set[str] = set()
        self._writes: dict[int, list[tuple[int, bytes]]] = {}
        self._first_open: dict[int, int] = {}  # of each file with data that is not synced: its first such write
        self._last_sync = -1
        for n, step in enumerate(taken):
            match step:
                case Promise(jobs, kept):
                    promised = promised.union(jobs) if kept else promised.difference(jobs)
                case Write(node, data):
                    self._writes.setdefault(node, []).append((n, data))
                    self._first_open.setdefault(node, n)
                case SyncFile(node):
                    self._first_open.pop(node, None)
                    self._last_sync = n
                case SyncAll():
                    self._first_open.clear()
                    self._last_sync = n
                case SyncFolder():
                    self._last_sync = n
                case Link() | Move() | Drop():
                    pass
        self.promised = frozenset(promised)

    def losses(self, model: Model) -> Iterator[Loss]:
        """Go through what a cut at this moment can take."""
        if model is Model.WEAK:
            yield from self._combined(self._open_names(), len(self.taken))
            return
        later = [n for n, step in enumerate(self.taken) if n > self._last_sync and isinstance(step, NameStep | Write)]
        for end in (*later, len(self.taken)):
            yield from self._combined([], end)

    def without(self, loss: Loss) -> Tree:
        """Return what is on the disk after such a loss."""
        tree = self._base.copy()
        for n, step in enumerate(self.taken[: loss.end]):
            if n not in loss.names and isinstance(step, NameStep):
                tree.apply(step)
        tails = dict(loss.files)
        for node, writes in self._writes.items():
            there = [(n, data) for n, data in writes if n < loss.end]
            first = self._first_open.get(node, loss.end) if node in tails else loss.end
            kept = b"".join(data for n, data in there if n < first)
            rest = [data for n, data in there if n >= first]
            tree.contents[node] = self._base.contents.get(node, b"") + kept + _tail(rest, tails.get(node, "gone"))
        return tree

    def _combined(self, names: list[int], end: int) -> Iterator[Loss]:
        """Combine losses: in every way where they are few, else every pair, every single one, and all at once."""
        parts = [*((n, None) for n in names), *((None, node) for node, n in self._first_open.items() if n < end)]
        most = len(parts)
        sizes = range(most + 1) if most <= FEW else (0, 1, 2, most) if most <= SOME else (0, 1, most)
        for size in sizes:
            for chosen in itertools.combinations(parts, size):
                gone = frozenset(n for n, _ in chosen if n is not None)
                hurt = [node for _, node in chosen if node is not None]
                for tail in TAILS if hurt and size == 1 else TAILS[:1]:
                    yield Loss(gone, tuple((node, tail) for node in hurt), end)

    def _open_names(self) -> list[int]:
        """Return which steps on names may still be lost in the weak model."""
        safe: set[int] = set()
        for end, sync in enumerate(self.taken):
            if isinstance(sync, SyncAll):
                safe.update(range(end))
            elif isinstance(sync, SyncFolder):
                for n in range(end):
                    if _names_in(self.taken[n]) == sync.node:
                        safe.update(self._history(n))
        return [n for n, step in enumerate(self.taken) if isinstance(step, NameStep) and n not in safe]

    def _history(self, last: int) -> Iterator[int]:
        """Return a step on names and the earlier ones of the same file or directory."""
        node = _node(self.taken[last])
        return (n for n in range(last + 1) if _node(self.taken[n]) == node)


def _names_in(step: Step) -> int | None:
    """Return the directory in which a step put a name, or removed one for good."""
    match step:
        case Link(folder, _, _) | Drop(folder, _, _):
            return folder
        case Move(_, _, target, _, _, _):
            return target
        case _:
            return None


def _node(step: Step) -> int | None:
    return step.node if isinstance(step, NameStep) else None


def _tail(data: list[bytes], tail: Tail) -> bytes:
    """Return what is left of unsynced data: nothing, or all but the end of the last piece, which is torn or zeros."""
    if not data or tail == "gone":
        return b""
    *earlier, last = data
    return b"".join(earlier) + (last[: len(last) // 2] if tail == "half" else bytes(len(last)))
