"""Old job files: whatever an earlier bgjobs wrote, today's reads as exactly what it was.

`samples/NAME.jsonl` is a job file, to the byte; `samples/NAME.expected.json` says where in the spool it lay and what is
to be seen of it. Neither is ever changed: a new format gets new samples.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from bgjobs import signing
from bgjobs.config import settings
from bgjobs.errors import RefusedError
from bgjobs.event_log import Log
from bgjobs.ids import ID
from bgjobs.job import State
from bgjobs.spool import record
from bgjobs.spool.line1 import Line1
from bgjobs.spool.store import SpoolStore
from bgjobs.store import Filter, Selection
from tests.contract.stores import claim_all, info

if TYPE_CHECKING:
    from bgjobs.job import Job

SAMPLES = Path(__file__).with_name("samples")
NAMES = sorted(path.stem for path in SAMPLES.glob("*.jsonl"))
VERSION = SAMPLES / "VERSION"


@pytest.fixture
def spool(tmp_path: Path) -> SpoolStore:
    """Return a spool that was set up by the bgjobs that wrote the samples."""
    config = tmp_path / "allowed_jobs.toml"
    config.write_text("", encoding="utf-8")
    configured = settings.load(config=str(config), environ={})
    fresh = SpoolStore(configured, Log(configured.log_dir))
    shutil.copyfile(VERSION, fresh.paths.version)
    return SpoolStore(configured, Log(configured.log_dir))


def expected(name: str) -> tuple[str, dict[str, Any]]:
    """Return where a sample lay, and what is to be seen of it."""
    about = json.loads((SAMPLES / f"{name}.expected.json").read_text(encoding="utf-8"))
    return about["path"], {"from_user": None} | about["view"]  # what came later has its first value


def put(spool: SpoolStore, name: str) -> Path:
    """Put a sample where it lay."""
    path = Path(spool.paths.root, *expected(name)[0].split("/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SAMPLES / f"{name}.jsonl", path)
    return path


def listed(spool: SpoolStore) -> list[Job]:
    return list(spool.jobs(Filter(states=frozenset(State))))


@pytest.mark.parametrize("name", NAMES)
def test_an_old_job_file_is_read_as_what_it_was(spool: SpoolStore, name: str) -> None:
    put(spool, name)
    _, view = expected(name)
    job = spool.get(view["id"])
    assert job is not None
    assert job.to_json() == view
    assert [found.to_json() for found in listed(spool)] == [view]
    assert spool.counts() == dict.fromkeys(State, 0) | {State(view["state"]): 1}


@pytest.mark.parametrize("name", [name for name in NAMES if expected(name)[1]["state"] == "queued"])
def test_an_old_job_file_is_claimed_as_what_it_was(spool: SpoolStore, name: str) -> None:
    put(spool, name)
    session = spool.join(info(), Selection())
    (claim,) = claim_all(session, 1)
    assert claim.job.to_json() == expected(name)[1] | {"state": "running"}
    session.release(claim)
    session.leave()


def test_reading_and_listing_change_nothing(spool: SpoolStore) -> None:
    paths = {put(spool, name): (SAMPLES / f"{name}.jsonl").read_bytes() for name in NAMES}
    assert len(listed(spool)) == len(NAMES)
    assert {path: path.read_bytes() for path in paths} == paths


def test_an_old_signature_is_still_a_good_one() -> None:
    keys = signing.Keys([("k2026-11", bytes(range(1, 33)))])
    line = (SAMPLES / "signed.jsonl").read_bytes().removesuffix(b"\n")
    keys.check(signing.JOB, line)
    with pytest.raises(RefusedError):
        keys.check(signing.JOB, line.replace(b"Tony", b"Anny"))


def test_there_is_a_sample_of_every_field_and_every_event() -> None:
    fields: set[str] = set()
    told: dict[str, set[str]] = {}
    for name in NAMES:
        first, *rest = (SAMPLES / f"{name}.jsonl").read_bytes().split(b"\n")
        fields |= json.loads(first).keys()
        for event in (json.loads(line) for line in rest if record.events_of([line])):
            told.setdefault(event["event"], set()).update(event)
    assert fields == set(Line1.__struct_encode_fields__)
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(record.AnyEvent)}
    assert told.keys() == kinds.keys()
    for tag in ("start", "end"):
        assert told[tag] - {"event"} == set(kinds[tag].__struct_encode_fields__)


def test_there_is_a_sample_of_every_state_a_job_can_be_in_so_far() -> None:
    states = {expected(name)[1]["state"] for name in NAMES}
    assert states == set(State) - {State.WAITING, State.CORRUPT}


def test_every_sample_has_an_id_of_its_own() -> None:
    ids = [expected(name)[1]["id"] for name in NAMES]
    assert len(set(ids)) == len(ids)
    assert all(ID.fullmatch(job_id) for job_id in ids)
