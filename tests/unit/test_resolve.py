"""A name of the allowlist becomes a callable, or is refused, and asking runs nothing but the import."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from bgjobs.calls.resolve import resolve
from bgjobs.errors import NoSuchTargetError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

fresh = count()


class Module:
    """A module in a folder of its own, to be imported once."""

    def __init__(self, folder: Path, source: str) -> None:
        self.name = f"resolved_{next(fresh)}"
        (folder / f"{self.name}.py").write_text(dedent(source), encoding="utf-8")

    def resolve(self, method: str = "run", owner: str | None = "Mail") -> Callable[..., object]:
        return resolve(self.name, owner, method)

    def code(self, method: str = "run", owner: str | None = "Mail") -> str:
        with pytest.raises(RefusedError) as caught:
            self.resolve(method, owner)
        return caught.value.code


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Module]]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda source: Module(tmp_path, source)
    for name in [name for name in sys.modules if name.startswith("resolved_")]:
        del sys.modules[name]


MAIL = """
    import asyncio, abc, functools
    from dataclasses import dataclass
    from threading import Thread

    class Base:
        def inherited(self): return type(self).__name__

    class Mail(Base):
        greeting = "dear"
        def __init__(self, name="Ann"): self.name = name
        def run(self, a): return self.name, a
        @classmethod
        def shared(cls, a): return cls.__name__, a
        @staticmethod
        def loose(a): return a
        async def later(self, a): return a
        @functools.wraps(run)
        def wrapped(self, *args): return args

        def yields(self): yield 1
        async def yields_later(self): yield 1
        @property
        def asked(self): raise SystemExit
        @functools.cached_property
        def cached(self): raise SystemExit
        partial = functools.partialmethod(run, 1)
        builtin = len
        class Inner: ...
        def selfless(): ...

    @dataclass
    class Data:
        name: str = "Ann"
        def run(self): return self.name

    @dataclass
    class Wants:
        name: str
        def run(self): ...

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def run(self): ...

    class Breaks:
        def __init__(self): raise LookupError("no database")
        def run(self): ...

    class Picky:
        def __new__(cls, name): return super().__new__(cls)
        def run(self): ...

    class Giving(type):
        def __call__(cls): return super().__call__("Ann")

    class Given(metaclass=Giving):
        def __init__(self, name): self.name = name
        def run(self): return self.name

    def run(a): return a
    def yields(): yield 1
    small = lambda a: a
    number = 5
"""


@pytest.mark.parametrize(
    ("owner", "method", "args", "result"),
    [
        ("Mail", "run", [1], ("Ann", 1)),
        ("Mail", "inherited", [], "Mail"),
        ("Mail", "shared", [1], ("Mail", 1)),
        ("Mail", "loose", [1], 1),
        ("Mail", "wrapped", [1], (1,)),
        ("Data", "run", [], "Ann"),
        ("Given", "run", [], "Ann"),
        (None, "run", [1], 1),
        (None, "small", [1], 1),
    ],
)
def test_an_approved_method_can_be_called_with_its_arguments(
    module: Callable[[str], Module], owner: str | None, method: str, args: list[object], result: object
) -> None:
    assert module(MAIL).resolve(method, owner)(*args) == result


def test_a_coroutine_function_is_accepted(module: Callable[[str], Module]) -> None:
    later = module(MAIL).resolve("later")
    assert asyncio.run(later(1)) == 1  # type: ignore[arg-type]  # what it returns is a coroutine


@pytest.mark.parametrize(
    ("owner", "method", "code"),
    [
        ("Nobody", "run", "no-such-class"),
        ("number", "run", "no-such-class"),
        ("run", "run", "no-such-class"),
        ("Thread", "run", "no-such-class"),
        ("Mail", "nothing", "no-such-method"),
        ("Mail", "__init_subclass__", "no-such-method"),
        ("Mail", "mro", "no-such-method"),
        ("Mail", "greeting", "not-a-method"),
        ("Mail", "asked", "not-a-method"),
        ("Mail", "cached", "not-a-method"),
        ("Mail", "partial", "not-a-method"),
        ("Mail", "builtin", "not-a-method"),
        ("Mail", "Inner", "not-a-method"),
        ("Mail", "yields", "not-a-method"),
        ("Mail", "yields_later", "not-a-method"),
        ("Mail", "selfless", "not-a-method"),
        ("Wants", "run", "no-instance"),
        ("Picky", "run", "no-instance"),
        ("Abstract", "run", "no-instance"),
        (None, "nothing", "no-such-method"),
        (None, "dataclass", "no-such-method"),
        (None, "number", "not-a-method"),
        (None, "Mail", "not-a-method"),
        (None, "yields", "not-a-method"),
    ],
)
def test_what_is_not_an_approved_kind_of_method_is_refused(
    module: Callable[[str], Module], owner: str | None, method: str, code: str
) -> None:
    assert module(MAIL).code(method, owner) == code


@pytest.mark.parametrize("base", ["Thread", "dict", "Exception", "abc.ABC"])
@pytest.mark.parametrize("method", ["start", "update", "with_traceback", "register"])
def test_methods_of_pythons_own_classes_are_refused(module: Callable[[str], Module], base: str, method: str) -> None:
    source = f"import abc\nfrom threading import Thread\nclass Mail({base}): ...\n"
    assert module(source).code(method) == "no-such-method"


def test_a_base_may_come_from_another_module(module: Callable[[str], Module]) -> None:
    base = module("class Base:\n    def run(self): return 'base'\n")
    assert module(f"from {base.name} import Base\nclass Mail(Base): ...\n").resolve()() == "base"


def test_a_class_or_function_that_is_only_imported_is_refused(module: Callable[[str], Module]) -> None:
    other = module(MAIL)
    again = module(f"from {other.name} import Mail, run\n")
    assert again.code() == "no-such-class"
    assert again.code(owner=None) == "no-such-method"


def test_the_true_order_of_the_bases_decides(module: Callable[[str], Module]) -> None:
    source = """
        class Top:
            def run(self): return "top"
        class Left(Top): ...
        class Right(Top):
            def run(self): return "right"
        class Mail(Left, Right): ...
        """
    assert module(source).resolve()() == "right"


def test_looking_for_a_method_runs_none_of_the_hooks_of_a_class(module: Callable[[str], Module]) -> None:
    source = """
        ran = []

        class Meta(type):
            @property
            def run(cls): ran.append("property")
            def __getattribute__(cls, name):
                ran.append(name)
                return super().__getattribute__(name)
            def __getattr__(cls, name): ran.append(name)
            def __instancecheck__(cls, other): ran.append("instance")
            def __subclasscheck__(cls, other): ran.append("subclass")

        class Mail(metaclass=Meta):
            @staticmethod
            def run(): return ran
            def here(self): return ran
            def __getattribute__(self, name): ran.append(name)
            def __getattr__(self, name): ran.append(name)

        class Liar:
            @property
            def __class__(self): ran.append("class")

        liar = Liar()
        ran.clear()

        def __getattr__(name): ran.append(name)
        """
    found = module(source)
    assert found.resolve("run")() == []
    assert found.resolve("here")() == []
    for owner, method in [("Mail", "absent"), ("Absent", "run"), ("liar", "run"), (None, "absent")]:
        assert found.code(method, owner).startswith("no-such-")
    assert found.resolve("run")() == []


def test_a_module_that_puts_something_else_in_its_place_is_refused(module: Callable[[str], Module]) -> None:
    source = "import sys\nclass Mail:\n    def run(self): ...\nsys.modules[__name__] = Mail()\n"
    assert module(source).code() == "no-such-module"


@pytest.mark.parametrize("line", ["raise LookupError('no database')", "import nothing_of_that_name", "x = ("])
def test_an_error_of_the_import_is_passed_on_unchanged(module: Callable[[str], Module], line: str) -> None:
    broken = module(f"{line}\n")
    with pytest.raises((LookupError, ImportError, SyntaxError)):
        broken.resolve()


def test_an_error_of_the_constructor_is_passed_on_unchanged(module: Callable[[str], Module]) -> None:
    with pytest.raises(LookupError, match="no database"):
        module(MAIL).resolve(owner="Breaks")


def test_a_constructor_that_wants_arguments_is_named(module: Callable[[str], Module]) -> None:
    with pytest.raises(NoSuchTargetError, match=r"cannot be made without arguments: __init__ needs name"):
        module(MAIL).resolve(owner="Wants")
