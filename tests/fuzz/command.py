"""Fuzz the words after `bgjobs submit`, on the way to a job in a real spool and back out of it.

A corpus file has one word on each line; `␤` in a word stands for a line end.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

import typer

from bgjobs.calls.binding import convert
from bgjobs.cli import app, output
from bgjobs.errors import BadArgumentsError, RefusedError, UsageError
from bgjobs.queue import Queue
from tests.fuzz import checks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALLOWLIST = """\
[bgjobs]
durability = "os"
[jobs.Shop]
class = "fuzzed_shop:Shop"
methods = ["plain", "typed", "lengths", "boxes", "choice"]
secret = ["key"]
"""
SHOP = """\
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal
from uuid import UUID


class Shop:
    def plain(self, name, *rest, key="", **more): ...
    def typed(self, count: int, share: float = 1.5, yes: bool = False, *, when: datetime | None = None): ...
    def lengths(self, a: timedelta, b: date, c: time): ...
    def boxes(self, a: list[int], b: dict[str, float], c: Path, d: UUID): ...
    def choice(self, a: Literal["a", 1, None], b: Decimal | None = None): ...
"""
METHODS = ("plain", "typed", "lengths", "boxes", "choice")
FEW = 300  # jobs in a spool, before it is begun anew
WORDS = (
    *("Shop\n", "\nplain\n", "\ntyped\n", "\nlengths\n", "\nboxes\n", "\nchoice\n", "\n-k\nname=", "\n-k\nkey="),
    *("\n--args\n[", '\n--args\n{"name":', "\n--priority\n", "\n-p\nhigh", "\n--delay\n5m", "\n--at\n2026-12-01T09:00"),
    *("\n--retries\n3", "\n--retry-delay\n1e-9", "\n--timeout\n90s", "\n--tag\n", "\n--json", "\n--\n", "\n--help"),
    *("\n--wait", "\n--follow", "\n--dry-run", "␤", "\u0430", "\u0663", "\u202e", "\x1b[2J", b"\xff", "=="),
    *("09:00", "2026-12-01", "[1, 2]", '{"a": 1.5}', "null", "01234567-89ab-cdef-0123-456789abcdef", "19.90", "true"),
)


class Target:
    """Reads bytes as the words of a `bgjobs submit`."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._config = work / "allowed_jobs.toml"
        self._config.write_text(ALLOWLIST, "utf-8")
        (work / "fuzzed_shop.py").write_text(SHOP, "utf-8")
        self._class = _loaded(work / "fuzzed_shop.py").Shop
        self._command = app._app(["submit"]).commands["submit"]
        self._new_spool()

    def __call__(self, data: bytes) -> None:
        """Run the command; what it takes must be there, and be what was asked for."""
        words = [os.fsdecode(word).replace("␤", "\n") for word in data.split(b"\n") if b"\0" not in word]
        shown, told = io.BytesIO(), io.BytesIO()
        status, as_json = 0, "--json" in words
        with _captured(shown, told):
            try:
                status = self._run(words)
            except (UsageError, RefusedError) as error:
                checks.message(str(error).replace(str(self._config), ""))
                output.error(error, as_json=as_json)
                status = error.exit_status
        assert status in {0, 2, 3}, status
        assert "fuzzed_shop" not in sys.modules
        if status:
            self._check_refusal(shown.getvalue(), told.getvalue().decode(), as_json=as_json)
        elif not self._is_help:
            self._check_job(shown.getvalue().decode())

    def close(self) -> None:
        """Remove what was made."""
        shutil.rmtree(self._work / "spool", ignore_errors=True)

    def _run(self, words: list[str]) -> int:
        """Do what `bgjobs submit` does with these words, in our project, without waiting for a worker."""
        self._is_help = False
        try:
            context = self._command.make_context("submit", words)
            context.params |= {"config": str(self._config), "spool": self._spool}
            context.params |= {"wait": False, "follow": False, "dry_run": False, "as_json": True}
            return int(self._command.invoke(context) or 0)
        except typer.Exit:
            self._is_help = True
            return 0
        except app.ClickError as error:
            raise app._usage(error, "submit", []) from None

    @staticmethod
    def _check_refusal(shown: bytes, told: str, *, as_json: bool) -> None:
        assert not shown, shown
        assert told.endswith("\n"), told
        assert told[:-1].isprintable(), told
        if as_json:
            assert json.loads(told)["error"]["code"]

    def _check_job(self, shown: str) -> None:
        queue = Queue.open(config=str(self._config), spool=self._spool)
        job = queue.get(json.loads(shown)["id"])
        checks.job(job)
        assert (job.class_name, job.method) in {("Shop", method) for method in METHODS}
        try:
            convert(getattr(self._class(), job.method), job.args, job.kwargs, text=job.text, secret={"key"})
        except BadArgumentsError as error:
            checks.message(str(error))
        self._count += 1
        if self._count >= FEW:
            self._new_spool()

    def _new_spool(self) -> None:
        shutil.rmtree(self._work / "spool", ignore_errors=True)
        self._spool = str(self._work / "spool")
        self._count = 0


@contextmanager
def _captured(shown: io.BytesIO, told: io.BytesIO) -> Iterator[None]:
    """Let what is printed go to these two."""
    stdout = io.TextIOWrapper(shown, "utf-8", write_through=True)
    stderr = io.TextIOWrapper(told, "utf-8", write_through=True)
    with redirect_stdout(stdout), redirect_stderr(stderr):
        output.prepare()
        yield
    stdout.detach()
    stderr.detach()


def _loaded(path: Path) -> Any:
    """Load the module of the job under another name: nobody else may load it."""
    spec = spec_from_file_location("loaded_here", path, loader=SourceFileLoader("loaded_here", str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
