"""Run approved Python methods in the background, with no server.

Nothing heavy is imported before it is used: `import bgjobs` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgjobs.errors import (
        BgjobsError,
        ConfigError,
        JobFailed,
        JobWasCancelled,
        NoSuchJobError,
        NotEndedError,
        RefusedError,
        SpoolError,
        UsageError,
    )
    from bgjobs.job import Job, State
    from bgjobs.job_context import Fail, JobCancelled, JobTimeout, Retry, current_job
    from bgjobs.queue import Queue, run_background_job
    from bgjobs.requests import Request

    __version__: str

__all__ = [
    "BgjobsError",
    "ConfigError",
    "Fail",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobTimeout",
    "JobWasCancelled",
    "NoSuchJobError",
    "NotEndedError",
    "Queue",
    "RefusedError",
    "Request",
    "Retry",
    "SpoolError",
    "State",
    "UsageError",
    "__version__",
    "current_job",
    "run_background_job",
]

if not TYPE_CHECKING:
    _HOME = {
        "BgjobsError": "errors",
        "ConfigError": "errors",
        "Fail": "job_context",
        "Job": "job",
        "JobCancelled": "job_context",
        "JobFailed": "errors",
        "JobTimeout": "job_context",
        "JobWasCancelled": "errors",
        "NoSuchJobError": "errors",
        "NotEndedError": "errors",
        "Queue": "queue",
        "RefusedError": "errors",
        "Request": "requests",
        "Retry": "job_context",
        "SpoolError": "errors",
        "State": "job",
        "UsageError": "errors",
        "current_job": "job_context",
        "run_background_job": "queue",
    }

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        if name == "__version__":
            from bgjobs.version import version  # noqa: PLC0415 - few ask

            return version()
        if name not in _HOME:
            raise AttributeError(f"module 'bgjobs' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - only on first use

        value = getattr(import_module(f"bgjobs.{_HOME[name]}"), name)
        globals()[name] = value
        return value
