"""What all tests share: a Hypothesis profile for slow and shared machines, and no settings from outside."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadline: a busy machine is no bug. Few examples, because the whole suite is run often; the fuzzing stage has more.
hypothesis.settings.register_profile("bgjobs", deadline=None, max_examples=60)
hypothesis.settings.register_profile("few", deadline=None, max_examples=10)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "bgjobs"))


HEARD = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Keep the variables of whoever runs the tests away from what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("BGJOBS_") or name == "PYTHONUNBUFFERED":  # what that hides, people would see
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_deaf_children() -> None:
    """Let the processes that tests start hear every signal, also if the tests run with `nohup` or in a background.

    A signal that is ignored stays so in all children; one that has a handler is as usual in them.
    """
    for number in HEARD:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _leaves_the_process_as_it_was(_no_deaf_children: None) -> Iterator[None]:
    """Fail a test that leaves signals or the working directory changed.

    What a later test starts would inherit that: a signal that is ignored or blocked here never reaches it.
    """
    before = _of_the_process()
    yield
    assert _of_the_process() == before


def _of_the_process() -> tuple[object, ...]:
    handlers = [signal.getsignal(number) for number in HEARD]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, []) if sys.platform != "win32" else None
    return handlers, mask, Path.cwd()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a case with a set the same in every process: they are to find the same tests when they share them."""
    return repr(sorted(val, key=repr)) if isinstance(val, set | frozenset) else None
