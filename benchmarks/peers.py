"""The peers that are here: each is optional, and whoever is not installed does not take part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contestants import celery, dirq, dramatiq, huey, litequeue, on_redis, persistqueue, rq, uwsgi

if TYPE_CHECKING:
    from benchmarks.contestants import Contestant


def peers() -> list[Contestant]:
    """Return them: those that need no server, then those on Redis."""
    return [*_without_server(), *(_on_redis() if on_redis.is_here() else [])]


def _without_server() -> list[Contestant]:
    found: list[Contestant] = []
    if huey.is_here():
        found += [huey.Huey("sqlite"), huey.Huey("files")]
    if dirq.is_here():
        found.append(dirq.Dirq())
    if litequeue.is_here():
        found.append(litequeue.Litequeue())
    if persistqueue.is_here():
        found.append(persistqueue.PersistQueue())
    if uwsgi.is_here():
        found.append(uwsgi.Uwsgi())
    if celery.is_here():
        found.append(celery.Celery(redis=False))
    return found


def _on_redis() -> list[Contestant]:
    found: list[Contestant] = []
    if celery.is_here():
        found.append(celery.Celery(redis=True))
    if rq.is_here():
        found += [rq.Rq(fork=True), rq.Rq(fork=False)]
    if dramatiq.is_here():
        found.append(dramatiq.Dramatiq())
    return found
