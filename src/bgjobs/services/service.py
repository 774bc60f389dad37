"""One worker as a service: what runs, for whom, and what it needs of the disk."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from msgspec import Struct

import bgjobs
from bgjobs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from bgjobs.config.allowlist import Target
    from bgjobs.config.settings import Settings

NAME = re.compile(r"[a-z][a-z0-9-]{0,47}", re.ASCII)
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", re.ASCII)
SPARE_S = 10  # for putting back what did not end, and leaving


class Service(Struct, frozen=True, kw_only=True):
    """A worker that a system keeps running. All paths are absolute.

    `command` runs it, `stop` ends it in good order where the system itself cannot. `user` is whose rights it has if it
    is one of the whole system, and empty for one of the person who installs it.
    `reads` are the places that it reads, `writes` those that it writes. `stop_s` is how long it may take to stop.
    """

    name: str
    command: tuple[str, ...]
    stop: tuple[str, ...]
    config: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    stop_s: int
    user: str = ""


class Recipe(Struct, frozen=True, kw_only=True):
    """What makes a service known to one system: a file, and commands.

    `start` comes when the file is there, `stop` before it goes and `forget` after. Where `question` succeeds they can
    be carried out. `mark` is what no file of another project has in it.
    """

    path: str
    content: bytes
    mark: bytes
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    forget: tuple[tuple[str, ...], ...] = ()
    question: tuple[str, ...] = ()
    hint: str = ""


def plan(
    configured: Settings,
    targets: Iterable[Target],
    *,
    name: str | None = None,
    user: str = "",
    grace: timedelta,
    options: tuple[str, ...] = (),
) -> Service:
    """Return the service of a project. Raises UsageError for what cannot be written down."""
    name = default_name(configured.root) if name is None else name
    if not NAME.fullmatch(name):
        raise UsageError(f"bad --name {name[:80]!a}", hint="small letters, digits and -, at most 48", code="bad-value")
    if user and not USER.fullmatch(user):
        raise UsageError(f"bad --user {user[:80]!a}", hint="name a user of this machine", code="bad-value")
    place = ("--config", configured.config, "--spool", configured.spool)
    worker = (os.path.abspath(sys.executable), "-P", "-m", "bgjobs", "worker", *place)
    command = (*worker, *options)
    python = (command[0], sys.prefix, sys.base_prefix, os.path.dirname(os.path.abspath(bgjobs.__file__)))
    inside = configured.log_dir == configured.spool or configured.log_dir.startswith(configured.spool + os.sep)
    for word in (*command, configured.log_dir):
        if not word.isprintable():  # a line end, or bytes that are no text: no system's file could hold it
            raise UsageError(f"{word!a} cannot be part of a service", hint="rename it", code="bad-value")
    longest = max((target.policy.kill_after for target in targets), default=configured.policy.kill_after)
    return Service(
        name=name,
        command=command,
        stop=(*worker, "--stop"),
        config=configured.config,
        reads=(*python, configured.root, configured.cwd, *configured.import_paths),
        writes=(configured.spool,) if inside else (configured.spool, configured.log_dir),
        stop_s=int((grace + longest).total_seconds()) + SPARE_S,
        user=user,
    )


def default_name(root: str) -> str:
    """Return a name after the directory of the project."""
    words = re.sub(r"[^a-z0-9]+", "-", os.path.basename(root).lower()).strip("-")[:40].strip("-")
    return f"bgjobs-{words}" if words else "bgjobs"
