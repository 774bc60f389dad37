"""Stop workers: ask them to, and wait until they have ended."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.cli import output
from bgjobs.errors import BgjobsError, TimedOutError
from bgjobs.queue import store_of

if TYPE_CHECKING:
    from bgjobs.queue import Queue
    from bgjobs.store import Store, WorkerView

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.2
STANDS_STILL_S = 3.0  # a debugger may hold a worker for this long before it counts as stopped
SHORTEST_END = 8  # of an id, as for those of jobs


def stop(queue: Queue, names: list[str], *, grace: timedelta | None, timeout: timedelta | None, as_json: bool) -> int:
    """Stop the workers of these names, or all on this machine; return 0 when they have gone.

    With a `grace` they are asked once more after it, which ends what still runs. Raises BgjobsError.
    """
    store = store_of(queue)
    there = [worker for worker in store.workers() if worker.alive]
    chosen = _named(there, names) if names else [worker for worker in there if worker.info.host == system.host()]
    asked = [worker for worker in chosen if store.stop(worker.id)]
    _wait(store, {worker.id for worker in asked}, grace, timeout)
    stopped = [worker.info.name for worker in asked]
    elsewhere = 0 if names else len(there) - len(chosen)
    output.result({"stopped": stopped}, f"stopped {output.plural(len(stopped), 'worker')}", as_json=as_json)
    if elsewhere:
        output.hint(f"{elsewhere} on other machines: stop them there, or by name, see `bgjobs status`", as_json=as_json)
    return 0


def _named(there: list[WorkerView], names: list[str]) -> list[WorkerView]:
    """Return the workers that go by these names: host and pid, the pid alone, or an id or the end of one."""
    found: dict[str, WorkerView] = {}
    for name in names:
        ours = [worker for worker in there if _goes_by(worker, name)]
        if not ours:
            raise BgjobsError(f"no worker {name[:80]!a} is at work here", hint="see `bgjobs status`", code="no-worker")
        if len(ours) > 1:  # in containers of one host name, where each has a pid 7
            hint = "name it by its id, see `bgjobs status --json`"
            raise BgjobsError(f"{len(ours)} workers go by {name[:80]!a}", hint=hint, code="no-worker")
        found[ours[0].id] = ours[0]
    return list(found.values())


def _goes_by(worker: WorkerView, name: str) -> bool:
    is_here = worker.info.host == system.host()
    by_id = len(name) >= SHORTEST_END and worker.id.endswith(name.lower())
    return by_id or name == worker.info.name or (is_here and name == str(worker.info.pid))


def _wait(store: Store, asked: set[str], grace: timedelta | None, timeout: timedelta | None) -> None:
    begun = moved = time.monotonic()
    pause = FIRST_PAUSE_S
    while True:
        left = [worker for worker in store.workers() if worker.alive and worker.id in asked]
        if not left:
            return
        now = time.monotonic()
        moved = now if any(worker.responsive for worker in left) else moved
        if now - moved > STANDS_STILL_S:
            raise BgjobsError(
                f"worker {left[0].info.name} stands still and cannot stop", hint="continue it, or kill it", code="stuck"
            )
        if timeout is not None and now - begun >= timeout.total_seconds():
            raise TimedOutError(f"timed out: worker {left[0].info.name} has not stopped yet", hint="wait again")
        if grace is not None and now - begun >= grace.total_seconds():
            grace = None
            for worker in left:
                store.stop(worker.id)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
