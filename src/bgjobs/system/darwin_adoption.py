"""On macOS no process adopts what another one leaves: it is looked for by its environment instead."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def adopting() -> AbstractContextManager[None]:
    """Do nothing."""
    return nullcontext()


def started(pid: int) -> None:
    """Do nothing."""


def let_go(pid: int) -> None:
    """Do nothing."""


def end_adopted() -> bool:
    """Return False: nothing was adopted."""
    return False


def reap_adopted() -> None:
    """Do nothing: only the parent of a process can ask for its exit status, and the system's first process does."""
