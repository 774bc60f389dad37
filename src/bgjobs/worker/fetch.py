"""When to claim jobs, and how many: what the runners can take, and a little ahead when jobs are short.

A long job must not keep others waiting behind it, so with jobs of more than a few milliseconds nothing is sent ahead.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.errors import BgjobsError, why

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.store import Bell, Session
    from bgjobs.system import Poller
    from bgjobs.worker.in_flight import InFlight
    from bgjobs.worker.pool import Pool


WINDOW_S = 0.05
MOST_CLAIMED = 256
MOST_SENT = 64
SHORT_S = 0.005
SENT_S = 0.02  # about so much work may lie in a runner's hands
MEMORY = 0.2


class Pace:
    """Watches how many jobs end, and how long they take."""

    def __init__(self) -> None:
        """Nothing has ended yet: send nothing ahead."""
        self._began = time.monotonic()
        self._count = 0
        self._before = 0
        self._mean_s = SHORT_S

    def count(self, took_s: float) -> None:
        """One more job has ended, after so many seconds."""
        self._turn()
        self._count += 1
        self._mean_s += MEMORY * (took_s - self._mean_s)

    def depth(self) -> int:
        """Return how many jobs a runner may hold."""
        if self._mean_s >= SHORT_S:
            return 1
        return min(MOST_SENT, int(SENT_S / max(self._mean_s, SENT_S / MOST_SENT)))

    def batch(self, room: int) -> int:
        """Return how many jobs to claim when the runners have so much room: also what the next moment will use up."""
        self._turn()
        return max(room, min(MOST_CLAIMED, 2 * max(self._count, self._before)))

    def _turn(self) -> None:
        now = time.monotonic()
        windows = int((now - self._began) / WINDOW_S)
        if windows:
            self._before = self._count if windows == 1 else 0
            self._began, self._count = now, 0


PATIENCE = 8  # rings in a row: with several workers all hear each ring, and all but one find nothing
DEAF_S = 0.01


class Hearing:
    """The ears of one worker. A ring that is not heard at once is heard a moment later, never lost."""

    def __init__(self, poller: Poller, bell: Bell) -> None:
        """Listen from now on."""
        self._poller = poller
        self._bell = bell
        self._in_vain = 0
        self._deaf_until = 0.0
        poller.watch_bell(bell)

    def wait(self, patience_s: float) -> list[tuple[object, bytes]]:
        """Wait as the poller does, at most until we listen again."""
        pause = self._deaf_until - time.monotonic()
        if pause > 0:
            return self._poller.wait(min(pause, patience_s), bells=False)
        return self._poller.wait(patience_s)

    def rang(self) -> bool:
        """Tell whether it rang since the last time, as far as we listened."""
        now = time.monotonic()
        if now < self._deaf_until or not self._bell.rang():
            return False
        self._in_vain += 1
        if self._in_vain > PATIENCE:
            self._deaf_until = now + DEAF_S
        return True

    def found(self) -> None:
        """There was something to do: the rings were not in vain."""
        self._in_vain = 0


POLL_S = 1.0
TROUBLE_PAUSE_S = 1.0
MOST_UNDECIDED = 256


class Claiming:
    """Claims jobs into the worker's hands; at most `most` of them end here, if that is given."""

    def __init__(
        self,
        session: Session,
        pool: Pool,
        in_flight: InFlight,
        hearing: Hearing,
        pace: Pace,
        *,
        most: int | None,
        say: Callable[[str], None],
    ) -> None:
        """Expect that there is something to do."""
        self.may_be_more = True
        self.rang = False
        self._session = session
        self._pool = pool
        self._in_flight = in_flight
        self._hearing = hearing
        self._pace = pace
        self._most = most
        self._say = say
        self.ended = 0
        self._look_at = self._claim_at = 0.0

    def go_on(self) -> None:
        """Claim what there is room for, if it is time to."""
        now = time.monotonic()
        if now < self._claim_at:
            return
        if now >= self._look_at:
            self.may_be_more = True
        if self.rang:
            self.rang = False
            self.may_be_more = True
            self._let_overtake()
        held = len(self._in_flight.waiting) + max(0, len(self._in_flight.undecided) - MOST_UNDECIDED)
        room = self._pool.room(self._pace.depth()) - held
        if room > 0 and self.may_be_more:
            self._take(self._limited(self._pace.batch(room)), above=-1)

    def pause(self) -> None:
        """Claim nothing for a moment: something is wrong."""
        self._claim_at = time.monotonic() + TROUBLE_PAUSE_S

    def count_ended(self) -> None:
        """One more job has ended."""
        self.ended += 1

    @property
    def is_enough(self) -> bool:
        """Whether as many jobs have ended as should."""
        return self._most is not None and self.ended >= self._most

    @property
    def next_at(self) -> float:
        """When to look again, on the monotonic clock."""
        return max(self._look_at, self._claim_at)

    def _let_overtake(self) -> None:
        """See new jobs of a higher priority before one that was claimed or sent ahead starts."""
        ahead = [*self._pool.sent_ahead(), *(claim.job for claim in self._in_flight.waiting)]
        if ahead:
            self._take(self._limited(len(ahead)), above=min(job.priority for job in ahead))

    def _recall_what_is_less_urgent(self) -> None:
        """Ask back what was sent ahead of something more urgent, which may have been claimed before its ring."""
        sent, waiting = self._pool.sent_ahead(), self._in_flight.waiting
        if sent and waiting and waiting[0].job.priority > min(job.priority for job in sent):
            self._pool.recall()

    def _take(self, most: int, *, above: int) -> None:
        if most <= 0:
            return
        try:
            claims = self._session.claim(most, above=above)
        except (OSError, BgjobsError) as error:
            # A full descriptor table, a disk that went read-only: nothing is lost by trying again later.
            self._say(f"cannot claim jobs: {why(error)}")
            self.pause()
            return
        if claims:
            self._hearing.found()
        self.may_be_more = above >= 0 or len(claims) == most
        due = self._session.next_due()
        wait = POLL_S if due is None else (due - clock.now()).total_seconds()
        self._look_at = time.monotonic() + min(POLL_S, max(0.0, wait))
        self._in_flight.add(claims)
        self._recall_what_is_less_urgent()

    def _limited(self, most: int) -> int:
        if self._most is None:
            return most
        return min(most, self._most - self.ended - len(self._in_flight))
