"""Choose the store of a queue. The only place that knows which kinds of store there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs.spool.store import SpoolStore

if TYPE_CHECKING:
    from bgjobs.config.settings import Settings
    from bgjobs.events import Emit
    from bgjobs.store import Store


def open_store(configured: Settings, emit: Emit) -> Store:
    """Return the store that the settings name: opened if it is there, else made by the first job or worker.

    Raises SpoolError.
    """
    return SpoolStore(configured, emit, make=False)
