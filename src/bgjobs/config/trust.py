"""Refuse a project that other users could change: its allowlist, its import paths, its modules."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bgjobs.calls import sources
from bgjobs.config import permissions
from bgjobs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.config.allowlist import Allowlist
    from bgjobs.config.permissions import Weakness
    from bgjobs.config.settings import Settings


def refuse(configured: Settings, allowlist: Allowlist) -> None:
    """Raise ConfigError if another user could change what runs: then no job of the project may run."""
    found = weaknesses(configured, allowlist)
    if found:
        first, *others = found
        more = f" ({len(others)} more: see `bgjobs check`)" if others else ""
        raise ConfigError(f"{first.path} {first.what}", hint=f"{first.cure}{more}", code=first.code)


def weaknesses(configured: Settings, allowlist: Allowlist) -> list[Weakness]:
    """Return the files and directories that decide what runs and that others could change, each once."""
    found: dict[str, Weakness] = {}
    for path, names_matter in dict.fromkeys(_deciding(configured, allowlist)):
        for weakness in permissions.weaknesses(path, names_matter=names_matter):
            found.setdefault(weakness.path, weakness)
    return list(found.values())


def _deciding(configured: Settings, allowlist: Allowlist) -> Iterator[tuple[str, bool]]:
    """Go through the paths that decide what runs, and whether new files in them would count, as modules to import."""
    yield configured.config, False
    for path in configured.import_paths:
        yield path, True
    for module in dict.fromkeys(target.module for target in allowlist):
        for path in sources.files_read(module, configured.import_paths):
            yield path, os.path.isdir(path)
