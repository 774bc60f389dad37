"""What a runner may not say of an attempt: the values of its secret arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs.calls import masking
from bgjobs.calls.binding import hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bgjobs.job import Succeeded
    from bgjobs.worker.protocol import Run


class Discretion:
    """Keeps the secrets of one attempt. Without secret arguments all passes as it is."""

    def __init__(self, job: Run) -> None:
        """Take every argument for a secret, if there is any, until the method is known."""
        self._job = job
        self._hide = masking.ALL if job.secret else frozenset()
        self._values = masking.values(job.args, job.kwargs, self._hide) if job.secret else []
        self._secrets: masking.Secrets | None = None

    def learn(self, function: Callable[..., object]) -> None:
        """Find out which arguments are secret, now that the method says what it takes."""
        if not self._job.secret:
            return
        try:
            self._hide = hidden(function, len(self._job.args), self._job.secret)
        except (TypeError, ValueError):
            return
        self._values = masking.values(self._job.args, self._job.kwargs, self._hide)
        self._secrets = None

    def learn_converted(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Keep secret as well what became of the secret texts: that is what the method will speak of."""
        if not self._hide:
            return
        self._values += masking.values(args, kwargs, self._hide)
        self._secrets = None

    def text(self, text: str) -> str:
        """Return a text in the form in which it may be said. It must be whole still, not cut."""
        if not self._values:
            return text
        if self._secrets is None:
            self._secrets = masking.Secrets(self._values)
        return self._secrets.mask(text)

    def number(self, number: float) -> float:
        """Return a number in the form in which it may be said: 0 in place of a secret one."""
        written = {str(number), f"{number:.0f}"}
        return 0 if any(self.text(text) != text for text in written) else number

    def result(self, outcome: Succeeded) -> Succeeded:
        """Return a success that tells whether a secret is in its result. The result stays what it is."""
        if not self._values:
            return outcome
        written = bytes(outcome.result).decode("utf-8", "replace")
        return replace(outcome, note=self.text(outcome.note), holds_secret=self.text(written) != written)
