"""Regular expressions that are compiled at first use: a command needs few of them, and compiling takes time."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Pattern:
    """A regular expression over ASCII. `fullmatch` and `sub` are those of the `re` module."""

    def __init__(self, pattern: str) -> None:
        """Keep the pattern; compile nothing yet."""
        self.pattern = pattern

    @cached_property
    def fullmatch(self) -> Callable[[str], re.Match[str] | None]:
        """Match a whole text."""
        return re.compile(self.pattern, re.ASCII).fullmatch

    @cached_property
    def sub(self) -> Callable[[str, str], str]:
        """Replace each match in a text."""
        return re.compile(self.pattern, re.ASCII).sub
