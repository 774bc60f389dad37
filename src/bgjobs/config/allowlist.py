"""The allowlist: which class and method may run, and where their code is. The security boundary."""

from __future__ import annotations

import keyword
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from bgjobs import system
from bgjobs.config.settings import NAME, POLICY, Settings, bad, checked
from bgjobs.durations import UnfitError
from bgjobs.errors import NotAllowedError, NotPermittedError, did_you_mean
from bgjobs.lifecycle import Policy
from bgjobs.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgjobs.job import Job

MODULE = Pattern(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,9}")
LONGEST_MODULE = 200
ADD_IT = "add it there, or see `bgjobs jobs` for what may run"
FORBIDDEN = frozenset({"bgjobs", "pip", "setuptools", "pkg_resources"}) | sys.stdlib_module_names


class Target(Struct, frozen=True, kw_only=True):
    """One approved pair: where its code is (`owner` is None for a function of a module), and its policy.

    `users` and `groups`: which users besides the owner of the queue may hand in jobs of it; None, both: all.
    """

    class_name: str
    method: str
    module: str
    owner: str | None
    policy: Policy
    secret: frozenset[str] = frozenset()
    description: str = ""
    users: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None


class Allowlist:
    """All approved pairs of one project. Look-ups are by equality, without wildcards."""

    def __init__(self, settings: Settings) -> None:
        """Check the `[jobs.*]` tables, or raise ConfigError with file, line and key."""
        self.path = settings.config
        self._settings = settings
        self._targets: dict[tuple[str, str], Target] = {}
        for name, table in settings.jobs.items():
            for target in self._entry(name, table):
                self._targets[target.class_name, target.method] = target

    def __iter__(self) -> Iterator[Target]:
        """Go through all approved pairs, in the file's order."""
        return iter(self._targets.values())

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """All approved pairs of class and method: the same object each time."""
        return frozenset(self._targets)

    def target(self, class_name: str, method: str) -> Target:
        """Return the approved pair. Raises NotAllowedError, with a similar name as its hint."""
        target = self._targets.get((class_name, method))
        if target is None:
            raise self._refusal(class_name, method)
        return target

    def target_for(self, job: Job) -> Target:
        """Return the approved pair of a job. Raises NotAllowedError, also if the job's user may not run it."""
        target = self.target(job.class_name, job.method)
        if job.from_user is not None and not _is_open_to(target, job.from_user):
            raise NotPermittedError(
                f"user {job.from_user} may not run {job.name}", hint=f"see its users and groups in {self.path}"
            )
        return target

    def find(self, class_name: str, method: str) -> Target | None:
        """Return the approved pair, or None."""
        return self._targets.get((class_name, method))

    def _refusal(self, class_name: str, method: str) -> NotAllowedError:
        for what, name in (("class", class_name), ("method", method)):
            if not NAME.fullmatch(name):
                return NotAllowedError(
                    f"not a {what} name: {name[:80]!a}",
                    hint="a name is an ASCII letter followed by at most 63 letters, digits or underscores",
                    code="bad-name",
                )
        classes = sorted({pair[0] for pair in self._targets})
        if class_name not in classes:
            hint = did_you_mean(class_name, classes, ADD_IT)
            return NotAllowedError(f"class {class_name} is not in {self.path}", hint=hint)
        methods = [pair[1] for pair in self._targets if pair[0] == class_name]
        hint = did_you_mean(method, methods, ADD_IT)
        return NotAllowedError(f"{class_name}.{method} is not in {self.path}", hint=hint)

    def _entry(self, name: str, table: Any) -> Iterator[Target]:  # noqa: ANN401 - whatever TOML held
        where = ("jobs", name)
        if not NAME.fullmatch(name):
            raise self._bad(where, None, "not a class name: an ASCII letter, then letters, digits or underscores")
        if not isinstance(table, dict):
            raise self._bad(where, None, "must be a table: write [jobs.NAME]")
        per_method = table.get("method", {})
        plain = {key: value for key, value in table.items() if key != "method"}
        values = checked(self.path, self._settings.text, where, plain, ENTRY)
        for needed in ("class", "methods"):
            if needed not in values:
                raise self._bad(where, None, f"has no {needed!r}")
        module, owner = self._address(where, values.pop("class"))
        methods = values.pop("methods")
        if not isinstance(per_method, dict):
            raise self._bad(where, "method", "must be tables: write [jobs.NAME.method.METHOD]")
        for method in per_method:
            if method not in methods:
                raise self._bad((*where, "method", method), None, "is not among the methods of this class")
        about = {key: values.pop(key) for key in ABOUT if key in values}
        for method in methods:
            own = self._method(where, method, per_method.get(method, {}))
            policy = replace(self._settings.policy, **(values | own | self._settings.forced))
            yield Target(
                class_name=name,
                method=method,
                module=module,
                owner=owner,
                policy=policy,
                **about,
            )

    def _method(self, where: tuple[str, ...], method: str, table: Any) -> dict[str, Any]:  # noqa: ANN401 - TOML
        place = (*where, "method", method)
        if not isinstance(table, dict):
            raise self._bad(place, None, "must be a table")
        return checked(self.path, self._settings.text, place, table, POLICY)

    def _address(self, where: tuple[str, ...], address: str) -> tuple[str, str | None]:
        module, colon, owner = address.partition(":")
        if len(module) > LONGEST_MODULE or not MODULE.fullmatch(module) or "__" in module:
            raise self._bad(where, "class", "must be module:Class, or a module")
        if colon and not NAME.fullmatch(owner):
            raise self._bad(where, "class", "must be module:Class with a plain top-level class")
        if any(keyword.iskeyword(part) for part in [*module.split("."), owner]):
            raise self._bad(where, "class", "has a Python keyword as a name")
        if module.split(".")[0] in FORBIDDEN:
            raise self._bad(
                where, "class", "is a module of Python or of bgjobs itself: only your own code may be listed"
            )
        return module, owner or None

    def _bad(self, table: tuple[str, ...], key: str | None, reason: str) -> Exception:
        return bad(self.path, self._settings.text, table, key, reason)


def _is_open_to(target: Target, user: str) -> bool:
    if target.users is None and target.groups is None:
        return True
    return user in (target.users or ()) or system.is_member(user, target.groups or ())


def _methods(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise UnfitError("must be a list of method names")
    for name in value:
        if not isinstance(name, str) or not NAME.fullmatch(name) or "__" in name or keyword.iskeyword(name):
            raise UnfitError(f"{ascii(name)[:80]} is not a method name (wildcards are not allowed)")
    if len(set(value)) < len(value):
        raise UnfitError("names a method twice")
    return tuple(value)


def _secrets(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UnfitError("must be a list of argument names")
    return frozenset(value)


def _accounts(value: object) -> tuple[str, ...] | None:
    """Return names of users or groups; None for any. An empty list names nobody."""
    if value == "any":
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) and name and "\0" not in name for name in value):
        raise UnfitError('must be a list of names, or "any"')
    return tuple(value)


def _plain_text(value: object) -> str:
    if not isinstance(value, str):
        raise UnfitError("must be text")
    return value


ABOUT = {"description": _plain_text, "secret": _secrets, "users": _accounts, "groups": _accounts}
ENTRY = POLICY | ABOUT | {"class": _plain_text, "methods": _methods}
