"""The settings in `allowed_jobs.toml`: found, read, checked, and which of several wins."""

from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgjobs import Queue, Request
from bgjobs.config import settings
from bgjobs.config.allowlist import Allowlist
from bgjobs.config.settings import Settings, load, load_whole
from bgjobs.errors import BgjobsError, ConfigError, UsageError
from bgjobs.lifecycle import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

SECOND = timedelta(seconds=1)
MAIL = """
[jobs.Mail]
class = "mail:Mail"
methods = ["send"]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "allowed_jobs.toml"
    path.write_text(text, encoding="utf-8", newline="\n")
    return str(path)


def read(folder: Path, text: str, environ: Mapping[str, str] | None = None, spool: str | None = None) -> Settings:
    return load(config=write(folder, text), spool=spool, environ=environ or {})


# What is there when nothing is said


def test_an_empty_file_means_the_built_in_values(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert found.policy == Policy()
    assert found.policy.priority == 5
    assert found.policy.delay == timedelta(0)
    assert found.policy.retries == 3
    assert found.policy.retry_delay == 5 * SECOND
    assert found.policy.backoff == "exponential"
    assert found.policy.max_retry_delay == timedelta(minutes=10)
    assert found.policy.timeout == timedelta(minutes=5)
    assert found.policy.max_timeout == timedelta(0)
    assert found.policy.kill_after == 10 * SECOND
    assert found.policy.max_crashes == 3
    assert found.policy.max_output == 8 * 1024 * 1024
    assert (found.policy.max_memory, found.policy.max_cpu) == (0, timedelta(0))
    assert (found.policy.max_files, found.policy.max_file_size) == (0, 0)
    assert found.policy.user == ""
    assert (found.age_boost, found.durability) == (timedelta(0), "full")
    assert (found.keep_done, found.keep_failed) == (timedelta(days=7), timedelta(days=30))
    assert found.pass_env == ()
    assert found.jobs == {}


def test_paths_are_absolute_and_beside_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert found.root == str(tmp_path)
    assert found.spool == str(tmp_path / "spool")
    assert found.log_dir == str(tmp_path / "spool" / "logs")
    assert found.cwd == str(tmp_path)
    assert found.import_paths == (str(tmp_path),)


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    text = '[bgjobs]\nspool = "q"\nlog_dir = "l"\ncwd = "w"\nimport_paths = ["src", "../lib"]'
    found = read(tmp_path, text)
    assert found.spool == str(tmp_path / "q")
    assert found.log_dir == str(tmp_path / "l")
    assert found.cwd == str(tmp_path / "w")
    assert found.import_paths == (str(tmp_path / "src"), str(tmp_path.parent / "lib"))


def test_the_logs_go_with_the_spool_that_is_used(tmp_path: Path) -> None:
    found = read(tmp_path, '[bgjobs]\nspool = "one"', spool=str(tmp_path / "other"))
    assert found.log_dir == str(tmp_path / "other" / "logs")


def test_every_setting_can_be_said(tmp_path: Path) -> None:
    text = """
[bgjobs]
priority = "high"
delay = "90s"
retries = 0
retry_delay = 1.5
backoff = "linear"
max_retry_delay = "2h"
timeout = "1d"
max_timeout = "2d"
kill_after = "0"
max_crashes = 7
max_output = "64KiB"
max_memory = "1GiB"
max_cpu = "2m"
max_files = 256
max_file_size = "10MiB"
user = "shop-worker"
retry_on = ["OSError"]
fail_on = ["shop.Declined"]
age_boost = "30m"
durability = "os"
finish_fsync = true
min_free = "1GiB"
max_queued = 5000000
keep_done = "1h"
keep_failed = "2d"
pass_env = ["SHOP_URL"]
recycle_growth = "512MiB"
"""
    found = read(tmp_path, text)
    assert found.policy == Policy(
        priority=8,
        delay=90 * SECOND,
        retries=0,
        retry_delay=1.5 * SECOND,
        backoff="linear",
        max_retry_delay=timedelta(hours=2),
        timeout=timedelta(days=1),
        max_timeout=timedelta(days=2),
        kill_after=timedelta(0),
        max_crashes=7,
        max_output=65536,
        max_memory=1024**3,
        max_cpu=timedelta(minutes=2),
        max_files=256,
        max_file_size=10 * 1024**2,
        user="shop-worker",
        retry_on=("OSError",),
        fail_on=("shop.Declined",),
    )
    assert (found.age_boost, found.durability) == (timedelta(minutes=30), "os")
    assert (found.finish_fsync, found.min_free, found.max_queued) == (True, 1024**3, 5_000_000)
    assert (found.keep_done, found.keep_failed) == (timedelta(hours=1), timedelta(days=2))
    assert (found.pass_env, found.recycle_growth) == (("SHOP_URL",), 512 * 1024**2)


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    assert read(tmp_path, "").digest != read(tmp_path, "# a remark").digest


@pytest.mark.parametrize(
    ("written", "size"),
    [(0, 0), (65536, 65536), ('"100"', 100), ('"7B"', 7), ('"8 MiB"', 8 << 20), ('"2GiB"', 2 << 30)],
)
def test_a_size_is_bytes_or_has_a_unit(tmp_path: Path, written: object, size: int) -> None:
    assert read(tmp_path, f"[bgjobs]\nmax_output = {written}").policy.max_output == size


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("max_memory", "512MiB", 512 << 20),
        ("max_files", "64", 64),
        ("max_files", "0", 0),
        ("max_cpu", "2s", 2 * SECOND),
    ],
)
def test_a_limit_can_be_set_and_lifted_by_a_variable(tmp_path: Path, key: str, value: str, meant: object) -> None:
    limits = '[bgjobs]\nmax_memory = "1GiB"\nmax_files = 100\nmax_cpu = 1\n'
    settings_of_file = read(tmp_path, limits + MAIL, {f"BGJOBS_{key.upper()}": value})
    [target] = Allowlist(settings_of_file)
    assert getattr(target.policy, key) == meant


# What is refused


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as found:
        read(folder, text)
    assert found.value.exit_status == 1
    message = str(found.value)
    assert "\n" not in message
    return message


DURATIONS = (
    "delay",
    "max_cpu",
    "retry_delay",
    "max_retry_delay",
    "timeout",
    "max_timeout",
    "kill_after",
    "age_boost",
    "keep_done",
    "keep_failed",
)
NOT_DURATIONS = (
    *("true", "[]", '""', '"5 m"', '"5y"', '"-5s"', "-1", "-0.5", "nan", "inf", '"inf"', '"1e3"', '"30s5m"'),
    *('"\\u0665s"', '"5s\\n"', "2026-11-23", "36526000000000"),
)
WRONG = [
    *((key, value) for key in DURATIONS for value in NOT_DURATIONS),
    *((key, "0") for key in ("timeout", "keep_done", "keep_failed")),
    *(("priority", value) for value in ("10", "-1", '"urgent"', "true", "5.0", "[5]", '""')),
    *(
        (key, value)
        for key in ("retries", "max_crashes")
        for value in ("-1", "true", "1.0", '"many"', "1000001", "[1]")
    ),
    *(("max_queued", value) for value in ("-1", "true", "1.0", '"many"', "1000000000", "[1]")),
    *((key, '"3"') for key in ("retries", "max_crashes", "max_queued")),  # text is a wrong type in the file
    *(("backoff", value) for value in ('"none"', "1", '"Fixed"', "true", '["fixed"]')),
    *(("durability", value) for value in ('"none"', "true", '"Full"')),
    *(
        (key, value)
        for key in ("max_output", "max_memory", "max_file_size", "min_free", "recycle_growth")
        for value in ("-1", "true", "1.5", '"8MB"', '"-1"', '"8mib"', '"MiB"', '""')
    ),
    *(("max_memory", value) for value in ("1", '"127MiB"')),
    *(("max_files", value) for value in ("-1", "1", "31", "true", "1.5", '"64"', "1000001")),
    *(
        ("user", value)
        for value in ("1000", "true", '["nobody"]', '"a b"', '"-a"', '"a:b"', '"a\\n"', '"\\u043er"', f'"{"a" * 65}"')
    ),
    *(("finish_fsync", value) for value in ("1", '"true"', '"yes"', "[]")),
    *((key, value) for key in ("retry_on", "fail_on", "pass_env") for value in ('"OSError"', "[1]", '[""]', '["*"]')),
    *((key, value) for key in ("retry_on", "fail_on") for value in ('["a b"]', '["os."]', '["Err\\u043er"]', '["1"]')),
    *(("import_paths", value) for value in ('"."', "[]", "[1]", '[""]', '["a\\u0000b"]')),
    *((key, value) for key in ("spool", "log_dir", "cwd") for value in ("1", "true", '["a"]', '"a\\u0000b"')),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_refused_with_file_line_and_key(tmp_path: Path, key: str, value: str) -> None:
    message = refusal(tmp_path, f"# what may run\n[bgjobs]\n# a remark\n{key} = {value}\n{MAIL}")
    assert message.startswith(f"{tmp_path / 'allowed_jobs.toml'}:4: bgjobs.{key}: ")


@pytest.mark.parametrize("key", ["retry", "Retries", "methods", "class", "config", "jobs", "concurrency", "isolation"])
def test_an_unknown_key_is_refused_with_file_line_and_key_and_what_is_known(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, f"[bgjobs]\nretries = 1\n{key} = 1\n")
    assert message.startswith(f"{tmp_path / 'allowed_jobs.toml'}:3: bgjobs.{key}: unknown key")
    assert "max_retry_delay" in message


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("\n\n[job.Mail]\n", 3, "job"),
        ("\n[server]\nport = 1\n", 2, "server"),
        ("\n\nretries = 3\n", 3, "retries"),
        ("\njobs = 1\n", 2, "jobs"),
        ("\nbgjobs = true\n", 2, "bgjobs"),
        ("\n[[bgjobs]]\n", 2, "bgjobs"),
    ],
)
def test_what_does_not_belong_on_top_is_refused_with_its_line(tmp_path: Path, text: str, line: int, key: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'allowed_jobs.toml'}:{line}: ")
    assert key in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[bgjobs]\nretries = \n", 2),
        ("[bgjobs]\nretries = 1\nretries = 2\n", 3),
        ("[bgjobs]\n[bgjobs]\n", 2),
        (f"{MAIL}{MAIL}", 6),
        ("[bgjobs", 1),
        ("\n\nnonsense", 3),
        ("x = 'a\nb'", 1),
    ],
)
def test_what_is_not_toml_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    assert refusal(tmp_path, text).startswith(f"{tmp_path / 'allowed_jobs.toml'}:{line}: not valid TOML: ")


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in refusal(tmp_path, "x = " + "[" * 100_000)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "allowed_jobs.toml"
    path.write_bytes("[bgjobs]\n# caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"not UTF-8 at byte 14"):
        load(config=str(path), environ={})


@given(st.text(max_size=200))
def test_no_text_does_anything_worse_than_being_refused(text: str) -> None:
    path = Path("/nowhere/allowed_jobs.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "_read", lambda _, strict: text)
        patch.setattr(settings, "_find", lambda _: (path, False))
        try:
            load(environ={})
        except ConfigError as error:
            assert str(error).startswith(f"{path}:")  # noqa: PT017 - most texts are no error at all


# Which file


def test_the_file_is_found_here_or_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "[bgjobs]\nretries = 9")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found = load(environ={})
    assert found.config == str(tmp_path / "allowed_jobs.toml")
    assert found.policy.retries == 9


def test_the_nearest_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "near").mkdir()
    write(tmp_path, "")
    near = write(tmp_path / "near", "")
    monkeypatch.chdir(tmp_path / "near")
    assert load(environ={}).config == near


def test_the_users_own_file_is_the_last_resort_and_has_a_spool_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "config").mkdir()
    config = write(tmp_path / "config", "")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda name: str(tmp_path / "config"))
    monkeypatch.setattr(platformdirs, "user_state_dir", lambda name: str(tmp_path / "state" / name))
    found = load(environ={})
    assert found.config == config
    assert found.spool == str(tmp_path / "state" / "bgjobs" / "spool")


def test_without_any_file_it_is_said_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda name: str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="bgjobs init") as found:
        load(environ={})
    assert found.value.code == "no-config"


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_named_file_that_is_not_there_is_not_looked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    named = str(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="no allowlist at"):
        load(config=named, environ={}) if how == "option" else load(environ={"BGJOBS_CONFIG": named})


def test_the_option_names_the_file_before_the_variable(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = write(tmp_path / "one", ""), write(tmp_path / "two", "")
    assert load(config=one, environ={"BGJOBS_CONFIG": two}).config == one
    assert load(environ={"BGJOBS_CONFIG": two}).config == two


# Which value wins

CLASS = """
[jobs.Mail]
class = "mail:Mail"
methods = ["send", "drop"]
{class_key}
[jobs.Mail.method.send]
{method_key}
"""
LADDER: list[tuple[str, str, list[str], list[Any]]] = [
    # the key; its variable; what is written in [bgjobs], class, method, variable and option; what each means
    ("retries", "BGJOBS_RETRIES", ["4", "5", "6", "7", "8"], [4, 5, 6, 7, 8]),
    ("priority", "BGJOBS_PRIORITY", ["1", '"low"', "3", "high", "9"], [1, 2, 3, 8, 9]),
    ("delay", "BGJOBS_DELAY", ["1", '"2s"', "3.5", "4s", "5"], [s * SECOND for s in (1, 2, 3.5, 4, 5)]),
]


@pytest.mark.parametrize("level", range(6))
@pytest.mark.parametrize(("key", "variable", "written", "meant"), LADDER)
def test_an_option_wins_over_a_variable_over_the_method_over_the_class_over_all_over_the_built_in(
    tmp_path: Path, *, key: str, variable: str, written: list[str], meant: list[Any], level: int
) -> None:
    (tmp_path / "mail.py").write_text(
        "class Mail:\n    def send(self): ...\n    def drop(self): ...\n", encoding="utf-8"
    )
    general, of_class, of_method = (f"{key} = {written[n]}" if n < level else "" for n in range(3))
    text = f"[bgjobs]\n{general}\n{CLASS.format(class_key=of_class, method_key=of_method)}"
    queue = Queue(read(tmp_path, text, {variable: written[3]} if level > 3 else {}))
    option: dict[str, Any] = {key: int(written[4])} if level > 4 else {}
    job = queue.prepare(Request(class_name="Mail", method="send", **option))
    found = job.not_before - job.submitted_at if key == "delay" else getattr(job, key)
    assert found == (meant[level - 1] if level else getattr(Policy(), key))


def test_the_entry_of_a_method_says_nothing_of_the_others(tmp_path: Path) -> None:
    text = CLASS.format(class_key="retries = 1", method_key="retries = 2")
    allowlist = Queue(read(tmp_path, text)).allowlist
    assert allowlist.target("Mail", "send").policy.retries == 2
    assert allowlist.target("Mail", "drop").policy.retries == 1


def test_the_spool_is_that_of_the_option_then_the_variable_then_the_file(tmp_path: Path) -> None:
    text = '[bgjobs]\nspool = "in_file"'
    named, other = str(tmp_path / "named"), str(tmp_path / "other")
    assert read(tmp_path, text).spool == str(tmp_path / "in_file")
    assert read(tmp_path, text, {"BGJOBS_SPOOL": other}).spool == other
    assert read(tmp_path, text, {"BGJOBS_SPOOL": other}, spool=named).spool == named


def test_a_spool_named_by_option_or_variable_is_relative_to_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert read(tmp_path, "", spool="q").spool == str(tmp_path / "here" / "q")
    assert read(tmp_path, "", {"BGJOBS_SPOOL": "q"}).spool == str(tmp_path / "here" / "q")


@pytest.mark.parametrize(
    ("variable", "value", "key", "meant"),
    [
        ("BGJOBS_DURABILITY", "os", "durability", "os"),
        ("BGJOBS_AGE_BOOST", "30m", "age_boost", timedelta(minutes=30)),
        ("BGJOBS_KEEP_DONE", "1d", "keep_done", timedelta(days=1)),
        ("BGJOBS_PASS_ENV", "SHOP_URL, SHOP_KEY", "pass_env", ("SHOP_URL", "SHOP_KEY")),
    ],
)
def test_a_variable_wins_over_the_file(tmp_path: Path, variable: str, value: str, key: str, meant: object) -> None:
    text = '[bgjobs]\ndurability = "full"\nage_boost = 0\nkeep_done = 1\npass_env = []'
    assert getattr(read(tmp_path, text, {variable: value}), key) == meant


def test_import_paths_of_a_variable_are_a_list(tmp_path: Path) -> None:
    found = read(tmp_path, "", {"BGJOBS_IMPORT_PATHS": "src,lib"})
    assert found.import_paths == (str(tmp_path / "src"), str(tmp_path / "lib"))


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    empty = {f"BGJOBS_{key.upper()}": "" for key in settings.GENERAL | settings.POLICY}
    assert read(tmp_path, "", empty | {"BGJOBS_CONFIG": ""}).policy == Policy()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BGJOBS_RETRIES", "many"),
        ("BGJOBS_RETRIES", "-1"),
        ("BGJOBS_PRIORITY", "urgent"),
        ("BGJOBS_TIMEOUT", "0"),
        ("BGJOBS_TIMEOUT", "soon"),
        ("BGJOBS_BACKOFF", "none"),
        ("BGJOBS_MAX_OUTPUT", "8MB"),
        ("BGJOBS_PASS_ENV", "A B"),
        ("BGJOBS_DURABILITY", "none"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(BgjobsError, match=variable) as found:
        read(tmp_path, "", {variable: value})
    assert isinstance(found.value, UsageError)


def test_variables_that_jobs_are_given_are_no_settings(tmp_path: Path) -> None:
    given = {"BGJOBS_ID": "x", "BGJOBS_ATTEMPT": "1", "BGJOBS_CLASS": "Mail", "BGJOBS_METHOD": "send"}
    assert read(tmp_path, "", given).policy == Policy()


def test_the_environment_of_the_process_is_what_counts_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BGJOBS_CONFIG", write(tmp_path, ""))
    monkeypatch.setenv("BGJOBS_DURABILITY", "os")
    assert load().durability == "os"
    assert load().config == os.environ["BGJOBS_CONFIG"]


@pytest.mark.parametrize("half", ["", '[bgjobs]\ntimeout = "9'])
def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, half: str) -> None:
    path = Path(write(tmp_path, half))

    def go_on() -> None:
        for text in [half] * 30 + ['[bgjobs]\ntimeout = "90s"\n']:
            path.write_text(text, "utf-8")

    others = Thread(target=go_on)
    others.start()
    try:
        assert load_whole(config=str(path)).policy.timeout == timedelta(seconds=90)
    finally:
        others.join()


def test_a_file_that_stays_broken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_whole(config=write(tmp_path, "[half"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[bgjobs]\npriority = high\n", "not valid TOML: priority = high"),
        ("[bgjobs]\nretries = 1\nretries = 2\n", "not valid TOML: retries = 2"),
        (f"[bgjobs]\nretries = {'9' * 5000}\n", "not valid TOML: "),
        ('[bgjobs]\npass_env = [\n"A",\n', "not valid TOML: it ends too early"),
    ],
    ids=["no quotes", "twice", "a number without end", "no end"],
)
def test_what_is_not_toml_is_shown_and_no_words_of_the_parser(tmp_path: Path, text: str, shown: str) -> None:
    message = refusal(tmp_path, text)
    assert shown in message
    with pytest.raises(ValueError, match=r"\S") as parser:
        tomllib.loads(text)
    assert str(parser.value).partition(" (at ")[0] not in message
