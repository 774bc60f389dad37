"""Read, compare and put back the state of the Python interpreter that any code can change.

`docs/isolation.md` lists all of it for those who write jobs. A part is read only if its module is loaded: until then
nothing can have changed it, and it has the value of a fresh process. Some names are private to the standard library,
which has no public way to ask; where one is missing, its part counts as unchanged.
"""

from __future__ import annotations

import builtins
import gc
import sys
import threading
from _locale import LC_ALL, setlocale  # what `locale` is made of: that one takes milliseconds to import
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from bgjobs import system

if TYPE_CHECKING:
    from collections.abc import Callable

# Some of what a module has is private, and no type knows of it.
Module: TypeAlias = Any
Before: TypeAlias = Any


class _Unknown:
    """The value of a part before its module is loaded, where only the module knows it: equal to every value."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # it equals what it cannot have the hash of


UNKNOWN = _Unknown()


class Part(NamedTuple):
    """One part of the state, read as an immutable value.

    Without `put_back` a change cannot be undone. `by_use`: ordinary use of the module changes it too.
    """

    name: str
    module: str
    read: Callable[[Any], object]
    put_back: Callable[[Any, Any], object] | None = None
    unloaded: object = None
    by_use: bool = False


def _setter(*names: str) -> Callable[[Any, Any], None]:
    def put_back(module: Module, before: Before) -> None:
        for name, value in zip(names, before, strict=True):
            setattr(module, name, value)

    return put_back


def _attributes(name: str, module: str, *names: str, unloaded: object = None, by_use: bool = False) -> Part:
    read = attrgetter(*names) if len(names) > 1 else lambda found: (getattr(found, names[0]),)
    return Part(name, module, read, _setter(*names), unloaded, by_use)


# The interpreter


def _interpreter(module: Module) -> tuple[object, ...]:
    return (
        module.getrecursionlimit(),
        module.getswitchinterval(),
        module.get_int_max_str_digits(),
        module.get_coroutine_origin_tracking_depth(),
        module.get_asyncgen_hooks(),
        vars(module).get("tracebacklimit"),
        system.linking(),
    )


def _put_back_interpreter(module: Module, before: tuple[Any, ...]) -> None:
    recursion, interval, digits, depth, hooks, limit, flags = before
    module.setrecursionlimit(recursion)
    module.setswitchinterval(interval)
    module.set_int_max_str_digits(digits)
    module.set_coroutine_origin_tracking_depth(depth)
    module.set_asyncgen_hooks(*hooks)
    if limit is not None:
        module.tracebacklimit = limit
    elif hasattr(module, "tracebacklimit"):
        del module.tracebacklimit
    system.put_back_linking(flags)


def _import_system(module: Module) -> tuple[object, ...]:
    return (
        tuple(module.path),
        tuple(module.meta_path),
        tuple(module.path_hooks),
        module.dont_write_bytecode,
        module.pycache_prefix,
    )


def _put_back_import_system(module: Module, before: tuple[Any, ...]) -> None:
    for name, value in zip(("path", "meta_path", "path_hooks"), before, strict=False):
        if not isinstance(getattr(module, name, None), list):
            setattr(module, name, [])
        getattr(module, name)[:] = value  # the same list: others may hold it
    module.dont_write_bytecode, module.pycache_prefix = before[3:]


def _put_back_arguments(module: Module, before: tuple[str, ...]) -> None:
    module.argv = list(before)


def _tracing(module: Module) -> tuple[object, ...]:
    return module.gettrace(), module.getprofile(), threading.gettrace(), threading.getprofile()


def _put_back_tracing(module: Module, before: tuple[Any, ...]) -> None:
    module.settrace(before[0])
    module.setprofile(before[1])
    threading.settrace(before[2])
    threading.setprofile(before[3])


def _monitoring(module: Module) -> tuple[object, ...]:
    """Return the registered monitoring tools, from Python 3.12 on."""
    tools = module.monitoring
    return (*(tools.get_tool(number) for number in range(6)), module.is_stack_trampoline_active())


def _builtins(module: Module) -> tuple[object, ...]:
    return tuple(vars(module).values())


_names_of_builtins: list[str] = list(vars(builtins))


def _put_back_builtins(module: Module, before: tuple[Any, ...]) -> None:
    names: dict[str, Any] = module.__dict__
    names.update(zip(_names_of_builtins, before, strict=True))
    for name in list(names):
        if name not in _names_of_builtins:
            del names[name]
    if tuple(names) != tuple(_names_of_builtins):  # one that was deleted has come back at the end: the order counts
        ordered = dict(zip(_names_of_builtins, before, strict=True))
        names.clear()
        names.update(ordered)  # nothing can be looked up before it


def _collector(module: Module) -> tuple[object, ...]:
    return (
        module.isenabled(),
        module.get_threshold(),
        module.get_debug(),
        tuple(module.callbacks),
        module.get_freeze_count() > 0,
    )


def _put_back_collector(module: Module, before: tuple[Any, ...]) -> None:
    enabled, thresholds, debug, callbacks, frozen = before
    (module.enable if enabled else module.disable)()
    module.set_threshold(*thresholds)
    module.set_debug(debug)
    module.callbacks[:] = callbacks
    if not frozen:
        module.unfreeze()


def stack_size() -> int:
    """Return the stack size of new threads. Asking resets it to 0, the default, so it is set again."""
    size = threading.stack_size()
    if size:
        threading.stack_size(size)
    return size


def _threads(module: Module) -> tuple[object, ...]:
    return module.excepthook, stack_size(), module.main_thread().name


def _put_back_threads(module: Module, before: tuple[Any, ...]) -> None:
    module.excepthook = before[0]
    module.stack_size(before[1])
    module.main_thread().name = before[2]


def _put_back_tracemalloc(module: Module, before: bool) -> None:  # noqa: FBT001 - called as all of its kind
    (module.start if before else module.stop)()


def _put_back_faults(module: Module, before: bool) -> None:  # noqa: FBT001 - called as all of its kind
    (module.enable if before else module.disable)()


# What modules of the standard library keep for the whole process


def _warnings(module: Module) -> tuple[object, ...]:
    return tuple(module.filters), module.showwarning, module.formatwarning


def _put_back_warnings(module: Module, before: tuple[Any, ...]) -> None:
    module.resetwarnings()  # it also makes the C part look again
    module.filters[:] = before[0]
    module.showwarning, module.formatwarning = before[1:]


_of_logger = attrgetter("level", "propagate", "disabled", "handlers", "filters")
_OF_LOGGING = ("raiseExceptions", "lastResort", "_loggerClass", "_logRecordFactory", "_warnings_showwarning")
_of_logging = attrgetter(*_OF_LOGGING)
FRESH_LOGGER: tuple[Any, ...] = (0, True, False, [], [])


def _loggers(module: Module) -> tuple[tuple[Any, ...], ...]:
    """Return the state of each logger that is not as a fresh one."""
    holder = module.PlaceHolder
    return tuple(
        (found, found.level, found.propagate, found.disabled, tuple(found.handlers), tuple(found.filters))
        for found in list(module.root.manager.loggerDict.values())
        if found.__class__ is not holder and _of_logger(found) != FRESH_LOGGER
    )


def _logging(module: Module) -> tuple[object, ...]:
    root = module.root
    manager, handlers = root.manager, tuple(root.handlers)
    return (
        (root.level, root.disabled, handlers, tuple(root.filters), manager.disable),
        [(handler.level, handler.formatter, tuple(handler.filters)) for handler in handlers],
        _of_logging(module),
        tuple(module._levelToName.items()),  # noqa: SLF001 - as above
        _loggers(module) if manager.loggerDict else (),
    )


def _put_back_logging(module: Module, before: tuple[Any, ...]) -> None:
    (level, disabled, handlers, filters, disable), of_handlers, hooks, levels, loggers = before
    root = module.root
    root.handlers[:], root.filters[:], root.disabled = handlers, filters, disabled
    for handler, (own_level, formatter, own_filters) in zip(handlers, of_handlers, strict=True):
        handler.setLevel(own_level)
        handler.setFormatter(formatter)
        handler.filters[:] = own_filters
    for name, hook in zip(_OF_LOGGING, hooks, strict=True):
        setattr(module, name, hook)
    _put_back_levels(module, levels)
    known = {id(logger): state for logger, *state in loggers}
    for logger in list(root.manager.loggerDict.values()):
        if isinstance(logger, module.Logger):
            level_of_it, logger.propagate, logger.disabled, *lists = known.get(id(logger), FRESH_LOGGER)
            logger.handlers[:], logger.filters[:] = lists
            logger.setLevel(level_of_it)
    root.setLevel(level)
    module.disable(disable)


def _put_back_levels(module: Module, levels: tuple[tuple[int, str], ...]) -> None:
    names, numbers = module._levelToName, module._nameToLevel  # noqa: SLF001 - as above
    for number in set(names) - {number for number, _ in levels}:
        numbers.pop(names.pop(number), None)
    for number, name in levels:
        if names[number] != name:
            numbers.pop(names[number], None)
            module.addLevelName(number, name)


def _time_zone(module: Module) -> tuple[object, ...]:
    return module.timezone, module.altzone, module.daylight, module.tzname


def _put_back_time_zone(_module: Module, _before: Before) -> None:
    system.read_time_zone()  # the environment is put back already


def _put_back_locale(_module: object, before: str) -> None:
    import locale  # noqa: PLC0415 - whoever changed it has paid for the import

    try:
        setlocale(LC_ALL, before)
    except locale.Error as error:
        raise ValueError(f"the system has no locale {before!a}") from error


_OF_DECIMAL = ("prec", "rounding", "Emin", "Emax")
_decimal = attrgetter(*(f"DefaultContext.{name}" for name in _OF_DECIMAL))


def _put_back_decimal(module: Module, before: tuple[Any, ...]) -> None:
    _setter(*_OF_DECIMAL)(module.DefaultContext, before)


def _event_loop(module: Module) -> tuple[object, ...]:
    policy = getattr(module, "_event_loop_policy", None)
    local = getattr(policy, "_local", None)
    return policy, getattr(local, "_loop", None), bool(getattr(local, "_set_called", False))


def _put_back_event_loop(module: Module, before: tuple[Any, ...]) -> None:
    policy, loop, was_set = before
    module._event_loop_policy = policy  # noqa: SLF001 - as above; the public function warns since Python 3.14
    local = getattr(policy, "_local", None)
    if local is not None:
        local._loop, local._set_called = loop, was_set  # noqa: SLF001 - as above


def _start_method(module: Module) -> object:
    return getattr(module._default_context, "_actual_context", None)  # noqa: SLF001 - as above


def _put_back_start_method(module: Module, before: object) -> None:
    module._default_context._actual_context = before  # noqa: SLF001 - as above


def _https(module: Module) -> object:
    maker = module._create_default_https_context  # noqa: SLF001 - as above
    return None if maker is module.create_default_context else maker


def _put_back_https(module: Module, before: object) -> None:
    module._create_default_https_context = before or module.create_default_context  # noqa: SLF001 - as above


def _dialects(module: Module) -> tuple[object, ...]:
    return module.field_size_limit(), tuple(sorted(module.list_dialects()))


def _put_back_dialects(module: Module, before: tuple[Any, ...]) -> None:
    module.field_size_limit(before[0])
    for name in set(module.list_dialects()) - set(before[1]):
        module.unregister_dialect(name)


PARTS: tuple[Part, ...] = (
    Part("import system", "sys", _import_system, _put_back_import_system),
    Part("interpreter", "sys", _interpreter, _put_back_interpreter),
    _attributes("hooks", "sys", "excepthook", "unraisablehook", "displayhook", "breakpointhook"),
    Part("arguments", "sys", lambda module: tuple(module.argv), _put_back_arguments),
    Part("tracing", "sys", _tracing, _put_back_tracing),
    Part("tracemalloc", "tracemalloc", lambda module: module.is_tracing(), _put_back_tracemalloc, unloaded=False),
    Part("faulthandler", "faulthandler", lambda module: module.is_enabled(), _put_back_faults, unloaded=False),
    Part("builtins", "builtins", _builtins, _put_back_builtins),
    Part("garbage collector", "gc", _collector, _put_back_collector),
    Part("threading", "threading", _threads, _put_back_threads),
    Part("warnings", "warnings", _warnings, _put_back_warnings),
    Part("logging", "logging", _logging, _put_back_logging, unloaded=UNKNOWN),
    Part("locale", "_locale", lambda _module: setlocale(LC_ALL), _put_back_locale),
    Part("time zone", "time", _time_zone, _put_back_time_zone),
    Part("decimal", "decimal", _decimal, _put_back_decimal, unloaded=(28, "ROUND_HALF_EVEN", -999999, 999999)),
    Part(
        "socket",
        "_socket",
        lambda module: module.getdefaulttimeout(),
        lambda module, before: module.setdefaulttimeout(before),
    ),
    Part("ssl", "ssl", _https, _put_back_https),
    Part("csv", "csv", _dialects, _put_back_dialects, unloaded=(131072, ("excel", "excel-tab", "unix"))),
    Part(
        "calendar",
        "calendar",
        lambda module: int(module.firstweekday()),
        lambda module, before: module.setfirstweekday(before),
        unloaded=0,
    ),
    Part(
        "gettext",
        "gettext",
        lambda module: module.textdomain(),
        lambda module, before: module.textdomain(before),
        unloaded="messages",
    ),
    Part(
        "zoneinfo",
        "zoneinfo",
        lambda module: module.TZPATH,
        lambda module, before: module.reset_tzpath(to=before),
        unloaded=UNKNOWN,
    ),
    Part("asyncio", "asyncio.events", _event_loop, _put_back_event_loop, unloaded=(None, None, False), by_use=True),
    Part("multiprocessing", "multiprocessing.context", _start_method, _put_back_start_method, by_use=True),
    _attributes("tempfile", "tempfile", "tempdir", "template", unloaded=(None, "tmp"), by_use=True),
    _attributes("urllib", "urllib.request", "_opener", unloaded=(None,), by_use=True),
    Part(
        "scheduling",
        "os",
        lambda _module: system.scheduling(),
        lambda _module, before: system.put_back_scheduling(before),
    ),
    Part("rights", "os", lambda _module: system.rights()),
)
if sys.version_info >= (3, 12):
    PARTS += (Part("monitoring", "sys", _monitoring),)
_QUICK = tuple((part.module, part.read, part.unloaded) for part in PARTS)


def state() -> list[object]:
    """Return the state as it is now, part by part."""
    loaded = sys.modules
    return [read(loaded[module]) if module in loaded else unloaded for module, read, unloaded in _QUICK]


# Python 3.12 begins with some objects frozen: whether a job freezes any could not be told.
gc.unfreeze()


def remembered() -> list[object]:
    """Return the state as it is now, to be put back later."""
    _names_of_builtins[:] = vars(builtins)
    return state()


def differing(before: list[object], after: list[object]) -> list[Part]:
    """Return the parts in which the two states differ."""
    return [part for part, old, new in zip(PARTS, before, after, strict=True) if not (old is new or old == new)]


def put_back(before: list[object], parts: list[Part]) -> list[Part]:
    """Put these parts back to what they were; return those that still differ."""
    values = dict(zip((part.name for part in PARTS), before, strict=True))
    lasting = []
    for part in parts:
        module, value = sys.modules.get(part.module), values[part.name]
        if part.put_back is None or module is None:
            lasting.append(part)
            continue
        try:
            part.put_back(module, value)
            if value != part.read(module):
                lasting.append(part)
        except Exception:  # noqa: BLE001 - a job may have put anything there
            lasting.append(part)
    return lasting
