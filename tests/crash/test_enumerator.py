"""A power cut at any moment, on file systems that promise much or little: what was promised stays."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.crash.enumerator import MODELS, enumerate_states
from tests.crash.enumerator_model import Model, states
from tests.crash.enumerator_scenarios import (
    SCENARIOS,
    SETTINGS,
    run_for_good,
    submit_a_group,
    submit_groups,
    submit_into_a_bucket_that_was_gone,
    submit_two,
    take_in,
)
from tests.crash.enumerator_tree import ROOT, Link, Move, Promise, SyncFile, SyncFolder, Tree, Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.enumerator_scenarios import Play
    from tests.crash.enumerator_tree import Step

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no syncs of directories to tell about")

FOLDER, FILE = 1, 2


@pytest.mark.parametrize("how", MODELS)
@pytest.mark.parametrize("play", SCENARIOS.values(), ids=SCENARIOS)
def test_no_power_cut_loses_what_was_promised(play: Play, how: str, count: Callable[..., None]) -> None:
    model, one_fsync = MODELS[how]
    states, broken = enumerate_states(play, model, one_fsync=one_fsync)
    count(states=states, broken=len(broken))
    assert states > 1
    assert not broken, "\n".join(broken[:5])


@pytest.mark.parametrize("how", MODELS)
@pytest.mark.parametrize("play", [submit_a_group, submit_groups, take_in])
def test_no_power_cut_loses_a_group_where_each_file_is_synced_by_itself(play: Play, how: str) -> None:
    model, one_fsync = MODELS[how]
    _, broken = enumerate_states(play, model, one_fsync=one_fsync, by_file=True)
    assert not broken, "\n".join(broken[:5])


# The enumerator finds what there is to find


@pytest.mark.parametrize("model", Model)
@pytest.mark.parametrize("one_fsync", [True, False])
def test_without_syncs_jobs_are_lost(model: Model, one_fsync: bool) -> None:
    _, broken = enumerate_states(submit_two, model, one_fsync=one_fsync, durability="os")
    assert broken


def test_one_sync_is_not_enough_where_names_keep_no_order() -> None:
    _, broken = enumerate_states(submit_two, Model.WEAK, one_fsync=True)
    assert broken


def test_a_name_that_nobody_synced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgjobs.spool.publish.Publisher._sync_name", lambda self, directory: None)
    _, broken = enumerate_states(submit_into_a_bucket_that_was_gone, Model.WEAK, one_fsync=False)
    assert broken


def test_an_end_that_nobody_synced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, run_for_good.__name__, "finish_fsync = false")
    _, broken = enumerate_states(run_for_good, Model.ORDERED, one_fsync=True)
    assert broken


def test_an_import_that_nobody_synced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgjobs.spool.inbox.importer.Importer._sync_taken", lambda self, batch: True)
    _, broken = enumerate_states(take_in, Model.WEAK, one_fsync=False, by_file=True)
    assert broken


# The models


def left(model: Model, *steps: Step) -> set[tuple[tuple[str, bytes | None], ...]]:
    """Return what a cut at the very end can leave, in a directory with a directory `d`."""
    base = Tree({ROOT: {"d": FOLDER}, FOLDER: {}}, {})
    found = [state for state in states(base, [*steps, Promise(("end",), kept=True)], model) if state.promised]
    return {tuple(sorted(state.tree.paths().items())) for state in found}


MADE = (Link(ROOT, "new", FILE), Write(FILE, b"data"))
MOVED = Move(ROOT, "new", FOLDER, "old", FILE, None)
EMPTY, UNMOVED, WHOLE = (
    (("d", None),),
    (("d", None), ("new", b"data")),
    (("d", None), ("d/old", b"data")),
)


def test_what_was_not_synced_may_be_gone_torn_or_zeros() -> None:
    torn = {(("d", None), ("new", data)) for data in (b"", b"da", bytes(4), b"data")}
    assert left(Model.ORDERED, *MADE) == left(Model.WEAK, *MADE) == {EMPTY, *torn}


def test_syncing_a_file_keeps_its_name_only_where_names_keep_their_order() -> None:
    steps = (*MADE, MOVED, SyncFile(FILE))
    assert left(Model.ORDERED, *steps) == {WHOLE}
    assert left(Model.WEAK, *steps) == {EMPTY, UNMOVED, WHOLE}


def test_syncing_the_directory_that_got_a_name_keeps_the_name() -> None:
    assert left(Model.WEAK, *MADE, SyncFile(FILE), MOVED, SyncFolder(FOLDER)) == {WHOLE}
    assert left(Model.WEAK, *MADE, SyncFile(FILE), MOVED, SyncFolder(ROOT)) == {UNMOVED, WHOLE}


def test_what_lies_in_a_directory_that_is_lost_is_lost_with_it() -> None:
    steps = (Link(ROOT, "e", -3), Link(-3, "new", FILE), SyncFolder(-3))
    assert left(Model.WEAK, *steps) == {EMPTY, (("d", None), ("e", None), ("e/new", b""))}
