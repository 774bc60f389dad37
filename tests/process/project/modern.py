"""Jobs whose methods are coroutines."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path


class Modern:
    async def add(self, first: int, second: int) -> int:
        await asyncio.sleep(0)
        return first + second

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise LookupError("not in the loop")

    async def sleep(self, path: str, seconds: float) -> None:
        """Sleep, and leave a mark on the way out, whichever way that is."""
        Path(f"{path}.begun").touch()
        try:
            await asyncio.sleep(seconds)
        finally:
            Path(path).touch()

    async def cling(self) -> None:
        """Let nothing end it."""
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0.01)
