"""When to claim, and how much: what the runners can take, and a little ahead when jobs are short."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bgjobs import clock
from bgjobs.errors import BgjobsError, why

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.backend import Session
    from bgjobs.worker.hearing import Hearing
    from bgjobs.worker.holdings import Holdings
    from bgjobs.worker.pace import Pace
    from bgjobs.worker.pool import Pool

POLL_S = 1.0
TROUBLE_PAUSE_S = 1.0
MOST_DOUBTFUL = 256


class Claiming:
    """Claims jobs into the worker's hands; at most `most` of them end here, if that is given."""

    def __init__(
        self,
        session: Session,
        pool: Pool,
        holdings: Holdings,
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
        self._holdings = holdings
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
        held = len(self._holdings.waiting) + max(0, len(self._holdings.doubtful) - MOST_DOUBTFUL)
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
        ahead = [*self._pool.sent_ahead(), *(claim.job for claim in self._holdings.waiting)]
        if ahead:
            self._take(self._limited(len(ahead)), above=min(job.priority for job in ahead))

    def _recall_what_is_less_urgent(self) -> None:
        """Ask back what was sent ahead of something more urgent, which may have been claimed before its ring."""
        sent, waiting = self._pool.sent_ahead(), self._holdings.waiting
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
        self._holdings.add(claims)
        self._recall_what_is_less_urgent()

    def _limited(self, most: int) -> int:
        if self._most is None:
            return most
        return min(most, self._most - self.ended - len(self._holdings))
