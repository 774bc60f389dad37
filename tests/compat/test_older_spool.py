"""A spool from before ids told lanes, and jobs of programs that still make such ids: all goes on as it was.

`spool-without-lanes/` was made by the commands of such a bgjobs. It is never changed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from bgjobs.config import settings
from bgjobs.event_log import Log
from bgjobs.ids import first_id, id_without_lane, lane_of
from bgjobs.job import State, milliseconds, moment
from bgjobs.spool import lanes
from bgjobs.spool.doctor import fsck
from bgjobs.spool.store import SpoolStore
from bgjobs.store import Filter, Selection
from tests.contract.stores import claim_all, got, info, new_job

OLD = Path(__file__).with_name("spool-without-lanes")
DONE, FAILED, CANCELLED = "01m8pxjf5e000da7nfgjs6xk22", "01m8pxjg2g0000s4vc4fepj93a", "01m8pxjh070004v64jqn7hgq3t"
MAIL, POST, DELAYED = "01m8pxjnd20006d90nhmq7mkpw", "01m8pxjp2900062t654atck0tf", "01m8pxjpzx000bm7b4drny3z4z"
STATES = {
    DONE: State.DONE,
    FAILED: State.FAILED,
    CANCELLED: State.CANCELLED,
    MAIL: State.QUEUED,
    POST: State.QUEUED,
    DELAYED: State.SCHEDULED,
}
PAIRS = frozenset({("Mail", "send"), ("Mail", "fail"), ("Post", "send")})
ONLY_POST = Selection(classes=frozenset({"Post"}), pairs=lambda: PAIRS)
LATER_MS = 1_796_100_000_000  # after the spool was made


@pytest.fixture
def spool(tmp_path: Path) -> SpoolStore:
    """Return a copy of the old spool, with the empty directories that no archive keeps."""
    config = tmp_path / "allowed_jobs.toml"
    config.write_text('[bgjobs]\ndurability = "os"\n', encoding="utf-8")
    configured = settings.load(config=str(config), environ={})
    shutil.copytree(OLD, configured.spool)
    found = SpoolStore(configured, Log(configured.log_dir))
    for directory in [configured.spool, *found.paths.directories()]:
        Path(directory).mkdir(exist_ok=True)
        Path(directory).chmod(0o700)
    Path(found.paths.claim_lock).touch()
    return found


def submit_without_lane(spool: SpoolStore, class_name: str, n: int) -> str:
    """Submit as an older bgjobs does, whose ids have chance where the lane is now."""
    at = moment(LATER_MS + n)
    job_id = id_without_lane(LATER_MS + n, os.urandom(8))
    spool.submit([replace(new_job(class_name=class_name), id=job_id, not_before=at, submitted_at=at)])
    return job_id


def test_every_job_is_read_as_what_it_was(spool: SpoolStore) -> None:
    assert {job.id: job.state for job in spool.jobs(Filter(states=frozenset(State)))} == STATES
    assert {job_id: got(spool, job_id).state for job_id in STATES} == STATES
    assert got(spool, DONE).result == "to ann"
    assert got(spool, DELAYED).class_name == "Post"
    assert fsck.check(spool.paths) == []


def test_a_worker_takes_what_waits_and_from_then_on_ids_tell(spool: SpoolStore) -> None:
    assert not Path(spool.paths.lanes).exists()
    session = spool.join(info(), Selection())
    assert lanes.first_with_lane(spool.paths) > max(STATES)
    assert [claim.job.id for claim in claim_all(session, 2)] == [MAIL, POST]
    assert not [found for found in fsck.check(spool.paths) if found.wrong or found.code == "wrong-lane"]
    session.leave()


def test_a_worker_with_a_selection_looks_into_the_old_files(spool: SpoolStore) -> None:
    session = spool.join(info(), ONLY_POST)
    assert [claim.job.id for claim in claim_all(session, 1)] == [POST]
    assert session.claim(5) == []
    assert spool.run_now(DELAYED) == "now"
    assert [claim.job.id for claim in claim_all(session, 1)] == [DELAYED]
    session.leave()


def test_jobs_of_older_programs_and_of_new_ones_are_taken_by_their_class(spool: SpoolStore) -> None:
    lanes.publish(spool.paths, LATER_MS)
    wanted = {POST}
    for n in range(0, 20, 4):
        submit_without_lane(spool, "Mail", n)
        wanted.add(submit_without_lane(spool, "Post", n + 1))
        new = [new_job(class_name=class_name) for class_name in ("Mail", "Post")]
        spool.submit(new)
        wanted.add(new[1].id)
    session = spool.join(info(), ONLY_POST)
    assert {claim.job.id for claim in claim_all(session, len(wanted))} == wanted
    assert session.claim(50) == []
    session.leave()


def test_the_doctor_names_ids_without_a_lane_from_when_they_should_have_one(spool: SpoolStore) -> None:
    lanes.publish(spool.paths, LATER_MS)
    assert fsck.check(spool.paths) == []
    job_id = submit_without_lane(spool, "Mail", 1)
    (finding,) = fsck.check(spool.paths)
    assert (finding.code, finding.wrong, job_id in finding.path) == ("wrong-lane", False, True)
    lanes.publish(spool.paths, LATER_MS + 2)
    assert fsck.check(spool.paths) == []


def test_the_moment_of_the_old_ids_is_that_of_their_submission() -> None:
    assert all(first_id(milliseconds(moment(LATER_MS))) > job_id for job_id in STATES)
    assert lane_of("Mail", "send") not in {job_id[13:18] for job_id in STATES}
