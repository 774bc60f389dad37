"""Check fast that the process state is unchanged, as it is after nearly every job.

`interpreter` reads the same state part by part, tells what differs, and puts it back. Here all is read in a few steps
that run in C, because every job pays for them. The parts in `COVERED` must be read here completely.
"""

from __future__ import annotations

import builtins
import gc
import sys
from _locale import LC_ALL, setlocale  # as in `interpreter`
from functools import partial
from operator import attrgetter, itemgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bgjobs import system
from bgjobs.worker.child.interpreter import PARTS, stack_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The parts that are read here in another way; all others are read as `interpreter` reads them.
COVERED = frozenset(
    {
        *("import system", "interpreter", "hooks", "arguments", "tracing", "builtins", "garbage collector"),
        *("threading", "warnings", "logging", "locale", "time zone", "scheduling", "rights", "monitoring"),
    }
)
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "sys": (
        *("path", "meta_path", "path_hooks", "dont_write_bytecode", "pycache_prefix", "argv"),
        *("excepthook", "unraisablehook", "displayhook", "breakpointhook"),
    ),
    "gc": ("callbacks",),
    "threading": ("excepthook", "_main_thread._name", "_trace_hook", "_profile_hook"),
    "time": ("timezone", "altzone", "daylight", "tzname"),
    "warnings": ("filters", "showwarning", "formatwarning"),
    "logging": (
        *("root.level", "root.disabled", "root.handlers", "root.filters", "root.manager.disable"),
        "root.manager.loggerDict",
        *("raiseExceptions", "lastResort", "_loggerClass", "_logRecordFactory", "_warnings_showwarning"),
        "_levelToName",
    ),
}
_of_logger = attrgetter("level", "propagate", "disabled", "handlers", "filters")
_of_handler = attrgetter("level", "formatter", "filters")


class Unchanged:
    """The state as it is now, with the loaded modules, to be compared with a later one."""

    def __init__(self) -> None:
        """Remember it."""
        loaded = {name: sys.modules[name] for name in ATTRIBUTES if name in sys.modules}
        self._modules = SimpleNamespace(**loaded)
        self._read = attrgetter(*(f"{name}.{attribute}" for name in loaded for attribute in ATTRIBUTES[name]))
        self._functions: tuple[Callable[[], object], ...] = (*_functions(), *system.own_state(), *_others())
        self._builtins = vars(builtins)
        self._of_modules = itemgetter(*loaded)
        logging: Any = loaded.get("logging")
        self._loggers: list[Any] = []
        self._handlers: list[Any] = []
        if logging is not None:
            loggers = logging.root.manager.loggerDict.values()
            self._loggers = [one for one in loggers if not isinstance(one, logging.PlaceHolder)]
            self._handlers = list(logging.root.handlers)
        attributes, *others, of_loggers, of_handlers = self._now()
        self._kept = (*_kept_all([attributes]), *others, _kept_all(of_loggers), _kept_all(of_handlers))

    def holds(self) -> bool:
        """Tell whether nothing has changed. A part that cannot be read any more has changed."""
        try:
            return self._now() == self._kept
        except Exception:  # noqa: BLE001 - a job may have put anything there
            return False

    def _now(self) -> tuple[Any, ...]:
        return (
            self._read(self._modules),
            self._of_modules(sys.modules),
            # A module that is loaded comes last, also where another one was removed.
            (len(sys.modules), next(reversed(sys.modules))),
            [function() for function in self._functions],
            [*self._builtins.values()],
            [*map(_of_logger, self._loggers)],
            [*map(_of_handler, self._handlers)],
        )


def _functions() -> tuple[Callable[[], object], ...]:
    """Return the functions that read state of the interpreter that is no attribute."""
    found: tuple[Callable[[], object], ...] = (
        sys.getrecursionlimit,
        sys.getswitchinterval,
        sys.get_int_max_str_digits,
        sys.get_coroutine_origin_tracking_depth,
        sys.get_asyncgen_hooks,
        partial(vars(sys).get, "tracebacklimit"),
        sys.gettrace,
        sys.getprofile,
        gc.isenabled,
        gc.get_threshold,
        gc.get_debug,
        gc.get_freeze_count,
        stack_size,
        partial(setlocale, LC_ALL),
    )
    if sys.version_info >= (3, 12):
        found += (*(partial(sys.monitoring.get_tool, number) for number in range(6)), sys.is_stack_trampoline_active)
    return found


def _others() -> list[Callable[[], object]]:
    """Return the functions that read the parts that are seldom loaded."""
    return [
        partial(part.read, sys.modules[part.module])
        for part in PARTS
        if part.name not in COVERED and part.module in sys.modules
    ]


def _kept(value: Any) -> Any:  # noqa: ANN401 - a value of any kind
    """Return a copy of a list or dict, and anything else itself."""
    return value.copy() if type(value) in (list, dict) else value


def _kept_all(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(map(_kept, row)) for row in rows]
