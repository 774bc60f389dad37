"""What each key of `allowed_jobs.toml` may be: each check returns the value converted, or raises UnfitError."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from bgjobs import durations, system
from bgjobs.durations import UnfitError
from bgjobs.job import parse_priority
from bgjobs.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

NAME = Pattern(r"[A-Za-z][A-Za-z0-9_]{0,63}")
SIZE = Pattern(r"([0-9]{1,12}) *(B|KiB|MiB|GiB)?")
UNITS = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
USER = Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?")
FEWEST_FILES = 100  # as `min_free`, for files: with less room than that no new job is taken
MOST_RETRIES = 1_000_000
MOST_QUEUED = 999_999_999
LEAST_MEMORY = 128 * 1024 * 1024  # most of that is what a fresh runner takes, merely reserved memory included
LEAST_DESCRIPTORS = 32  # … and so many descriptors, its own and one for each module that it reads


def text(value: object) -> str:
    """Return text without a null character."""
    if not isinstance(value, str) or "\0" in value:
        raise UnfitError("must be text")
    return value


def strings(value: object) -> tuple[str, ...]:
    """Return the texts of a list that is not empty."""
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(part, str) and part and "\0" not in part for part in value)
    ):
        raise UnfitError("must be a list of texts")
    return tuple(value)


def names(value: object) -> tuple[str, ...]:
    """Return the names of a list; each may be dotted."""
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise UnfitError("must be a list of names")
    for part in value:
        if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", word, re.ASCII) for word in part.split(".")):
            raise UnfitError(f"{part[:80]!r} is not a name")
    return tuple(value)


def duration(value: object) -> timedelta:
    """Return a duration: a number of seconds, or a text such as "5m"."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnfitError(f"must be {durations.EXAMPLES}")
    return durations.parse(value)


def positive_duration(value: object) -> timedelta:
    """Return a duration that is more than zero."""
    length = duration(value)
    if not length:
        raise UnfitError("must be more than zero")
    return length


def count(value: object) -> int:
    """Return a whole number that is not negative, and not so large that it must be a mistake."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise UnfitError(f"must be a whole number from 0 to {MOST_RETRIES}")
    return value


def queue_length(value: object) -> int:
    """Return a number of jobs; 0 stands for no limit."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_QUEUED:
        raise UnfitError(f"must be a whole number from 0 to {MOST_QUEUED}")
    return value


def group(value: object) -> str:
    """Return the name of a group, or nothing; only where a spool can be shared with one."""
    name = text(value)
    if name and not system.CHECKS_WRITERS:
        raise UnfitError("a spool cannot be shared on this system: remove this line")
    return name


def priority(value: object) -> int:
    """Return a priority from 0 to 9, given as a number or a word."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnfitError("must be 0 to 9, or low, normal, medium, high")
    return parse_priority(value)


def size(value: object) -> int:
    """Return a number of bytes, given as a number or as in "8MiB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise UnfitError('must be a size such as 65536 or "8MiB"')
    return int(found[1]) * UNITS[found[2]]


def memory(value: object) -> int:
    """Return a size that leaves a runner enough to start, or 0."""
    wanted = size(value)
    if 0 < wanted < LEAST_MEMORY:
        raise UnfitError(f"must be 0 (no limit) or at least {LEAST_MEMORY // UNITS['MiB']} MiB")
    return wanted


def descriptors(value: object) -> int:
    """Return a number of open files that leaves a runner enough to start, or 0."""
    number = count(value)
    if 0 < number < LEAST_DESCRIPTORS:
        raise UnfitError(f"must be 0 (no limit) or at least {LEAST_DESCRIPTORS}")
    return number


def user(value: object) -> str:
    """Return the name of a user, or nothing. Whether there is such a user is asked where jobs of theirs may run."""
    if not isinstance(value, str) or (value and not USER.fullmatch(value)):
        raise UnfitError("must be the name of a user")
    return value


def flag(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise UnfitError("must be true or false")
    return value


def one_of(*words: str) -> Callable[[object], str]:
    """Return what checks that a value is one of these words."""

    def check(value: object) -> str:
        if value not in words:
            raise UnfitError(f"must be one of {', '.join(words)}")
        return str(value)

    return check


POLICY: Final[dict[str, Callable[[Any], Any]]] = {
    "priority": priority,
    "delay": duration,
    "retries": count,
    "retry_delay": duration,
    "backoff": one_of("exponential", "fixed", "linear"),
    "max_retry_delay": duration,
    "timeout": positive_duration,
    "max_timeout": duration,
    "kill_after": duration,
    "max_crashes": count,
    "max_output": size,
    "max_memory": memory,
    "max_cpu": duration,
    "max_files": descriptors,
    "max_file_size": size,
    "user": user,
    "retry_on": names,
    "fail_on": names,
}
GENERAL: Final[dict[str, Callable[[Any], Any]]] = {
    "spool": text,
    "import_paths": strings,
    "age_boost": duration,
    "durability": one_of("full", "os"),
    "finish_fsync": flag,
    "min_free": size,
    "max_queued": queue_length,
    "shared_with": group,
    "max_queued_per_user": queue_length,
    "max_bytes_per_user": size,
    "keep_done": positive_duration,
    "keep_failed": positive_duration,
    "log_dir": text,
    "cwd": text,
    "pass_env": names,
    "signing_keys": text,
    "on_code_change": one_of("say", "renew"),
}
