"""Find `allowed_jobs.toml`, and read and check the settings in it, once, into one frozen value."""

from __future__ import annotations

import os
import re
import tomllib
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from bgjobs import durations, permissions
from bgjobs.errors import ConfigError, UsageError
from bgjobs.job import parse_priority
from bgjobs.lifecycle import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE_NAME = "allowed_jobs.toml"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
SIZE = re.compile(r"([0-9]{1,12}) *(B|KiB|MiB|GiB)?", re.ASCII)
UNITS = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
FEWEST_FILES = 100  # as `min_free`, for files: with less room than that no new job is taken
MOST_RETRIES = 1_000_000
MOST_QUEUED = 999_999_999
LEAST_MEMORY = 128 * 1024 * 1024  # most of that is what a fresh runner takes, merely reserved memory included
LEAST_DESCRIPTORS = 32  # … and so many descriptors, its own and one for each module that it reads


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that one project says about its queue. Paths are absolute."""

    config: str
    root: str
    spool: str
    log_dir: str
    cwd: str
    import_paths: tuple[str, ...]
    text: str
    jobs: dict[str, Any]
    digest: str
    durability: str = "full"
    finish_fsync: bool = False
    min_free: int = 16 * 1024 * 1024
    max_queued: int = 1_000_000
    keep_done: timedelta = timedelta(days=7)
    keep_failed: timedelta = timedelta(days=30)
    age_boost: timedelta = timedelta(0)
    pass_env: tuple[str, ...] = ()
    policy: Policy = Policy()
    forced: dict[str, Any] = {}


def load(
    *,
    config: str | None = None,
    spool: str | None = None,
    environ: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Settings:
    """Return the settings of the project that the current directory belongs to.

    An option wins over a `BGJOBS_*` variable, which wins over the file. Raises ConfigError with file, line and key.
    A file that other users could have written is refused; not without `strict`, for those who only look for mistakes.
    """
    environ = os.environ if environ is None else environ
    path, is_users = _find(config or environ.get("BGJOBS_CONFIG") or None)
    text = _read(path, strict=strict)
    document = _parse(path, text)
    table = document.pop("bgjobs", {})
    jobs = document.pop("jobs", {})
    if document:
        raise bad(path, text, (next(iter(document)),), None, "unknown table: only [bgjobs] and [jobs.NAME] belong here")
    if not isinstance(table, dict) or not isinstance(jobs, dict):
        raise bad(path, text, (), None, "[bgjobs] and [jobs] must be tables")
    general = checked(path, text, ("bgjobs",), table, GENERAL | POLICY)
    policy = replace(Policy(), **{key: general.pop(key) for key in list(general) if key in POLICY})
    forced = _from_environment(environ)
    general |= {key: forced.pop(key) for key in list(forced) if key in GENERAL}
    root = path.parent
    where = spool or environ.get("BGJOBS_SPOOL") or _spool_beside(root, general.pop("spool", None), is_users=is_users)
    general.pop("spool", None)
    spool_path = os.path.abspath(where)
    log_dir = general.pop("log_dir", "")
    return Settings(
        config=str(path),
        root=str(root),
        spool=spool_path,
        log_dir=str(root / log_dir) if log_dir else os.path.join(spool_path, "logs"),
        cwd=os.path.normpath(root / general.pop("cwd", ".")),
        import_paths=tuple(os.path.normpath(root / part) for part in general.pop("import_paths", (".",))),
        text=text,
        jobs=jobs,
        digest=sha256(text.encode()).hexdigest(),
        policy=policy,
        forced=forced,
        **general,
    )


def bad(path: str | Path, text: str, table: tuple[str, ...], key: str | None, reason: str) -> ConfigError:
    """Return the error for something in the file, with its line where that can be told."""
    place = ".".join([*table, *([key] if key else [])])
    return ConfigError(f"{path}:{_line(text, table, key)}: {place + ': ' if place else ''}{reason}")


def checked(
    path: str | Path,
    text: str,
    table: tuple[str, ...],
    values: Mapping[str, Any],
    known: Mapping[str, Callable[[Any], Any]],
) -> dict[str, Any]:
    """Return the table's values, each checked and converted, or raise ConfigError that names the first bad one."""
    result = {}
    for key, value in values.items():
        check = known.get(key)
        if check is None:
            raise bad(path, text, table, key, f"unknown key, known are {', '.join(sorted(known))}")
        try:
            result[key] = check(value)
        except (ValueError, UsageError) as error:
            raise bad(path, text, table, key, str(error)) from None
    return result


def _find(named: str | None) -> tuple[Path, bool]:
    """Return the allowlist's path, and whether it is the user's own rather than a project's."""
    if named:
        path = Path(named).absolute()
        if not path.is_file():
            raise ConfigError(f"no allowlist at {path}", hint="check --config or BGJOBS_CONFIG", code="no-config")
        return path, False
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME, False
    import platformdirs  # noqa: PLC0415 - slow to import, and rarely needed

    users = Path(platformdirs.user_config_dir("bgjobs")) / FILE_NAME
    if users.is_file():
        return users, True
    raise ConfigError(
        f"no {FILE_NAME} in {here} or above it",
        hint="run `bgjobs init` to make one, or name it with --config",
        code="no-config",
    )


def _spool_beside(root: Path, spool: str | None, *, is_users: bool) -> str:
    if spool is None and is_users:
        import platformdirs  # noqa: PLC0415 - slow to import, and rarely needed

        return os.path.join(platformdirs.user_state_dir("bgjobs"), "spool")
    return str(root / (spool or "spool"))


def _read(path: Path, *, strict: bool) -> str:
    try:
        with path.open("rb") as file:
            content = file.read()
            if strict:
                # Of the open file, not of its name: what was read is what is checked, whoever swaps the name.
                _refuse(permissions.weakness(str(path), os.fstat(file.fileno())))
        if strict:
            _refuse(next(permissions.weaknesses(str(path)), None))
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error


def _refuse(found: permissions.Weakness | None) -> None:
    if found is not None:
        raise ConfigError(f"{found.path} {found.what}", hint=found.cure, code=found.code)


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        reason = re.sub(r" \(at (line \d+, column \d+|end of document)\)", "", str(error))
        raise ConfigError(f"{path}:{line}: not valid TOML: {reason}", hint="correct that line") from None
    except RecursionError:
        raise ConfigError(f"{path}:1: nested too deeply", hint="keep it flat") from None


def _line(text: str, table: tuple[str, ...], key: str | None) -> int:
    """Return the line of a key in its table, else of the table, else 1. A good guess is all that a message needs."""
    wanted, best, header = [*table, *([key] if key else [])], (0, 1), []
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*\[+\s*([^]#]+?)\s*\]", line)
        name = None if found else re.match(r"\s*([^=#]+?)\s*=", line)
        if found:
            header = _keys(found[1])
        place = header if found else [*header, *_keys(name[1])] if name else []
        shared = len(place) if place == wanted[: len(place)] else 0
        if shared > best[0]:
            best = shared, number
        elif not best[0] and place[: len(wanted)] == wanted:
            best = len(wanted), number
    return best[1]


def _keys(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for key, check in (GENERAL | POLICY).items():
        value = environ.get(f"BGJOBS_{key.upper()}")
        if not value or key == "spool":
            continue
        raw: Any = [part.strip() for part in value.split(",")] if check in {_names, _strings} else value
        if check in {_count, _queue_length, _descriptors} and re.fullmatch(r"[0-9]{1,9}", value):
            raw = int(value)
        if check is _flag and value in {"true", "false"}:
            raw = value == "true"
        try:
            found[key] = check(raw)
        except (ValueError, UsageError) as error:
            raise UsageError(f"bad BGJOBS_{key.upper()}: {error}", hint="correct or unset it") from None
    return found


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("must be text")
    return value


def _strings(value: object) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(part, str) and part and "\0" not in part for part in value)
    ):
        raise ValueError("must be a list of texts")
    return tuple(value)


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError("must be a list of names")
    for part in value:
        if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", word, re.ASCII) for word in part.split(".")):
            raise ValueError(f"{part[:80]!r} is not a name")
    return tuple(value)


def _duration(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('must be a duration such as 90, "90s", "5m", "2h" or "1d"')
    return durations.parse(value)


def _positive_duration(value: object) -> timedelta:
    length = _duration(value)
    if not length:
        raise ValueError("must be more than zero")
    return length


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise ValueError(f"must be a whole number from 0 to {MOST_RETRIES}")
    return value


def _queue_length(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_QUEUED:
        raise ValueError(f"must be a whole number from 0 to {MOST_QUEUED}")
    return value


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be 0 to 9, or low, normal, medium, high")
    return parse_priority(value)


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a size such as 65536 or "8MiB"')
    return int(found[1]) * UNITS[found[2]]


def _memory(value: object) -> int:
    size = _size(value)
    if 0 < size < LEAST_MEMORY:
        raise ValueError(f"must be 0 (no limit) or at least {LEAST_MEMORY // UNITS['MiB']} MiB")
    return size


def _descriptors(value: object) -> int:
    number = _count(value)
    if 0 < number < LEAST_DESCRIPTORS:
        raise ValueError(f"must be 0 (no limit) or at least {LEAST_DESCRIPTORS}")
    return number


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _one_of(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return check


POLICY: Final[dict[str, Callable[[Any], Any]]] = {
    "priority": _priority,
    "delay": _duration,
    "retries": _count,
    "retry_delay": _duration,
    "backoff": _one_of("exponential", "fixed", "linear"),
    "max_retry_delay": _duration,
    "timeout": _positive_duration,
    "kill_after": _duration,
    "max_crashes": _count,
    "max_output": _size,
    "max_memory": _memory,
    "max_cpu": _duration,
    "max_files": _descriptors,
    "max_file_size": _size,
    "retry_on": _names,
    "fail_on": _names,
}
GENERAL: Final[dict[str, Callable[[Any], Any]]] = {
    "spool": _text,
    "import_paths": _strings,
    "age_boost": _duration,
    "durability": _one_of("full", "os"),
    "finish_fsync": _flag,
    "min_free": _size,
    "max_queued": _queue_length,
    "keep_done": _positive_duration,
    "keep_failed": _positive_duration,
    "log_dir": _text,
    "cwd": _text,
    "pass_env": _names,
}
