"""On Windows nothing has to be adopted: what a runner leaves ends with its job object."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def adopting() -> AbstractContextManager[None]:
    """Do nothing."""
    return nullcontext()


def reap_adopted() -> None:
    """Do nothing: a dead process holds nothing here."""
