"""The one place that prints: data to stdout, everything else to stderr, and nothing from outside raw to a terminal."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import msgspec

from bgjobs import system
from bgjobs.errors import NotPrintedError
from bgjobs.plain_text import sanitized

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from bgjobs.cli.spans import Line
    from bgjobs.errors import BgjobsError

INTERRUPTED = 130  # the exit status after Ctrl-C
_closed: set[str] = set()  # the streams that were closed when this process began


def prepare() -> None:
    """Prepare both streams for any text. What is printed to a closed stream is dropped."""
    _closed.clear()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            _closed.add(name)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the life of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if system.PLAIN_OUTPUT and not stream.isatty():
                stream.reconfigure(encoding="utf-8", newline="\n", errors="backslashreplace")


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a person is likely to look at the stream right now."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def data(text: str) -> None:
    """Print one line of what was asked for."""
    sys.stdout.write(f"{sanitized(text)}\n")


def json(value: object, *, indent: int = 0) -> None:
    """Print a value as JSON, one line without an indent, without letters that a terminal could take for a command."""
    content = msgspec.json.encode(value)
    text = (msgspec.json.format(content, indent=indent) if indent else content).decode()
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in text)
    _write(sys.stdout, f"{text}\n".encode())


def lines(shown: Iterable[Line]) -> None:
    """Print lines of spans, with their styles on a terminal."""
    if is_terminal(sys.stdout):
        from bgjobs.cli import terminal  # noqa: PLC0415 - rich is slow to import

        terminal.lines(shown)
        return
    for line in shown:
        data("".join(text for text, _ in line).rstrip())


def result(value: object, shown: str | Iterable[Line], *, as_json: bool) -> None:
    """Print what was asked for: the value as JSON, or else the text or the lines for people."""
    if as_json:
        json(value)
    elif isinstance(shown, str):
        data(shown)
    else:
        lines(shown)


def plural(count: int, what: str) -> str:
    """Return a number of things, such as `1 job` or `2 jobs`."""
    return f"{count} {what}{'s'[: count != 1]}"


class Answer(NamedTuple):
    """What is printed about one job: an object in JSON, or else a text. Its `id` is that of the job."""

    value: Mapping[str, object]
    text: str


def answer(shown: Answer, *, as_json: bool) -> None:
    """Print one answer; it is out on return. Raises OSError."""
    result(shown.value, shown.text, as_json=as_json)
    sys.stdout.flush()


def queued(ids: Sequence[str], *, as_json: bool) -> None:
    """Print the ids of jobs that are queued; they are out on return.

    Raises NotPrintedError: the jobs are queued even if their ids cannot be printed.
    """
    try:
        for job_id in ids:
            result({"id": job_id}, job_id, as_json=as_json)
        sys.stdout.flush()
    except OSError as error:
        raise unprinted_ids(ids, given_up(error)) from None
    if reason := unseen():
        raise unprinted_ids(ids, reason)


def unseen() -> str:
    """Return why what is printed cannot be seen, although printing it does not fail; else an empty text."""
    # Only stdout is closed, as by `>&-`: a process without a console has neither stream.
    return "standard output is closed" if _closed == {"stdout"} else ""


def reader_left(error: OSError) -> bool:
    """Tell whether the reader has closed the pipe (`bgjobs list | head`); on Windows that is EINVAL."""
    return error.errno in {errno.EPIPE, errno.EINVAL}


def given_up(error: OSError) -> str:
    """Print nothing more to standard output, which failed; return why it did."""
    discard(sys.stdout)
    return error.strerror or type(error).__name__


def unprinted_ids(ids: Sequence[str], reason: str) -> NotPrintedError:
    """Return the error for jobs that are queued, but whose ids could not be printed."""
    what = f"job {ids[0]} is queued, but its id" if len(ids) == 1 else f"{len(ids)} jobs are queued, but their ids"
    return NotPrintedError(
        f"{what} could not be printed{_span(ids)}: {reason}", hint="do not submit again what is queued"
    )


def unprinted_answers(ids: Sequence[str], reason: str) -> NotPrintedError:
    """Return the error for jobs that were changed as asked, although that could not be printed."""
    what = f"what became of job {ids[0]}" if len(ids) == 1 else f"what became of {len(ids)} jobs"
    return NotPrintedError(f"{what} could not be printed{_span(ids)}: {reason}", hint="all is done, see `bgjobs list`")


def _span(ids: Sequence[str]) -> str:
    return "" if len(ids) == 1 else f", from {ids[0]} to {ids[-1]}"


def table(head: Sequence[str], rows: Iterable[Line], *, elastic: Container[int]) -> None:
    """Print a table on a terminal, its elastic columns cut to fit; elsewhere its rows alone, with tabs in between."""
    if is_terminal(sys.stdout):
        from bgjobs.cli import terminal  # noqa: PLC0415 - rich is slow to import

        terminal.table(head, rows, elastic)
        return
    for row in rows:
        sys.stdout.write("\t".join(sanitized(text) for text, _ in row) + "\n")


def writer(stream: TextIO) -> Callable[[bytes], None]:
    """Return what prints the output of jobs to a stream: as it is into a file, harmless on a terminal."""
    if not is_terminal(stream):
        return lambda content: _write(stream, content)
    decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
    return lambda content: _write(stream, harmless(decode(content)).encode())


def harmless(text: str) -> str:
    """Return text without letters that command a terminal, but for line ends and tabs."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else sanitized(letter) for letter in text)


def _write(stream: TextIO, content: bytes) -> None:
    stream.flush()
    stream.buffer.write(content)
    stream.buffer.flush()


def note(text: str) -> None:
    """Print one line that is not what was asked for, but good to know."""
    _say(f"bgjobs: {sanitized(text)}")


def hint(text: str, *, as_json: bool) -> None:
    """Print a note that a program has no use for: only for people."""
    if not as_json:
        note(text)


def warning(message: str, *, hint: str, code: str, as_json: bool) -> None:
    """Print what is probably a mistake as one line on stderr, and go on."""
    if as_json:
        shown = {"warning": {"code": code, "message": _utf8(message), "hint": _utf8(hint)}}
        _say(_ascii(msgspec.json.encode(shown).decode()))
    else:
        note(f"warning: {message}: {hint}")


def error(found: BgjobsError, *, as_json: bool) -> None:
    """Print an error as one line on stderr."""
    if as_json:
        # Words of a command line may hold bytes that are no text, as half pairs, and a message may repeat them.
        shown: dict[str, Any] = {
            "code": found.code,
            "message": _utf8(found.message),
            "hint": _utf8(found.hint),
        }
        _say(_ascii(msgspec.json.encode({"error": shown}).decode()))
    else:
        note(str(found))


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        pass  # a full disk, a terminal that was closed: only the exit status is left


def leave() -> None:
    """Drop what could not be written to standard error: Python would try again at its end, and exit with 120 then."""
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Drop what is left in the buffer of a stream, and what follows."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _ascii(text: str) -> str:
    """Return JSON in printable ASCII alone. JSON itself leaves a DEL as it is."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if letter.isascii() and letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    """Return the letter as JSON may write it inside a text, the only place where such a letter can be."""
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place] << 8 | units[place + 1]:04x}" for place in range(0, len(units), 2))
