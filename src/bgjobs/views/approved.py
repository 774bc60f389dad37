"""What may run: each approved method, with its signature as the source says it, or the reason why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bgjobs.errors import RefusedError
from bgjobs.queue import read_signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.calls.signatures import Signature, Unreadable
    from bgjobs.config.allowlist import Target
    from bgjobs.queue import Queue


class Approved(NamedTuple):
    """A pair of class and method that may run, and what its source says; a RefusedError where it cannot run."""

    target: Target
    signature: Signature | Unreadable | RefusedError


def of(queue: Queue) -> Iterator[Approved]:
    """Go through all that may run, in the order of the allowlist. Nothing of it is imported."""
    for target in queue.allowlist:
        try:
            signature: Signature | Unreadable | RefusedError = read_signature(queue.settings, target)
        except RefusedError as error:
            signature = error
        yield Approved(target, signature)
