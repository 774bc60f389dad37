"""Find, read and check `allowed_jobs.toml`: the settings of a project as one frozen value."""

from __future__ import annotations

import os
import re
import time
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from bgjobs import durations, system
from bgjobs.config import permissions
from bgjobs.durations import UnfitError
from bgjobs.errors import ConfigError, UsageError
from bgjobs.job import LEVELS
from bgjobs.lifecycle import Policy
from bgjobs.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


NAME = Pattern(r"[A-Za-z][A-Za-z0-9_]{0,63}")
SIZE = Pattern(r"([0-9]{1,12}) *(B|KiB|MiB|GiB)?")
UNITS = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
USER = Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?")
FEWEST_FILES = 100  # with fewer free inodes no new job is accepted, as with less free space than `min_free`
MOST_RETRIES = 1_000_000
MOST_QUEUED = 999_999_999
LEAST_MEMORY = 128 * 1024 * 1024  # bytes of address space: a fresh runner takes most of them
LEAST_DESCRIPTORS = 32  # a fresh runner needs so many, its own and one for each module that it reads


def parse_priority(value: str | int) -> int:
    """Return the priority 0–9 that a number or a level's name (in any case) stands for, or raise UsageError."""
    text = str(value).strip().lower()
    if text in LEVELS:
        return LEVELS[text]
    if len(text) == 1 and text in "0123456789" and not isinstance(value, bool):
        return int(text)
    raise UsageError(
        f"bad priority {str(value)[:40]!r}",
        hint="use a number from 0 to 9 (a higher one runs first), or low, normal, medium, high",
        code="bad-priority",
    )


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
    """Return a whole number from 0 to `MOST_RETRIES`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise UnfitError(f"must be a whole number from 0 to {MOST_RETRIES}")
    return value


def queue_length(value: object) -> int:
    """Return a number of jobs; 0 stands for no limit."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_QUEUED:
        raise UnfitError(f"must be a whole number from 0 to {MOST_QUEUED}")
    return value


def group(value: object) -> str:
    """Return the name of a group, or ""; a group only on systems where a spool can be shared."""
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
    """Return the name of a user, or "". Whether there is such a user is checked where jobs of theirs run."""
    if not isinstance(value, str) or (value and not USER.fullmatch(value)):
        raise UnfitError("must be the name of a user")
    return value


def flag(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise UnfitError("must be true or false")
    return value


def one_of(*words: str) -> Callable[[object], str]:
    """Return a check that a value is one of these words."""

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
    "recycle_growth": size,
}


FILE_NAME = "allowed_jobs.toml"
LONGEST_LINE = 80
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors put it in front
JUST_NOW_S = 0.3  # a file that changed less than this ago may be half written
TRIES, PAUSE_S = 40, 0.05


class Settings(Struct, frozen=True, kw_only=True):
    """All settings of one project. Paths are absolute."""

    config: str
    root: str
    spool: str
    log_dir: str
    cwd: str
    import_paths: tuple[str, ...]
    text: str
    jobs: dict[str, Any]
    spool_from: str = ""  # the option or variable that named the spool; "" where it is the project's own
    durability: str = "full"
    finish_fsync: bool = False
    min_free: int = 16 * 1024 * 1024
    max_queued: int = 1_000_000
    shared_with: str = ""
    max_queued_per_user: int = 10_000
    max_bytes_per_user: int = 64 * 1024 * 1024
    keep_done: timedelta = timedelta(days=7)
    keep_failed: timedelta = timedelta(days=30)
    age_boost: timedelta = timedelta(0)
    pass_env: tuple[str, ...] = ()
    signing_keys: str = ""
    on_code_change: str = "say"
    recycle_growth: int = 0
    policy: Policy = Policy()
    forced: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """A hash of the content of the file."""
        from hashlib import sha256  # noqa: PLC0415 - slow to import, and only workers ask

        return sha256(self.text.encode()).hexdigest()


def load(
    *,
    config: str | None = None,
    spool: str | None = None,
    environ: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Settings:
    """Return the settings of the project that the current directory belongs to.

    An option wins over a `BGJOBS_*` variable, which wins over the file. Raises ConfigError with file, line and key.
    A file that other users could have written is refused, unless not `strict`: for commands that only check.
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
    spool_path = os.path.abspath(where if os.path.isabs(where) else _here() / where)
    log_dir, signing_keys = general.pop("log_dir", ""), general.pop("signing_keys", "")
    return Settings(
        config=str(path),
        root=str(root),
        spool=spool_path,
        spool_from="--spool (in Python: spool=)" if spool else "BGJOBS_SPOOL" if environ.get("BGJOBS_SPOOL") else "",
        log_dir=str(root / log_dir) if log_dir else os.path.join(spool_path, "logs"),
        cwd=os.path.normpath(root / general.pop("cwd", ".")),
        import_paths=tuple(os.path.normpath(root / part) for part in general.pop("import_paths", (".",))),
        signing_keys=str(root / signing_keys) if signing_keys else "",
        text=text,
        jobs=jobs,
        policy=policy,
        forced=forced,
        **general,
    )


def load_whole(*, config: str | None = None, spool: str | None = None, strict: bool = True) -> Settings:
    """Return the settings as `load` does, but wait up to two seconds for a file that is just being written."""
    for _ in range(TRIES):
        try:
            found = load(config=config, spool=spool, strict=strict)
        except ConfigError:
            if not _is_being_written(config):
                raise
        else:
            if found.text or not _is_being_written(found.config):
                return found
        time.sleep(PAUSE_S)
    return load(config=config, spool=spool, strict=strict)


def _is_being_written(config: str | None) -> bool:
    try:
        path, _ = _find(config or os.environ.get("BGJOBS_CONFIG") or None)
        return abs(time.time() - path.stat().st_mtime) < JUST_NOW_S
    except (ConfigError, OSError):
        return False


def bad(path: str | Path, text: str, table: tuple[str, ...], key: str | None, reason: str) -> ConfigError:
    """Return the error for a key or table of the file, with its line if it can be found."""
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
        except UnfitError as error:
            raise bad(path, text, table, key, f"{error}, not {_shown(value)}") from None
        except UsageError as error:
            raise bad(path, text, table, key, str(error)) from None  # it shows the value itself
    return result


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "the current directory was deleted", hint="change to one that is there", code="no-directory"
        ) from None


def _find(named: str | None) -> tuple[Path, bool]:
    """Return the allowlist's path, and whether it is the user's own rather than a project's."""
    if named:
        path = Path(named) if os.path.isabs(named) else _here() / named
        if not _is_file(path):
            raise ConfigError(f"no allowlist at {path}", hint="check --config or BGJOBS_CONFIG", code="no-config")
        return path, False
    here = _here()
    for folder in (here, *here.parents):
        if _is_file(folder / FILE_NAME):
            return folder / FILE_NAME, False
    import platformdirs  # noqa: PLC0415 - slow to import, and rarely needed

    users = Path(platformdirs.user_config_dir("bgjobs")) / FILE_NAME
    if _is_file(users):
        return users, True
    raise ConfigError(
        f"no {FILE_NAME} in {here} or above it",
        hint="run `bgjobs init` to make one, or name it with --config",
        code="no-config",
    )


def _shown(value: object) -> str:
    """Return a value as an error shows it: on one line, cut."""
    return ascii(value)[:LONGEST_LINE]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # the name is too long, or a directory above it may not be entered
        what = f"cannot look for an allowlist at {path}: {error.strerror}"
        raise ConfigError(what, hint="check the path and its permissions") from None


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
                # Of the open file, not of its name: the file that was read is checked, even if the name is swapped.
                _refuse(permissions.weakness(str(path), os.fstat(file.fileno())))
        if strict:
            _refuse(next(permissions.weaknesses(str(path)), None))
        # Not "utf-8-sig": Python loads that codec at first use, and a process that has dropped rights may fail to.
        return content.removeprefix(BYTE_ORDER_MARK).decode()
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
    except ValueError as error:  # a number of thousands of digits is no TOMLDecodeError
        # Before Python 3.14 only the message has the line number. The line itself is shown, not the words of Python.
        found = re.search(r"line (\d+)", str(error))
        lines = text.splitlines() or [""]
        number = min(int(found[1]), len(lines)) if found else len(lines)
        shown = lines[number - 1].strip()[:LONGEST_LINE]
        reason = f"not valid TOML: {shown}" if found and shown else "not valid TOML: it ends too early"
        hint = "correct that line: text stands in quotes, brackets are closed, each key and table stands once"
        raise ConfigError(f"{path}:{number}: {reason}", hint=hint) from None
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
        raw: Any = [part.strip() for part in value.split(",")] if check in {names, strings} else value
        if check in {count, queue_length, descriptors} and re.fullmatch(r"[0-9]{1,9}", value):
            raw = int(value)
        if check is flag and value in {"true", "false"}:
            raw = value == "true"
        try:
            found[key] = check(raw)
        except (UnfitError, UsageError) as error:
            raise UsageError(f"bad BGJOBS_{key.upper()} {_shown(value)}: {error}", hint="correct or unset it") from None
    return found
