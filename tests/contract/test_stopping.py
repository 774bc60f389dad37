"""Ask a worker to stop where no signal reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs.ids import new_id

if TYPE_CHECKING:
    from bgjobs.store import Store
    from tests.contract.stores import Sessions


def test_the_worker_that_is_asked_to_stop_counts_each_request_once(backend: Store, workers: Sessions) -> None:
    session, other = workers.join(), workers.join()
    assert session.stop_requests() == 0
    assert backend.stop(session.id)
    assert session.stop_requests() == 1
    assert session.stop_requests() == 0
    assert backend.stop(session.id)
    assert backend.stop(session.id)
    assert session.stop_requests() == 2
    assert other.stop_requests() == 0


def test_a_request_rings_for_the_worker(backend: Store, workers: Sessions) -> None:
    session = workers.join()
    session.bell.rang()
    backend.stop(session.id)
    assert session.bell.rang()


def test_whoever_is_not_there_cannot_be_asked_to_stop(backend: Store, workers: Sessions) -> None:
    session, dying = workers.join(), workers.join()
    workers.leave(session)
    workers.abandon(dying)
    assert not any(backend.stop(worker) for worker in (session.id, dying.id, new_id(), "../../x", ""))


def test_a_worker_that_leaves_takes_what_it_was_asked_with_it(backend: Store, workers: Sessions) -> None:
    session = workers.join()
    backend.stop(session.id)
    workers.leave(session)
    assert backend.workers() == []
    assert backend.files is None or backend.files.findings() == []
