"""What `signatures.read` says about sources, and that it runs none of them."""

from __future__ import annotations

import inspect
import py_compile
import sys
import zipfile
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs.calls.masking import ALL
from bgjobs.calls.signatures import Signature, Unreadable, annotation_in, read
from bgjobs.errors import NoSuchTargetError

if TYPE_CHECKING:
    from pathlib import Path


class Project:
    """Modules in a folder of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, source: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(source), encoding="utf-8")
        return file

    def read(self, module: str, owner: str | None, method: str) -> Signature | Unreadable:
        return read(module, owner, method, [str(self.root)])

    def signature(self, source: str, method: str = "run", owner: str | None = "Mail") -> Signature:
        found = self.of(source, method, owner)
        assert isinstance(found, Signature), found
        return found

    def reason(self, source: str, method: str = "run", owner: str | None = "Mail") -> str:
        found = self.of(source, method, owner)
        assert isinstance(found, Unreadable), found
        return found.reason

    def refusal(self, source: str, method: str = "run", owner: str | None = "Mail") -> NoSuchTargetError:
        with pytest.raises(NoSuchTargetError) as caught:
            self.of(source, method, owner)
        return caught.value

    def of(self, source: str, method: str, owner: str | None) -> Signature | Unreadable:
        self.write("post.py", source)
        return self.read("post", owner, method)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


# What a signature says


def test_the_text_of_a_signature_is_the_call_a_person_would_write(project: Project) -> None:
    found = project.signature("""
        class Mail:
            def run(self, name: str, time: str, place: str) -> None:
                '''Send it.

                At once.
                '''
        """)
    assert found.text() == "run(name: str, time: str, place: str)"
    assert found.doc == "Send it."
    assert not found.is_async


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("def run(self): ...", "run()"),
        ("def run(self, a, b=2): ...", "run(a, b=2)"),
        ("def run(self, a: 'dt.date | None' = None, *rest: int, key: bool = True, **more): ...",
         "run(a: 'dt.date | None' = None, *rest: int, key: bool = True, **more)"),
        ("def run(self, a, /, b, *, c): ...", "run(a, /, b, *, c)"),
        ("def run(this, /, a): ...", "run(a)"),
        ("def run(*args): ...", "run(*args)"),
        ("@staticmethod\n    def run(a): ...", "run(a)"),
        ("@classmethod\n    def run(cls, a): ...", "run(a)"),
        ("async def run(self, a): ...", "run(a)"),
        ("def run(self, a=lambda x: [x for x in range(3)]): ...", "run(a=lambda x: [x for x in range(3)])"),
    ],
)  # fmt: skip
def test_self_is_left_out_and_everything_else_is_shown(project: Project, written: str, text: str) -> None:
    assert project.signature(f"class Mail:\n    {written}\n").text() == text


def test_a_long_default_is_cut_and_stays_on_one_line(project: Project) -> None:
    found = project.signature(f"class Mail:\n    def run(self, a='''{'x' * 500}\n'''): ...\n")
    assert "\n" not in found.text()
    assert len(found.text()) < 120


def test_a_coroutine_function_says_that_it_is_one(project: Project) -> None:
    assert project.signature("class Mail:\n    async def run(self): ...\n").is_async


def test_a_function_of_a_module_needs_no_class(project: Project) -> None:
    assert project.signature("def run(self, a): ...\n", owner=None).text() == "run(self, a)"


NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=5, max_size=5, unique=True)


@given(names=NAMES, split=st.tuples(*[st.integers(0, 3)] * 3), star=st.booleans(), more=st.booleans())
def test_it_agrees_with_inspect_about_every_kind_of_parameter(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    split: tuple[int, int, int],
    star: bool,
    more: bool,
) -> None:
    only, defaults, by_name = split
    parts = [f"{name}={place}" if place >= 5 - defaults else name for place, name in enumerate(names)]
    parts.insert(only, "/") if only else None
    parts += ["*rest"] if star or by_name else []
    parts += [f"k{place}={place}" if place % 2 else f"k{place}" for place in range(by_name)]
    parts += ["**more"] if more else []
    source = f"def run({', '.join(parts)}): ...\n"
    scope: dict[str, object] = {}
    exec(source, scope)  # this very source, to compare with
    folder = tmp_path_factory.mktemp("agree")
    (folder / "post.py").write_text(source, encoding="utf-8")
    found = read("post", None, "run", [str(folder)])
    assert isinstance(found, Signature)
    assert str(found.inspect_signature) == str(inspect.signature(scope["run"]))  # type: ignore[arg-type]  # a function


@pytest.mark.parametrize(
    ("written", "secret", "hidden"),
    [
        ("def run(self, name, card): ...", {"card"}, {"card", "#1"}),
        ("def run(self, *, card): ...", {"card"}, {"card", "#0"}),
        ("def run(self, name, **more): ...", {"card"}, {"card"}),
        ("def run(self, *cards): ...", {"cards"}, ALL),
        ("def run(self, name, **cards): ...", {"cards"}, ALL),
    ],
)
def test_secret_arguments_are_known_by_name_and_by_place(
    project: Project, written: str, secret: set[str], hidden: set[str]
) -> None:
    assert project.signature(f"class Mail:\n    {written}\n").hidden(frozenset(secret)) == hidden


# Where it looks


def test_the_last_definition_of_a_name_wins(project: Project) -> None:
    source = """
        class Mail:
            def run(self, old): ...
        class Mail:
            def run(self, older): ...
            def run(self, new): ...
        """
    assert project.signature(source).text() == "run(new)"


@pytest.mark.parametrize(
    "wrapped",
    [
        "if True:\n    class Mail:\n        def run(self, a): ...\n",
        "try:\n    import no\nexcept ImportError:\n    pass\nelse:\n    class Mail:\n        def run(self, a): ...\n",
        "with open('x') as y:\n    class Mail:\n        def run(self, a): ...\n",
        "class Mail:\n    if True:\n        def run(self, a): ...\n",
        "import dataclasses as d\n@d.dataclass(frozen=True)\nclass Mail:\n    b: int = 1\n    def run(self, a): ...\n",
        "from abc import ABC, ABCMeta\nclass Mail(ABC, metaclass=ABCMeta):\n    def run(self, a): ...\n",
        "from typing import override\nclass Mail:\n    @override\n    def run(self, a): ...\n",
    ],
)
def test_a_class_or_method_is_found_inside_conditions_and_with_harmless_decorators(
    project: Project, wrapped: str
) -> None:
    assert project.signature(wrapped).text() == "run(a)"


def test_which_of_two_conditional_definitions_holds_is_not_guessed(project: Project) -> None:
    source = """
        import sys
        class Mail:
            if sys.platform == "win32":
                def run(self, a): ...
            else:
                def run(self, a, b): ...
        """
    assert "depends on a condition" in project.reason(source)


def test_folders_without_init_are_packages_too(project: Project) -> None:
    project.write("top/inner/mail.py", "class Mail:\n    def run(self, a): ...\n")
    found = project.read("top.inner.mail", "Mail", "run")
    assert isinstance(found, Signature)


def test_the_first_import_path_wins(project: Project, tmp_path: Path) -> None:
    project.write("post.py", "def run(mine): ...")
    other = Project(tmp_path / "other")
    other.write("post.py", "def run(theirs): ...")
    found = read("post", None, "run", [str(project.root), str(other.root)])
    assert isinstance(found, Signature)
    assert found.text() == "run(mine)"


def test_a_changed_source_is_read_anew(project: Project) -> None:
    assert project.signature("def run(a): ...\n", owner=None).text() == "run(a)"
    assert project.signature("def run(a, b): ...\n", owner=None).text() == "run(a, b)"


# Bases

BASE = "class Base:\n    def run(self, base): ...\n"


@pytest.mark.parametrize(
    "source",
    [
        "from pack.base import Base\nclass Mail(Base): ...\n",
        "from .base import Base as B\nclass Mail(B): ...\n",
        "from . import base\nclass Mail(base.Base): ...\n",
        "import pack.base\nclass Mail(pack.base.Base): ...\n",
        "import pack.base as b\nclass Mail(b.Base): ...\n",
        "from pack.again import Base\nclass Mail(Base): ...\n",
        "from typing import Generic\nfrom .base import Base\nclass Mail(Generic[T], Base): ...\n",
        "from .base import Base\nclass Between(Base): ...\nclass Mail(Between): ...\n",
    ],
)
def test_a_method_is_found_on_a_base_wherever_it_is_imported_from(project: Project, source: str) -> None:
    project.write("pack/__init__.py", "")
    project.write("pack/base.py", BASE)
    project.write("pack/again.py", "from .base import Base\n")
    project.write("pack/mail.py", source)
    found = project.read("pack.mail", "Mail", "run")
    assert isinstance(found, Signature)
    assert found.text() == "run(base)"


def test_the_order_of_the_bases_is_that_of_python(project: Project) -> None:
    source = """
        class Top:
            def run(self, top): ...
        class Left(Top): ...
        class Right(Top):
            def run(self, right): ...
        class Mail(Left, Right): ...
        """
    assert project.signature(source).text() == "run(right)"


def test_bases_that_are_shared_again_and_again_are_read_once(project: Project) -> None:
    levels = "".join(
        f"class L{n}(T{n - 1}): ...\nclass R{n}(T{n - 1}): ...\nclass T{n}(L{n}, R{n}): ...\n" for n in range(1, 60)
    )
    source = f"class T0:\n    def run(self, deep): ...\n{levels}class Mail(T59): ...\n"
    assert project.signature(source).text() == "run(deep)"


@pytest.mark.parametrize(
    "source",
    [
        "from nowhere import Base\nclass Mail(Base): ...\n",
        "class Mail(make()): ...\n",
        "class Mail(*bases): ...\n",
        "Base = make()\nclass Mail(Base): ...\n",
        "class Mail(Mail): ...\n",
        "import Base\nclass Mail(Base): ...\n",
        "from .outside import Base\nclass Mail(Base): ...\n",
        "from post import Base\nclass Mail(Base): ...\n",
        "from somewhere import *\nclass Mail(Base): ...\n",
    ],
)
def test_a_method_that_an_unreadable_base_may_have_is_not_refused(project: Project, source: str) -> None:
    assert project.reason(source)


def test_a_method_of_the_class_itself_needs_no_readable_base(project: Project) -> None:
    assert project.signature("class Mail(make()):\n    def run(self, a): ...\n").text() == "run(a)"


def test_methods_of_pythons_own_classes_are_no_methods_of_the_class(project: Project) -> None:
    source = "from threading import Thread\nclass Mail(Thread, Exception, dict): ...\n"
    assert project.refusal(source, "start").code == "no-such-method"


# Refusals


@pytest.mark.parametrize(
    ("target", "code", "meant"),
    [
        (("pots", "Mail", "run"), "no-such-module", "post"),
        (("post.inner", "Mail", "run"), "no-such-module", ""),
        (("folder", "Mail", "run"), "no-such-module", ""),
        (("post", "Mial", "run"), "no-such-class", "Mail"),
        (("post", "Mail", "rum"), "no-such-method", "run"),
        (("post", None, "snd"), "no-such-method", "send"),
        (("post", "send", "run"), "no-such-class", ""),
        (("post", "Thread", "run"), "no-such-class", ""),
        (("post", None, "sleep"), "no-such-method", ""),
    ],
)
def test_what_is_not_there_is_refused_with_what_was_perhaps_meant(
    project: Project, target: tuple[str, str | None, str], code: str, meant: str
) -> None:
    project.write("folder/notes.txt", "")
    project.write(
        "post.py",
        """
        from threading import Thread
        from time import sleep
        class Mail:
            def run(self): ...
        def send(): ...
        """,
    )
    with pytest.raises(NoSuchTargetError) as caught:
        project.read(*target)
    assert caught.value.code == code
    assert ("did you mean" in caught.value.hint) == bool(meant)
    assert meant in caught.value.hint


@pytest.mark.parametrize(
    "member",
    [
        "run = 3",
        "run: list = []",
        "class run: ...",
        "@property\n    def run(self): ...",
        "@property\n    def run(self): ...\n    @run.setter\n    def run(self, value): ...",
        "@cached_property\n    def run(self): ...",
        "def run(self): yield 1",
        "def run(self):\n        if x:\n            y = yield from z",
        "async def run(self): yield 1",
        "def run(): ...",
        "@classmethod\n    def run(): ...",
    ],
)
def test_what_is_no_plain_method_is_refused(project: Project, member: str) -> None:
    error = project.refusal(f"from functools import cached_property\nclass Mail:\n    {member}\n")
    assert error.code == "not-a-method"


def test_a_yield_of_an_inner_function_makes_no_generator(project: Project) -> None:
    source = """
        class Mail:
            def run(self):
                def inner():
                    yield 1
                return (lambda: (yield)), list(inner())
        """
    assert project.signature(source).text() == "run()"


# What only running the code could tell


@pytest.mark.parametrize(
    "source",
    [
        "class Mail:\n    @retried\n    def run(self): ...\n",
        "class Mail:\n    @staticmethod\n    @retried\n    def run(): ...\n",
        "def staticmethod(f): return f\nclass Mail:\n    @staticmethod\n    def run(): ...\n",
        "class Mail:\n    run = other\n",
        "class Mail:\n    run = partialmethod(other)\n",
        "class Mail:\n    from other import run\n",
        "@changed\nclass Mail:\n    def run(self): ...\n",
        "class Mail(metaclass=Meta):\n    def run(self): ...\n",
        "class Mail(**options):\n    def run(self): ...\n",
        "Mail = type('Mail', (), {})\n",
        "for Mail in classes: ...\n",
        "def __getattr__(name): ...\n",
    ],
)
def test_what_is_made_while_the_code_runs_is_unreadable_and_not_refused(project: Project, source: str) -> None:
    assert project.reason(source)


def test_a_syntax_error_is_named_with_file_and_line(project: Project) -> None:
    reason = project.reason("x = 1\n\nclass Mail(:\n")
    assert reason.startswith(f"{project.root / 'post.py'}:3: ")


@pytest.mark.parametrize("content", [b"x = '\0'\n", b"x = '\xff'\n", b"# coding: nothing-known\n", b"\xff\xfe\x00"])
def test_bytes_that_are_no_source_are_unreadable(project: Project, content: bytes) -> None:
    project.write("post.py", "").write_bytes(content)
    assert isinstance(project.read("post", "Mail", "run"), Unreadable)


def test_a_source_in_another_encoding_is_read_by_its_cookie(project: Project) -> None:
    source = "# -*- coding: latin-1 -*-\nclass Mail:\n    def run(self, straße='süß'): ...\n"
    project.write("post.py", "").write_bytes(source.encode("latin-1"))
    found = project.read("post", "Mail", "run")
    assert isinstance(found, Signature)
    assert found.text() == "run(straße='süß')"


def test_a_source_that_is_too_large_is_not_read(project: Project) -> None:
    assert "larger than 4 MiB" in project.reason("#" * 5_000_000)


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "(" * 90_000,
        "x = " + "-" * 90_000 + "1",
        "if a: pass\n" + "elif a: pass\n" * 20_000,
        "class Mail:\n    def run(self, a=" + "1+" * 50_000 + "1): ...",
    ],
)
def test_a_source_that_is_nested_too_deeply_is_unreadable(project: Project, source: str) -> None:
    assert project.reason(source)


def test_a_source_that_one_python_can_read_and_another_cannot_is_read_or_unreadable(project: Project) -> None:
    # Python 3.14 follows attributes as deep as these; those before do not.
    found = project.of("x = " + "a." * 90_000 + "a\nclass Mail:\n    def run(self, word): ...\n", "run", "Mail")
    assert isinstance(found, Unreadable) or found.text() == "run(word)"


def test_doubtful_escapes_in_a_source_warn_nobody(project: Project, recwarn: pytest.WarningsRecorder) -> None:
    project.signature("x = '\\d'\nclass Mail:\n    def run(self): ...\n")
    assert not recwarn.list


def test_compiled_and_zipped_modules_are_unreadable(project: Project, tmp_path: Path) -> None:
    source = project.write("post.py", "class Mail: ...\n")
    py_compile.compile(str(source), cfile=str(project.root / "compiled.pyc"))
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        archive.write(source, "zipped.py")
    paths = [str(project.root), str(tmp_path / "zipped.zip")]
    for module in ("compiled", "zipped"):
        assert isinstance(read(module, "Mail", "run", paths), Unreadable)


def test_a_module_of_an_editable_install_is_unreadable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = type("Finder", (), {"__module__": "__editable___shop_1_0_finder", "find_spec": lambda *_: None})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    assert isinstance(project.read("shop", "Mail", "run"), Unreadable)


def test_a_source_that_may_not_be_read_is_unreadable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("locked.py", "class Mail: ...\n")

    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    found = project.read("locked", "Mail", "run")
    monkeypatch.undo()
    assert found == Unreadable(f"cannot read {project.root / 'locked.py'}: Permission denied")


def test_a_package_that_moves_its_own_path_is_unreadable(project: Project) -> None:
    project.write("pack/__init__.py", "__path__ = ['/elsewhere']\n")
    assert isinstance(project.read("pack.post", "Mail", "run"), Unreadable)


# The promise


def test_nothing_of_the_source_runs(project: Project) -> None:
    marker = project.root / "ran"
    trap = f"open({str(marker)!r}, 'a').write(__name__)\n"
    catch_all = """
        class Meta(type):
            @property
            def run(cls): trap()
            def __getattribute__(cls, name): trap()
        class Helper:
            def __set_name__(self, owner, name): trap()
            def __init_subclass__(cls): trap()
        def trap(value=None):
            TRAP
        class Mail(Base, Helper, metaclass=Meta, option=trap()):
            attribute: trap() = trap()
            trap()
            @trap
            def decorated(self): ...
            def run(self, a: trap() = trap(), b: 'trap()' = [trap() for _ in '1']) -> trap(): ...
            if trap(): ...
        trap()
        """
    project.write("pack/__init__.py", trap)
    project.write("pack/base.py", f"{trap}class Base:\n    {trap}    def below(self, a={trap.strip()}): ...\n")
    project.write("pack/mail.py", trap + "from .base import Base\n" + dedent(catch_all).replace("TRAP", trap.strip()))
    before = set(sys.modules)
    for method in ("run", "below", "decorated", "absent", "attribute"):
        try:
            project.read("pack.mail", "Mail", method)
        except NoSuchTargetError:
            pass
        annotation_in("pack.mail", "trap() | int", [str(project.root)])
    assert not marker.exists()
    assert not {name for name in set(sys.modules) - before if name.startswith("pack")}
