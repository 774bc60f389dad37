"""Who could change what lies at a path: real modes, real owners, real links."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bgjobs import system
from bgjobs.config import permissions, settings, trust
from bgjobs.config.allowlist import Allowlist
from bgjobs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX")
root_only = pytest.mark.skipif(not system.is_elevated(), reason="only root can give files to others")
NOBODY = 65534
ALLOWED = '[jobs.Mail]\nclass = "letters.mail:Mail"\nmethods = ["send"]\n'
MAIL = "class Mail:\n    def send(self, to): ...\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project, closed to others."""
    made = tmp_path / "project"
    (made / "letters").mkdir(parents=True)
    (made / "letters" / "__init__.py").touch()
    (made / "letters" / "mail.py").write_text(MAIL, encoding="utf-8")
    (made / "letters" / "__pycache__").mkdir()
    (made / "allowed_jobs.toml").write_text(ALLOWED, encoding="utf-8")
    for path in (made, *made.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


def codes(path: Path, *, names_matter: bool = False) -> list[tuple[str, str]]:
    return [(found.path, found.code) for found in permissions.weaknesses(str(path), names_matter=names_matter)]


def load(folder: Path) -> settings.Settings:
    return settings.load(config=str(folder / "allowed_jobs.toml"), environ={})


def found(folder: Path) -> dict[str, str]:
    """Return what is found in a project, by the name of the file or directory."""
    configured = settings.load(config=str(folder / "allowed_jobs.toml"), environ={}, strict=False)
    weak = trust.weaknesses(configured, Allowlist(configured))
    return {os.path.relpath(one.path, folder): one.code for one in weak}


def test_what_only_we_can_write_to_is_sound(folder: Path) -> None:
    assert codes(folder / "allowed_jobs.toml") == []
    assert found(folder) == {}
    assert load(folder).text == ALLOWED


@pytest.mark.parametrize("name", ["allowed_jobs.toml", "letters", "letters/mail.py"])
def test_what_every_user_can_write_to_is_named_with_what_to_do(folder: Path, name: str) -> None:
    path = folder / name
    path.chmod(path.stat().st_mode | 0o002)
    (weak,) = permissions.weaknesses(str(path))
    assert str(weak) == f"{path} can be changed by every user: chmod o-w {path}"


def test_what_lies_in_a_directory_that_others_can_write_to_is_theirs_to_replace(folder: Path) -> None:
    folder.chmod(0o777)
    assert codes(folder / "allowed_jobs.toml") == [(str(folder), "open-to-others")]


def test_a_sticky_directory_protects_what_is_ours_but_not_what_is_searched_in_it(folder: Path) -> None:
    folder.chmod(0o1777)
    assert codes(folder / "allowed_jobs.toml") == []
    assert codes(folder, names_matter=True) == [(str(folder), "open-to-others")]
    assert found(folder) == {".": "open-to-others"}  # it is an import path as well


def test_a_link_is_followed_and_what_it_leads_through_counts(folder: Path, tmp_path: Path) -> None:
    between = tmp_path / "between"
    between.mkdir()
    (between / "to").symlink_to("../project")
    link = tmp_path / "allowed_jobs.toml"
    link.symlink_to(between / "to" / "allowed_jobs.toml")
    assert codes(link) == []
    between.chmod(0o777)
    assert codes(link) == [(str(between), "open-to-others")]


def test_two_dots_behind_a_link_lead_to_what_is_above_its_target(folder: Path, tmp_path: Path) -> None:
    (folder / "below").mkdir()
    (folder / "allowed_jobs.toml").touch()
    link = tmp_path / "link"
    link.symlink_to(folder / "below")
    path = str(link / ".." / "allowed_jobs.toml")
    assert list(permissions.weaknesses(path)) == []
    folder.chmod(0o777)
    assert [found.path for found in permissions.weaknesses(path)] == [str(folder)]
    with pytest.raises(ConfigError, match="can be changed by every user"):
        settings.load(config=path)


def test_a_link_to_itself_ends_the_way(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert codes(tmp_path / "loop" / "inner") == []
    assert codes(tmp_path / "nothing" / "inner") == []


def test_an_allowlist_that_others_can_write_to_is_refused_when_it_is_read(folder: Path) -> None:
    (folder / "allowed_jobs.toml").chmod(0o666)
    with pytest.raises(ConfigError, match="can be changed by every user: chmod o-w") as refused:
        load(folder)
    assert refused.value.code == "open-to-others"


def test_it_is_the_file_that_was_read_whose_mode_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder / "allowed_jobs.toml"
    config.chmod(0o666)
    whole = permissions.weakness

    def swapped(path: str, state: os.stat_result, *, sticky_is_safe: bool = False) -> permissions.Weakness | None:
        fresh = folder / "fresh"
        fresh.write_text(ALLOWED, encoding="utf-8")
        fresh.replace(path)  # what lies there now is sound, but was not read
        return whole(path, state, sticky_is_safe=sticky_is_safe)

    monkeypatch.setattr(permissions, "weakness", swapped)
    with pytest.raises(ConfigError, match="can be changed by every user"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["letters", "letters/mail.py", "letters/__init__.py", "letters/__pycache__", "compiled"]
)
def test_whatever_python_reads_to_import_a_module_counts(folder: Path, name: str) -> None:
    if name == "compiled":
        subprocess.run([sys.executable, "-B", "-m", "compileall", "-q", "letters"], cwd=folder, check=True)
        (path,) = (folder / "letters" / "__pycache__").glob("mail.*.pyc")
    else:
        path = folder / name
    path.chmod(0o777)
    assert found(folder) == {os.path.relpath(path, folder): "open-to-others"}
    configured = load(folder)  # the allowlist itself is sound
    with pytest.raises(ConfigError, match="can be changed by every user"):
        trust.refuse(configured, Allowlist(configured))


def test_the_compiled_module_that_counts_is_the_one_that_a_runner_would_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(folder / "elsewhere"))
    (folder / "letters" / "__pycache__").chmod(0o777)
    assert found(folder) == {"letters/__pycache__": "open-to-others"}


def test_looking_at_a_module_imports_nothing(folder: Path) -> None:
    found(folder)
    assert [name for name in sys.modules if name.startswith("letters")] == []


# Groups


def test_a_group_of_our_own_may_write(folder: Path) -> None:
    os.chown(folder / "allowed_jobs.toml", -1, os.getegid())
    (folder / "allowed_jobs.toml").chmod(0o664)
    assert codes(folder / "allowed_jobs.toml") == []


@root_only
def test_another_group_may_not_write(folder: Path) -> None:
    os.chown(folder / "letters", -1, NOBODY)
    (folder / "letters").chmod(0o775)
    assert found(folder) == {"letters": "open-to-others"}


@root_only
@pytest.mark.skipif(sys.platform != "linux", reason="access lists hide in the mode on Linux alone")
def test_a_grant_by_an_access_list_is_no_private_group(folder: Path) -> None:
    path = folder / "allowed_jobs.toml"
    nobody_else = 2**32 - 1
    entries = [(1, 6, nobody_else), (2, 6, NOBODY), (4, 4, nobody_else), (16, 6, nobody_else), (32, 4, nobody_else)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"no access lists on this disk: {error}")
    assert path.stat().st_mode & 0o020  # the mask shows where the group's bits were
    (weak,) = permissions.weaknesses(str(path))
    assert weak.what == "can be changed by those on its access list"


# Owners


@root_only
@pytest.mark.parametrize("name", ["allowed_jobs.toml", "letters", "letters/mail.py"])
def test_what_belongs_to_another_user_is_found_whatever_its_mode(folder: Path, name: str) -> None:
    os.chown(folder / name, NOBODY, -1)
    (folder / name).chmod(0o700)
    assert found(folder) == {name: "not-ours"}


@root_only
def test_a_link_of_another_user_is_found(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    os.chown(link, NOBODY, -1, follow_symlinks=False)
    assert codes(link / "allowed_jobs.toml") == [(str(link), "not-ours")]


@root_only
def test_a_sticky_directory_of_another_user_is_found(folder: Path) -> None:
    folder.chmod(0o1777)
    os.chown(folder, NOBODY, -1)
    assert codes(folder / "allowed_jobs.toml") == [(str(folder), "not-ours")]


def as_nobody(act: Callable[[], object]) -> str:
    """Do something as another user, in a child, and return what stopped it."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        status = 3
        try:
            act()
            status = 2
        except PermissionError:
            status = 1
        finally:
            os._exit(status)
    return {1: "stopped", 2: "done", 3: "failed"}[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


@root_only
def test_another_user_can_change_what_is_found_and_nothing_that_is_sound(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    place = tempfile.TemporaryDirectory()  # the other folders of the tests may be entered by nobody else
    request.addfinalizer(place.cleanup)
    Path(place.name).chmod(0o755)
    folder = folder.rename(Path(place.name, "project"))
    module = folder / "letters" / "mail.py"
    assert found(folder) == {}
    for act in (
        lambda: module.write_text("theirs", encoding="utf-8"),
        module.unlink,
        lambda: (folder / "letters").rename(folder / "away"),
        (folder / "letters" / "new.py").touch,
    ):
        assert as_nobody(act) == "stopped"
    module.chmod(0o646)
    assert found(folder) == {"letters/mail.py": "open-to-others"}
    assert as_nobody(lambda: module.write_text(MAIL + "# theirs\n", encoding="utf-8")) == "done"
