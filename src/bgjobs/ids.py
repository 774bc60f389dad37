"""Job ids: 26 lower-case letters and digits that sort by the moment they were made (ULIDs)."""

from __future__ import annotations

import os
from threading import Lock

from bgjobs import clock
from bgjobs.patterns import Pattern

ID_PATTERN = r"0[0-9a-f][0-9a-hjkmnp-tv-z]{24}"  # of a moment before the year 2527: all that a file name can hold
ID = Pattern(ID_PATTERN)
SUFFIX = Pattern(r"[0-9a-hjkmnp-tv-z]{8,26}")
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_BITS, COUNTER_BITS, RANDOM_BITS = 48, 16, 64

_AS_PYTHON_HAS_IT = str.maketrans(DIGITS, "0123456789abcdefghijklmnopqrstuv")  # the digits of int(…, 32)
_PAIRS = [high + low for high in DIGITS for low in DIGITS]  # two digits at a time take half as long
_SHIFTS = range(120, -10, -10)
_lock = Lock()
_last_ms = 0
_counter = 0


def new_id(ms: int | None = None) -> str:
    """Return a new id for this millisecond since 1970 (default: now).

    The layout is that of the ULID specification (48 bits of time, 80 of randomness), of which 16 count upwards within
    a process, so that the ids of one process sort in the order in which they were made, even within a millisecond.
    """
    global _last_ms, _counter  # noqa: PLW0603 - the order of ids within a process is process-wide
    now = clock.now_ms() if ms is None else ms
    with _lock:
        _counter = (_counter + 1) % (1 << COUNTER_BITS) if now == _last_ms else 0
        _last_ms = now
        count = _counter
    return _encode((now << COUNTER_BITS | count) << RANDOM_BITS | int.from_bytes(os.urandom(RANDOM_BITS // 8)))


def id_of(ms: int, content: bytes) -> str:
    """Return the id of this millisecond that belongs to this content: always the same, and no other content's."""
    from hashlib import sha256  # noqa: PLC0415 - few need it

    return _encode(ms << RANDOM_BITS + COUNTER_BITS | int.from_bytes(sha256(content).digest()[:10]))


def id_ms(job_id: str) -> int:
    """Return the millisecond since 1970 in which the id was made."""
    return int(job_id[:10].translate(_AS_PYTHON_HAS_IT), 32)


def first_id(ms: int) -> str:
    """Return what sorts before all ids of this millisecond and later ones, and after all earlier ones."""
    return _encode(ms << COUNTER_BITS + RANDOM_BITS)


def _encode(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])
