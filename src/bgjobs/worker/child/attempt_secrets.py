"""Mask the values of secret arguments in everything that a runner reports of an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from bgjobs.calls import masking
from bgjobs.calls.binding import hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bgjobs.job import Succeeded
    from bgjobs.worker.protocol import Run


class AttemptSecrets:
    """The secrets of one attempt. Without secret arguments every text is returned unchanged."""

    def __init__(self, job: Run) -> None:
        """Treat every argument as secret, if the method has secret ones at all, until the method is loaded."""
        self._job = job
        self._hide = masking.ALL if job.secret else frozenset()
        self._values = masking.values(job.args, job.kwargs, self._hide) if job.secret else []
        self._secrets: masking.Secrets | None = None

    def set_method(self, function: Callable[..., object]) -> None:
        """Find out from the signature of the loaded method which arguments are secret."""
        if not self._job.secret:
            return
        try:
            self._hide = hidden(function, len(self._job.args), self._job.secret)
        except (TypeError, ValueError):
            return
        self._values = masking.values(self._job.args, self._job.kwargs, self._hide)
        self._secrets = None

    def add_converted(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Add the converted values of secret texts: the method works with those."""
        if not self._hide:
            return
        self._values += masking.values(args, kwargs, self._hide)
        self._secrets = None

    def mask(self, text: str) -> str:
        """Return the text with secrets masked. Mask before cutting: a part of a secret may not be recognised."""
        if not self._values:
            return text
        if self._secrets is None:
            self._secrets = masking.Secrets(self._values)
        return self._secrets.mask(text)

    def mask_number(self, number: float) -> float:
        """Return the number, or 0 in place of a secret one."""
        written = {str(number), f"{number:.0f}"}
        return 0 if any(self.mask(text) != text for text in written) else number

    def mark_result(self, outcome: Succeeded) -> Succeeded:
        """Return the success, marked if a secret is in its result. The result itself is not changed."""
        if not self._values:
            return outcome
        written = bytes(outcome.result).decode("utf-8", "replace")
        return replace(outcome, note=self.mask(outcome.note), holds_secret=self.mask(written) != written)
