"""Keys, signatures, and the file that the keys lie in: real files, real modes, and every byte of a signed line."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import signing, system
from bgjobs.errors import ConfigError, RefusedError
from bgjobs.signing import JOB, Keyring, Keys

if TYPE_CHECKING:
    from pathlib import Path

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX")
root_only = pytest.mark.skipif(not system.is_elevated(), reason="only root can give files to others")
OLD, NEW = bytes(range(32)), bytes(range(100, 140))
KEYS = Keys([("new", NEW), ("old", OLD)])
LINE = b'{"format":1,"class":"Mail","args":["a,\\"sig\\":\\"b"]}'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def refused(line: bytes, keys: Keys = KEYS, purpose: bytes = JOB) -> str:
    """Return the code with which a line is refused, or nothing."""
    try:
        keys.check(purpose, line)
    except RefusedError as error:
        return error.code
    return ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good file with two keys."""
    made = tmp_path / "signing.keys"
    made.write_text(f"# ours\n\nnew {NEW.hex()}\n  old\t{OLD.hex().upper()}  \r\n", "utf-8")
    made.chmod(0o600)
    return made


def complaint(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        signing.load(str(file))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------- signatures


def test_the_signature_is_the_last_member_and_made_for_the_bytes_before_it() -> None:
    signed = KEYS.sign(JOB, LINE)
    code = hmac.new(NEW, b"bgjobs job 1\n" + LINE, hashlib.sha256).hexdigest()
    assert signed == LINE[:-1] + f',"sig":"new:{code}"}}'.encode()
    assert json.loads(signed) == json.loads(LINE) | {"sig": f"new:{code}"}
    assert signing.signed_part(signed) == LINE


def test_every_key_verifies_whichever_signed() -> None:
    assert refused(Keys([("old", OLD)]).sign(JOB, LINE)) == ""
    assert refused(KEYS.sign(JOB, LINE)) == ""


def test_no_byte_of_a_signed_line_can_be_changed_left_out_or_doubled() -> None:
    signed = KEYS.sign(JOB, LINE)
    assert refused(signed) == ""
    for at in range(len(signed)):
        others = {signed[at] ^ bit for bit in (1, 2, 4, 8, 16, 32, 64, 128)} | {0, *b' "\\{}:,'} - {signed[at]}
        changed = [signed[:at] + bytes([other]) + signed[at + 1 :] for other in others]
        changed += [signed[:at] + signed[at + 1 :], signed[:at] + signed[at : at + 1] + signed[at:], signed[:at]]
        for line in changed:
            assert line == signed or refused(line), line
    for added in (b" ", b"\n", b"\0", b"}", b',"args":[]}'):
        assert refused(signed + added)
        assert refused(added + signed)


@given(st.dictionaries(st.text(), VALUES, min_size=1), st.data())
def test_what_was_signed_verifies_and_nothing_made_of_it_by_hand_does(
    made: dict[str, object], data: st.DataObject
) -> None:
    line = json.dumps(made, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    signed = KEYS.sign(JOB, line)
    assert refused(signed) == ""
    start = data.draw(st.integers(0, len(signed)))
    end = data.draw(st.integers(start, len(signed)))
    other = signed[:start] + data.draw(st.binary(max_size=8)) + signed[end:]
    assert other == signed or refused(other)


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        b"",
        b"{}",
        b'{"sig":null}',
        b'{"a":1,"sig":"new:"}',
        b'{"a":1,"sig":"new:' + b"g" * 64 + b'"}',
        b'{"a":1,"sig":"new:' + b"A" * 64 + b'"}',
        b'{"a":1,"sig": "new:' + b"a" * 64 + b'"}',
        b'{"a":1,"sig":":' + b"a" * 64 + b'"}',
        b'{"a":1,"sig":"' + b"k" * 33 + b":" + b"a" * 64 + b'"}',
        b'{"a":1,"sig":"new:' + b"a" * 64 + b'","b":1}',
    ],
)
def test_what_has_no_signature_at_its_end_is_not_signed(line: bytes) -> None:
    assert refused(line) == "not-signed"


def test_a_key_that_is_not_there_an_empty_code_of_its_own_and_another_purpose_are_refused() -> None:
    assert refused(Keys([("other", OLD)]).sign(JOB, LINE)) == "bad-signature"
    assert refused(Keys([("new", OLD)]).sign(JOB, LINE)) == "bad-signature"
    assert refused(KEYS.sign(signing.INCOMING, LINE)) == "bad-signature"
    assert refused(KEYS.sign(signing.INCOMING, LINE), purpose=signing.INCOMING) == ""


def test_a_line_with_two_signatures_is_good_for_the_last_one_alone() -> None:
    stranger = Keys([("other", OLD)])
    assert refused(stranger.sign(JOB, KEYS.sign(JOB, LINE))) == "bad-signature"
    assert refused(stranger.sign(JOB, KEYS.sign(JOB, LINE))[:-1] + b"}") == "bad-signature"


# ---------------------------------------------------------------------------------------------------------- the file


def test_a_file_is_read_with_comments_blank_lines_and_any_case_of_hex(file: Path) -> None:
    keys = signing.load(str(file))
    assert keys.ids == ("new", "old")
    assert keys.sign(JOB, LINE) == KEYS.sign(JOB, LINE)
    assert refused(Keys([("old", OLD)]).sign(JOB, LINE), keys) == ""


@pytest.mark.parametrize("first", [b"", b"# a comment\n", b"\n"])
def test_a_byte_order_mark_in_front_is_skipped(file: Path, first: bytes) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + first + b"new " + b"ab" * 32 + b"\n")
    assert signing.load(str(file)).ids == ("new",)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("new", "not a key"),
        (f"{'ab' * 32}", "not a key"),
        (f"New {'ab' * 32}", "not a key"),
        (f"-new {'ab' * 32}", "not a key"),
        (f"{'n' * 33} {'ab' * 32}", "not a key"),
        (f"new {'ab' * 31}", "not a key"),
        (f"new {'ab' * 32}a", "not a key"),
        (f"new {'xy' * 32}", "not a key"),
        (f"new {'ab' * 16} {'ab' * 16}", "not a key"),
        (f"new={'ab' * 32}", "not a key"),
        (f"n\u00e9w {'ab' * 32}", "not a key"),
        (f"there {'cd' * 32}", "repeats an id or a key"),
        (f"again {'ef' * 32}", "repeats an id or a key"),
    ],
)
def test_a_line_that_is_no_key_is_named_by_its_number_and_nothing_of_it_is_shown(
    file: Path, line: str, word: str
) -> None:
    file.write_text(f"# 1\nthere {'ef' * 32}\n{line}\n", "utf-8")
    told = complaint(file)
    assert told.startswith(f"{file}:3: ")
    assert word in told
    for secret in ("ef" * 4, "ab" * 4, "cd" * 4, "xy" * 4):
        assert secret not in told


def test_a_file_without_a_key_with_too_many_or_too_large_is_refused(file: Path) -> None:
    file.write_text("# none\n", "utf-8")
    assert "no key" in complaint(file)
    file.write_text("".join(f"k{n} {n:064x}\n" for n in range(17)), "utf-8")
    assert complaint(file).startswith(f"{file}:17: more than 16 keys")
    file.write_text("".join(f"k{n} {n:064x}\n" for n in range(16)), "utf-8")
    assert len(signing.load(str(file)).ids) == 16
    file.write_text("#" * 70_000, "utf-8")
    assert "more than 65536 bytes" in complaint(file)


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o660, 0o644, 0o777])
def test_a_file_that_others_may_read_write_or_run_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert "chmod" in complaint(file)
    for good in (0o600, 0o400, 0o700):
        file.chmod(good)
        assert signing.load(str(file)).ids == ("new", "old")


@posix_only
@root_only
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 65534, 65534)
    assert "belongs to user" in complaint(file)


@posix_only
def test_a_file_in_a_directory_that_others_can_write_to_is_refused(file: Path) -> None:
    file.parent.chmod(0o777)
    assert f"{file.parent} can be changed by every user" in complaint(file)


@posix_only
def test_a_link_a_pipe_a_directory_and_nothing_are_no_files_of_keys(file: Path) -> None:
    link, pipe = file.with_name("link"), file.with_name("pipe")
    link.symlink_to(file)
    os.mkfifo(pipe, 0o600)
    for wrong in (link, pipe, file.parent, file.with_name("nothing")):
        assert str(wrong) in complaint(wrong)


def test_no_key_is_in_the_repr_or_in_the_traceback_of_an_error(file: Path) -> None:
    keys = signing.load(str(file))
    ring = Keyring(str(file), str(file.parent / "spool"))
    ring.keys()
    shown = repr(keys) + str(keys) + repr(ring) + repr([keys]) + f"{keys!a}"
    assert "Keys(new, old)" in shown
    file.write_text(f"new {NEW.hex()}\nnew {NEW.hex()}\n", "utf-8")
    try:
        signing.load(str(file))
    except ConfigError:
        shown += traceback.format_exc()
    for key in (NEW, OLD):
        assert key.hex()[:8] not in shown
        assert repr(key)[2:20] not in shown


# ------------------------------------------------------------------------------------------------------- the keyring


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(file: Path) -> None:
    ring = Keyring(str(file), str(file.parent / "spool"))
    first = ring.keys()
    assert not ring.refresh()
    assert ring.keys() is first
    file.write_text(f"third {'ab' * 32}\n", "utf-8")
    assert ring.refresh()
    assert ring.keys().ids == ("third",)


def test_a_key_that_was_added_a_moment_ago_is_known_when_a_line_comes_with_it(file: Path) -> None:
    ring = Keyring(str(file), str(file.parent / "spool"))
    ring.check(JOB, KEYS.sign(JOB, LINE))
    added = Keys([("third", b"3" * 32)]).sign(JOB, LINE)
    with pytest.raises(RefusedError, match="'third' is not one of signing_keys"):
        ring.check(JOB, added)
    with file.open("a", encoding="utf-8") as keys:
        keys.write(f"third {(b'3' * 32).hex()}\n")
    ring.check(JOB, added)


def test_a_broken_file_is_told_of_and_the_keys_stay(file: Path) -> None:
    ring = Keyring(str(file), str(file.parent / "spool"))
    first = ring.keys()
    for breakage in (lambda: file.write_text("broken", "utf-8"), file.unlink):
        breakage()
        for _ in range(2):
            with pytest.raises(ConfigError):
                ring.refresh()
        assert ring.keys() is first
        ring.check(JOB, KEYS.sign(JOB, LINE))
        with pytest.raises(RefusedError):
            ring.check(JOB, LINE)


def test_a_file_that_was_broken_at_first_gives_no_keys(file: Path) -> None:
    file.write_text("broken", "utf-8")
    ring = Keyring(str(file), str(file.parent / "spool"))
    with pytest.raises(ConfigError):
        ring.keys()
    with pytest.raises(ConfigError):
        ring.check(JOB, KEYS.sign(JOB, LINE))


def test_keys_in_the_spool_itself_are_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="lie in the spool"):
        Keyring(str(file), str(file.parent)).keys()
