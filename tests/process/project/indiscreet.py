"""Jobs that say in every way what they were told in confidence."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path
from typing import Any

from bgjobs import Fail, Retry, current_job


def _noted(key: object) -> Exception:
    error = RuntimeError("see the note")
    error.add_note(f"it was {key}")
    error.__cause__ = OSError(2, "no such file", str(key))
    return error


WAYS: dict[str, Any] = {
    "plain": lambda key: ValueError(f"the key {key} is wrong"),
    "as Python writes it": lambda key: ValueError(f"the key {key!r} is wrong"),
    "as Python writes it, twice": lambda key: KeyError(f'key={key!r} it\'s "wrong"'),
    "with its neighbours": lambda key: LookupError({"key": key, "other": [key, 1]}),
    "among others": lambda key: ExceptionGroup("many", [ValueError(key), TypeError([key])]),
    "as a number": lambda key: int(f"x{key}"),
    "as code": lambda key: ast.literal_eval(f"({key}"),
    "for good": Fail,
    "for later": lambda key: Retry(key, delay=0),
    "as the exit": SystemExit,
    "as a name": lambda key: type(f"E{key}", (Exception,), {})("as its name"),
    "as a cause": _noted,
    "late in a long text": lambda key: ValueError("x" * 4093 + str(key)),
}


class Indiscreet:
    def tell(self, way: str, key: Any) -> None:
        raise WAYS[way](key)

    def tell_converted(self, key: float) -> None:
        raise ValueError(f"{key} and {[key]}")

    def tell_rest(self, *keys: str, **others: str) -> None:
        raise ValueError(f"{keys} {others}")

    def give_back(self, key: Any) -> dict[str, Any]:
        return {"key": key, "all": [key]}

    def give_back_no_json(self, key: str) -> object:
        return type(f"T{key}", (), {})()

    def measure(self, key: int, gate: str) -> None:
        current_job().progress(key, key, "so far")
        while not Path(gate).exists():
            time.sleep(0.02)

    def wait(self, key: str, gate: str) -> str:
        current_job().progress(1, 2, f"{'x' * 190} {key}")
        while not Path(gate).exists():
            time.sleep(0.02)  # between two looks
        return str(os.getpid())
