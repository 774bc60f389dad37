"""Fuzz the reader of job files: line 1, the events, and the job that they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgjobs.job import State
from bgjobs.spool import record
from bgjobs.spool.line1 import CorruptError, NewerFormatError
from tests.fuzz import checks

if TYPE_CHECKING:
    from pathlib import Path

ID = "01k5q3v9zdf4gahbjcmkdnpeqf"
WORDS = (
    *('"format":1,', f'"id":"{ID}",', '"class":"', '"method":"', '"args":[', '"kwargs":{', '"text":true,'),
    *('"priority":5,', '"not_before":1795400000000,', '"retries":3,', '"retry_delay":1e-9,', '"timeout":1e-9,'),
    *('"tags":["', f'"retry_of":"{ID}",', '"submitted_at":1795400000000,', '"submitted_by":"'),
    *('"event":"start"', '"event":"try"', '"event":"lost"', '"event":"back"', '"event":"end"', '"at":', '"wid":"'),
    *('"number":', '"worker":"', '"slot":', '"pid":', '"birth":"', '"boot":"', '"outcome":"', '"error":{"type":"'),
    *('"traceback":"', '"message":"', '"exit":', '"progress":{"done":', '"total":', '"state":"done"', '"result":'),
    *('"lost":true', "[[[[", "{}", "null", "\\ud800", "\\u0000", "\\n", "1e999", "-1", "9999999999999", "\u0430"),
)


class Target:
    """Reads bytes as the file of a job."""

    def __init__(self, work: Path) -> None:
        pass

    def __call__(self, data: bytes) -> None:
        """Read the bytes; what is a job is written and read again."""
        found = record.events(data)
        assert len(found) <= data.count(b"\n")
        lines = b"".join(map(record.encoded, found))
        assert record.events(b"\n" + lines) == found
        try:
            job = record.decode(data, job_id=ID, state=State.QUEUED, priority=None, not_before_ms=None)
        except CorruptError as error:
            checks.message(str(error))
            return
        except NewerFormatError:
            return
        checks.job(job)
        checks.stored(job)
        again = record.line_1(job) + lines
        assert record.decode(again, job_id=ID, state=State.QUEUED, priority=None, not_before_ms=None) == job

    def close(self) -> None:
        """Nothing is left behind."""
