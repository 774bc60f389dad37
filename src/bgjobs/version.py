"""Which version of bgjobs this is, as installed."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """Return the version of the package that is installed."""
    from importlib import metadata  # noqa: PLC0415 - slow to import

    return metadata.version("bgjobs")
