"""A worker as a task of the Windows Task Scheduler."""

from __future__ import annotations

import codecs
import ntpath
import os
import subprocess
from xml.etree import ElementTree as ET

from bgjobs.services.service import Recipe, Service

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
RESTARTS, PAUSE = "255", "PT1M"  # the most and the shortest that the schema of a task takes
SETTINGS = {
    "MultipleInstancesPolicy": "IgnoreNew",
    "DisallowStartIfOnBatteries": "false",
    "StopIfGoingOnBatteries": "false",
    "StartWhenAvailable": "true",
    "RunOnlyIfNetworkAvailable": "false",
    "Enabled": "true",
    "Hidden": "false",
    "WakeToRun": "false",
    "ExecutionTimeLimit": "PT0S",  # none
    "Priority": "7",
}


def recipe(service: Service, directory: str, account: str) -> Recipe:
    """Return the recipe for the Task Scheduler. `account` is whose logon starts it, if it has no user."""
    path = ntpath.join(directory, f"{service.name}.xml")
    create: tuple[str, ...] = ("schtasks", "/Create", "/TN", service.name, "/XML", path)
    if service.user:
        create = (*create, "/RU", service.user, "/RP", "*")
    return Recipe(
        path=path,
        content=task(service, account),
        mark=_escaped(subprocess.list2cmdline(("--config", service.config, "--spool"))).encode("utf-16-le"),
        start=(create, ("schtasks", "/Run", "/TN", service.name)),
        # The scheduler knows no stop in good order: it would kill the worker.
        stop=(service.stop, ("schtasks", "/Delete", "/TN", service.name, "/F")),
    )


def task(service: Service, account: str) -> bytes:
    """Return the definition of the task, as UTF-16 with its mark in front: the scheduler takes nothing else."""
    root = ET.Element("Task", {"version": "1.2", "xmlns": NAMESPACE})
    ET.SubElement(ET.SubElement(root, "RegistrationInfo"), "Description").text = f"bgjobs worker {service.name}"
    trigger = ET.SubElement(ET.SubElement(root, "Triggers"), "BootTrigger" if service.user else "LogonTrigger")
    ET.SubElement(trigger, "Enabled").text = "true"
    principal = ET.SubElement(ET.SubElement(root, "Principals"), "Principal", {"id": "Author"})
    if not service.user:
        ET.SubElement(trigger, "UserId").text = account
    ET.SubElement(principal, "UserId").text = service.user or account
    ET.SubElement(principal, "LogonType").text = "Password" if service.user else "InteractiveToken"
    ET.SubElement(principal, "RunLevel").text = "LeastPrivilege"
    _settings(root)
    action = ET.SubElement(ET.SubElement(root, "Actions", {"Context": "Author"}), "Exec")
    ET.SubElement(action, "Command").text = _without_console(service.command[0])
    ET.SubElement(action, "Arguments").text = subprocess.list2cmdline((*service.command[1:], "--log"))
    ET.indent(root)
    body = ET.tostring(root, encoding="unicode")
    text = f'<?xml version="1.0" encoding="UTF-16"?>\n{body}\n'.replace("\n", "\r\n")
    return codecs.BOM_UTF16_LE + text.encode("utf-16-le")


def _settings(root: ET.Element) -> None:
    settings = ET.SubElement(root, "Settings")
    restart = ET.SubElement(settings, "RestartOnFailure")
    ET.SubElement(restart, "Interval").text = PAUSE
    ET.SubElement(restart, "Count").text = RESTARTS
    for name, value in SETTINGS.items():
        ET.SubElement(settings, name).text = value


def _without_console(program: str) -> str:
    """Return the twin of python.exe that opens no window, if it is there."""
    folder, name = ntpath.split(program)
    twin = ntpath.join(folder, "pythonw.exe")
    return twin if name.lower() == "python.exe" and os.path.exists(twin) else program


def _escaped(text: str) -> str:
    element = ET.Element("x")
    element.text = text
    return ET.tostring(element, encoding="unicode")[3:-4]
