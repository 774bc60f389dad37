"""What submitters and controllers write down: first what they are about to do, then that it is done.

Each writes into a file of its own. A line that was torn by the death of its writer counts as not written.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Call = tuple[str, str, tuple[object, ...]]


class Note(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line. `job` is an id, `key` the first argument of the job, which no other submission has."""

    did: str
    key: str = ""
    job: str = ""
    class_name: str = ""
    method: str = ""
    args: tuple[object, ...] = ()

    @property
    def call(self) -> Call:
        """What is to be called."""
        return self.class_name, self.method, self.args


class Diary:
    """One process's file."""

    def __init__(self, path: Path) -> None:
        """Begin a new one."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, notes: Iterable[Note]) -> None:
        """Write some lines, in one step."""
        os.write(self._descriptor, b"".join(msgspec.json.encode(note) + b"\n" for note in notes))


class Wishes(Struct):
    """What all diaries say."""

    attempted: dict[str, Call] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)  # key by id
    retrying: Counter[str] = field(default_factory=Counter)
    cancelling: set[str] = field(default_factory=set)
    deleting: dict[str, str] = field(default_factory=dict)  # key by id
    handed_in: set[str] = field(default_factory=set)  # keys: whoever puts a file into incoming/ is told no id
    found: list[str] = field(default_factory=list)  # by inspectors
    done: Counter[str] = field(default_factory=Counter)


def wishes(notes: Iterable[Note]) -> Wishes:
    """Sum up what was wished for."""
    found = Wishes()
    for note in notes:
        found.done[note.did] += 1
        match note.did:
            case "attempted":
                found.attempted[note.key] = note.call
            case "acknowledged":
                found.acknowledged[note.job] = note.key
            case "retrying":
                found.retrying[note.job] += 1
            case "cancelling":
                found.cancelling.add(note.job)
            case "deleting":
                found.deleting[note.job] = note.key
            case "handed in":
                found.handed_in.add(note.key)
            case "found":
                found.found.append(note.key)
            case _:
                pass  # only counted
    return found


def read_all(directory: Path) -> list[Note]:
    """Return what is in all diaries."""
    return [note for path in sorted(directory.iterdir()) for note in read(path.read_bytes().splitlines())]


def read(lines: Sequence[bytes]) -> list[Note]:
    """Return the notes in these lines, without one that was torn."""
    found = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=Note))
        except msgspec.DecodeError:
            continue
    return found
