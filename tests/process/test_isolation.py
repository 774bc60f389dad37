"""No job reaches into the next one of its process: not by its output, not by what it changes, not by its module."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bgjobs import Queue
from bgjobs.job import State, Succeeded
from bgjobs.worker import foreground
from tests.process.conftest import LIMIT, Project, posix_only, request, wait_until
from tests.sweeping import part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.job import Job

PAGE = Path(__file__).parents[2] / "docs" / "isolation.md"
LINUX = sys.platform == "linux"


def ended(project: Project, class_name: str, method: str, *args: object, **options: Any) -> Job:
    return project.queue.wait_until_ended(project.queue.submit(class_name, method, args, **options).id, LIMIT)


def do(project: Project, code: str) -> int:
    """Run the code in a job, which must be done; return the number of its process."""
    job = ended(project, "Tinker", "do", code)
    assert job.state is State.DONE, job.error
    found = job.result
    assert isinstance(found, int)
    return found


def told(project: Project, expression: str) -> str:
    return str(project.queue.wait(project.queue.submit("Tinker", "tell", [expression]).id, LIMIT).result)


# ------------------------------------------------------------------------------------------------------- descriptors

SPOILED = {
    "descriptor 1 closed by its own file object": "import sys\nwith open(sys.stdout.fileno(), 'wb') as file: pass",
    "descriptor 0 closed": "import os; os.close(0)",
    "descriptor 1 closed": "import os; os.close(1)",
    "descriptor 2 closed": "import os; os.close(2)",
    "all three closed": "import os; os.closerange(0, 3)",
    "a file in the place of descriptor 1": "import os, sys; os.close(1); sys.kept = open('kept', 'w')",
    "a file led to descriptor 1": "import os, sys; sys.kept = open('kept', 'w'); os.dup2(sys.kept.fileno(), 1)",
    "a file led to descriptor 2": "import os, sys; sys.kept = open('kept', 'w'); os.dup2(sys.kept.fileno(), 2)",
    "sys.stdout closed": "import sys; sys.stdout.close()",
    "sys.stdout taken apart": "import sys; sys.kept = sys.stdout.detach()",
    "its buffer taken apart": "import sys; sys.kept = sys.stdout.buffer.detach()",
    "its buffer closed": "import sys; sys.stdout.buffer.close()",
    "sys.stdout replaced": "import io, sys; sys.stdout = io.StringIO()",
    "sys.stdout removed": "import sys; sys.stdout = None",
    "sys.stdout deleted": "import sys; del sys.stdout",
    "sys.__stdout__ closed": "import sys; sys.__stdout__.close()",
    "sys.stderr closed": "import sys; sys.stderr.close()",
    "sys.stdin closed": "import sys; sys.stdin.close()",
    "another encoding": "import sys; sys.stdout.reconfigure(encoding='latin-1', errors='strict')",
    "no line buffering": "import sys; sys.stdout.reconfigure(line_buffering=False, newline='\\r\\n')",
    "not inherited": "import os; os.set_inheritable(1, False)",
    "its file cut out of sight": "import os; os.ftruncate(1, 0)",
}


@pytest.mark.parametrize("code", SPOILED.values(), ids=list(SPOILED))
def test_what_one_job_does_to_its_streams_does_not_lead_the_output_of_the_next_one_into_its_data(
    shared: Project, tmp_path: Path, code: str
) -> None:
    data = tmp_path / "orders.csv"
    assert ended(shared, "Tinker", "do", code).state is State.DONE
    write = f"""
import os, subprocess, sys
file = open({str(data)!r}, "w", encoding="utf-8")
print("progress \u2713")
os.write(1, b"raw\\n")
print("trouble", file=sys.stderr)
subprocess.run([sys.executable, "-c", "print('child')"], check=True)
file.write("order\\n")
file.close()
assert sys.stdin.read() == ""
"""
    job = ended(shared, "Tinker", "do", write)
    assert job.state is State.DONE, job.error
    assert data.read_text("utf-8") == "order\n"
    assert shared.output(job).decode("utf-8").split("\n") == ["progress \u2713", "raw", "trouble", "child", ""]


def test_what_a_job_prints_after_it_has_closed_descriptor_1_is_in_its_output(shared: Project) -> None:
    job = ended(shared, "Tinker", "do", "import os; os.close(1); print('still here', flush=True)")
    assert job.state is State.DONE
    assert shared.output(job) == b"still here\n"


def test_what_a_job_holds_back_is_its_own_output_whatever_stands_in_the_place_of_descriptor_1(
    shared: Project, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    code = f"import os, sys; sys.stdout.write('unfinished'); os.close(1); sys.kept = open({str(data)!r}, 'wb', 0)"
    job = ended(shared, "Tinker", "do", code)
    assert shared.output(job) == b"unfinished"
    assert data.read_bytes() == b""


@posix_only
def test_what_c_code_prints_is_in_the_output_of_its_own_job(shared: Project) -> None:
    job = ended(shared, "Tinker", "do", "import ctypes; ctypes.CDLL(None).printf(b'from C')")
    assert shared.output(job) == b"from C"


@posix_only
@pytest.mark.parametrize("where", ["runner.lock", "runner.out", "r0.lock", "/dev/null", "pipe"])
def test_a_process_that_has_lost_a_descriptor_of_its_own_runs_no_other_job(shared: Project, where: str) -> None:
    code = f"""
import os
for number in os.listdir("/dev/fd"):
    try:
        if int(number) > 2 and {where!r} in os.readlink(f"/dev/fd/{{number}}"):
            os.close(int(number))
    except OSError:
        pass
"""
    job = ended(shared, "Tinker", "do", code)
    assert job.state is (State.FAILED if where == "pipe" else State.DONE)
    if where == "pipe":
        return
    assert do(shared, "pass") != job.result or where.startswith("runner")


# ------------------------------------------------------------------------------------------------------------- state

# For each row of the page: what a method does, and how one sees it.
UNDONE: dict[str, tuple[str, str]] = {
    "environment variables": (
        "import os; os.environ['LEFT'] = 'yes'; os.environ.pop('PATH'); os.environ = {**os.environ, 'LEFT': 'too'}",
        (
            "import os\n(os.environ.__class__.__name__,"
            " sorted((k, v) for k, v in os.environ.items() if not k.startswith('BGJOBS_')))"
        ),
    ),
    "working directory": ("import os; os.chdir('/')", "import os\nos.getcwd()"),
    "umask": ("import os; os.umask(0)", "import os\n(os.umask(0o77), os.umask(0o77))[1:] and os.umask(0o77)"),
    "`sys.path`, `sys.meta_path`, `sys.path_hooks`, `sys.dont_write_bytecode`, `sys.pycache_prefix`": (
        (
            "import sys; sys.path.insert(0, '/nowhere'); sys.meta_path.pop(); sys.path_hooks.clear();"
            "sys.dont_write_bytecode = True; sys.pycache_prefix = '/nowhere'"
        ),
        "import sys\n(sys.path, len(sys.meta_path), len(sys.path_hooks), sys.dont_write_bytecode, sys.pycache_prefix)",
    ),
    "`sys.argv`": ("import sys; sys.argv.append('x')", "import sys\nsys.argv"),
    "builtins": (
        "import builtins; builtins._ = str; builtins.print = None; del builtins.sum",
        "import builtins\n(hasattr(builtins, '_'), print, sum, len(vars(builtins)))",
    ),
    "`sys.excepthook`, `sys.unraisablehook`, `sys.displayhook`, `sys.breakpointhook`, `threading.excepthook`": (
        (
            "import sys, threading; sys.excepthook = sys.unraisablehook = sys.displayhook = sys.breakpointhook = print;"
            "threading.excepthook = print"
        ),
        (
            "import sys, threading\n"
            "[h.__name__ for h in (sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook,"
            " threading.excepthook)]"
        ),
    ),
    "recursion limit, switch interval, digits of an integer, `sys.tracebacklimit`, flags of `dlopen`": (
        (
            "import sys; sys.setrecursionlimit(5000); sys.setswitchinterval(1); sys.set_int_max_str_digits(0);"
            "sys.tracebacklimit = 0"
        ),
        (
            "import sys\n(sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits(),"
            " hasattr(sys, 'tracebacklimit'))"
        ),
    ),
    "hooks of coroutines and asynchronous generators": (
        "import sys; sys.set_asyncgen_hooks(firstiter=print); sys.set_coroutine_origin_tracking_depth(5)",
        "import sys\n(sys.get_asyncgen_hooks().firstiter, sys.get_coroutine_origin_tracking_depth())",
    ),
    "`sys.settrace`, `sys.setprofile`, `threading.settrace`, `threading.setprofile`": (
        (
            "import sys, threading; hook = lambda *_: None; threading.settrace(hook); threading.setprofile(hook);"
            "sys.setprofile(hook)"
        ),
        "import sys, threading\n(sys.getprofile(), threading.gettrace(), threading.getprofile())",
    ),
    "`sys.monitoring`, the perf trampoline": (
        "import sys; m = getattr(sys, 'monitoring', None); m and m.use_tool_id(4, 'tinker')",
        "import sys\nm = getattr(sys, 'monitoring', None)\nm and m.get_tool(4)",
    ),
    "`tracemalloc`": ("import tracemalloc; tracemalloc.start()", "import tracemalloc\ntracemalloc.is_tracing()"),
    "`faulthandler`": (
        "import faulthandler as f; f.enable(open('fault', 'w')); f.dump_traceback_later(.3, exit=True)",
        "import faulthandler as f, time\n(f.is_enabled(), time.sleep(.5))",
    ),
    "garbage collector": (
        "import gc; gc.disable(); gc.set_threshold(1, 2, 3); gc.callbacks.append(print); gc.freeze()",
        "import gc\n(gc.isenabled(), gc.get_threshold(), len(gc.callbacks), gc.get_freeze_count(), gc.get_debug())",
    ),
    "name of the main thread, stack size of new ones": (
        "import threading; threading.stack_size(65536); threading.current_thread().name = 'x'",
        "import threading\n(threading.stack_size(), threading.current_thread().name)",
    ),
    "context variables": (
        "import contextvars, sys; sys.var = contextvars.ContextVar('v', default=0); sys.var.set(1)",
        "import contextvars, sys\n[v.name for v in contextvars.copy_context() if v.name == 'v']",
    ),
    "`decimal`": (
        "import decimal; decimal.getcontext().prec = 3; decimal.DefaultContext.prec = 4",
        "import decimal\n(decimal.getcontext().prec, decimal.DefaultContext.prec, decimal.Context().prec)",
    ),
    "`warnings`": (
        "import warnings; warnings.simplefilter('error'); warnings.showwarning = print",
        "import warnings\n(warnings.filters, warnings.showwarning.__name__)",
    ),
    "`logging`": (
        (
            "import logging; logging.getLogger().setLevel(50); logging.disable(60); logging.raiseExceptions = False;"
            "logging.captureWarnings(True); logging.addLevelName(10, 'LOW'); logging.addLevelName(11, 'LOWER');"
            "l = logging.getLogger('tinker.sub'); l.setLevel(10); l.propagate = False; l.disabled = True;"
            "l.addHandler(logging.NullHandler()); l.addFilter(lambda r: True);"
            "logging.getLogger('tinker').setLevel(10);"
            "logging.getLogger().handlers[0].setLevel(60); logging.getLogger().handlers.clear()"
        ),
        (
            "import logging\nr, l, t = map(logging.getLogger, (None, 'tinker.sub', 'tinker'))\n"
            "(r.level, len(r.handlers), r.handlers[0].level, r.manager.disable, logging.raiseExceptions, t.level,"
            " l.level, l.propagate, l.disabled, l.handlers, l.filters, [logging.getLevelName(n) for n in (10, 11)])"
        ),
    ),
    "locale": (
        "import locale; locale.setlocale(locale.LC_ALL, 'C')",
        "import locale\nlocale.setlocale(locale.LC_ALL)",
    ),
    "time zone": (
        "import os, time; os.environ['TZ'] = 'XXX-5YYY'; time.tzset(); os.environ.pop('TZ')",
        "import time\n(time.tzname, time.timezone, time.localtime(0).tm_hour)",
    ),
    "`socket`": ("import socket; socket.setdefaulttimeout(.1)", "import socket\nsocket.getdefaulttimeout()"),
    "`ssl`": (
        "import ssl; ssl._create_default_https_context = ssl._create_unverified_context",
        "import ssl\nssl._create_default_https_context is ssl.create_default_context",
    ),
    "`csv`": (
        "import csv; csv.field_size_limit(7); csv.register_dialect('odd', delimiter='|')",
        "import csv\n(csv.field_size_limit(), sorted(csv.list_dialects()))",
    ),
    "`calendar`": ("import calendar; calendar.setfirstweekday(6)", "import calendar\ncalendar.firstweekday()"),
    "`gettext`": ("import gettext; gettext.textdomain('odd')", "import gettext\ngettext.textdomain()"),
    "`zoneinfo`": (
        "import zoneinfo; zoneinfo.reset_tzpath(to=())",
        "import zoneinfo\nlen(zoneinfo.TZPATH) > 0",
    ),
    "`asyncio`": (
        "import asyncio; asyncio.set_event_loop(asyncio.new_event_loop()); asyncio.get_event_loop().close()",
        "import asyncio.events\n(getattr(asyncio.events, '_event_loop_policy', None))",
    ),
    "`multiprocessing`": (
        "import multiprocessing; multiprocessing.set_start_method('spawn')",
        "import multiprocessing\nmultiprocessing.get_start_method(allow_none=True)",
    ),
    "`tempfile`": ("import tempfile; tempfile.tempdir = '/nowhere'", "import tempfile\ntempfile.gettempdir()"),
    "`urllib`": (
        "import urllib.request as r; r.install_opener(r.OpenerDirector())",
        "import urllib.request\nurllib.request._opener",
    ),
    "random numbers": (
        "import random; random.seed(7)",
        "import random\nrandom.random() in {random.Random(7).random(), 0.32383276483316237}",
    ),
    "signal handlers": (
        "import signal; [signal.signal(n, signal.SIG_IGN) for n in signal.valid_signals() - {9, 19, 17}]",
        (
            "import signal\n[signal.getsignal(n) for n in sorted(signal.valid_signals() - {9, 19})"
            " if not callable(signal.getsignal(n))]"
        ),
    ),
    "blocked signals": (
        (
            "import signal, os; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]);"
            "signal.raise_signal(signal.SIGUSR1)"
        ),
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [])",
    ),
    "the descriptor that signals write to": (
        "import os, signal, sys; sys.r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w)",
        "import signal\nsignal.set_wakeup_fd(-1)",
    ),
    "alarms and interval timers": (
        "import signal; [signal.setitimer(n, .1) for n in (0, 1, 2)]",
        "import signal, time\n([signal.getitimer(n) for n in (0, 1, 2)], time.sleep(.2))",
    ),
    "priority, processors, scheduler": (
        (
            "import os; os.nice(1); os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
            "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"
        ),
        "import os\n(os.getpriority(0, 0), os.sched_getaffinity(0), os.sched_getscheduler(0))",
    ),
    "users and groups": ("import os; os.geteuid() or os.setegid(1)", "import os\n(os.getegid(), os.geteuid())"),
    "limits": (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (50, r.getrlimit(r.RLIMIT_NOFILE)[1]))",
        "import resource\nresource.getrlimit(resource.RLIMIT_NOFILE)",
    ),
    "standard streams": (
        "import os, sys; os.closerange(0, 3); sys.stdout = sys.stderr = sys.stdin = None",
        "import os, sys\n(os.fstat(0).st_rdev, os.fstat(1).st_dev == os.fstat(2).st_dev, sys.stdout.fileno())",
    ),
    "threads": (
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "import threading\nthreading.active_count()",
    ),
    "processes": (
        "import subprocess, sys; sys.p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
        "import sys\nhasattr(sys, 'p')",
    ),
}
ON_LINUX = {"time zone", "signal handlers", "blocked signals", "the descriptor that signals write to",
            "alarms and interval timers", "priority, processors, scheduler", "users and groups", "limits",
            "standard streams"}  # fmt: skip


@pytest.mark.parametrize("what", UNDONE)
def test_what_a_method_changes_is_undone_before_the_next_job(shared: Project, what: str) -> None:
    if what in ON_LINUX and not LINUX:
        pytest.skip("what this changes is on Linux alone, or differs elsewhere")
    code, expression = UNDONE[what]
    before = told(shared, expression)
    do(shared, code)
    assert told(shared, expression) == before
    do(shared, f"{code}")  # where it is loaded by now, and where it was changed once already
    assert told(shared, expression) == before


def rows(heading: str) -> set[str]:
    section = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")]
    return {cell for cell in cells if cell != "what"}


def test_the_page_names_all_that_is_undone_and_nothing_else() -> None:
    assert rows("What is undone") == set(UNDONE)


def test_the_page_says_what_is_not_undone() -> None:
    assert len(rows("What is not undone")) > 5


# ------------------------------------------------------------------------------------------------------------ modules

MODULES = {
    "sets_up": """
import contextvars, decimal, logging, os, socket, sys, warnings
os.environ.setdefault("API_KEY", "secret")
os.environ.pop("COLOUR", None)
sys.path.insert(0, "/from/module")
socket.setdefaulttimeout(12)
decimal.getcontext().prec = 9
tenant = contextvars.ContextVar("tenant")
tenant.set("acme")
logging.getLogger("urllib3").setLevel(logging.ERROR)
warnings.simplefilter("ignore", ResourceWarning)
def look():
    return [os.environ["API_KEY"], "COLOUR" in os.environ, sys.path[0], socket.getdefaulttimeout(),
            decimal.getcontext().prec, tenant.get(), logging.getLogger("urllib3").level,
            warnings.filters[0][0], os.environ["BGJOBS_METHOD"], os.getpid()]
def spoil():
    os.environ["API_KEY"] = "other"
    sys.path.remove("/from/module")
    socket.setdefaulttimeout(1)
    decimal.getcontext().prec = 2
    tenant.set("evil")
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    warnings.resetwarnings()
""",
    "second": """
import os
os.environ["SECOND"] = "yes"
def look():
    return [os.environ["SECOND"], os.environ.get("API_KEY")]
""",
    "lazy": """
import os
def look():
    import lazily
    return lazily.key()
""",
    "lazily": """
import contextvars, os
var = contextvars.ContextVar("lazy")
var.set("here")
os.environ.setdefault("LAZY_KEY", "set")
def key():
    return [os.environ["LAZY_KEY"], var.get()]
""",
    "torn": """
import registry
registry.register("metric")
raise RuntimeError("no database")
def look(): ...
""",
    "stopped": """
import registry, time
registry.register("metric")
time.sleep(60)
def look(): ...
""",
    "quits": """
import registry, sys
registry.register("metric")
sys.exit(3)
def look(): ...
""",
    "lazily_torn": """
def look():
    import registry
    import torn
""",
    "registry": """
names = set()
def register(name):
    if name in names:
        raise ValueError("duplicated " + name)
    names.add(name)
def look():
    return sorted(names)
""",
    "reconfigured": """
import sys
sys.stdout.reconfigure(encoding="latin-1", line_buffering=False, newline="\\r\\n")
def look():
    print("\xe9")
    return [sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering]
def spoil():
    sys.stdin.close()
    sys.stdout.reconfigure(encoding="ascii", errors="ignore", line_buffering=True, newline="\\n")
""",
    "heartbeat": """
import os, threading
def beat():
    global timer
    timer = threading.Timer(0.01, beat)
    timer.daemon = True
    timer.start()
beat()
def look():
    beginning, changes = timer, 0
    while changes < 3:
        changes, beginning = changes + (timer is not beginning), timer
    return os.getpid()
def leave():
    last = threading.Timer(600, beat)
    last.daemon = True
    last.start()
    return look()
""",
    "threaded": """
import os, threading
stop = threading.Event()
threading.Thread(target=stop.wait, daemon=True).start()
def look():
    return os.getpid()
""",
}
ALLOWED = """
[bgjobs]
durability  = "os"
retries     = 0
retry_delay = "0"
timeout     = "60s"
kill_after  = "5s"
pass_env    = ["COLOUR"]
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with these modules, and a worker with one runner."""
    made = Project(tmp_path_factory.mktemp("modules") / "project")
    text = ALLOWED
    for name, code in MODULES.items():
        (made.root / f"{name}.py").write_text(code, "utf-8")
        methods = [line[4:].partition("(")[0] for line in code.splitlines() if line.startswith("def ")]
        if methods != ["key"]:
            methods = [method for method in methods if method != "register"]
            text += f'\n[jobs.{name}]\nclass = "{name}"\nmethods = {json.dumps(methods)}\n'
    made.rewrite("allowed_jobs.toml", text)
    made.queue = Queue.open(config=str(made.config))
    made.start(environ={"COLOUR": "green"}).ready()
    yield made
    made.close()


def test_what_a_module_sets_up_stays_and_what_a_method_changes_of_that_is_undone(modules: Project) -> None:
    first = ended(modules, "sets_up", "look").result
    assert isinstance(first, list)
    assert first[:9] == ["secret", False, "/from/module", 12.0, 9, "acme", 40, "ignore", "look"]
    assert ended(modules, "sets_up", "look").result == first
    assert ended(modules, "sets_up", "spoil").state is State.DONE
    assert ended(modules, "sets_up", "look").result == first


def test_what_a_module_sets_up_that_comes_later_stays_too(modules: Project) -> None:
    assert ended(modules, "sets_up", "look").state is State.DONE
    for _ in range(3):
        assert ended(modules, "second", "look").result == ["yes", "secret"]
    assert ended(modules, "sets_up", "spoil").state is State.DONE
    assert ended(modules, "second", "look").result == ["yes", "secret"]


def test_how_a_module_sets_up_a_stream_stays_and_what_a_method_changes_of_that_is_undone(modules: Project) -> None:
    for method in ("look", "spoil", "look"):
        job = ended(modules, "reconfigured", method)
        if method == "look":
            assert job.result == ["latin-1", "strict", False]
            assert modules.output(job) == b"\xe9\r\n"
    worker = modules.root.glob("worker-*.err")
    assert not any("reconfigured" in path.read_text("utf-8") for path in worker)


def test_what_a_module_sets_up_that_a_method_imports_is_there_for_every_job(modules: Project) -> None:
    for _ in range(3):
        job = ended(modules, "lazy", "look")
        assert job.state is State.DONE, job.error
        assert job.result == ["set", "here"]


@pytest.mark.parametrize("name", ["torn", "quits", "lazily_torn"])
def test_each_attempt_at_a_module_that_fails_shows_the_cause_and_spoils_nothing(modules: Project, name: str) -> None:
    job = ended(modules, name, "look", retries=3)
    assert job.state is State.FAILED
    errors = [attempt.error.message for attempt in job.attempts if attempt.error]
    assert len(errors) == 4
    assert not any("duplicated" in error for error in errors)
    said = "".join(path.read_text("utf-8") for path in modules.root.glob("worker-*.err"))
    assert "for each of its jobs: its module was not imported to the end" in said
    assert "bgjobs-listener" not in said
    assert ended(modules, "registry", "look").result == []


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_an_import_that_is_interrupted_leaves_no_process_behind(modules: Project, how: str) -> None:
    job = modules.queue.submit("stopped", "look", timeout=0.3 if how == "timeout" else 60)
    if how == "cancel":
        wait_until(lambda: modules.state(job) is State.RUNNING)
        modules.queue.cancel(job.id)
    assert modules.queue.wait_until_ended(job.id, LIMIT).state in {State.FAILED, State.CANCELLED}
    assert ended(modules, "registry", "look").result == []


@pytest.mark.parametrize("name", ["threaded", "heartbeat"])
def test_a_thread_that_a_module_starts_costs_no_process(modules: Project, name: str) -> None:
    assert len({ended(modules, name, "look").result for _ in range(4)}) == 1


def test_what_a_method_leaves_running_is_told_from_the_next_thread_of_a_module(modules: Project) -> None:
    first = ended(modules, "heartbeat", "look").result
    assert ended(modules, "heartbeat", "leave").result == first
    assert ended(modules, "heartbeat", "look").result != first


# ----------------------------------------------------------------------------------------------------------- leaving

AT_EXIT = "import atexit, pathlib; atexit.register(lambda: pathlib.Path({0!r}).open('a').write('flushed\\n'))"
FLUSHES = {
    "atexit": AT_EXIT,
    "a thread that is waited for": (
        "import pathlib, threading, time\n"
        "def later():\n"
        "    threading.main_thread().join()\n"
        "    pathlib.Path({0!r}).open('a').write('flushed\\n')\n"
        "threading.Thread(target=later).start()"
    ),
    "a daemon thread and atexit": (
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n" + AT_EXIT
    ),
    "an open file": "import sys; sys.kept = open({0!r}, 'a'); sys.kept.write('flushed\\n')",
    "weakref.finalize": (
        "import pathlib, sys, weakref\n"
        "class A: pass\n"
        "sys.kept = A(); weakref.finalize(sys.kept, lambda: pathlib.Path({0!r}).open('a').write('flushed\\n'))"
    ),
}


@pytest.mark.parametrize("how", part(FLUSHES))
@pytest.mark.parametrize("end", ["stop", "recycle", "failure"])
def test_what_is_to_run_at_exit_runs_when_a_process_is_retired(
    project: Project, tmp_path: Path, how: str, end: str
) -> None:
    notes = tmp_path / "notes"
    code = FLUSHES[how].format(str(notes)) + ("\nraise ValueError('no luck')" if end == "failure" else "")
    worker = project.start(recycle=1 if end == "recycle" else 100)
    job = ended(project, "Tinker", "do", code)
    assert job.state is (State.FAILED if end == "failure" else State.DONE)
    if end == "recycle":
        wait_until(lambda: notes.exists() and notes.read_text("utf-8"))
    else:
        assert worker.stop() == 0
    assert notes.read_text("utf-8") == "flushed\n"


def test_what_does_not_leave_is_ended_by_force_and_said(project: Project) -> None:
    worker = project.start()
    job = ended(
        project, "Tinker", "do", "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()"
    )
    assert job.state is State.DONE
    assert b"[ended by force: threads or processes of it still ran 5 s after the method had ended]" in project.output(
        job
    )
    assert f"Tinker.do {job.id}: ended by force" in worker.says()
    assert "Tinker.do costs a process for each of its jobs: the thread " in worker.says()


def test_an_exit_that_takes_for_ever_holds_up_neither_the_next_job_nor_the_end_of_the_worker(project: Project) -> None:
    worker = project.start(recycle=1)
    first = do(project, "import atexit, time; atexit.register(time.sleep, 600)")
    assert do(project, "pass") != first
    assert worker.stop() == 0
    assert "by force" in worker.says()


def test_what_a_module_starts_is_not_said_to_cost_anything(modules: Project) -> None:
    assert ended(modules, "threaded", "look").state is State.DONE
    assert not any("threaded.look costs" in path.read_text("utf-8") for path in modules.root.glob("worker-*.err"))


def test_nothing_runs_at_exit_in_a_process_that_was_killed(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    project.start()
    code = AT_EXIT.format(str(notes)) + "\nimport os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert ended(project, "Tinker", "do", code).state is State.FAILED
    assert do(project, "pass")
    assert not notes.exists()


def test_what_is_to_run_at_exit_runs_in_the_foreground_too(project: Project, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    job = project.queue.prepare(request("Tinker", "do", AT_EXIT.format(str(notes))))
    assert isinstance(foreground.run(project.queue, job), Succeeded)
    assert notes.read_text("utf-8") == "flushed\n"


# ------------------------------------------------------------------------------------------------ modules of bgjobs


def test_a_runner_loads_nothing_of_the_spool_or_the_queue(project: Project) -> None:
    loaded = "[name for name in sys.modules if name.startswith('bgjobs.')]"
    job = project.put("Tinker", "tell", f"(sys := __import__('sys')) and {loaded}")
    project.drain()
    names = project.queue.wait(job.id, LIMIT).result
    assert isinstance(names, str)
    assert "bgjobs.worker.child.process_state" in names
    assert not [name for name in ("spool", "queue", "requests", "cli") if f"'bgjobs.{name}" in names]
