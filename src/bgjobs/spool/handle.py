"""What every part of an open spool needs: its paths, settings and signing keys, and where its events go."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bgjobs import signing
from bgjobs.errors import SpoolError
from bgjobs.spool.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bgjobs.config.settings import Settings
    from bgjobs.events import Emit

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class SpoolHandle:
    """One spool, as a process has it open. Settings and keys may be replaced meanwhile: ask for them at each use."""

    def __init__(self, settings: Settings, emit: Emit) -> None:
        """Take paths and keys from the settings; no file is opened."""
        self.paths = Layout(settings.spool)
        self.settings = settings
        self.emit = emit
        self.durable = settings.durability == "full"
        self.keyring = signing.Keyring(settings.signing_keys, settings.spool) if settings.signing_keys else None
        # Tells whether files wait that can be imported. Set by the worker of a shared spool, which knows.
        self.has_importable: Callable[[], bool] | None = None

    @contextmanager
    def reported_errors(self) -> Iterator[None]:
        """Raise SpoolError for any OSError inside."""
        try:
            yield
        except OSError as error:
            raise self.unusable(error) from error

    def unusable(self, error: OSError) -> SpoolError:
        """Return the error that tells a person why the spool cannot be used."""
        root = self.paths.root
        where = os.fsdecode(error.filename) if error.filename else root
        if error.errno in FULL:
            return SpoolError(f"no space left for {where}", hint="free some, or prune ended jobs", code="disk-full")
        if error.errno == errno.EROFS:
            return SpoolError(
                f"the disk of the spool {root} is read-only",
                hint="nothing can be changed there before it is mounted for writing again",
                code="read-only-disk",
            )
        if error.errno == errno.ENOSYS:
            hint = "name one on a local disk with --spool"
            return SpoolError(f"the spool {root} is on a file system without locks", hint=hint)
        return SpoolError(
            f"cannot use the spool {root}: {error.strerror} ({where})",
            hint="check its permissions, or name another with --spool",
        )
