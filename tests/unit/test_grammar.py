"""Every grammar takes all that it should and nothing else, however much it looks alike.

What should be taken is said here a second time, by hand and without regular expressions.
"""

from __future__ import annotations

import keyword
import string
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import durations, ids
from bgjobs.config import settings
from bgjobs.config.allowlist import MODULE, Allowlist
from bgjobs.config.settings import NAME, parse_priority
from bgjobs.errors import ConfigError, UsageError
from bgjobs.ids import ID, SUFFIX
from bgjobs.job import LATEST_MS, TAG, show_priority
from bgjobs.requests import moment_of
from bgjobs.spool import layout
from tests.fuzz.checks import DIGITS, LETTERS, OF_IDS, is_id, is_module, is_name, is_tag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOWER = frozenset(string.ascii_lowercase)
# Letters that get into a name by mistake or on purpose: line ends, what ends a C string, what moves elsewhere, digits
# and letters that are not ASCII but look so, what is invisible, what turns the line around, and halves of pairs.
STRANGE = [*"\n\r\t\0 /\\.-_:;*?<>|\"'%$~+,0189AZazilou", "\u0663", "\uff15", "\u00b2", "\u0430", "\u0435", "\u212a"]
STRANGE += ["\u0131", "\u017f", "\u2028", "\u0085", "\u200b", "\u202e", "\ufeff", "\x1b", "\x7f", "\ud800", "\udcff"]
IDS = st.integers(0, 2**124 - 1).map(ids._encode)
MILLISECONDS = st.integers(0, LATEST_MS)


def only(text: str, allowed: frozenset[str], *, least: int = 1, most: int = 10**6) -> bool:
    return least <= len(text) <= most and set(text) <= allowed


def is_suffix(text: str) -> bool:
    return only(text, OF_IDS, least=8, most=26)


def is_few_modules(text: str) -> bool:
    return is_module(text) and text.count(".") <= 9


def is_ended_name(text: str) -> bool:
    return text.endswith(".json") and is_id(text[:-5])


def is_imported_name(text: str) -> bool:
    return text.startswith("in.") and is_ended_name(text[3:])


def is_pending_name(text: str) -> bool:
    return only(text[:13], DIGITS, least=13) and text[13:14] == "-" and is_ended_name(text[14:])


def is_claimed_name(text: str) -> bool:
    return only(text[:1], DIGITS) and text[1:2] == "." and is_pending_name(text[2:])


def is_bucket_name(text: str) -> bool:
    _, dash, rest = text.partition("-")
    digits, dot, more = rest.partition(".")
    kind = text.removesuffix(dash + rest)
    return (
        kind in {"now", "at"}
        and only(digits, DIGITS, least=12, most=12)
        and (only(more, DIGITS | LOWER, most=26) if dot else not more)
    )


def is_hour_name(text: str) -> bool:
    return only(text, DIGITS, least=10, most=10)


def is_size(text: str) -> bool:
    number = text.rstrip("BKMGi").rstrip(" ")
    return only(number, DIGITS, most=12) and text[len(number) :].lstrip(" ") in {"", "B", "KiB", "MiB", "GiB"}


def is_duration(text: str) -> bool:
    number = text[:-1] if text[-1:] in {"s", "m", "h", "d"} else text
    whole, dot, part = number.partition(".")
    return only(whole, DIGITS) and (only(part, DIGITS) if dot else not part)


def taken_as_duration(text: str) -> bool:
    try:
        durations.parse(text)
    except ValueError as error:
        return "100 years" in str(error)  # of the right form, but too long
    return True


GRAMMARS: dict[str, tuple[Callable[[str], object], Callable[[str], bool], st.SearchStrategy[str]]] = {
    "class and method": (NAME.fullmatch, is_name, st.from_regex(NAME.pattern, fullmatch=True)),
    "id": (ID.fullmatch, is_id, IDS),
    "end of an id": (SUFFIX.fullmatch, is_suffix, IDS.map(lambda text: text[-8:])),
    "tag": (TAG.fullmatch, is_tag, st.from_regex(TAG.pattern, fullmatch=True)),
    "module": (MODULE.fullmatch, is_few_modules, st.sampled_from(["a", "a.b", "_a.B1", ".".join("abcdefghij")])),
    "pending": (layout.parse_pending, is_pending_name, st.builds(layout.pending_name, MILLISECONDS, IDS)),
    "claimed": (
        layout.parse_claimed,
        is_claimed_name,
        st.builds(layout.claimed_name, st.integers(0, 9), st.builds(layout.pending_name, MILLISECONDS, IDS)),
    ),
    "ended": (layout.ENDED_NAME.fullmatch, is_ended_name, IDS.map(lambda text: f"{text}.json")),
    "imported": (layout.parse_imported, is_imported_name, IDS.map(lambda text: f"in.{text}.json")),
    "bucket": (
        layout.BUCKET_NAME.fullmatch,
        is_bucket_name,
        st.sampled_from(["now-202612010900", "at-202612010900", "at-202612010900.a0"]),
    ),
    "hour": (layout.HOUR_NAME.fullmatch, is_hour_name, st.just("2026120109")),
    "size": (settings.SIZE.fullmatch, is_size, st.sampled_from(["0", "12B", "8 MiB", "64KiB", "1GiB"])),
    "duration": (taken_as_duration, is_duration, st.sampled_from(["0", "90s", "5m", "2h", "1d", "0.5", "12.25h"])),
}


@st.composite
def changed(draw: st.DrawFn, good: st.SearchStrategy[str]) -> str:
    """Return something good with a few letters put in, left out or replaced."""
    text = draw(good)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text)))
        new = draw(st.sampled_from(["", *STRANGE]))
        text = text[:place] + new + text[place + draw(st.integers(0, 1)) :]
    return text


@pytest.mark.parametrize("which", GRAMMARS)
@given(data=st.data())
def test_a_grammar_takes_what_it_should_and_nothing_else(which: str, data: st.DataObject) -> None:
    taken, should_be, good = GRAMMARS[which]
    text = data.draw(changed(good) | st.text(st.sampled_from(STRANGE), max_size=30))
    assert bool(taken(text)) == should_be(text), ascii(text)


@pytest.mark.parametrize("which", GRAMMARS)
@given(data=st.data())
def test_a_grammar_takes_every_good_one_and_none_with_a_strange_letter_at_an_end(
    which: str, data: st.DataObject
) -> None:
    taken, should_be, good = GRAMMARS[which]
    text = data.draw(good)
    assert taken(text)
    assert should_be(text)
    for strange in ("\n", "\0", "\r\n", "\u2028", "\u0663", "\ud800", "\u200b", "/"):
        assert not taken(text + strange), ascii(text + strange)
        assert not taken(strange + text), ascii(strange + text)


@given(MILLISECONDS, IDS, st.integers(0, 9))
def test_the_names_of_files_say_again_what_they_were_made_of(ms: int, job_id: str, priority: int) -> None:
    pending = layout.pending_name(ms, job_id)
    assert is_pending_name(pending)
    assert layout.parse_pending(pending) == (ms, job_id)
    assert layout.parse_claimed(layout.claimed_name(priority, pending)) == (priority, ms, job_id)
    assert layout.parse_imported(f"in.{job_id}.json") == job_id


@given(st.integers(0, 9))
def test_a_priority_is_read_as_it_is_shown(priority: int) -> None:
    assert parse_priority(show_priority(priority)) == priority
    assert layout.PRIORITY_OF[layout.PRIORITY_NAMES[priority]] == priority


WORDS = {"low": 2, "normal": 5, "medium": 5, "high": 8} | {str(number): number for number in range(10)}


@given(changed(st.sampled_from(sorted(WORDS))))
def test_a_priority_is_one_of_few_words_with_or_without_space_around(text: str) -> None:
    try:
        assert parse_priority(text) == WORDS[text.strip().casefold()]
        assert text.strip().isascii(), ascii(text)
    except UsageError:
        assert text.strip().lower() not in WORDS


@given(st.datetimes(datetime(1971, 1, 1), datetime(2286, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - with a zone
def test_a_moment_is_read_as_it_is_written(moment: datetime) -> None:
    assert moment_of("at", moment.isoformat()) == moment
    assert moment_of("at", moment.isoformat(sep=" ").replace("+00:00", "Z")) == moment


@given(changed(st.sampled_from(["2026-12-01T09:00:00Z", "2026-12-01 09:00", "2026-12-01", "20261201T0900+0200"])))
def test_a_moment_holds_no_letter_that_a_moment_has_not(text: str) -> None:
    try:
        moment_of("at", text)
    except UsageError:
        pass
    else:
        assert set(text.strip()) <= DIGITS | set("-:.,+TZW "), ascii(text)


@given(st.timedeltas(timedelta(0), durations.LONGEST))
def test_a_duration_is_read_as_it_is_shown(length: timedelta) -> None:
    shown = durations.show(length)
    assert is_duration(shown)
    assert durations.parse(shown) == length


@given(
    name=changed(st.from_regex(NAME.pattern, fullmatch=True)),
    method=changed(st.from_regex(NAME.pattern, fullmatch=True)),
)
def test_the_allowlist_approves_names_alone(tmp_path_factory: pytest.TempPathFactory, name: str, method: str) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "grammar.toml"
    text = f'[jobs."{in_toml(name)}"]\nclass = "mail:Mail"\nmethods = ["{in_toml(method)}"]\n'
    path.write_text(text, "utf-8")
    good = is_name(name) and is_name(method) and "__" not in method and not keyword.iskeyword(method)
    try:
        [target] = Allowlist(settings.load(config=str(path), environ={}))
    except ConfigError:
        assert not good
    else:
        assert good
        assert (target.class_name, target.method) == (name, method)


def in_toml(text: str) -> str:
    """Return the text as TOML writes it between quotes; a half pair, which it cannot, as something else strange."""
    return "".join(f"\\U{ord(letter):08x}" if not 0xD800 <= ord(letter) < 0xE000 else "?" for letter in text)


def test_the_grammars_said_here_are_not_too_narrow() -> None:
    assert all(map(is_name, ["A", "a_1", "Z" * 64]))
    assert not any(map(is_name, ["", "1a", "_a", "a" * 65, "a-b"]))
    assert {letter for letter in map(chr, range(128)) if is_name(f"a{letter}")} == LETTERS | DIGITS | {"_"}
