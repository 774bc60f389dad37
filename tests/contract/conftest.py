"""The fixtures of the contract: a store of each kind, its backend, and workers that are gone when a test is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.stores import KINDS, Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.backend import Backend
    from tests.contract.stores import Store


@pytest.fixture(params=sorted(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return a new store of each kind in turn."""
    return KINDS[request.param](str(tmp_path))


@pytest.fixture
def backend(store: Store) -> Backend:
    """Return a backend on the new store."""
    return store.open()


@pytest.fixture
def workers(store: Store) -> Iterator[Sessions]:
    """Return what makes workers."""
    sessions = Sessions(store)
    yield sessions
    sessions.close()
