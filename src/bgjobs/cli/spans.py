"""What is printed for people, as values: lines of spans, each a text with its style."""

from __future__ import annotations

from typing import TypeAlias

Span: TypeAlias = tuple[str, str]
Line: TypeAlias = list[Span]
