"""Be a runner: receive jobs from the worker, call their methods, report how each ended. Only here runs user code."""

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

from bgjobs import clock, files, system
from bgjobs.calls.binding import convert
from bgjobs.calls.resolve import full_name, never_run, resolve
from bgjobs.errors import BadArgumentsError, NoSuchTargetError, SpoolError, why
from bgjobs.job import JobError, Progress, Raised, Refused, Succeeded
from bgjobs.job_context import CurrentJob, JobCancelled, JobTimeout, set_current
from bgjobs.version import version
from bgjobs.worker import protocol
from bgjobs.worker.child.attempt_secrets import AttemptSecrets
from bgjobs.worker.child.capture import Capture
from bgjobs.worker.child.descriptors import OwnDescriptors, StandardDescriptors, above_standard, identity, leads_to
from bgjobs.worker.child.loaded_code import LoadedCode, import_from_source_alone
from bgjobs.worker.child.outcome import NotRunError, of_changed_code, raised, succeeded, utf8, was_importing, with_limit
from bgjobs.worker.child.process_state import ExitCheck, Leftover, MemoryGrowth, ProcessState, end_descendants
from bgjobs.worker.protocol import LOST_CONTACT, Ended, Leave, NotStarted, Progressed, Ready, Recall, Run, Setup, Stop

if TYPE_CHECKING:
    from bgjobs.worker.protocol import Reported

MOST_PROGRESS = 200  # characters of its message
PROGRESS_EVERY = 0.1  # seconds
MOST_LEFTOVER = 200  # characters of the description
LOCK_PATIENCE_S = 10.0  # the runner before may be about to exit
LOST_DESCRIPTORS = Leftover("it has closed or replaced what belongs to the process")


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
        self._interrupt = system.install_interrupt(self._raise_if_stopped)
        self._capture: Capture | None = None
        self._standard: StandardDescriptors | None = None
        self._importing = False
        self._leaving = False  # no further job comes
        self._attempt_goes_on = False  # threads or processes of the attempt run on: it ends with this process
        self._secrets: AttemptSecrets
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
        lines = protocol.Lines()
        first: list[bytes] = []
        while not first:
            first = list(lines.feed(self._read()))
        setup = protocol.to_runner.decode(first[0])
        assert isinstance(setup, Setup)  # noqa: S101 - the worker's first message
        try:
            self._set_up(setup)
        except (OSError, SpoolError) as error:
            # A disk that has just turned read-only, a directory that is gone. The worker tries again, or gives up.
            os.write(2, f"bgjobs: a runner cannot begin: {' '.join(why(error).split())}\n".encode("utf-8", "replace"))
            os._exit(1)
        Thread(target=self._listen, args=(lines, first[1:]), daemon=True, name="bgjobs-listener").start()
        self._state = ProcessState()  # with that thread, or it would look as if the first attempt had left it
        self._send(Ready(pid=self._pid, birth=system.birth(self._pid) or "", adopts=self._adopts, version=version()))
        fit = True
        while (job := self._next_job()) is not None:
            if fit:
                fit = self._run(job)
            else:
                self._hand_back_all()  # the worker replaces this process

    def _set_up(self, setup: Setup) -> None:
        """Apply the worker's settings, and hold the lock of this runner until the process ends."""
        if setup.lock is not None:
            from bgjobs.locks import hold_for_life  # noqa: PLC0415 - filelock is slow to import

            self._lock = hold_for_life(setup.lock, patience_s=LOCK_PATIENCE_S)
        os.chdir(setup.cwd)
        sys.path[:0] = setup.import_paths
        if setup.from_source:
            import_from_source_alone(setup.import_paths)
        self._code = LoadedCode(setup.import_paths, setup.cwd, reload=setup.reload)
        if setup.output is not None:
            self._capture = Capture(setup.output)
        else:
            # In the foreground: standard output is for the answer of the command, not for what jobs print.
            self._standard = StandardDescriptors(above_standard(os.dup(2)))
            sys.stdout = sys.stderr
        self._memory = MemoryGrowth(setup.most_growth)
        self._owned = OwnDescriptors([self._target], but=[] if self._capture is None else [self._capture.output])
        self._exit = ExitCheck()

    # Listening to the worker: in a thread, because the main thread is in user code when a Stop comes

    def _read(self) -> bytes:
        data = os.read(self._source, 262_144)
        if not data:
            # The worker is dead, or has closed the pipe to end this process. Threads of the job are not waited for.
            os._exit(LOST_CONTACT if self._running else 0)
        return data

    def _listen(self, lines: protocol.Lines, waiting: list[bytes]) -> None:
        try:
            while True:
                for line in waiting:
                    self._handle(protocol.to_runner.decode(line))
                waiting = list(lines.feed(self._read()))
        finally:
            os._exit(LOST_CONTACT)  # a method closed our descriptor: no message can arrive any more

    def _handle(self, message: protocol.ToRunner) -> None:
        match message:
            case Run():
                with self._more:
                    if self._stop is not None and self._stop.id == message.id:
                        self._stop = None  # that was an earlier attempt of this job
                    if not self._leaving:
                        self._jobs.append(message)
                        self._more.notify()
                        return
                self._send(NotStarted(message.id))
            case Stop():
                if not self._hand_back(message.id):
                    self._stop = message
                    if self._running == message.id:
                        self._interrupt()
            case Recall():
                self._hand_back(message.id)
            case Leave():
                with self._more:
                    self._leaving = True
                    self._more.notify()
            case Setup():
                pass  # only the first message is one

    def _hand_back(self, job_id: str) -> bool:
        """Hand back a job that is not begun yet; tell whether there was one."""
        with self._more:
            queued = next((job for job in self._jobs if job.id == job_id), None)
            if queued is None:
                return False
            self._jobs.remove(queued)
        self._send(NotStarted(job_id))
        return True

    def _next_job(self) -> Run | None:
        with self._more:
            while not self._jobs:
                if self._leaving:
                    return None
                self._more.wait()
            job = self._jobs.popleft()
            self._running = job.id
            return job

    def _hand_back_all(self) -> None:
        """Hand back all jobs that were sent ahead and may not run in this process any more."""
        with self._more:
            jobs, running = list(self._jobs), self._running
            self._jobs.clear()
            self._running = None
        for job_id in [running, *(job.id for job in jobs)]:
            if job_id is not None:
                self._send(NotStarted(job_id))

    def _raise_if_stopped(self) -> None:
        """Raise the exception of a Stop. The main thread runs this between two instructions of user code."""
        stop = self._stop
        if stop is not None and self._in_user_code and stop.id == self._running:
            self._in_user_code = False  # once: the method may clean up undisturbed
            self._stopped = stop.id
            raise JobTimeout(stop.reason) if stop.timed_out else JobCancelled(stop.reason)

    # Running

    def _run(self, job: Run) -> bool:
        """Run one job; return whether this process is good for another one."""
        refusal = self._begin(job)
        if refusal is not None:
            self._running = None
            self._send(refusal)
            return refusal.clean
        began, start = clock.now_ms(), time.perf_counter()
        if self._capture is not None:
            self._capture.begin(job.max_output)
        self._state.set_variables(job)
        outcome = self._attempt(job)
        whole = self._owned.are_intact()
        self._code.note()
        differs = isinstance(outcome, Refused) and job.begin is not None and self._code.differs(job.module)
        if differs and self._has_own_user_and_root():
            # The changed code may have what was missing here. A fresh process decides.
            self._restore_process(job, outcome, whole=whole)
            self._send(self._refusal_by_changed_code(job, begun=True))
            return False
        stale = self._code.look(at_once=not isinstance(outcome, Succeeded))
        if stale and not self._has_own_user_and_root():
            stale = ""  # it sees other files than before, or none
        left = self._restore_process(job, outcome, whole=whole)
        became = bool(job.user) and job.user == self._user
        leaving = whole and (left.runs or (became and bool(left.what) and self._exit.has_work()))
        fit, kept = self._keep_output(job, leaving=leaving)
        if not fit and not left.what:
            left = LOST_DESCRIPTORS
        took = time.perf_counter() - start
        clean = not left.what and not self._memory.is_too_much(took)
        stopped = self._stopped == job.id
        recorded = self._record_success(job, outcome) if whole and not stopped else None
        if stale and isinstance(outcome, Raised):
            outcome = of_changed_code(outcome, stale)
        self._send(
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
                left=left.what[:MOST_LEFTOVER],
                leaving=leaving,
            ),
            is_ours=whole,
        )
        if leaving:
            self._attempt_goes_on = self._leaving = True
            self._hand_back_all()
        return clean

    def _has_own_user_and_root(self) -> bool:
        """Tell whether this process still has the user rights and the root directory with which it began."""
        try:
            return system.rights() == self._rights and system.root_directory() == self._root
        except OSError:
            return False

    def _record_success(self, job: Run, outcome: Reported) -> int | None:
        """Append the success to the job's file; return the moment in ms, or None if the worker has to do it.

        The job must not run again if runner and worker die before the worker has read the message. Only for a process
        whose descriptors are intact: without its lock, its worker decides.
        """
        begin = job.begin
        if begin is None or begin.success is None or job.user or not isinstance(outcome, Succeeded):
            return None
        at = clock.now_ms()
        try:
            files.append(begin.path, protocol.success_line(begin.success, at, outcome, self._progress), whole=True)
        except OSError:
            return None  # the worker tries it again, and handles a full disk
        return at

    def _begin(self, job: Run) -> NotStarted | None:
        """Append the start to the job's file, or return why the job cannot begin here."""
        if self._used and job.user != self._user:
            # An attempt with other rights may have left anything in memory, and dropped rights never return.
            return NotStarted(job.id, "its user needs a fresh process", clean=False)
        self._used = True
        if job.begin is None:
            return None
        if not self._code.begin(job):
            return self._refusal_by_changed_code(job)
        if self._limits.is_crowded(job.limits.memory):
            return NotStarted(job.id, "earlier jobs left too little memory in its process", clean=False)
        try:
            files.append(job.begin.path, protocol.start_line(job.begin, clock.now_ms()), whole=True)
        except FileNotFoundError:
            return NotStarted(job.id, "its file is gone", gone=True)
        except OSError as error:
            # Without a free descriptor (earlier jobs may have used them up) no other job can begin here either.
            clean = error.errno not in {errno.EMFILE, errno.EBADF}
            return NotStarted(job.id, f"cannot write to its file: {error.strerror}", trouble=True, clean=clean)
        return None

    def _refusal_by_changed_code(self, job: Run, *, begun: bool = False) -> NotStarted:
        stale = self._code.changed()
        reason = f"{stale} has changed since its process loaded it"
        return NotStarted(job.id, reason, clean=False, stale=stale, begun=begun)

    def _attempt(self, job: Run) -> Reported:
        self._stopped = self._progress = None
        self._secrets = secrets = AttemptSecrets(job)
        set_current(
            CurrentJob(
                job.id,
                attempt=job.attempt,
                retries=job.retries,
                report=self._report_progress,
                number=job.number,
                crashes=job.crashes,
            )
        )
        try:
            failure = self._become_user(job.user)
            if failure is not None:
                return failure
            try:
                bounds = job.limits
                self._limits.impose(
                    memory=bounds.memory, cpu=bounds.cpu, files=bounds.files, file_size=bounds.file_size
                )
                # From here on a Stop raises: importing the job's module is user code as well.
                self._in_user_code = True
                self._raise_if_stopped()
                self._import(job.module)
                self._code.note()
                return self._state.fresh_context().run(_call, job, secrets)
            finally:
                self._in_user_code = False
                self._limits.lift()
        except BaseException as error:  # noqa: BLE001 - whatever user code raises ends the attempt, not the runner
            self._importing = self._importing or was_importing(error)
            # A Stop that arrives in the inner `finally` ends up here too: it raises only once, and only in there.
            self._limits.lift()
            return with_limit(raised(error, secrets), error, job.limits)
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
        self._state.set_baseline()
        self._memory.set_baseline()
        if self._capture is not None:
            self._capture.set_baseline()
        self._importing = False

    def _become_user(self, user: str) -> Raised | None:
        """Take on the rights of the job's user, if it has one; return the outcome of the attempt if that fails."""
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

    def _restore_process(self, job: Run, outcome: Reported, *, whole: bool) -> Leftover:
        """Restore the process state; return why this process cannot run another job, or an empty `Leftover`."""
        left = self._state.restore()
        if left.what:
            return left
        if job.user and (not job.look_only or isinstance(outcome, Raised)):
            return Leftover("it runs as another user")  # which may not append to job files
        if self._importing:
            return Leftover("its module was not imported to the end")  # importing it again could register things twice
        if not whole:
            return LOST_DESCRIPTORS
        if not self._limits.intact:
            return Leftover("it has changed the limits of the process")
        if _ran_out_of_memory(outcome, job):
            return Leftover("it ran out of memory")
        return left

    def _keep_output(self, job: Run, *, leaving: bool) -> tuple[bool, bool]:
        """Store the output of the attempt; return whether the next attempt can print, and whether it was stored.

        Output that cannot be stored here, because the method gave up its rights, root directory or descriptors, is left
        to the worker. The outcome of the attempt does not depend on that.
        """
        try:
            if self._standard is not None and self._owned.are_intact():
                self._standard.restore()
            if self._capture is None or job.begin is None:
                return True, True
            if job.user or leaving:
                self._capture.leave_to_worker()
                return True, True
            return self._capture.keep(job.begin.output), True
        except Exception:  # noqa: BLE001 - no descriptor is free, or an object of the job is in the place of ours
            return False, False

    def leave(self) -> None:
        """Return if the interpreter has something to do at its exit; otherwise end the process at once."""
        if not self._used or not self._exit.has_work():
            end_descendants()
            os._exit(0)
        if self._capture is not None and not self._attempt_goes_on:
            # The next runner of this slot need not wait for our exit: we have no job, and print nothing more.
            self._capture.close()
            self._lock.release()

    def _report_progress(self, progress: Progress) -> None:
        now = time.monotonic()
        done = progress.total is not None and progress.done >= progress.total
        if self._running is not None and (done or now - self._last_progress >= PROGRESS_EVERY):
            self._last_progress = now
            secrets = self._secrets
            total = None if progress.total is None else secrets.mask_number(progress.total)
            message = utf8(secrets.mask(progress.message)[:MOST_PROGRESS])
            self._progress = Progress(secrets.mask_number(progress.done), total, message)
            self._send(Progressed(self._running, self._progress))

    def _send(self, message: protocol.FromRunner, *, is_ours: bool = False) -> None:
        """Send a message to the worker; `is_ours`: the descriptor has just been checked."""
        with self._write_lock:
            try:
                if not is_ours and not leads_to(self._target, self._channel):
                    os._exit(LOST_CONTACT)  # a method has closed it, and a file may have got its number
                files.write_all(self._target, protocol.encoded(message))
            except OSError:
                # The worker cannot get the answer, so it must not rely on this process.
                os._exit(LOST_CONTACT)


def _ran_out_of_memory(outcome: Reported, job: Run) -> bool:
    """Tell whether its memory limit ended the attempt: modules may be half imported, and caches full."""
    return bool(job.limits.memory) and isinstance(outcome, Raised) and "MemoryError" in outcome.lineage


def _call(job: Run, secrets: AttemptSecrets) -> Reported:
    try:
        function = resolve(job.module, job.owner, job.method)
        if job.look_only:
            return Succeeded()
        secrets.set_method(function)
        args, kwargs = convert(function, job.args, job.kwargs, text=job.text, secret=job.secret)
    except (NoSuchTargetError, BadArgumentsError) as error:
        if not _is_ours(error):
            raise
        return Refused(JobError(type=error.code, message=utf8(secrets.mask(str(error)))))
    secrets.add_converted(args, kwargs)
    returned = function(*args, **kwargs)
    if isinstance(returned, Coroutine):
        import asyncio  # noqa: PLC0415 - most jobs need no event loop

        returned = asyncio.run(returned)
    try:
        return secrets.mark_result(succeeded(returned, secrets))
    except NotRunError as later:
        # Not a refusal: the wrapper of the method has run, and another attempt would end the same way.
        refusal = never_run(full_name(job.module, job.owner, job.method), str(later))
        return Raised(JobError(type=refusal.code, message=utf8(secrets.mask(str(refusal)))), final=True)


def _is_ours(error: BaseException) -> bool:
    """Tell whether bgjobs raised it, not user code: a constructor that submits a job may raise the same errors."""
    trace = error.__traceback__
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith(("__main__", "bgjobs.")):
            return False
        trace = trace.tb_next
    return True


def main() -> None:
    """Run as a runner process: standard input and output become the channel to the worker."""
    adopts = system.die_with_parent()
    os.umask(0o077)  # files that a job makes are for the worker's user alone, unless the job changes that
    source, target = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    system.unbuffer_c_output()
    atexit.register(end_descendants)  # the first that is registered is the last that is called
    runner = Runner(source, target, adopts=adopts)
    runner.serve()
    runner.leave()


if __name__ == "__main__":
    main()
