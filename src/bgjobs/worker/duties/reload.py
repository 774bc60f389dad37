"""Reload the allowlist and signing keys when their files change; replace runners, or announce, when code changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import bgjobs
from bgjobs import __version__, signing
from bgjobs.config import run_as, settings, trust
from bgjobs.config.allowlist import Allowlist
from bgjobs.errors import BgjobsError
from bgjobs.queue import store_of, take_over
from bgjobs.worker.assignment import Began, Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from bgjobs.clock import Now
    from bgjobs.config.settings import Settings
    from bgjobs.queue import Queue
    from bgjobs.signing import Keys
    from bgjobs.worker.assignment import Report
    from bgjobs.worker.pool import Pool

LOOK_EVERY_S = 1.0
STILL_S = 1.0  # so long a file must not have changed before it is taken over
LONG_STILL_S = 5.0  # the same for one that could be the beginning of a longer one: a copy over a network may pause
RECHECK_S = 5.0


class ConfigWatch:
    """Takes over a changed allowlist and changed signing keys, and notices that paths lead elsewhere.

    Whoever writes a file may be in the middle of it, and half an allowlist can be a valid one. So a file counts when it
    has stood still for a while.
    """

    def __init__(self, queue: Queue, now: Now, *, only: Collection[str], announce: Callable[[str], None]) -> None:
        """Remember how the files are now. `only` are the classes of which jobs are run, all if there is none."""
        self._queue = queue
        self._only = only
        self._announce = announce
        self._next_at = now.s
        self._loaded = _mark_of_loaded(queue.settings, now.at)
        self._seen, self._seen_at = self._loaded, now.s
        self._refused: tuple[tuple[int, ...] | None, str] = None, ""
        self._recheck_at = now.s
        self._directories = self._directories_seen = _directories(queue.settings)
        self._keys = _keys_of(queue)
        self._keys_error = ""
        self._keys_seen, self._keys_seen_at = self._keys_mark(), float("-inf")

    def changed(self, now: float) -> bool:
        """Take a changed and valid allowlist over; return whether runners have to be replaced."""
        if now < self._next_at:
            return False
        self._next_at = now + LOOK_EVERY_S
        self._reload_keys(now)
        return self._reload_allowlist(now) | self._have_directories_changed()

    def is_current(self) -> bool:
        """Tell whether the file on the disk is the one that was taken over: only then is a refusal for good."""
        return self._loaded is not None and _mark(self._queue.settings.config) == self._loaded

    def keys_are_current(self, now: float) -> bool:
        """Tell whether the file of the signing keys has stood still for a while: only then is a refusal for good."""
        return now >= self._keys_seen_at + STILL_S and self._keys_mark() == self._keys_seen

    def _keys_mark(self) -> tuple[int, ...] | None:
        path = self._queue.settings.signing_keys
        return _mark(path) if path else None

    def _reload_keys(self, now: float) -> None:
        """Take changed signing keys over; announce once that a file is broken, and keep the keys of before."""
        mark = self._keys_mark()
        if mark != self._keys_seen:
            self._keys_seen, self._keys_seen_at = mark, now
        broken = ""
        try:
            keys = _keys_of(self._queue)
        except BgjobsError as error:
            broken = str(error)
            if broken != self._keys_error:
                self._announce(f"the changed signing keys are not taken over: {broken}")
        else:
            if keys is not None and keys is not self._keys:
                self._announce(f"took over the changed signing keys: {keys.ids[0]} signs, {len(keys.ids)} verify")
            self._keys = keys
        self._keys_error = broken

    def _reload_allowlist(self, now: float) -> bool:
        mark = _mark(self._queue.settings.config)
        if mark is not None and mark == self._loaded:
            return False
        if mark != self._seen:
            self._seen, self._seen_at = mark, now
            return False
        still = now - self._seen_at
        if still < STILL_S or (mark == self._refused[0] and now < self._recheck_at):
            return False
        if mark is None:
            self._refuse(mark, f"{self._queue.settings.config} is gone: put it back, or stop the worker", now)
            return False
        return self._take_over(mark, still, now)

    def _take_over(self, mark: tuple[int, ...], still: float, now: float) -> bool:
        """Take over a file that has stood still so long, if it is whole; return whether runners must be replaced."""
        before = self._queue.settings
        try:
            fresh, allowlist, keyring = self._checked()
        except BgjobsError as error:
            if _mark(before.config) == mark:
                self._refuse(mark, str(error), now)
            return False
        if _mark(before.config) != mark:
            return False  # it was changed while it was read: the next look sees that
        if fresh.digest == before.digest:
            self._loaded = mark
            return False
        known, allowed = set(_pairs(self._queue.allowlist)), set(_pairs(allowlist))
        if known and not allowed:
            self._refuse(mark, f"{before.config} allows nothing any more: correct it, or stop the worker", now)
            return False
        if still < LONG_STILL_S and (known - allowed or not fresh.text.endswith("\n")):
            return False  # perhaps only its beginning is there yet
        take_over(self._queue, fresh, allowlist, keyring)
        self._loaded = mark
        self._announce(f"took over the changed allowlist: {len(allowed)} method{'s'[: len(allowed) != 1]} may run")
        if _of_runners(before) == _of_runners(fresh):
            return False
        self._directories = self._directories_seen = _directories(fresh)
        return True

    def _checked(self) -> tuple[Settings, Allowlist, signing.Keyring | None]:
        """Read the file and what it names. Raises ConfigError, also for what must not be taken over."""
        before = self._queue.settings
        fresh = settings.load(config=before.config, spool=before.spool)
        allowlist = Allowlist(fresh)
        if fresh.digest == before.digest:
            return fresh, allowlist, None
        trust.refuse(fresh, allowlist)
        run_as.refuse(run_as.those_of(allowlist, self._only))
        return fresh, allowlist, _keyring(fresh)

    def _refuse(self, mark: tuple[int, ...] | None, reason: str, now: float) -> None:
        """Announce once why a file is not taken over. It is read again: the reason may be mended in another file."""
        self._recheck_at = now + RECHECK_S
        if self._refused != (mark, reason):
            self._refused = mark, reason
            self._announce(f"the changed allowlist is not taken over: {reason}")

    def _have_directories_changed(self) -> bool:
        """Tell whether an import path or the working directory has become another one, as by a switched link."""
        directories = _directories(self._queue.settings)
        # A link that is being switched may be missing for a moment.
        gone = any(
            now is None and before is not None for now, before in zip(directories, self._directories, strict=True)
        )
        if directories == self._directories or gone:
            return False
        if directories != self._directories_seen:
            self._directories_seen = directories
            return False
        self._directories = directories
        self._announce("import_paths or cwd lead to other directories now: the next jobs run in fresh processes")
        return True


def _keys_of(queue: Queue) -> Keys | None:
    """Return the keys that sign and check jobs, read again if their file has changed. Raises ConfigError."""
    in_files = store_of(queue).files
    return None if in_files is None else in_files.refresh_keys()


def _pairs(allowlist: Allowlist) -> Iterator[tuple[str, str]]:
    return ((target.class_name, target.method) for target in allowlist)


def _mark_of_loaded(configured: Settings, at: datetime) -> tuple[int, ...] | None:
    """Return the mark of the allowlist if it is surely what was loaded, and was not written in the last two seconds."""
    mark = _mark(configured.config)
    if mark is None or not 0 <= max(mark[:2]) / 1e9 < at.timestamp() - 2 * STILL_S:
        return None
    try:
        with open(configured.config, "rb") as file:
            same = file.read() == configured.text.encode()
    except OSError:
        return None
    return mark if same and _mark(configured.config) == mark else None


def _directories(configured: Settings) -> tuple[tuple[str, int, int] | None, ...]:
    """Return which directories the import paths and the working directory are; None is one that is not there."""
    return tuple(_directory(path) for path in (*configured.import_paths, configured.cwd))


def _directory(path: str) -> tuple[str, int, int] | None:
    try:
        state = os.stat(path)
        return os.path.realpath(path), state.st_dev, state.st_ino
    except OSError:
        return None


def _of_runners(configured: Settings) -> tuple[object, ...]:
    """Return the settings that a runner keeps as they were when it was started."""
    return configured.import_paths, configured.cwd, configured.pass_env


def _keyring(configured: Settings) -> signing.Keyring | None:
    """Return the file with the signing keys, if there is to be one, read. Raises ConfigError."""
    if not configured.signing_keys:
        return None
    keyring = signing.Keyring(configured.signing_keys, configured.spool)
    keyring.keys()
    return keyring


def _mark(path: str) -> tuple[int, ...] | None:
    """Return what tells one state of a file from another; its time of change, owner and mode included."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    times = state.st_mtime_ns, state.st_ctime_ns
    return (*times, state.st_size, state.st_dev, state.st_ino, state.st_mode, state.st_uid, state.st_gid)


class StaleCode:
    """Announces once which code has changed since runners loaded it; tells whether runners still run the old code."""

    def __init__(self, queue: Queue, pool: Pool, announce: Callable[[str], None]) -> None:
        """Nothing has changed yet."""
        self._queue = queue
        self._pool = pool
        self._announce = announce
        self._is_announced = False
        self._ours = _installed()

    def check(self, report: Report, now: float) -> None:
        """Do what is to be done if a runner reports that its code has changed."""
        if isinstance(report, Began) or not report.stale:
            return
        if isinstance(report, Returned):
            self._announce(f"{report.stale} has changed: a fresh process runs what comes next")
        elif self._queue.settings.on_code_change == "renew":
            if self._pool.is_stale():
                self._announce(f"{report.stale} has changed: the next jobs run in fresh processes")
                self._pool.renew(now)
        elif not self._is_announced:
            self._is_announced = True
            self._announce(f"{report.stale} has changed, and jobs still run the code from before: restart the worker")

    def is_stale(self) -> bool:
        """Tell whether a runner has seen newer code; announce it if bgjobs itself has been replaced."""
        stale = self._pool.is_stale()
        self._is_announced = self._is_announced and stale
        ours = _installed()
        if ours not in {None, self._ours}:
            self._ours = ours
            self._announce(f"bgjobs itself has changed on the disk, this worker runs version {__version__}: restart it")
        return stale


def _installed() -> tuple[int, int, int] | None:
    try:
        state = os.stat(bgjobs.__file__)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
