"""The security boundary: only exact pairs of the allowlist become callables, and a wrong allowlist is none at all."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bgjobs import system
from bgjobs.config.allowlist import FORBIDDEN, Allowlist, Target
from bgjobs.config.settings import load
from bgjobs.errors import ConfigError, NotAllowedError, NotPermittedError
from bgjobs.ids import new_id
from bgjobs.job import Job
from bgjobs.lifecycle import Policy

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
[bgjobs]
retries = 1

[jobs.SendNotificationJobs]
class   = "jobs.notifications:SendNotificationJobs"
methods = ["pick_up", "date_with_me", "save_me"]
description = "Short messages to one person"

[jobs.BackgroundJobs]
class    = "jobs.payments:BackgroundJobs"
methods  = ["automatic_debit_success", "automatic_debit_failure"]
priority = "high"
retry_on = ["TimeoutError", "jobs.payments.GatewayDown"]
fail_on  = ["ValueError"]
secret   = ["card_number"]

[jobs.BackgroundJobs.method.automatic_debit_failure]
retries = 5
timeout = "1m"

[jobs.tools]
class   = "jobs.tools"
methods = ["clean"]
"""
PAIRS = [
    ("SendNotificationJobs", "pick_up"),
    ("SendNotificationJobs", "date_with_me"),
    ("SendNotificationJobs", "save_me"),
    ("BackgroundJobs", "automatic_debit_success"),
    ("BackgroundJobs", "automatic_debit_failure"),
    ("tools", "clean"),
]
ENTRY = '# what may run\n[jobs.Mail]\nclass = "mail:Mail"\nmethods = ["send", "drop"]\n'


def allowlist(folder: Path, text: str) -> Allowlist:
    path = folder / "allowed_jobs.toml"
    path.write_text(text, encoding="utf-8", newline="\n")
    return Allowlist(load(config=str(path), environ={}))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Allowlist:
    return allowlist(tmp_path_factory.mktemp("shop"), SHOP)


# What is allowed


def test_the_approved_pairs_are_those_of_the_file_in_its_order(shop: Allowlist) -> None:
    assert [(target.class_name, target.method) for target in shop] == PAIRS


@pytest.mark.parametrize(("class_name", "method"), PAIRS)
def test_an_approved_pair_is_found(shop: Allowlist, class_name: str, method: str) -> None:
    target = shop.target(class_name, method)
    assert (target.class_name, target.method) == (class_name, method)
    assert shop.find(class_name, method) == target


def test_an_approved_pair_says_where_its_code_is_and_how_it_is_treated(shop: Allowlist) -> None:
    assert shop.target("BackgroundJobs", "automatic_debit_failure") == Target(
        class_name="BackgroundJobs",
        method="automatic_debit_failure",
        module="jobs.payments",
        owner="BackgroundJobs",
        policy=Policy(
            priority=8,
            retries=5,
            timeout=timedelta(minutes=1),
            retry_on=("TimeoutError", "jobs.payments.GatewayDown"),
            fail_on=("ValueError",),
        ),
        secret=frozenset({"card_number"}),
    )


def test_a_module_alone_means_its_functions(shop: Allowlist) -> None:
    assert (shop.target("tools", "clean").module, shop.target("tools", "clean").owner) == ("jobs.tools", None)


def test_a_description_is_kept(shop: Allowlist) -> None:
    assert shop.target("SendNotificationJobs", "pick_up").description == "Short messages to one person"


def test_two_names_may_stand_for_one_class(tmp_path: Path) -> None:
    other = ENTRY.replace("[jobs.Mail]", "[jobs.Post]")
    assert {target.owner for target in allowlist(tmp_path, ENTRY + other)} == {"Mail"}


# What is not


@pytest.mark.parametrize(
    ("class_name", "method"),
    [
        ("SendNotificationJobs", "PICK_UP"),
        ("sendnotificationjobs", "pick_up"),
        ("SendNotificationJobs", "pick_u"),
        ("SendNotificationJobs", "automatic_debit_success"),
        ("BackgroundJobs", "pick_up"),
        ("jobs", "clean"),
        ("os", "system"),
    ],
)
def test_no_other_pair_is_allowed(shop: Allowlist, class_name: str, method: str) -> None:
    assert shop.find(class_name, method) is None
    with pytest.raises(NotAllowedError) as refusal:
        shop.target(class_name, method)
    assert (refusal.value.code, refusal.value.exit_status) == ("not-allowed", 3)


NOT_NAMES = [
    "",
    "*",
    "Mail*",
    "1Mail",
    "_Mail",
    "__init__",
    "Mail.send",
    "jobs.notifications:SendNotificationJobs",
    "Mail send",
    " Mail",
    "SendNotificationJobs\n",
    "Mail\0",
    "J\u043eb",  # a Cyrillic letter that looks like "o"
    "\uff4d\uff41\uff49\uff4c",  # full-width letters, which Python's own source code would fold
    "Ma\u0301il",
    "M\u200dail",
    "\u0645",
    "\x1b[31mMail",
    "[red]Mail[/red]",
    "../Mail",
    "A" * 65,
    "A" * 100_000,
    "\ud800",
]


@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_is_not_a_name_is_refused_as_class_and_as_method(shop: Allowlist, name: str) -> None:
    for class_name, method in ((name, "pick_up"), ("SendNotificationJobs", name)):
        with pytest.raises(NotAllowedError) as refusal:
            shop.target(class_name, method)
        assert refusal.value.code == "bad-name"
        message = str(refusal.value)
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 700


@given(st.text(), st.text())
def test_only_equal_names_are_allowed(shop: Allowlist, class_name: str, method: str) -> None:
    found = shop.find(class_name, method)
    assert (found is not None) == ((class_name, method) in PAIRS)


@pytest.mark.parametrize(
    ("class_name", "method", "meant"),
    [
        ("SendNotificationJob", "pick_up", "SendNotificationJobs"),
        ("sendNotificationjobs", "pick_up", "SendNotificationJobs"),
        ("SendNotificationJobs", "pickup", "pick_up"),
        ("BackgroundJobs", "automatic_debit_sucess", "automatic_debit_success"),
    ],
)
def test_a_near_miss_is_answered_with_what_was_meant(shop: Allowlist, class_name: str, method: str, meant: str) -> None:
    with pytest.raises(NotAllowedError, match=rf"did you mean {meant}\?") as refusal:
        shop.target(class_name, method)
    assert shop.path in str(refusal.value)


def test_a_far_miss_is_answered_with_what_to_do(shop: Allowlist) -> None:
    with pytest.raises(NotAllowedError, match="bgjobs jobs"):
        shop.target("Xyzzy", "plugh")


# A wrong file is refused as a whole


def refusal_of(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as found:
        allowlist(folder, text)
    assert found.value.exit_status == 1
    message = str(found.value)
    assert message.startswith(f"{folder / 'allowed_jobs.toml'}:")
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'allowed_jobs.toml'}:")


NOT_CLASSES = [
    "1",
    '""',
    '":Mail"',
    '"mail:"',
    '"mail:Mail:send"',
    '"mail:Outer.Mail"',
    '"mail:mail.Mail"',
    '".mail:Mail"',
    '"mail.:Mail"',
    '"mail..mail:Mail"',
    '"mail/mail:Mail"',
    '"../mail:Mail"',
    '"mail:*"',
    '"*"',
    '"mail :Mail"',
    '"mail:Mail\\n"',
    '"m\\u043eil:Mail"',
    '"mail:M\\u043eil"',
    '"__main__:Mail"',
    '"a__b:Mail"',
    '"class:Mail"',
    '"mail.import:Mail"',
    '"mail:None"',
    '"mail:_Mail"',
    f'"{"m" * 201}:Mail"',
    f'"{".".join("abcdefghijkl")}:Mail"',
    f'"mail:{"M" * 65}"',
]
OTHERS_CODE = ["os", "sys", "subprocess", "builtins", "shutil", "os.path", "importlib.util", "bgjobs", "bgjobs.queue"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("class", value) for value in NOT_CLASSES),
        *(("class", f'"{module}:Mail"') for module in OTHERS_CODE),
        *(("class", f'"{module}"') for module in (*OTHERS_CODE, "pip", "setuptools", "pkg_resources")),
    ],
)
def test_a_wrong_or_foreign_class_is_refused_with_line_and_key(tmp_path: Path, key: str, value: str) -> None:
    message = refusal_of(tmp_path, ENTRY.replace('"mail:Mail"', value))
    assert message.startswith("3: jobs.Mail.class: ")


@pytest.mark.parametrize(
    "value",
    [
        '"send"',
        "1",
        "[]",
        "[1]",
        '[["send"]]',
        '["*"]',
        '["send*"]',
        '["send.me"]',
        '["send()"]',
        '[""]',
        '["_send"]',
        '["__init__"]',
        '["send__all"]',
        '["class"]',
        '["None"]',
        '["send", "send"]',
        '["s\\u0435nd"]',
        '["send\\n"]',
        f'["{"s" * 65}"]',
    ],
)
def test_wrong_methods_are_refused_with_line_and_key(tmp_path: Path, value: str) -> None:
    assert refusal_of(tmp_path, ENTRY.replace('["send", "drop"]', value)).startswith("4: jobs.Mail.methods: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("priority", '"urgent"'),
        ("retries", "-1"),
        ("timeout", "0"),
        ("backoff", '"none"'),
        ("retry_on", '"OSError"'),
        ("secret", '"card"'),
        ("secret", "[1]"),
        ("users", '"alice"'),
        ("users", "[1]"),
        ("groups", '[""]'),
        ("groups", '"everyone"'),
        ("description", "1"),
        ("spool", '"q"'),  # a setting of the whole project
        ("keep_done", '"1d"'),
        ("Methods", '["send"]'),
        ("module", '"mail"'),
        ("isolation", '"fresh"'),
    ],
)
def test_a_wrong_or_unknown_key_of_a_class_is_refused_with_line_and_key(tmp_path: Path, key: str, value: str) -> None:
    message = refusal_of(tmp_path, f"{ENTRY}{key} = {value}\n")
    assert message.startswith(f"5: jobs.Mail.{key}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [("retries", "-1"), ("secret", '["card"]'), ("class", '"os"'), ("methods", '["x"]'), ("retry", "1")],
)
def test_a_wrong_or_unknown_key_of_a_method_is_refused_with_line_and_key(tmp_path: Path, key: str, value: str) -> None:
    message = refusal_of(tmp_path, f"{ENTRY}\n[jobs.Mail.method.send]\n{key} = {value}\n")
    assert message.startswith(f"7: jobs.Mail.method.send.{key}: ")


@pytest.mark.parametrize(
    ("text", "line", "place"),
    [
        ("[jobs.Mail]\nmethods = ['send']", 1, "jobs.Mail"),
        ("[jobs.Mail]\nclass = 'mail'", 1, "jobs.Mail"),
        ("\n[jobs.Mail]", 2, "jobs.Mail"),
        (f"{ENTRY}\n[jobs.Mail.method.other]\nretries = 1", 6, "jobs.Mail.method.other"),
        (f"{ENTRY}method = 1", 5, "jobs.Mail.method"),
        (f"{ENTRY}\n[jobs.Mail.method]\nsend = 1", 6, "jobs.Mail.method.send"),
        ("\n[jobs.'Mail*']\nclass = 'mail'\nmethods = ['send']", 2, "jobs.Mail*"),
        ("\n[jobs.1Mail]\nclass = 'mail'\nmethods = ['send']", 2, "jobs.1Mail"),
        ("\n[jobs.'']\nclass = 'mail'\nmethods = ['send']", 2, "jobs."),
        (f"\n[jobs.{'M' * 65}]\nclass = 'mail'\nmethods = ['send']", 2, "jobs.MMM"),
        ("\n[jobs]\nMail = 1", 2, "jobs.Mail"),
    ],
)
def test_an_entry_of_the_wrong_shape_is_refused_with_its_place(
    tmp_path: Path, text: str, line: int, place: str
) -> None:
    found, _, rest = refusal_of(tmp_path, text).partition(":")
    assert rest.startswith(f" {place}")
    assert int(found) in {line, line + 1}  # the table, or the key in the table above it


def test_a_name_in_the_file_that_only_looks_ascii_is_refused_and_shown_as_it_is(tmp_path: Path) -> None:
    message = refusal_of(tmp_path, '[jobs."J\\u043eb"]\nclass = "mail"\nmethods = ["send"]')
    assert "not a class name" in message


def test_one_wrong_entry_spoils_the_whole_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        allowlist(tmp_path, f"{SHOP}\n[jobs.Shell]\nclass = 'os'\nmethods = ['system']")


def test_no_module_of_python_itself_can_be_listed() -> None:
    assert {"os", "sys", "subprocess", "pickle", "ctypes", "runpy", "code", "bgjobs"} <= FORBIDDEN


# Who may hand in jobs

ME = system.user()
JOB = Job(
    id=new_id(),
    class_name="Mail",
    method="send",
    priority=5,
    not_before=datetime.now(UTC),
    submitted_at=datetime.now(UTC),
    retries=0,
)


@pytest.mark.parametrize(
    ("says", "user", "is_let_in"),
    [
        ("", "alice", True),
        ('users = "any"\ngroups = "any"\n', "alice", True),
        ('users = ["alice", "bob"]\n', "bob", True),
        ('users = ["alice"]\n', "Alice", False),
        ('users = ["alice"]\n', "alice ", False),
        ('users = ["#1234"]\n', "#1234", True),
        ('users = ["1234"]\n', "#1234", False),
        ("users = []\n", "alice", False),
        ("groups = []\n", "alice", False),
        ('users = ["alice"]\ngroups = []\n', "alice", True),
        ('groups = ["no-such-group"]\n', ME, False),
        ('groups = ["no-such-group"]\n', "no-such-user", False),
        ('users = ["*"]\n', "alice", False),
    ],
)
def test_users_and_groups_say_who_else_may_hand_in_a_job(
    tmp_path: Path, says: str, user: str, *, is_let_in: bool
) -> None:
    found = allowlist(tmp_path, ENTRY + says)
    job = replace(JOB, from_user=user)
    if is_let_in:
        assert found.target_for(job) == found.target("Mail", "send")
        return
    with pytest.raises(NotPermittedError) as caught:
        found.target_for(job)
    assert caught.value.code == "not-permitted"
    assert found.target_for(JOB) == found.target("Mail", "send")  # the owner's own


@pytest.mark.skipif(sys.platform == "win32", reason="groups have no numbers there")
def test_a_member_of_a_group_is_let_in_by_it_be_it_the_primary_one(tmp_path: Path) -> None:
    import grp  # noqa: PLC0415 - POSIX only
    import pwd  # noqa: PLC0415 - POSIX only

    member = next(
        ((group.gr_name, group.gr_mem[0]) for group in grp.getgrall() if group.gr_mem and _is_known(group.gr_mem[0])),
        None,
    )
    primary = pwd.getpwuid(os.geteuid())
    cases = [(grp.getgrgid(primary.pw_gid).gr_name, primary.pw_name), *([member] if member else [])]
    for group, user in cases:
        found = allowlist(tmp_path, f'{ENTRY}groups = ["no-such-group", "{group}"]\n')
        assert found.target_for(replace(JOB, from_user=user)).method == "send"


def _is_known(user: str) -> bool:
    return system.knows_user(user)


def test_a_job_of_another_user_still_needs_an_allowed_pair(tmp_path: Path) -> None:
    with pytest.raises(NotAllowedError) as caught:
        allowlist(tmp_path, ENTRY).target_for(replace(JOB, from_user="alice", method="steal"))
    assert caught.value.code == "not-allowed"
