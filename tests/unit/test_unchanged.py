"""After each job the fast look at a runner's state sees whatever the thorough one, part by part, would see."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bgjobs.worker.child.interpreter import PARTS
from bgjobs.worker.child.unchanged import COVERED

# What a job may do to each part. The loggers `lib` and `lib2` are but the beginning of a name when it begins.
CHANGES: dict[str, list[str]] = {
    "import system": [
        "sys.path.insert(0, '/nowhere')",
        "sys.path = [*sys.path, '/nowhere']",
        "sys.meta_path.append(None)",
        "sys.path_hooks.append(None)",
        "sys.dont_write_bytecode = not sys.dont_write_bytecode",
        "sys.pycache_prefix = '/nowhere'",
    ],
    "interpreter": [
        "sys.setrecursionlimit(5000)",
        "sys.setswitchinterval(1)",
        "sys.set_int_max_str_digits(0)",
        "sys.set_coroutine_origin_tracking_depth(4)",
        "sys.set_asyncgen_hooks(firstiter=print)",
        "sys.tracebacklimit = 0",
        *(["sys.setdlopenflags(sys.getdlopenflags() ^ os.RTLD_GLOBAL)"] if hasattr(sys, "setdlopenflags") else []),
    ],
    "hooks": [f"sys.{name} = print" for name in ("excepthook", "unraisablehook", "displayhook", "breakpointhook")],
    "arguments": ["sys.argv.append('x')", "sys.argv = ['x']"],
    "tracing": [
        "sys.settrace(lambda *_: None)",
        "sys.setprofile(lambda *_: None)",
        "threading.settrace(lambda *_: None)",
        "threading.setprofile(lambda *_: None)",
    ],
    "tracemalloc": ["tracemalloc.start()"],
    "faulthandler": ["faulthandler.enable(sys.__stderr__)"],
    "builtins": ["builtins._ = str", "builtins.print = None", "del builtins.sum"],
    "garbage collector": [
        "gc.disable()",
        "gc.set_threshold(1, 2, 3)",
        "gc.set_debug(gc.DEBUG_UNCOLLECTABLE)",
        "gc.callbacks.append(print)",
        "gc.freeze()",
    ],
    "threading": [
        "threading.excepthook = print",
        "threading.stack_size(1 << 18)",
        "threading.stack_size(1 << 19)",
        "threading.current_thread().name = 'x'",
    ],
    "warnings": [
        "warnings.simplefilter('error')",
        "warnings.filters = []",
        "warnings.showwarning = print",
        "warnings.formatwarning = print",
    ],
    "logging": [
        "logging.getLogger().setLevel(50)",
        "logging.root.disabled = True",
        "logging.root.addFilter(print)",
        "logging.root.addHandler(logging.NullHandler())",
        "logging.root.handlers[0].setLevel(60)",
        "logging.root.handlers[0].setFormatter(logging.Formatter())",
        "logging.root.handlers[0].addFilter(print)",
        "logging.disable(60)",
        "logging.raiseExceptions = False",
        "logging.lastResort = None",
        "logging.captureWarnings(True)",
        "logging.addLevelName(11, 'LOWER')",
        "logging.setLoggerClass(type('Own', (logging.Logger,), {}))",
        "logging.setLogRecordFactory(dict)",
        "logging.getLogger('new').setLevel(10)",
        "logging.getLogger('known').setLevel(10)",
        "logging.getLogger('known').addHandler(logging.NullHandler())",
        "logging.getLogger('lib').setLevel(10)",
        "logging.getLogger('lib2').addFilter(print)",
        "del logging.root.manager.loggerDict['known']; logging.getLogger('other').setLevel(10)",
        "logging.root.manager.loggerDict = {'x': logging.Logger('x', 10)}",
    ],
    "time zone": ["time.tzname = ('X', 'Y')"],
    "decimal": ["decimal.DefaultContext.prec = 4"],
    "socket": ["socket.setdefaulttimeout(1)"],
    "ssl": ["ssl._create_default_https_context = ssl._create_unverified_context"],
    "csv": ["csv.field_size_limit(7)", "csv.register_dialect('odd', delimiter='|')"],
    "calendar": ["calendar.setfirstweekday(6)"],
    "gettext": ["gettext.textdomain('odd')"],
    "zoneinfo": ["zoneinfo.reset_tzpath(to=[os.getcwd()])"],
    "asyncio": ["asyncio.set_event_loop(asyncio.new_event_loop())"],
    "multiprocessing": ["multiprocessing.set_start_method('spawn', force=True)"],
    "tempfile": ["tempfile.tempdir = '/nowhere'"],
    "urllib": ["urllib.request.install_opener(urllib.request.OpenerDirector())"],
}
if sys.platform == "linux":
    CHANGES["locale"] = ["import _locale; _locale.setlocale(_locale.LC_ALL, 'C')"]
if sys.platform != "win32":
    CHANGES["time zone"] += ["os.environ['TZ'] = 'XXX-5YYY'; time.tzset()"]
    CHANGES["scheduling"] = ["os.nice(1)"]
if sys.platform == "linux":
    CHANGES["scheduling"] += ["os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"]
if sys.version_info >= (3, 12):
    CHANGES["monitoring"] = ["sys.monitoring.use_tool_id(4, 'x')"]

# In a process of its own, for not all can be undone. It prints what only one of the two looks has seen.
LOOK = """
import asyncio, builtins, calendar, csv, decimal, faulthandler, gc, gettext, json, logging, multiprocessing, os, socket
import ssl, sys, tempfile, threading, time, tracemalloc, urllib.request, warnings, zoneinfo
from bgjobs.worker.child import interpreter
from bgjobs.worker.child.unchanged import Unchanged
logging.basicConfig()
logging.getLogger("known"), logging.getLogger("lib.sub"), logging.getLogger("lib2.sub")
warnings.simplefilter("ignore")
import _locale
if sys.platform == "linux":
    _locale.setlocale(_locale.LC_ALL, "C.UTF-8")
missed = []
for part, changes in json.loads(sys.argv[1]).items():
    for change in changes:
        before, unchanged = interpreter.remembered(), Unchanged()
        if not unchanged.holds():
            missed.append((part, change, "seen before it was made"))
        exec(change)
        holds = unchanged.holds()
        differing = interpreter.differing(before, interpreter.state())
        if holds or part not in [one.name for one in differing]:
            missed.append((part, change, "missed by the " + ("fast look" if holds else "thorough one")))
        interpreter.put_back(before, differing)
        os.environ.pop("TZ", None)
print(json.dumps(missed))
"""


def look(code: str, *arguments: str) -> object:
    command = [sys.executable, "-c", code, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def test_both_looks_see_each_change() -> None:
    assert look(LOOK, json.dumps(CHANGES)) == []


def test_each_part_is_changed_here() -> None:
    names = {part.name for part in PARTS}
    cannot_be = {"rights", "locale", "scheduling"}  # on some systems, or for some users
    assert names - cannot_be <= CHANGES.keys() <= names
    assert names >= COVERED - {"monitoring"}


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_looking_at_the_stack_size_does_not_change_it(size: int) -> None:
    code = f"""
import threading
from bgjobs.worker.child import interpreter
from bgjobs.worker.child.unchanged import Unchanged
threading.stack_size({size})
interpreter.remembered()
Unchanged().holds()
print(threading.stack_size())
"""
    assert look(code) == size


def test_a_module_that_takes_the_place_of_another_is_seen() -> None:
    code = """
import csv, sys
from bgjobs.worker.child.unchanged import Unchanged
unchanged = Unchanged()
del sys.modules["csv"]
import colorsys
print(int(unchanged.holds()))
"""
    assert look(code) == 0
