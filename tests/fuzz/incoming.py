"""Fuzz what other programs hand in: its reader, and the import in a real spool.

The first line of a corpus file is the name in `incoming/`, the rest is what the file holds.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from bgjobs.ids import id_ms
from bgjobs.job import State, milliseconds
from bgjobs.lifecycle import Policy
from bgjobs.spool import record
from bgjobs.spool.inbox import request_file
from bgjobs.spool.line1 import MOST_LINE_1, CorruptError
from tests.contract.stores import Sessions, SpoolKind
from tests.fuzz import checks

ID = "01k5q3v9zdf4gahbjcmkdnpeqf"
POLICY = Policy(priority=7, retries=2)
FEW = 300  # files, before the spool is begun anew
SOON = 30.0
WORDS = (
    *("x.json\n", ".x.json\n", '{"format":1,"class":"Mail","method":"send"', '"args":[', '"kwargs":{', '"text":true'),
    *('"priority":', '"not_before":', '"retries":', '"retry_delay":1e-9', '"timeout":1e-9', '"tags":["'),
    *('"submitted_by":"', '"id":"', '"submitted_at":', "[[[[", "{{", "null", "\\ud800", "\\u0000", "1e999", "-1"),
    *("9999999999999", "\u0430", "1.5", "18446744073709551616", "}", "]", '"', "\ufeff", b"\xff"),
)


class Target:
    """Reads bytes as a file that another program hands in."""

    def __init__(self, work: Path) -> None:
        self._work = work
        (work / "allowed_jobs.toml").write_text('[bgjobs]\ndurability = "os"\n', "utf-8")
        self._sessions: Sessions | None = None
        self._open()

    def __call__(self, data: bytes) -> None:
        """Read the bytes, and hand them in."""
        name, _, content = data.partition(b"\n")
        expected = _read(content)
        if 0 < len(name) <= 200 and not {0, *b"/"} & set(name) and name not in {b".", b".."}:
            self._hand_in(os.fsdecode(name), content, expected)

    def close(self) -> None:
        """Leave, and remove the spool."""
        if self._sessions is not None:
            self._sessions.close()
            self._sessions = None
        shutil.rmtree(self._work / "spool", ignore_errors=True)
        shutil.rmtree(self._work / "logs", ignore_errors=True)

    def _open(self) -> None:
        self.close()
        store = SpoolKind(str(self._work))
        self._spool = store.open()
        self._sessions = Sessions(store)
        self._session = self._sessions.join()
        self._count = 0

    def _hand_in(self, name: str, content: bytes, expected: str) -> None:
        paths = self._spool.paths
        path = Path(paths.incoming, name)
        path.write_bytes(content)
        if name.startswith(".") or not name.endswith(".json"):
            assert self._session.import_jobs(lambda _class, _method: POLICY) == 0
            path.unlink()
            return
        deadline = time.monotonic() + SOON
        count = 0
        while any(list(Path(folder).iterdir()) for folder in (paths.incoming, paths.claims_of(self._session.id))):
            count += self._session.import_jobs(lambda _class, _method: POLICY)
            assert time.monotonic() < deadline, "nobody takes it"
        pending = [found for found in Path(paths.pending).rglob("*") if found.is_file()]
        corrupt = list(Path(paths.corrupt).iterdir())
        if expected:
            assert count == len(pending) == 1, (pending, corrupt)
            assert not corrupt, corrupt
            job_id = pending[0].stem[-26:]
            job = record.decode(
                pending[0].read_bytes(), job_id=job_id, state=State.QUEUED, priority=None, not_before_ms=None
            )
            checks.job(job)
        else:
            assert not count, pending
            assert not pending, pending
            [reason] = [found for found in corrupt if found.suffix == ".reason"]
            checks.message(reason.read_text("utf-8").removesuffix("\n"))
            [kept] = [found for found in corrupt if found.suffix != ".reason"]
            assert kept.read_bytes() == content
        for found in (*pending, *corrupt):
            found.unlink()
        self._count += 1
        if self._count >= FEW:
            self._open()


def _read(content: bytes) -> str:
    """Return the name of the job that the content asks for, or nothing when it is refused."""
    if len(content) > MOST_LINE_1:
        return ""
    try:
        job = request_file.job_of(content, ID, lambda _class, _method: POLICY)
    except CorruptError as error:
        checks.message(str(error))
        return ""
    checks.job(job)
    checks.stored(job)
    assert job.id == ID
    assert milliseconds(job.submitted_at) == id_ms(ID)
    assert job.not_before >= job.submitted_at
    assert job.retry_of is None
    assert not job.attempts
    assert request_file.job_of(content, ID, lambda _class, _method: POLICY) == job
    return job.name
