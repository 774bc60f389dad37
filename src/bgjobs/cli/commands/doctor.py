"""`bgjobs doctor`: check the spool and its disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import replace

from bgjobs import system
from bgjobs.cli import options, output
from bgjobs.config import permissions, trust
from bgjobs.errors import UsageError
from bgjobs.job import State
from bgjobs.queue import Queue, store_of
from bgjobs.store import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.cli.spans import Line

GROUPS = {
    "file system": {
        "no-disk",
        "network-disk",
        "split-spool",
        "volatile-disk",
        "no-journal",
        "layered-disk",
        "no-spool-yet",
        "not-writable",
        "logs-closed",
    },
    "access": {"not-ours", "open-to-others", "not-a-directory"},
    "locks": {"locks-fail", "locks-untried", "no-claim-lock", "lock-gone"},
    "clock": {"disk-clock", "clock-behind"},
    "room": {"little-room"},
    "leftovers": {
        "dead-worker",
        "orphan-runner",
        "orphan-process",
        "runner-gone",
        "old-tmp",
        "trash",
        "drained-buckets",
    },
}
REST = "promises"
GIB, MIB = 1 << 30, 1 << 20


def command(
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be repaired, also while workers run.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not read the files of jobs that have ended.")] = False,
    config: options.Config = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> int:
    """Check the spool and its disk.

    Exits 1 if something is wrong. What the next worker removes by itself is listed, but is not wrong.
    """
    queue = Queue.open(config=config, spool=spool, strict=False)
    if list(permissions.weaknesses(queue.settings.config)):
        return _distrusted(queue, as_json=as_json)
    store = store_of(queue)
    in_files = store.files
    if in_files is None:
        raise UsageError("there is no spool to check", hint="this queue is not in files")
    is_repaired = repair and (store.is_there() or bool(in_files.findings(quick=True)))
    mended = [_utf8(what) for what in _repaired(queue)] if is_repaired else []
    fitness = in_files.fitness()
    found = (*fitness.findings, *_what_runs(queue), *in_files.findings(quick=quick))
    findings = [_printable(finding) for finding in found]
    facts = {"spool": _utf8(queue.settings.spool), **fitness.facts, **_standing(queue)}
    facts["permissions_checked"] = system.CHECKS_WRITERS
    value: dict[str, Any] = {"ok": not _wrong(findings), "facts": facts, "findings": findings}
    value |= {"mended": mended} if repair else {}
    output.result(value, _lines(facts, findings, mended), as_json=as_json)
    return 1 if _wrong(findings) else 0


def _distrusted(queue: Queue, *, as_json: bool) -> int:
    """Report only who could change the allowlist: the spool that it names, which may be theirs, is not opened."""
    findings = [_printable(finding) for finding in _what_runs(queue)]
    value = {"ok": False, "facts": {"permissions_checked": True}, "findings": findings}
    lines = [*(_line(finding) for finding in findings), [("", "")], _verdict(findings)]
    output.result(value, lines, as_json=as_json)
    return 1


def _what_runs(queue: Queue) -> Iterator[Finding]:
    """Go through what other users could change of the allowlist and the job modules."""
    for weak in trust.weaknesses(queue.settings, queue.allowlist):
        yield Finding(code=weak.code, message=f"{weak.what}: {weak.cure}", path=weak.path, serious=True)


def _repaired(queue: Queue) -> list[str]:
    from bgjobs.worker.duties import recover  # noqa: PLC0415 - only the repair takes a worker's place

    return recover.repair(queue)


def _printable(finding: Finding) -> Finding:
    return replace(finding, path=_utf8(finding.path), message=_utf8(finding.message))


def _utf8(text: str) -> str:
    """Return the text with what UTF-8 cannot hold written out: the name of a strange file can have such letters."""
    return text.encode("utf-8", "backslashreplace").decode()


def _wrong(findings: list[Finding]) -> int:
    return sum(finding.wrong for finding in findings)


def _standing(queue: Queue) -> dict[str, int]:
    workers, counts = queue.workers(), queue.counts()
    alive = sum(worker.alive for worker in workers)
    jobs = sum(count for state, count in counts.items() if state is not State.CORRUPT)
    return {
        "workers_alive": alive,
        "workers_dead": len(workers) - alive,
        "jobs": jobs,
        "corrupt_files": counts[State.CORRUPT],
    }


def _lines(facts: dict[str, Any], findings: list[Finding], mended: list[str]) -> Iterator[Line]:
    yield [("spool        ", "dim"), (facts["spool"], "")]
    for what in mended:
        yield [("mended       ", "dim"), (what, "green")]
    summaries = {
        "file system": _file_system(facts),
        "access": _access(facts),
        "locks": _locks(facts),
        "clock": _clock(facts),
        "room": _room(facts),
        "leftovers": f"workers: {facts['workers_alive']} alive, {facts['workers_dead']} dead",
        REST: f"{facts['jobs']} jobs looked at, {facts['corrupt_files']} files in corrupt/",
    }
    for group, summary in summaries.items():
        yield [(f"{group:<13}", "dim"), (summary, "")]
        yield from (_line(finding) for finding in findings if _group(finding) == group)
    yield [("", "")]
    yield _verdict(findings)


def _verdict(findings: list[Finding]) -> Line:
    wrong = _wrong(findings)
    if wrong:
        cure = "`bgjobs doctor --repair` mends some of it" if any(f.wrong and f.repairable for f in findings) else ""
        return [(f"{wrong} wrong", "red"), (f": {cure}" if cure else "", "")]
    remarks = f", {len(findings)} remark{'' if len(findings) == 1 else 's'}"
    return [("all is well", "green"), (remarks if findings else "", "")]


def _group(finding: Finding) -> str:
    return next((group for group, codes in GROUPS.items() if finding.code in codes), REST)


def _line(finding: Finding) -> Line:
    label = f"wrong ({finding.rule})" if finding.rule else "wrong" if finding.wrong else "note"
    return [(f"  {label}: ", "red" if finding.wrong else "yellow"), (f"{finding.path} {finding.message}", "")]


def _file_system(facts: dict[str, Any]) -> str:
    journal = "" if facts.get("journal") is None else f" {'with' if facts['journal'] else 'without'} a journal"
    if facts.get("durability") == "os":
        sync = 'durability "os": nothing is synced, jobs survive a crash but no power cut'
    elif facts.get("one_sync"):
        sync = "a submission is synced once, after its rename"
    else:
        sync = "a submission is synced twice, the file and its directory"
    return f"{facts.get('file_system') or 'unknown'}{journal}; {sync}"


def _access(facts: dict[str, Any]) -> str:
    if not facts["permissions_checked"]:
        return "who can change the allowlist, the modules and the spool is not checked on this system"
    return f"who can change the allowlist, the modules and the spool: only root and {system.user()} should"


def _locks(facts: dict[str, Any]) -> str:
    if facts.get("locks_hold"):
        return "tried with two processes: they exclude each other, and are freed when the holder is killed"
    return "could not be tried" if facts.get("locks_hold") is None else "do not hold"


def _clock(facts: dict[str, Any]) -> str:
    skew = facts.get("clock_skew_ms")
    return "could not be compared" if skew is None else f"{abs(skew)} ms between it and the times of files"


def _room(facts: dict[str, Any]) -> str:
    free, files = facts.get("free_bytes"), facts.get("free_files")
    if free is None:
        return "not known"
    size = f"{free / GIB:.1f} GiB" if free >= GIB else f"{free / MIB:.1f} MiB"
    return f"{size} free" + (f", room for {files:,} files" if files is not None else "")
