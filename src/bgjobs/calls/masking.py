"""Mask the values of secret arguments in jobs that are shown and in texts about them."""

from __future__ import annotations

from enum import Enum
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bgjobs.job import Job

MASK: Final = "***"
ALL: Final = frozenset({"*"})
SHORTEST: Final = 4  # what is shorter, or has fewer digits, occurs in too many texts by chance
HEAD: Final = 16  # so many characters of a long value that was cut are enough to recognise it
VARIADIC: Final = frozenset({Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD})


def hidden(parameters: Iterable[Parameter], secret: frozenset[str]) -> frozenset[str]:
    """Return which arguments of a call are secret, given the names of secret parameters, as `masked` takes it."""
    places = list(parameters)
    if any(part.name in secret and part.kind in VARIADIC for part in places):
        return ALL  # what such a parameter collects has no name or position of its own
    return secret | {f"#{place}" for place, part in enumerate(places) if part.name in secret}


def masked(args: Sequence[Any], kwargs: Mapping[str, Any], hide: frozenset[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments to show.

    `hide` holds the names of the secret keyword arguments and, as `"#2"`, the positions of the secret positional
    ones; `ALL` hides every value, for a job whose signature or allowlist entry is not known any more.
    """
    if hide == ALL:
        return [MASK] * len(args), dict.fromkeys(kwargs, MASK)
    shown = [MASK if f"#{place}" in hide else value for place, value in enumerate(args)]
    return shown, {name: MASK if name in hide else value for name, value in kwargs.items()}


def values(args: Sequence[object], kwargs: Mapping[str, object], hide: frozenset[str]) -> list[object]:
    """Return the values that `masked` would hide."""
    by_place = [value for place, value in enumerate(args) if hide == ALL or f"#{place}" in hide]
    return by_place + [value for name, value in kwargs.items() if hide == ALL or name in hide]


def as_json(job: Job, hide: frozenset[str]) -> dict[str, Any]:
    """Return the job as `Job.to_json` does, with the secret arguments masked, in its result too."""
    shown = job.to_json()
    if hide:
        shown["args"], shown["kwargs"] = masked(job.args, job.kwargs, hide)
        if shown["result"] is not None:
            shown["result"] = Secrets(values(job.args, job.kwargs, hide)).mask_json(shown["result"])
    return shown


class Secrets:
    """The secret values of a job, to be masked in texts.

    Masked are texts of at least four characters and numbers of at least four digits, also those within lists and
    objects: as they are, as Python and JSON write them, line by line, and long ones that were cut at the end.
    """

    def __init__(self, hidden_values: Iterable[object]) -> None:
        """Collect every written form of the values; `str` and `repr` of objects are called for it."""
        forms = {form for value in hidden_values for text in _texts(value) for form in _forms(text)}
        self._forms = sorted(forms, key=len, reverse=True)  # one may be a part of another
        self._heads = [form for form in self._forms if len(form) > HEAD]

    def mask(self, text: str) -> str:
        """Return the text with a mask in place of every secret value."""
        for form in self._forms:
            text = text.replace(form, MASK)
        for form in self._heads:
            text = _without_cut(text, form)
        return text

    def mask_json(self, value: object) -> object:
        """Return a JSON value with a mask in place of every text with a secret in it, and of every secret number."""
        match value:
            case str():
                return self.mask(value)
            case bool() | None:
                return value
            case int() | float():
                text = str(value)
                return value if self.mask(text) == text else MASK
            case list():
                return [self.mask_json(part) for part in value]
            case dict():
                return {self.mask(key): self.mask_json(part) for key, part in value.items()}
            case _:
                return value


def _without_cut(text: str, form: str) -> str:
    head, start = form[:HEAD], 0
    while (start := text.find(head, start)) >= 0:
        length = HEAD
        while length < len(form) and text[start + length : start + length + 1] == form[length]:
            length += 1
        text = f"{text[:start]}{MASK}{text[start + length :]}"
        start += len(MASK)
    return text


def _texts(value: object) -> Iterator[str]:
    """Go through the texts of a value, and of all that it holds."""
    match value:
        case None | bool():
            return
        case Enum():
            yield from _texts(value.value)
        case str():
            yield value
        case dict():
            for part in value.values():
                yield from _texts(part)
        case list() | tuple() | set() | frozenset():
            for part in value:
                yield from _texts(part)
        case int() | float():
            if sum(letter.isdigit() for letter in str(value)) >= SHORTEST:
                yield str(value)
                yield msgspec.json.encode(value).decode()
        case _:
            yield from _of_object(value)


def _of_object(value: object) -> Iterator[str]:
    """Go through the texts of a date, a path, a number with a type of its own, an instance of a dataclass."""
    import dataclasses  # noqa: PLC0415 - few jobs have secrets

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name, None))
        return
    for written in (str, repr, lambda given: msgspec.json.encode(given).decode().strip('"')):
        try:
            yield written(value)
        except Exception:  # noqa: BLE001, S112 - user code; a form that cannot be made appears nowhere
            continue


def _forms(text: str) -> Iterator[str]:
    """Go through the forms of a text within another one: plain, quoted, and quoted twice."""
    parts = {text, text.strip(), *(line.strip() for line in text.splitlines())}
    once = {form for part in parts for form in _quoted(part)}
    for form in parts | once | {again for one in once for again in _quoted(one)}:
        if len(form) >= SHORTEST:
            yield form


def _quoted(text: str) -> Iterator[str]:
    import json  # noqa: PLC0415 - few jobs have secrets

    for written in (repr, ascii):
        between_single = written(f"{text}\"'")[1:-4]  # with both quotes in a text, Python escapes the single ones
        yield between_single
        yield between_single.replace("\\'", "'")
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
