"""What the fuzzers have kept, without a fuzzer: each input goes through its target once."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import CORPUS, TARGETS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(sys.platform == "win32", reason="the inputs hold names and words that only POSIX has: any bytes")
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_was_kept_is_read_or_refused_and_nothing_worse(name: str, tmp_path: Path) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert sum(path.name.startswith("seed-") for path in inputs) >= 5
    target = import_module(f"tests.fuzz.{name}").Target(tmp_path)
    for path in inputs:
        try:
            target(path.read_bytes())
        except BaseException as error:
            error.add_note(f"the input is {path}")
            raise
    target.close()


def test_each_folder_of_the_corpus_has_its_target() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
