"""Which threads a runner knows before an attempt: without one that has just started its successor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bgjobs.worker.child import process_state
from bgjobs.worker.child.process_state import live_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

LONG_S = 60.0


def started(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def beat(until: threading.Event) -> threading.Thread:
    return started(lambda: until.wait(LONG_S))


def test_a_thread_that_has_started_its_successor_gets_a_moment_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_state, "HANDOVER_S", LONG_S)
    end_of_first, end_of_second = threading.Event(), threading.Event()
    first = beat(end_of_first)
    known = live_threads({})
    second = beat(end_of_second)
    threading.Timer(0.05, end_of_first.set).start()
    found = live_threads(known)
    end_of_second.set()
    assert first not in found
    assert second in found
    second.join(LONG_S)


def test_threads_with_the_same_code_that_go_on_are_all_known() -> None:
    end = threading.Event()
    pool = [beat(end) for _ in range(3)]
    known = live_threads({})
    assert set(pool) <= known.keys()
    assert live_threads(known).keys() == known.keys()
    end.set()
    for thread in pool:
        thread.join(LONG_S)


def test_threads_with_the_same_code_that_were_known_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    pool = [beat(end) for _ in range(3)]
    known = live_threads({})
    monkeypatch.setattr(process_state, "HANDOVER_S", LONG_S)
    assert set(pool) <= live_threads(known).keys()  # else it takes until the limit of a test
    end.set()
    for thread in pool:
        thread.join(LONG_S)
