"""Do one thing with each of several jobs, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bgjobs.cli import output
from bgjobs.errors import BgjobsError, NotPrintedError


def each(ids: Iterable[str], act: Callable[[str], None], *, as_json: bool) -> int:
    """Do it with each job and say what went wrong with which; return the worst exit status."""
    worst = 0
    for job_id in ids:
        try:
            act(job_id)
        except NotPrintedError:
            raise  # whoever reads nothing on would not learn the ids of the next ones either
        except BgjobsError as error:
            output.error(error, as_json=as_json)
            worst = max(worst, error.exit_status)
    return worst
