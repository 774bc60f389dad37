"""The fixtures of the contract: a store of each kind, its backend, and workers that are gone when a test is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bgjobs.spool import bucket, cached_listing
from tests.contract.stores import KINDS, SOON, Sessions, SpoolKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bgjobs.spool.store import SpoolStore
    from bgjobs.store import Store
    from tests.contract.stores import StoreKind


@pytest.fixture(scope="session", autouse=True)
def _no_look_takes_long() -> Iterator[None]:
    """Let the spool look again at its directories however long a look took: on a busy machine even a small one may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cached_listing, "CHEAP_S", SOON)
        patch.setattr(bucket, "SLICE_S", SOON)
        yield


@pytest.fixture(params=sorted(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreKind:
    """Return a new store of each kind in turn."""
    return KINDS[request.param](str(tmp_path))


@pytest.fixture
def spool(store: StoreKind) -> SpoolStore:
    """Return the backend of a new spool, for tests of what only a spool has."""
    assert isinstance(store, SpoolKind)
    return store.open()


@pytest.fixture
def backend(store: StoreKind) -> Store:
    """Return a backend on the new store."""
    return store.open()


@pytest.fixture
def workers(store: StoreKind) -> Iterator[Sessions]:
    """Return what makes workers."""
    sessions = Sessions(store)
    yield sessions
    sessions.close()
