"""Sign jobs with the keys of a file, and check signatures: HMAC-SHA256 over the bytes of the job. See docs/signing.md.

The first key of the file signs, all of them verify: so a key can be replaced while jobs wait. No key is ever shown.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from bgjobs import system
from bgjobs.config import permissions
from bgjobs.errors import ConfigError, RefusedError
from bgjobs.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

# The purposes of a signature: one that was made for an incoming file must not be valid for a job file.
JOB = b"bgjobs job 1\n"
INCOMING = b"bgjobs incoming 1\n"
MOST_KEYS = 16
MOST_BYTES = 64 * 1024
LEAST_KEY = 32  # bytes
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write it
SUBMIT_ANEW = "submit it again if you trust it"
LONGEST_SIGNATURE = 128  # bytes: more than `,"sig":"ID:HEX"}` can have
KEY_ID = r"[a-z0-9][a-z0-9-]{0,31}"
KEY_LINE = Pattern(rf"({KEY_ID})[ \t]+((?:[0-9A-Fa-f]{{2}}){{{LEAST_KEY},}})")
# Inside a JSON string a quote has a backslash before it: so this can only be the last member of the object itself.
SIGNATURE = rf',"sig":"({KEY_ID}):([0-9a-f]{{64}})"\}}\Z'.encode()


class Keys:
    """The keys of one file; the first one signs."""

    __slots__ = ("_keys", "ids")

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Take ids with their keys: at least one, no id twice."""
        self._keys = dict(keys)
        self.ids = tuple(key_id for key_id, _ in keys)

    def __repr__(self) -> str:
        return f"Keys({', '.join(self.ids)})"

    def sign(self, purpose: bytes, line: bytes) -> bytes:
        """Return a JSON object, which is not empty and has no line end, with the signature as its last member."""
        signer = self.ids[0]
        return b'%b,"sig":"%b:%b"}' % (line[:-1], signer.encode(), self._code(signer, purpose, line))

    def check(self, purpose: bytes, line: bytes) -> None:
        """Raise RefusedError unless one of the keys signed the line for this purpose."""
        found = found_in(line)
        if found is None:
            raise RefusedError("it has no signature", hint="submit it with a key of signing_keys", code="not-signed")
        signer, code = found[1].decode(), found[2]
        if signer not in self._keys:
            raise RefusedError(f"its key {signer!r} is not one of signing_keys", hint=SUBMIT_ANEW, code="bad-signature")
        import hmac  # noqa: PLC0415 - few need it

        if not hmac.compare_digest(self._code(signer, purpose, signed_part(line)), code):
            raise RefusedError(f"its signature by {signer!r} is not valid", hint=SUBMIT_ANEW, code="bad-signature")

    def _code(self, key_id: str, purpose: bytes, line: bytes) -> bytes:
        import hmac  # noqa: PLC0415 - few need it

        return hmac.digest(self._keys[key_id], purpose + line, "sha256").hex().encode()


def found_in(line: bytes) -> re.Match[bytes] | None:
    """Return the signature at the end of a line: the id of the key, and the code in hex."""
    # `re` compiles it once, at first use. No slice of the line: `signed_part` needs the position in the whole.
    return re.compile(SIGNATURE, re.ASCII).search(line, max(0, len(line) - LONGEST_SIGNATURE))


def signed_part(line: bytes) -> bytes:
    """Return the line without its signature: the bytes that were signed."""
    found = found_in(line)
    return line if found is None else line[: found.start()] + b"}"


class Keyring:
    """The key file: read at first use, and again when it has changed."""

    def __init__(self, path: str, spool: str) -> None:
        """Read nothing yet. A key file in `spool` is refused: others may read files there."""
        self._path = path
        self._spool = spool
        self._keys: Keys | None = None
        self._mark: tuple[int, ...] | None = None

    def keys(self) -> Keys:
        """Return the keys as of the last `refresh`. Raises ConfigError."""
        if self._keys is None:
            self.refresh()
        assert self._keys is not None  # noqa: S101 - or refresh has raised
        return self._keys

    def check(self, purpose: bytes, line: bytes) -> None:
        """Raise RefusedError unless one of the keys signed the line; a key that was just added counts."""
        try:
            self.keys().check(purpose, line)
        except RefusedError:
            # The submitting process may have read a new key before this one.
            if not self._refreshed():
                raise
            self.keys().check(purpose, line)

    def _refreshed(self) -> bool:
        try:
            return self.refresh()
        except ConfigError:
            return False  # the worker's check of the key file reports that

    def refresh(self) -> bool:
        """Read the file if it has changed; return whether it had. Raises ConfigError, and keeps what it has."""
        mark = _mark(self._path)
        if self._keys is not None and mark is not None and mark == self._mark:
            return False
        if os.path.realpath(self._path).startswith(os.path.realpath(self._spool) + os.sep):
            raise _bad(f"the signing keys {self._path} lie in the spool", hint="keep them outside the spool")
        self._keys, self._mark = load(self._path), mark
        return True


def load(path: str) -> Keys:
    """Return the keys of a file that only root and we can access. Raises ConfigError, which shows no key."""
    try:
        descriptor = system.open_read(path)
        try:
            state = os.fstat(descriptor)
            _refuse_open(path, state)
            content = os.read(descriptor, MOST_BYTES + 1)
        finally:
            os.close(descriptor)
        _refuse(next(permissions.weaknesses(path), None))
    except OSError as error:
        hint = "check signing_keys; it must be a plain file that you may read"
        raise _bad(f"cannot read the signing keys {path}: {error.strerror}", hint=hint) from None
    if len(content) > MOST_BYTES:
        raise _bad(f"the signing keys {path} take more than {MOST_BYTES} bytes", hint="keep only keys in it")
    return Keys(_parsed(path, content))


def _refuse_open(path: str, state: os.stat_result) -> None:
    """Refuse a file that is not plain, or that others could read or change. Checks the open file, not its name."""
    if not stat.S_ISREG(state.st_mode):
        raise _bad(f"the signing keys {path} are not a plain file", hint="put them into one")
    _refuse(permissions.weakness(path, state))
    if not system.is_private(state):
        raise _bad(f"the signing keys {path} are open to others", hint=f"chmod 600 {path}")


def _refuse(found: permissions.Weakness | None) -> None:
    if found is not None:
        raise ConfigError(f"{found.path} {found.what}", hint=found.cure, code=found.code)


def _parsed(path: str, content: bytes) -> list[tuple[str, bytes]]:
    keys: dict[str, bytes] = {}
    for number, line in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), 1):
        text = line.decode("latin-1").strip(" \t\r")
        if not text or text.startswith("#"):
            continue
        found = KEY_LINE.fullmatch(text)
        if found is None:
            raise _bad(
                f"{path}:{number}: not a key", hint=f"write an id, a space, and {LEAST_KEY} bytes or more as hex"
            )
        key_id, key = found[1], bytes.fromhex(found[2])
        if key_id in keys or key in keys.values():
            raise _bad(f"{path}:{number}: repeats an id or a key", hint="give each key an id of its own")
        keys[key_id] = key
        if len(keys) > MOST_KEYS:
            raise _bad(f"{path}:{number}: more than {MOST_KEYS} keys", hint="remove old ones")
    if not keys:
        raise _bad(f"{path}:1: no key in it", hint="see docs/signing.md for how to make one")
    return list(keys.items())


def _bad(message: str, *, hint: str) -> ConfigError:
    return ConfigError(message, hint=hint, code="bad-signing-keys")


def _mark(path: str) -> tuple[int, ...] | None:
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_mode, state.st_uid
