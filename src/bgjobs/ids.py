"""Ids: 26 lower-case letters and digits that sort by the moment they were made, and tell a job's class and method.

The letters are the millisecond (10), a count (3), the lane (5) and chance (8): a ULID. The lane is a hash of class and
method. So the name of a job's file tells both to whoever knows which pairs there are, without opening the file.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib import import_module
from threading import Lock

from bgjobs import clock
from bgjobs.patterns import Pattern

ID_PATTERN = r"0[0-9a-f][0-9a-hjkmnp-tv-z]{24}"  # of a moment before the year 2527: all that a file name can hold
ID = Pattern(ID_PATTERN)
SUFFIX = Pattern(r"[0-9a-hjkmnp-tv-z]{8,26}")
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
COUNT_BITS, LANE_BITS, CHANCE_BITS = 15, 25, 40
BELOW_TIME = COUNT_BITS + LANE_BITS + CHANCE_BITS
LANE_BEGINS, LANE_ENDS = 13, 18
LANE = slice(LANE_BEGINS, LANE_ENDS)

_AS_PYTHON_HAS_IT = str.maketrans(DIGITS, "0123456789abcdefghijklmnopqrstuv")  # the digits of int(…, 32)
_PAIRS = [high + low for high in DIGITS for low in DIGITS]  # two digits at a time take half as long
_SHIFTS = range(120, -10, -10)
_LANE_AND_CHANCE = (1 << LANE_BITS + CHANCE_BITS) - 1
_FIRST_COUNTS = (1 << COUNT_BITS - 1) - 1  # each millisecond begins in the lower half: so many ids fit at least
_lock = Lock()
_last_ms = 0
_count = 0


def new_id(ms: int | None = None, *, lane: str = "") -> str:
    """Return a new id for this millisecond since 1970 (default: now), of a job of this lane, or of something else.

    The ids of one process sort in the order in which they were made, even within a millisecond: at least 16,384 of them
    have a count of their own. Each millisecond begins to count at random, so two processes make the same id in the
    same millisecond and lane with a chance of 1 : 2^54. What has no lane has chance in these letters as well.
    """
    global _last_ms, _count  # noqa: PLW0603 - the order of ids within a process is process-wide
    now = clock.now_ms() if ms is None else ms
    chance = int.from_bytes(os.urandom(10))
    with _lock:
        if now == _last_ms:
            _count = (_count + 1) % (1 << COUNT_BITS)
        else:
            _count = chance >> LANE_BITS + CHANCE_BITS & _FIRST_COUNTS
            _last_ms = now
        count = _count
    made = _encode((now << COUNT_BITS | count) << LANE_BITS + CHANCE_BITS | chance & _LANE_AND_CHANCE)
    return f"{made[:LANE_BEGINS]}{lane}{made[LANE_ENDS:]}" if lane else made


def id_of(ms: int, content: bytes, *, lane: str) -> str:
    """Return the id of this millisecond and lane that belongs to this content: always the same.

    It holds 55 bits of a hash, in the letters of the count and of chance: other content has the same id with a chance
    of 1 : 2^55.
    """
    digest = int.from_bytes(_sha256(content)[:10])
    made = _encode(ms << BELOW_TIME | digest)
    return f"{made[:LANE_BEGINS]}{lane}{made[LANE_ENDS:]}"


def id_without_lane(ms: int, content: bytes) -> str:
    """Return the id that content had before there were lanes: 80 bits of its hash."""
    return _encode(ms << BELOW_TIME | int.from_bytes(_sha256(content)[:10]))


@lru_cache(maxsize=4096)
def lane_of(class_name: str, method: str) -> str:
    """Return the five letters that stand for this pair in the ids of its jobs. Two pairs may have the same."""
    digest = int.from_bytes(_sha256(f"{class_name}\0{method}".encode())[:4]) >> 32 - LANE_BITS
    return _encode(digest)[-(LANE_ENDS - LANE_BEGINS) :]


def id_ms(job_id: str) -> int:
    """Return the millisecond since 1970 in which the id was made."""
    return int(job_id[:10].translate(_AS_PYTHON_HAS_IT), 32)


def first_id(ms: int) -> str:
    """Return what sorts before all ids of this millisecond and later ones, and after all earlier ones."""
    return _encode(ms << BELOW_TIME)


def _encode(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def _sha256(data: bytes) -> bytes:
    # `hashlib` brings OpenSSL along, which takes longer than all the rest of a submission.
    try:
        found = import_module("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    except ImportError:
        found = import_module("hashlib")  # a Python that was built without the other
    return bytes(found.sha256(data).digest())
