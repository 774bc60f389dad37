"""The inside of a runner: take a job, find its callable, call it, say how that ended. The only place with user code."""

from __future__ import annotations

import atexit
import errno
import os
import sys
import time
from collections import deque
from collections.abc import Coroutine
from importlib import import_module
from threading import Condition, RLock, Thread
from typing import TYPE_CHECKING

from bgjobs import __version__, clock, system
from bgjobs.arguments import convert
from bgjobs.current import CurrentJob, JobCancelled, JobTimeout, set_current
from bgjobs.errors import BadArgumentsError, NoSuchTargetError, SpoolError, why
from bgjobs.job import JobError, Progress, Raised, Refused, Succeeded
from bgjobs.resolve import full_name, never_run, resolve
from bgjobs.spool import files, record
from bgjobs.worker import limits, messages
from bgjobs.worker.capture import Capture
from bgjobs.worker.descriptors import Owned, Standard, identity, is_still, lifted
from bgjobs.worker.discretion import Discretion
from bgjobs.worker.growth import Growth
from bgjobs.worker.leaving import Exit, end_descendants
from bgjobs.worker.loaded_code import LoadedCode, import_from_source_alone
from bgjobs.worker.messages import (
    LOST_CONTACT,
    Ended,
    Leave,
    Progressed,
    Ready,
    Recall,
    Run,
    Setup,
    Stop,
    Unbegun,
)
from bgjobs.worker.outcomes import ending, of_changed_code, succeeded, utf8, was_importing
from bgjobs.worker.results import NotRunError
from bgjobs.worker.traces import Left, Traces

if TYPE_CHECKING:
    from bgjobs.worker.messages import Told

MOST_PROGRESS = 200  # letters of its message
PROGRESS_EVERY = 0.1
MOST_LEFT = 200  # letters of what an attempt has left
LOCK_PATIENCE_S = 10.0  # the runner before may be about to leave
SPOILED = Left("it has closed or replaced what belongs to the process")


class Runner:
    """One runner process, from its setup to the end of its input."""

    def __init__(self, source: int, target: int, *, adopts: bool = False) -> None:
        """Read messages from one descriptor and write answers to the other."""
        self._pid = os.getpid()
        self._adopts = adopts
        self._source = source
        self._target = target
        self._channel = identity(os.fstat(target))
        self._write_lock = RLock()  # a signal handler of the job may report progress in the middle of a report
        self._jobs: deque[Run] = deque()
        self._more = Condition()
        self._running: str | None = None
        self._stop: Stop | None = None
        self._stopped: str | None = None
        self._in_user_code = False
        self._interrupt = system.install_interrupt(self._raise_if_asked)
        self._capture: Capture | None = None
        self._standard: Standard | None = None
        self._importing = False
        self._leaving = False  # no further job comes
        self._lasting = False  # and the attempt is not over before this process is gone
        self._discretion: Discretion
        self._code: LoadedCode
        self._last_progress = 0.0
        self._progress: Progress | None = None
        self._limits = system.ResourceLimits()
        self._rights = system.rights()
        self._root = system.root_directory()
        self._used = False
        self._user = ""
        self._user_environment: dict[str, str] = {}

    def serve(self) -> None:
        """Run jobs until the worker lets this process leave; if it closes the pipe, end at once."""
        lines = messages.Lines()
        first: list[bytes] = []
        while not first:
            first = list(lines.feed(self._read()))
        setup = messages.to_runner.decode(first[0])
        assert isinstance(setup, Setup)  # noqa: S101 - the worker's first message
        try:
            self._settle(setup)
        except (OSError, SpoolError) as error:
            # A disk that has just turned read-only, a directory that is gone. The worker tries again, or gives up.
            os.write(2, f"bgjobs: a runner cannot begin: {' '.join(why(error).split())}\n".encode("utf-8", "replace"))
            os._exit(1)
        Thread(target=self._listen, args=(lines, first[1:]), daemon=True, name="bgjobs-listener").start()
        self._traces = Traces()  # with that thread, or it would look as if the first attempt had left it
        self._say(Ready(pid=self._pid, birth=system.birth(self._pid) or "", adopts=self._adopts, version=__version__))
        fit = True
        while (job := self._next()) is not None:
            if fit:
                fit = self._do(job)
            else:
                self._return_all()  # the worker replaces this process

    def _settle(self, setup: Setup) -> None:
        """Take up the place that the worker assigned, and hold its lock until this process ends."""
        if setup.lock is not None:
            from bgjobs.spool.locks import hold_for_life  # noqa: PLC0415 - filelock is slow to import

            self._lock = hold_for_life(setup.lock, patience_s=LOCK_PATIENCE_S)
        os.chdir(setup.cwd)
        sys.path[:0] = setup.import_paths
        if setup.from_source:
            import_from_source_alone(setup.import_paths)
        self._code = LoadedCode(setup.import_paths, setup.cwd, reload=setup.reload)
        if setup.output is not None:
            self._capture = Capture(setup.output)
        else:
            # In the foreground: what a job prints is not what the command answers.
            self._standard = Standard(lifted(os.dup(2)))
            sys.stdout = sys.stderr
        self._growth = Growth()
        self._owned = Owned([self._target], but=[] if self._capture is None else [self._capture.output])
        self._exit = Exit()

    # Listening: a thread of its own, because the main thread is in user code when a Stop comes

    def _read(self) -> bytes:
        data = os.read(self._source, 262_144)
        if not data:
            # The worker is gone or wants us gone. Other threads of the job are not waited for.
            os._exit(LOST_CONTACT if self._running else 0)
        return data

    def _listen(self, lines: messages.Lines, waiting: list[bytes]) -> None:
        try:
            while True:
                for line in waiting:
                    self._heard(messages.to_runner.decode(line))
                waiting = list(lines.feed(self._read()))
        finally:
            os._exit(LOST_CONTACT)  # a method closed our descriptor: nothing can be heard from the worker any more

    def _heard(self, message: messages.ToRunner) -> None:
        match message:
            case Run():
                with self._more:
                    if self._stop is not None and self._stop.id == message.id:
                        self._stop = None  # that was an earlier attempt of this job
                    if not self._leaving:
                        self._jobs.append(message)
                        self._more.notify()
                        return
                self._say(Unbegun(message.id))
            case Stop():
                if not self._return(message.id):
                    self._stop = message
                    if self._running == message.id:
                        self._interrupt()
            case Recall():
                self._return(message.id)
            case Leave():
                with self._more:
                    self._leaving = True
                    self._more.notify()
            case Setup():
                pass  # only the first message is one

    def _return(self, job_id: str) -> bool:
        """Return a job that is not begun yet; tell whether there was one."""
        with self._more:
            queued = next((job for job in self._jobs if job.id == job_id), None)
            if queued is None:
                return False
            self._jobs.remove(queued)
        self._say(Unbegun(job_id))
        return True

    def _next(self) -> Run | None:
        with self._more:
            while not self._jobs:
                if self._leaving:
                    return None
                self._more.wait()
            job = self._jobs.popleft()
            self._running = job.id
            return job

    def _return_all(self) -> None:
        """Return what was sent ahead and is not to run in this process any more."""
        with self._more:
            jobs, running = list(self._jobs), self._running
            self._jobs.clear()
            self._running = None
        for job_id in [running, *(job.id for job in jobs)]:
            if job_id is not None:
                self._say(Unbegun(job_id))

    def _raise_if_asked(self) -> None:
        """Run by the main thread, between two instructions of user code."""
        stop = self._stop
        if stop is not None and self._in_user_code and stop.id == self._running:
            self._in_user_code = False  # once: the method may clean up undisturbed
            self._stopped = stop.id
            raise JobTimeout(stop.reason) if stop.timed_out else JobCancelled(stop.reason)

    # Running

    def _do(self, job: Run) -> bool:
        """Run one job; return whether this process is good for another one."""
        refusal = self._begin(job)
        if refusal is not None:
            self._running = None
            self._say(refusal)
            return refusal.clean
        began, start = clock.now_ms(), time.perf_counter()
        if self._capture is not None:
            self._capture.begin(job.max_output)
        self._traces.mark(job)
        outcome = self._attempt(job)
        whole = self._owned.are_whole()
        self._code.note()
        differs = isinstance(outcome, Refused) and job.begin is not None and self._code.differs(job.module)
        if differs and self._is_at_home():
            # What is new on the disk may have what was missing here. A fresh process decides.
            self._wipe(job, outcome, whole=whole)
            self._say(self._because_code_changed(job, begun=True))
            return False
        stale = self._code.look(at_once=not isinstance(outcome, Succeeded))
        if stale and not self._is_at_home():
            stale = ""  # it sees other files than before, or none
        left = self._wipe(job, outcome, whole=whole)
        became = bool(job.user) and job.user == self._user
        leaving = whole and (left.runs or (became and bool(left.what) and self._exit.has_something_to_do()))
        fit, kept = self._keep_output(job, leaving=leaving)
        if not fit and not left.what:
            left = SPOILED
        took = time.perf_counter() - start
        clean = not left.what and not self._growth.is_too_much(took)
        stopped = self._stopped == job.id
        recorded = self._record(job, outcome) if whole and not stopped else None
        if stale and isinstance(outcome, Raised):
            outcome = of_changed_code(outcome, stale)
        self._say(
            Ended(
                job.id,
                began,
                took,
                outcome,
                stopped=stopped,
                clean=clean,
                recorded_ms=recorded,
                stale=stale,
                output_left=not kept,
                left=left.what[:MOST_LEFT],
                leaving=leaving,
            ),
            is_ours=whole,
        )
        if leaving:
            self._lasting = self._leaving = True
            self._return_all()
        return clean

    def _is_at_home(self) -> bool:
        """Tell whether this process still has the user and the root directory with which it began."""
        try:
            return system.rights() == self._rights and system.root_directory() == self._root
        except OSError:
            return False

    def _record(self, job: Run, outcome: Told) -> int | None:
        """Write down a success at once; return the moment, or None when that is for the worker to do.

        What has ended must not run again, whoever dies before the worker has read that it has. Only for a process whose
        descriptors are whole: without its lock, its worker decides.
        """
        begin = job.begin
        if begin is None or not begin.wid or job.user or not isinstance(outcome, Succeeded):
            return None
        at = clock.now_ms()
        try:
            files.append(begin.path, record.end_of_success(at, begin.wid, outcome, self._progress), whole=True)
        except OSError:
            return None  # the worker tries it again, and knows what to do about a disk that is full
        return at

    def _begin(self, job: Run) -> Unbegun | None:
        """Write down that the job begins, or return why it cannot."""
        if self._used and job.user != self._user:
            # What ran here with other rights may have left anything in memory, and rights that are gone never return.
            return Unbegun(job.id, "its user needs a fresh process", clean=False)
        self._used = True
        if job.begin is None:
            return None
        if not self._code.begin(job):
            return self._because_code_changed(job)
        if self._limits.is_crowded(job.limits.memory):
            return Unbegun(job.id, "earlier jobs left too little memory in its process", clean=False)
        line = f"{job.begin.head}{clock.now_ms()}{job.begin.tail}"
        try:
            files.append(job.begin.path, line.encode(), whole=True)
        except FileNotFoundError:
            return Unbegun(job.id, "its file is gone", gone=True)
        except OSError as error:
            # Without a free descriptor, which earlier jobs may have used up, no other job will begin here either.
            clean = error.errno not in {errno.EMFILE, errno.EBADF}
            return Unbegun(job.id, f"cannot write to its file: {error.strerror}", trouble=True, clean=clean)
        return None

    def _because_code_changed(self, job: Run, *, begun: bool = False) -> Unbegun:
        stale = self._code.changed()
        reason = f"{stale} has changed since its process loaded it"
        return Unbegun(job.id, reason, clean=False, stale=stale, begun=begun)

    def _attempt(self, job: Run) -> Told:
        self._stopped = self._progress = None
        self._discretion = discretion = Discretion(job)
        set_current(
            CurrentJob(
                job.id,
                attempt=job.attempt,
                retries=job.retries,
                report=self._report,
                number=job.number,
                crashes=job.crashes,
            )
        )
        try:
            failure = self._become(job.user)
            if failure is not None:
                return failure
            try:
                bounds = job.limits
                self._limits.impose(
                    memory=bounds.memory, cpu=bounds.cpu, files=bounds.files, file_size=bounds.file_size
                )
                # From here on a Stop raises: importing the job's module is user code as well.
                self._in_user_code = True
                self._raise_if_asked()
                self._import(job.module)
                self._code.note()
                return self._traces.context().run(_call, job, discretion)
            finally:
                self._in_user_code = False
                self._limits.lift()
        except BaseException as error:  # noqa: BLE001 - whatever user code raises ends the attempt, not the runner
            self._importing = self._importing or was_importing(error)
            # A Stop that arrives in the inner `finally` ends up here too: it raises only once, and only in there.
            self._limits.lift()
            return limits.named(ending(error, discretion), error, job.limits)
        finally:
            if os.getpid() != self._pid:
                os._exit(1)  # the method forked, and this is the child: it must not go on as if it were the runner
            self._running = None
            set_current(None)

    def _import(self, module: str) -> None:
        """Import the module of a job. What that sets up in this process stays; what raises has failed the attempt."""
        if module in sys.modules:
            return
        self._importing = True
        import_module(module)
        self._traces.adopt()
        self._growth.remember()
        if self._capture is not None:
            self._capture.adopt()
        self._importing = False

    def _become(self, user: str) -> Raised | None:
        """Take on the rights of the job's user, if it has one, or return how the attempt ends that cannot have them."""
        if not user:
            return None
        try:
            if user != self._user:
                self._user_environment = system.become(user)
                self._user = user
        except OSError as error:
            message = f"its process cannot become user {user}: {error.strerror}"
            return Raised(JobError(type="CannotBecomeUser", message=message))
        os.environ.update(self._user_environment)
        return None

    def _wipe(self, job: Run, outcome: Told, *, whole: bool) -> Left:
        """Wipe off what the attempt left; return why this process is not good for another one, or nothing."""
        left = self._traces.wipe()
        if left.what:
            return left
        if job.user and (not job.look_only or isinstance(outcome, Raised)):
            return Left("it runs as another user")  # it may not even write down that another one begins
        if self._importing:
            return Left("its module was not imported to the end")  # what that has registered cannot come twice
        if not whole:
            return SPOILED
        if not self._limits.intact:
            return Left("it has changed the limits of the process")
        if _ran_out_of_memory(outcome, job):
            return Left("it ran out of memory")
        return left

    def _keep_output(self, job: Run, *, leaving: bool) -> tuple[bool, bool]:
        """Put aside what the attempt has printed; return whether the next one can print, and whether it was put aside.

        What could not be, because the method gave up the rights to it, its root directory or descriptors, is left to
        the worker. How the attempt has ended does not depend on that.
        """
        try:
            if self._standard is not None and self._owned.are_whole():
                self._standard.restore()
            if self._capture is None or job.keep_output is None:
                return True, True
            if job.user or leaving:
                self._capture.leave()
                return True, True
            return self._capture.end(job.keep_output), True
        except Exception:  # noqa: BLE001 - no descriptor is to be had, or an object of the job's is in the place of ours
            return False, False

    def leave(self) -> None:
        """Return if there is something to do at the exit of this process, or else end it at once."""
        if not self._used or not self._exit.has_something_to_do():
            end_descendants()
            os._exit(0)
        if self._capture is not None and not self._lasting:
            # The next runner in this place need not wait until we are gone: we have no job, and print nothing more.
            self._capture.close()
            self._lock.release()

    def _report(self, progress: Progress) -> None:
        now = time.monotonic()
        done = progress.total is not None and progress.done >= progress.total
        if self._running is not None and (done or now - self._last_progress >= PROGRESS_EVERY):
            self._last_progress = now
            discretion = self._discretion
            total = None if progress.total is None else discretion.number(progress.total)
            message = utf8(discretion.text(progress.message)[:MOST_PROGRESS])
            self._progress = Progress(discretion.number(progress.done), total, message)
            self._say(Progressed(self._running, self._progress))

    def _say(self, message: messages.FromRunner, *, is_ours: bool = False) -> None:
        """Send a message; with `is_ours` the descriptor has just been looked at."""
        with self._write_lock:
            try:
                if not is_ours and not is_still(self._target, self._channel):
                    os._exit(LOST_CONTACT)  # a method has closed it, and the number may be that of a file by now
                files.write_all(self._target, messages.encoded(message))
            except OSError:
                # Nobody is there to hear the answer, so nobody may count on this process.
                os._exit(LOST_CONTACT)


def _ran_out_of_memory(outcome: Told, job: Run) -> bool:
    """Tell whether its limit of memory ended the attempt: modules may be half imported, and caches full."""
    return bool(job.limits.memory) and isinstance(outcome, Raised) and "MemoryError" in outcome.lineage


def _call(job: Run, discretion: Discretion) -> Told:
    try:
        function = resolve(job.module, job.owner, job.method)
        if job.look_only:
            return Succeeded()
        discretion.learn(function)
        args, kwargs = convert(function, job.args, job.kwargs, text=job.text, secret=job.secret)
    except (NoSuchTargetError, BadArgumentsError) as error:
        if not _is_ours(error):
            raise
        return Refused(JobError(type=error.code, message=utf8(discretion.text(str(error)))))
    discretion.learn_converted(args, kwargs)
    returned = function(*args, **kwargs)
    if isinstance(returned, Coroutine):
        import asyncio  # noqa: PLC0415 - most jobs need no event loop

        returned = asyncio.run(returned)
    try:
        return discretion.result(succeeded(returned, discretion))
    except NotRunError as later:
        # Not a refusal: whatever wraps the method has run, and should not run again for the same end.
        refusal = never_run(full_name(job.module, job.owner, job.method), str(later))
        return Raised(JobError(type=refusal.code, message=utf8(discretion.text(str(refusal)))), final=True)


def _is_ours(error: BaseException) -> bool:
    """Tell whether no user code raised it: a constructor that submits a job may see the very same refusals."""
    trace = error.__traceback__
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith(("__main__", "bgjobs.")):
            return False
        trace = trace.tb_next
    return True


def main() -> None:
    """Be a runner: take over standard input and output as the channel to the worker."""
    adopts = system.die_with_parent()
    os.umask(0o077)  # whatever a job writes is for the worker's user alone, unless the job says otherwise
    source, target = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    system.unbuffer_c_output()
    atexit.register(end_descendants)  # the first that is registered is the last that is called
    runner = Runner(source, target, adopts=adopts)
    runner.serve()
    runner.leave()


if __name__ == "__main__":
    main()
