"""Notify the supervisor that started us by the protocol of systemd: datagrams to a socket named in the environment."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

PATIENCE_S = 1.0  # a supervisor that reads nothing must not hold up jobs


class Supervisor:
    """The supervisor of this process, if there is one. Nothing here fails or waits for long."""

    def __init__(self, address: bytes | None, watchdog_s: float | None) -> None:
        """Without an address there is no supervisor."""
        self._address = address
        self.is_there = address is not None
        self.watchdog_s = watchdog_s if address else None

    def tell(self, **facts: str) -> None:
        """Send variables such as `READY="1"` in one message."""
        if sys.platform != "win32" and self._address is not None:
            message = "\n".join(f"{name}={value}" for name, value in facts.items())
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                    channel.settimeout(PATIENCE_S)
                    channel.sendto(message.encode(), self._address)
            except OSError:
                pass  # it is gone or does not read: jobs must not wait for it


def take_supervisor(environ: MutableMapping[str, str]) -> Supervisor:
    """Return the supervisor that these variables name, and remove them, so that children cannot use them."""
    address = environ.pop("NOTIFY_SOCKET", "")
    length, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    is_ours = pid in {"", str(os.getpid())}
    watchdog_s = int(length) / 1_000_000 if is_ours and length.isascii() and length.isdigit() and int(length) else None
    return Supervisor(_address(address), watchdog_s)


def _address(named: str) -> bytes | None:
    """Return the address of the socket: a path, or with `@` a name that lies in no directory."""
    if named.startswith("@"):
        return b"\0" + os.fsencode(named[1:])
    return os.fsencode(named) if named.startswith("/") else None
