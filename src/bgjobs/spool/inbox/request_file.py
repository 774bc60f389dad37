"""Read a file that another program hands in: one JSON object becomes a job, or is refused with the reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct, field

from bgjobs import signing
from bgjobs.errors import BadArgumentsError, RefusedError
from bgjobs.ids import id_ms, id_of, id_without_lane, lane_of
from bgjobs.job import LATEST_MS, MILLISECOND, State
from bgjobs.requests import by, plain_arguments
from bgjobs.spool import record
from bgjobs.spool.line1 import FORMAT, CorruptError, Line1, check_depth, refuse_duplicates, why_not

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgjobs.job import Job
    from bgjobs.lifecycle import Policy
    from bgjobs.signing import Keyring

    PolicyOf = Callable[[str, str], Policy]


class RequestFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Line 1 of a job file as another program writes it. None stands for what the allowlist says.

    These are missing because only bgjobs sets them: `id`, `submitted_at`, `retry_of` and `from_user`.
    """

    format: int
    class_name: str = field(name="class")
    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    text: bool = False
    priority: int | None = None
    not_before: int | None = None
    retries: int | None = None
    retry_delay: float | None = None
    timeout: float | None = None
    tags: list[str] = []
    submitted_by: str | None = None


class SignedRequestFile(RequestFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same, signed: `submitted_at` and `nonce` make it differ from every other file that its program has signed."""

    submitted_at: int
    nonce: str
    sig: str


class Pair(Struct, frozen=True):
    """The part of a file that tells the lane of its job. The rest is checked after the file was taken."""

    class_name: str = field(name="class")
    method: str


class SignedIds(NamedTuple):
    """The id of the job that a signed file becomes, and the one that a bgjobs without lanes has given it."""

    job_id: str
    without_lane: str


_pair = msgspec.json.Decoder(Pair)
_unsigned = msgspec.json.Decoder(RequestFile)
_signed = msgspec.json.Decoder(SignedRequestFile)
NONCE = re.compile(r"[A-Za-z0-9_-]{8,64}", re.ASCII)
CLOCKS_APART_MS = 5 * 60_000


def job_of(data: bytes, job_id: str, policy_of: PolicyOf, *, from_user: str | None = None) -> Job:
    """Return the job of this id that the object asks for; `from_user` is who handed it in, if another user did.

    Raises CorruptError. A repeated import gives the same job: its moments follow from the id, not from the clock.
    """
    request = _decoded(data.removeprefix(signing.BYTE_ORDER_MARK))
    try:
        plain_arguments("the job", request.args, request.kwargs)
    except BadArgumentsError as error:
        raise CorruptError(str(error)) from None
    line = record.encoded(_line_1(request, job_id, policy_of(request.class_name, request.method), from_user))
    # The line that is going to be written is read back first, as strictly as by the worker that will claim the job.
    return record.decode(line, job_id=job_id, state=State.QUEUED, priority=None, not_before_ms=None)


def lane_in(data: bytes) -> str:
    """Return the lane of the job that a file asks for, or nothing if it asks for none."""
    try:
        pair = _pair.decode(data.removeprefix(signing.BYTE_ORDER_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""  # the reason is reported when it is refused
    return lane_of(pair.class_name, pair.method)


def signed_ids(data: bytes, keyring: Keyring, *, now_ms: int, kept_ms: int) -> SignedIds:
    """Return the id of the job that a signed file becomes: for each copy of it the same one. Raises CorruptError.

    Jobs are known for `kept_ms` after their end, and a file may not be older than that: a copy of one that was a job
    before is too old, or its job is still known.
    """
    data = data.removeprefix(signing.BYTE_ORDER_MARK)
    line = data.removesuffix(b"\n")
    if b"\n" in line:
        raise CorruptError("not-signed: it has more than one line")
    try:
        keyring.check(signing.INCOMING, line)
    except RefusedError as error:
        raise CorruptError(f"{error.code}: {error}") from None
    request = _decoded(data)
    if not isinstance(request, SignedRequestFile) or not NONCE.fullmatch(request.nonce):
        raise CorruptError("'nonce' has a value that is not allowed")
    oldest = now_ms - max(0, kept_ms - CLOCKS_APART_MS)
    if not max(0, oldest) <= request.submitted_at <= min(now_ms + CLOCKS_APART_MS, LATEST_MS):
        raise CorruptError("replayed: its 'submitted_at' is too old, or lies ahead: sign it anew")
    at, content = request.submitted_at, signing.INCOMING + signing.signed_part(line)
    return SignedIds(id_of(at, content, lane=lane_of(request.class_name, request.method)), id_without_lane(at, content))


def _decoded(data: bytes) -> RequestFile:
    """Return what a file asks for. A signed one is understood also where nobody checks signatures."""
    check_depth(data)
    is_signed = signing.found_in(data.rstrip(b"\n"))
    try:
        request = _signed.decode(data) if is_signed else _unsigned.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CorruptError(f"not a job: {why_not(data, SignedRequestFile if is_signed else RequestFile)}") from None
    if request.format != FORMAT:
        raise CorruptError(f"format {request.format} is unknown: this bgjobs reads {FORMAT}")
    refuse_duplicates(data)
    return request


def _line_1(request: RequestFile, job_id: str, policy: Policy, from_user: str | None) -> Line1:
    now = id_ms(job_id)
    not_before = now + policy.delay // MILLISECOND if request.not_before is None else request.not_before
    return Line1(
        format=FORMAT,
        id=job_id,
        class_name=request.class_name,
        method=request.method,
        args=request.args,
        kwargs=request.kwargs,
        text=request.text,
        priority=policy.priority if request.priority is None else request.priority,
        # A moment that has passed means at once; one that never was stays as it is, and is refused.
        not_before=max(not_before, now) if not_before >= 0 else not_before,
        retries=policy.retries if request.retries is None else request.retries,
        retry_delay=request.retry_delay,
        timeout=request.timeout,
        tags=request.tags,
        submitted_at=now,
        submitted_by=by(from_user) if request.submitted_by is None else request.submitted_by,
        from_user=from_user,
    )
