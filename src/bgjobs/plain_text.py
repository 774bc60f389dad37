"""Text from strangers as one plain line: no terminal and no reader of a log can take it for anything else."""

from __future__ import annotations

from bgjobs.patterns import Pattern

PLAIN = Pattern(r"[ -~]*")


def sanitized(text: str) -> str:
    """Return the text as one line that no terminal and no log reader can take for anything else."""
    if PLAIN.fullmatch(text):
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
