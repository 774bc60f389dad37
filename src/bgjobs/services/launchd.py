"""A worker as an agent or daemon of launchd, on macOS."""

from __future__ import annotations

import os
import plistlib
import posixpath

from bgjobs.services.service import Recipe, Service

DAEMONS = "/Library/LaunchDaemons"
PAUSE_S = 10  # at least between two starts
UMASK = 0o077


def recipe(service: Service, logs: str) -> Recipe:
    """Return the recipe for launchd."""
    home = os.path.expanduser("~")
    directory = DAEMONS if service.user else posixpath.join(home, "Library", "LaunchAgents")
    path = posixpath.join(directory, f"{service.name}.plist")
    domain = "system" if service.user else "gui/$(id -u)"
    return Recipe(
        path=path,
        content=plist(service, logs),
        mark=plistlib.dumps(service.config).splitlines()[-2].strip(),
        start=(("launchctl", "bootstrap", domain, path),),
        stop=(("launchctl", "bootout", f"{domain}/{service.name}"),),
    )


def plist(service: Service, logs: str) -> bytes:
    """Return the property list. What the worker prints before it can write to its log goes to `logs`."""
    about = {
        "Label": service.name,
        "ProgramArguments": [*service.command, "--log"],
        "RunAtLoad": True,
        # What stops by itself was asked to; what dies is started again.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": PAUSE_S,
        "ExitTimeOut": service.stop_s,
        "Umask": UMASK,
        "StandardErrorPath": posixpath.join(logs, f"{service.name}.log"),
    }
    return plistlib.dumps(about | ({"UserName": service.user} if service.user else {}), sort_keys=False)
