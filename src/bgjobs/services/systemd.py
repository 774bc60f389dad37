"""A worker as a unit of systemd: one of a user, or one of the whole system."""

from __future__ import annotations

import os

from bgjobs.errors import UsageError
from bgjobs.services.service import Recipe, Service

SYSTEM_DIRECTORY = "/etc/systemd/system"
WATCHDOG_S = 120
PRIVATE = ("/home", "/root", "/run/user")  # what ProtectHome= hides
SHARED = ("/tmp", "/var/tmp")  # noqa: S108 - what PrivateTmp= hides

START = """\
Type=notify
ExecStart={command}
{owner}UMask=0077
# What stops by itself was asked to; what dies, or stands still, is started again.
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2
WatchdogSec={watchdog}
# The signal goes to the worker alone: it waits for its jobs. What is left after that is killed.
KillMode=mixed
TimeoutStopSec={stop}
"""
RIGHTS = """
# No more rights than it began with
NoNewPrivileges=yes
{capabilities}RestrictSUIDSGID=yes
"""
SIGHT = """
# What it can see and write
ProtectSystem=strict
ProtectHome={home}
{tmp}PrivateDevices=yes
{writes}
"""
KERNEL = """
# What it can ask of the kernel
{system}RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallFilter=@system-service
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
"""
OF_THE_SYSTEM = "ProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectControlGroups=yes\n"


def recipe(service: Service, environ: dict[str, str]) -> Recipe:
    """Return the recipe for systemd."""
    unit = f"{service.name}.service"
    control = ("systemctl", *([] if service.user else ["--user"]))
    directory = SYSTEM_DIRECTORY if service.user else _user_directory(environ)
    hint = "" if service.user else "it runs while you are logged in; from boot on after: loginctl enable-linger"
    return Recipe(
        path=os.path.join(directory, unit),
        content=text(service).encode(),
        mark=f"--config {quoted(service.config)} ".encode(),
        start=((*control, "daemon-reload"), (*control, "enable", "--now", unit)),
        stop=((*control, "disable", "--now", unit),),
        forget=((*control, "daemon-reload"),),
        question=(*control, "show", "--property=Version"),
        hint=hint,
    )


def text(service: Service) -> str:
    """Return the unit."""
    whole = bool(service.user)
    after = "After=local-fs.target\n" if whole else ""
    start = START.format(
        command=command_line(service.command),
        owner=f"User={service.user}\n" if whole else "",
        watchdog=WATCHDOG_S,
        stop=service.stop_s,
    )
    # A user's own systemd has not the rights for capabilities and mounts, and would not start the worker.
    rights = RIGHTS.format(capabilities="CapabilityBoundingSet=\n" if whole else "")
    kernel = KERNEL.format(system=OF_THE_SYSTEM if whole else "")
    target = "multi-user.target" if whole else "default.target"
    return (
        f"[Unit]\nDescription=bgjobs worker {service.name}\n{after}StartLimitIntervalSec=0\n\n"
        f"[Service]\n{start}{rights}{_sight(service) if whole else ''}{kernel}\n[Install]\nWantedBy={target}\n"
    )


def _sight(service: Service) -> str:
    places = (*service.reads, *service.writes)
    return SIGHT.format(
        home="read-only" if _any_below(places, PRIVATE) else "yes",
        tmp="" if _any_below(places, SHARED) else "PrivateTmp=yes\n",
        writes="\n".join(f"ReadWritePaths={quoted(path)}" for path in service.writes),
    )


def _any_below(places: tuple[str, ...], above: tuple[str, ...]) -> bool:
    return any(f"{place}/".startswith(f"{each}/") for place in places for each in above)


def command_line(words: tuple[str, ...]) -> str:
    """Return a command as ExecStart= wants it. Raises UsageError for a program that cannot be named there."""
    program = words[0]
    if any(letter in program for letter in "'\"\\"):
        raise UsageError(f"systemd runs no program with a quote or backslash in its path: {program}", code="bad-value")
    # A dollar is not doubled in the program's own path, but everywhere else; `:` says that none means a variable.
    literally = ":" if any("$" in word for word in words) else ""
    return " ".join([_quoted(program, before=literally), *(quoted(word) for word in words[1:])])


def quoted(word: str) -> str:
    """Return one word as systemd reads it back: its quotes, backslashes and specifiers escaped."""
    return _quoted(word, before="")


def _quoted(word: str, *, before: str) -> str:
    escaped = before + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = all(letter.isalnum() or letter in "/._-+,:=@%" for letter in word) and word.isascii() and word
    return escaped if plain else f'"{escaped}"'


def _user_directory(environ: dict[str, str]) -> str:
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "systemd", "user")
