"""What becomes of the arguments of a call: bound, refused, or turned from text into what the method asks for."""

from __future__ import annotations

import math
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import durations
from bgjobs.calls.binding import check, convert, needs_conversion
from bgjobs.calls.signatures import Signature, Unreadable, read
from bgjobs.errors import BadArgumentsError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

IMPORTS = """
    import dataclasses, datetime as dt, enum, typing, uuid
    from dataclasses import dataclass
    from datetime import date, datetime, time, timedelta
    from decimal import Decimal
    from pathlib import Path
    from typing import Annotated, Any, List, Literal, NewType, Optional, TypedDict, Union

    class Colour(enum.Enum):
        RED = "r"
        GREEN = 2

    class Named(TypedDict):
        name: str

    @dataclass
    class Point:
        x: int
        y: int = 0

    UserId = NewType("UserId", int)

    class Unknown:
        pass
"""


class Both:
    """One function, seen from both sides: by its source, and by what it is once loaded."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, source: str, imports: str = IMPORTS) -> None:
        text = dedent(imports) + dedent(source)
        (folder / "both_sides.py").write_text(text, encoding="utf-8")
        signature = read("both_sides", None, "run", [str(folder)])
        assert isinstance(signature, Signature)
        self.signature = signature
        self.module = ModuleType("both_sides")
        patch.setitem(sys.modules, "both_sides", self.module)
        exec(compile(text, "both_sides.py", "exec", dont_inherit=True), vars(self.module))
        self.run: Callable[..., object] = self.module.run

    def convert(
        self, *args: object, secret: Container[str] = (), **kwargs: object
    ) -> tuple[list[object], dict[str, object]]:
        check(self.signature, args, kwargs, text=True, secret=secret)
        return convert(self.run, args, kwargs, text=True, secret=secret)

    def value(self, text: str) -> Any:
        args, _ = self.convert(text)
        return args[0]

    def refusals(self, *args: object, secret: Container[str] = (), **kwargs: object) -> list[str]:
        """Return the message of each side that refuses."""
        found = []
        for refuse in (
            lambda: check(self.signature, args, kwargs, text=True, secret=secret),
            lambda: convert(self.run, args, kwargs, text=True, secret=secret),
        ):
            try:
                refuse()
            except BadArgumentsError as error:
                found.append(str(error))
        return found


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Both]:
    return lambda source, **more: Both(tmp_path, monkeypatch, source, **more)


def taking(both: Callable[..., Both], annotation: str) -> Both:
    return both(f"def run(value: {annotation}): ...\n")


# Binding

ANY_CALL = "def run(first, second=2, *, key, other=None): ...\n"


@pytest.mark.parametrize(
    ("source", "args", "kwargs", "says"),
    [
        ("def run(a, b): ...", ["1"], {}, "run lacks b: write run(a, b)"),
        ("def run(a, b, *, c): ...", [], {}, "run lacks a, b, c: write run(a, b, *, c)"),
        ("def run(a): ...", ["1", "2"], {}, "run takes at most 1 argument by position, 2 were given: write run(a)"),
        ("def run(): ...", ["1"], {}, "run takes no argument by position, 1 were given: write run()"),
        ("def run(name): ...", [], {"nmae": "x"}, "run has no argument 'nmae': did you mean name?"),
        ("def run(a, /): ...", [], {"a": "x"}, "run has no argument 'a': write run(a, /)"),
        ("def run(a): ...", ["1"], {"a": "2"}, "run got a twice, by position and by name: write run(a)"),
    ],
)
def test_a_call_that_cannot_be_made_is_refused_by_both_sides_in_the_same_words(
    both: Callable[..., Both], source: str, args: list[str], kwargs: dict[str, str], says: str
) -> None:
    assert both(source + "\n").refusals(*args, **kwargs) == [says, says]


@given(
    args=st.lists(st.just("x"), max_size=4),
    kwargs=st.dictionaries(st.sampled_from("abcdefz"), st.just("y"), max_size=4),
    source=st.sampled_from(
        [
            "a, b=1",
            "a, /, b, *, c",
            "a, /, **more",
            "a, *rest, c=1",
            "*rest, **more",
            "a=1, /, b=2, *, c, d=4, **more",
            "",
        ]
    ),
)
def test_a_call_is_refused_exactly_when_python_would_refuse_it(
    args: list[str], kwargs: dict[str, str], source: str
) -> None:
    scope: dict[str, Any] = {}
    exec(f"def run({source}): ...", scope)
    try:
        scope["run"](*args, **kwargs)
    except TypeError:
        with pytest.raises(BadArgumentsError):
            convert(scope["run"], args, kwargs, text=True)
    else:
        assert convert(scope["run"], args, kwargs, text=True) == (args, kwargs)


def test_a_bound_method_is_called_without_self() -> None:
    class Mail:
        def run(self, a: int) -> int:
            return a

    assert convert(Mail().run, ["5"], {}, text=True) == ([5], {})


# What text becomes


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("str", " 5", " 5"),
        ("int", "+007", 7),
        ("int", "-5", -5),
        ("float", "1.5e3", 1500.0),
        ("float", ".5", 0.5),
        ("Decimal", "19.90", Decimal("19.90")),
        ("bool", "yes", True),
        ("bool", "off", False),
        ("bool", "0", False),
        ("bool", "True", True),
        ("date", "2026-12-01", date(2026, 12, 1)),
        ("dt.date", "2026-12-01", date(2026, 12, 1)),
        ("date", "20261201", date(2026, 12, 1)),
        ("date", "2026-W49-2", date(2026, 12, 1)),
        ("datetime", "2026-12-01T09:00Z", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("datetime", "2026-12-01 090000.5+01:00", datetime(2026, 12, 1, 8, 0, 0, 500_000, UTC)),
        ("time", "09:00", time(9)),
        ("timedelta", "90s", timedelta(seconds=90)),
        ("timedelta", "0.5", timedelta(milliseconds=500)),
        ("timedelta", "PT5M", timedelta(minutes=5)),
        ("timedelta", "P1DT2H", timedelta(days=1, hours=2)),
        ("Path", "a/b", Path("a/b")),
        ("uuid.UUID", "01234567-89ab-cdef-0123-456789abcdef", UUID("0123456789abcdef0123456789abcdef")),
        ("int | None", "null", None),
        ("int | None", "5", 5),
        ("Optional[int]", "null", None),
        ("str | None", "null", None),
        ("str | None", "nil", "nil"),
        ("None", "null", None),
        ("str | int", "5", 5),
        ("Union[int, date, str]", "2026-12-01", date(2026, 12, 1)),
        ("int | str", "five", "five"),
        ("int | list[int] | None", "[1]", [1]),
        ("Unknown | int", "5", 5),
        ("Literal['a', 1, True, None]", "a", "a"),
        ("Literal['a', 1, True, None]", "1", 1),
        ("Literal['a', 1, True, None]", "null", None),
        ("Literal[-1]", "-1", -1),
        ("list", '[1, "2"]', [1, "2"]),
        ("list[date]", '["2026-12-01"]', [date(2026, 12, 1)]),
        ("List[int]", "[1]", [1]),
        ("list[Path]", '["a"]', [Path("a")]),
        ('list["Nowhere"]', "[1]", [1]),
        ("dict[str, int]", '{"a": 1}', {"a": 1}),
        ("tuple[int, str]", '[1, "a"]', (1, "a")),
        ("set[int]", "[1, 1]", {1}),
        ("frozenset", "[1]", frozenset({1})),
        ("Named", '{"name": "Ann"}', {"name": "Ann"}),
        ("Annotated[int, 'about']", "5", 5),
        ("'int'", "5", 5),
        ("'Nowhere | int'", "5", "5"),
        ("'Optional[()]'", "5", "5"),
        ("UserId", "5", 5),
        ("Any", "5", "5"),
        ("Unknown", "5", "5"),
        ("bytes", "5", "5"),
        ("3 + 4", "5", "5"),
    ],
)  # fmt: skip
def test_text_becomes_what_the_annotation_says(
    both: Callable[..., Both], annotation: str, text: str, value: object
) -> None:
    found = taking(both, annotation).value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "texts"),
    [
        ("int", ["", "5.0", "0x10", "1_000", " 5", "5\n", "\u0665", "--5", "five"]),
        ("float", ["", "nan", "inf", "-Infinity", "1e999", "1_0.5", " 1", "0x1p3", "\uff11"]),
        ("Decimal", ["", "NaN", "sNaN", "Infinity", "1_0", "1e99999999", " 1", "9" * 4301]),
        ("bool", ["", "2", "maybe", "y", "t", " true"]),
        ("date", ["", "yesterday", "4111111111", "2026-13-01", "2026-12-01T09:00", "01.12.2026"]),
        ("datetime", ["", "now", "2026-12-01x09:00", "2026-12-01T25:00"]),
        ("time", ["", "9", "25:00", "noon"]),
        ("timedelta", ["", "-5s", "5 m", "5x", "P1Y", "P", "PT", "P1DT", "inf", "999999d"]),
        ("uuid.UUID", ["", "1234", "0123456789abcdef_123456789abcdef", "{01234567-89ab-cdef-0123-456789abcdef}"]),
        ("int | None", ["", "None", "NULL"]),
        ("int | date", ["x"]),
        ("Literal['a', 1]", ["b", "A", "2", "true", "1.0"]),
        ("Literal[True]", ["false", "2"]),
        ("list[int]", ["", "1", "{}", "[1", "NaN", "[NaN]", "[" * 50_000]),
        ("dict[str, int]", ["[]", "null", "{'a': 1}"]),
        ("set[int]", ["{}"]),
        ("None", ["", "None"]),
    ],
)
def test_text_that_does_not_fit_is_refused_by_both_sides(
    both: Callable[..., Both], annotation: str, texts: Sequence[str]
) -> None:
    side = taking(both, annotation)
    for text in texts:
        assert len(side.refusals(text)) == 2, text[:40]


@pytest.mark.parametrize(
    ("annotation", "texts"),
    [
        ("list[int]", ['["1"]', "[1.5]"]),
        ("tuple[int, str]", ["[1]"]),
        ("set", ["[[1]]"]),
        ("Colour", ["", "red", "3", "Colour.RED"]),
        ("Literal[Colour.RED]", ["GREEN", "2"]),
        ("Point", ["{}", "[1]", '{"x": "1"}']),
        ("Named", ["{}"]),
        ("UserId", ["x"]),
        ("list[Unknown]", ['["x"]']),
    ],
)  # fmt: skip
def test_the_runner_refuses_what_the_source_alone_does_not_show(
    both: Callable[..., Both], annotation: str, texts: Sequence[str]
) -> None:
    side = taking(both, annotation)
    for text in texts:
        assert side.refusals(text), text


REPEATED = ['{"x": 1, "x": 2}', '[{"x": 1, "\\u0078": 1}]', '{"y": {"x": 1, "z": 2, "x": 3}}']


@pytest.mark.parametrize("text", REPEATED)
@pytest.mark.parametrize(
    "annotation",
    ["dict", "dict[str, int]", "dict | None", "dict | str", "list", "list[dict]", "tuple", "set", "Point", "Named"],
)
def test_a_key_that_is_given_twice_is_named_whatever_takes_the_object(
    both: Callable[..., Both], annotation: str, text: str
) -> None:
    side = taking(both, annotation)
    refusals = side.refusals(text)
    assert refusals
    assert all("a key is given twice: 'x'" in refusal for refusal in refusals)


def test_an_object_in_a_text_is_of_no_interest(both: Callable[..., Both]) -> None:
    assert taking(both, "str").value(REPEATED[0]) == REPEATED[0]


def test_a_whole_number_may_have_4300_digits_and_no_more(both: Callable[..., Both]) -> None:
    side = taking(both, "int")
    assert side.value("-" + "9" * 4300) == 1 - 10**4300
    assert len(side.refusals("9" * 4301)) == 2


def test_an_enum_is_written_by_name_or_by_value(both: Callable[..., Both]) -> None:
    side = taking(both, "Colour")
    red, green = side.module.Colour.RED, side.module.Colour.GREEN
    assert [side.value(text) for text in ("RED", "r", "GREEN", "2")] == [red, red, green, green]
    assert taking(both, "Literal[Colour.RED]").value("r").name == "RED"


def test_a_dataclass_is_written_as_a_json_object(both: Callable[..., Both]) -> None:
    side = taking(both, "Point")
    assert side.value('{"x": 1}') == side.module.Point(1, 0)


def test_a_moment_without_zone_is_local(both: Callable[..., Both]) -> None:
    found = taking(both, "datetime").value("2026-12-01 09:00")
    assert found == datetime(2026, 12, 1, 9).astimezone()
    assert found.tzinfo is not None


def test_a_moment_at_the_edge_of_the_calendar_is_refused_or_read_by_both_sides(both: Callable[..., Both]) -> None:
    side = taking(both, "datetime")
    for text in ("0001-01-01T00:00", "9999-12-31T23:59:59.999999"):
        assert len(side.refusals(text)) in {0, 2}


def test_a_dataclass_whose_own_annotations_are_broken_is_an_error_of_the_code(both: Callable[..., Both]) -> None:
    side = both("@dataclass\nclass Broken:\n    x: 'Nowhere'\ndef run(value: Broken): ...\n")
    with pytest.raises(NameError):
        side.value("{}")


def test_a_function_that_does_not_say_what_it_takes_is_refused() -> None:
    def run() -> None: ...

    run.__signature__ = 5  # type: ignore[attr-defined]  # as a careless decorator may do
    with pytest.raises(BadArgumentsError, match="has no signature that can be read"):
        convert(run, [], {}, text=True)


def test_extra_arguments_get_the_annotation_of_what_collects_them(both: Callable[..., Both]) -> None:
    side = both("def run(a, *rest: int, **more: bool): ...\n")
    assert side.convert("1", "2", "3", b="yes") == (["1", 2, 3], {"b": True})
    assert len(side.refusals("1", "x")) == 2
    assert len(side.refusals("1", b="x")) == 2


def test_values_that_are_no_text_keep_their_types(both: Callable[..., Both]) -> None:
    side = both("def run(a: str, b: int, c: list[int]): ...\n")
    args = [5, None, {"x": 1}]
    assert side.convert(*args) == (args, {})
    check(side.signature, ["1", "x", "[]"], {}, text=False)
    assert convert(side.run, ["1", "x", "[]"], {}, text=False) == (["1", "x", "[]"], {})


def test_a_name_that_only_type_checkers_import_still_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, both: Callable[..., Both]
) -> None:
    imports = """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from decimal import Decimal
            from nowhere import Thing
        """
    monkeypatch.syspath_prepend(str(tmp_path))
    side = both("def run(amount: Decimal, thing: Thing | None = None): ...\n", imports=imports)
    assert side.convert("1.5", "x") == ([Decimal("1.5"), "x"], {})
    assert len(side.refusals("x")) == 2


@pytest.mark.parametrize(
    "shadow",
    [
        "class int: ...\n",
        "def int(): ...\n",
        "int = make()\n",
        "from nowhere import *\n",
        "if x:\n    from a import b as int\nelse:\n    int = 3\n",
    ],
)
def test_a_name_that_the_module_binds_itself_is_not_taken_for_pythons_own(tmp_path: Path, shadow: str) -> None:
    (tmp_path / "shadow.py").write_text(f"{shadow}def run(value: int): ...\n", encoding="utf-8")
    signature = read("shadow", None, "run", [str(tmp_path)])
    assert isinstance(signature, Signature)
    check(signature, ["anything"], {}, text=True)
    assert needs_conversion(signature)


def test_a_name_that_the_class_binds_itself_is_not_taken_for_pythons_own(tmp_path: Path) -> None:
    source = "class Mail:\n    def list(self): ...\n    def run(self, value: list[int]): ...\n"
    (tmp_path / "shadow.py").write_text(source, encoding="utf-8")
    signature = read("shadow", "Mail", "run", [str(tmp_path)])
    assert isinstance(signature, Signature)
    check(signature, ["anything"], {}, text=True)


@pytest.mark.parametrize(
    ("parameters", "needed"),
    [("a, b: str, *c: str, **d", False), ("", False), ("a: 'str'", False), ("a: int", True), ("a: str | None", True),
     ("a: Unknown", True), ("*a: int", True)],
)  # fmt: skip
def test_text_needs_no_conversion_where_only_text_is_taken(
    both: Callable[..., Both], parameters: str, needed: bool
) -> None:
    assert needs_conversion(both(f"def run({parameters}): ...\n").signature) is needed


def test_text_for_an_unreadable_source_is_converted_by_the_runner() -> None:
    assert needs_conversion(Unreadable("compiled"))


# What a refusal says


def test_a_refusal_is_one_line_that_says_which_argument_and_what_to_write(both: Callable[..., Both]) -> None:
    says = "run: amount='12x' does not fit int: write a whole number such as 42"
    assert both("def run(amount: int): ...\n").refusals("12x") == [says, says]


def test_a_member_of_an_enum_is_asked_for_by_the_name_that_is_taken(both: Callable[..., Both]) -> None:
    says = taking(both, "Literal[Colour.RED, 'blue']").refusals("green")
    assert [text.rpartition(": ")[2] for text in says] == ["write one of RED, blue"]


@pytest.mark.parametrize(
    "annotation", ["bool", "date", "list[bool]", "Colour", "Literal['a']", "dict[str, Literal['a']]"]
)
def test_long_values_and_secret_values_are_never_repeated(both: Callable[..., Both], annotation: str) -> None:
    side = taking(both, annotation)
    secret, long = "4111111111", "4111111111" * 5
    for text in (secret, f'["{secret}"]', f'{{"a": "{secret}"}}'):
        refusals = side.refusals(text, secret={"value"})
        assert refusals
        assert not any(secret in says for says in refusals)
        assert all("value=***" in says for says in refusals)
    for text in (long, f'["{long}"]', f'{{"{long}": "{long}"}}'):
        assert not any(secret in says for says in side.refusals(text))


def test_a_secret_argument_that_double_star_collects_is_never_repeated(both: Callable[..., Both]) -> None:
    side = both("def run(**more: bool): ...\n")
    for secret in ("card", "more"):
        says = "run: 'card'=*** does not fit bool: write true or false"
        assert side.refusals(card="4111", secret={secret}) == [says, says]


def test_no_traceback_leads_back_to_the_value(both: Callable[..., Both]) -> None:
    with pytest.raises(BadArgumentsError) as caught:
        convert(taking(both, "date").run, ["4111111111"], {}, text=True, secret={"value"})
    assert caught.value.__suppress_context__


def test_control_characters_in_a_value_are_escaped(both: Callable[..., Both]) -> None:
    says = taking(both, "int").refusals("\x1b[31m\n\u202e")[0]
    assert says.isprintable()


def test_defaults_of_the_loaded_function_are_not_shown(both: Callable[..., Both]) -> None:
    assert "[0, 0, 0]" not in both("def run(a, b=[0] * 3): ...\n").refusals()[1]


# Properties


@given(st.integers())
def test_every_whole_number_is_read_as_itself(number: int) -> None:
    def run(value: int) -> None: ...

    assert convert(run, [str(number)], {}, text=True) == ([number], {})


@given(st.text())
def test_whatever_is_read_as_int_is_plain_ascii_digits(text: str) -> None:
    def run(value: int) -> None: ...

    try:
        [number], _ = convert(run, [text], {}, text=True)
    except BadArgumentsError:
        assert not (text.isascii() and text.isdigit())
    else:
        assert text.isascii()
        assert text.lstrip("+-").isdigit()
        assert number == int(text)


@given(st.text() | st.sampled_from(["TRUE", "On", "nO", "1", "0"]))
def test_a_text_is_true_or_false_only_when_it_is_one_of_eight_words(text: str) -> None:
    def run(value: bool) -> None: ...

    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    try:
        [value], _ = convert(run, [text], {}, text=True)
    except BadArgumentsError:
        assert text.lower() not in words
    else:
        assert value is words[text.lower()]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_as_itself(number: float) -> None:
    def run(value: float, exact: Decimal) -> None: ...

    [value, exact], _ = convert(run, [repr(number), repr(number)], {}, text=True)
    assert value == number
    assert exact == Decimal(repr(number))


LENGTHS = st.timedeltas(min_value=timedelta(0), max_value=durations.LONGEST)


@given(LENGTHS)
def test_a_length_that_is_shown_is_read_as_the_same_length(length: timedelta) -> None:
    assert durations.parse(durations.show(length)) == length


@given(st.integers(0, 10**7), st.sampled_from(["s", "m", "h", "d", ""]))
def test_a_length_is_a_number_times_its_unit(number: int, unit: str) -> None:
    seconds = number * {"s": 1, "m": 60, "h": 3600, "d": 86_400, "": 1}[unit]
    if seconds <= durations.LONGEST.total_seconds():
        assert durations.parse(f"{number}{unit}") == timedelta(seconds=seconds)
    else:
        with pytest.raises(ValueError, match="100 years"):
            durations.parse(f"{number}{unit}")


@given(st.text() | st.integers() | st.floats())
def test_whatever_is_read_as_a_length_is_neither_negative_nor_endless(value: str | float) -> None:
    try:
        length = durations.parse(value)
    except ValueError:
        return
    assert timedelta(0) <= length <= durations.LONGEST


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1w", timedelta(weeks=1)),
        ("1w2d3h4m5s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("1m0.5s", timedelta(seconds=60.5)),
    ],
)
def test_a_length_may_have_several_units_the_largest_first(text: str, length: timedelta) -> None:
    assert durations.parse(text) == length


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5 m",
        "-1",
        "1e3",
        "\u0665",
        "5ms",
        "30m1h",
        "1h30",
        "1h1h",
        "1h 30m",
        "1W",
        "5M",
        math.nan,
        math.inf,
        -1,
        True,
        10**400,
    ],
)
def test_what_is_no_length_is_refused(value: str | float) -> None:
    with pytest.raises(ValueError, match="must"):
        durations.parse(value)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=5), "5m"),
        (timedelta(hours=36), "36h"),
        (timedelta(days=7), "7d"),
        (timedelta(milliseconds=1500), "1.5s"),
        (timedelta(seconds=-5), "-5s"),
        (timedelta(seconds=-0.5), "-0.5s"),
    ],
)
def test_a_length_is_shown_in_its_largest_whole_unit(length: timedelta, text: str) -> None:
    assert durations.show(length) == text
