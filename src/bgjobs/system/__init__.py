"""Everything that differs between Linux, macOS and Windows, behind one interface.

Submitting a job imports this package, so what only workers need is loaded when it is first asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from bgjobs.system.polled_doorbell import ring

if TYPE_CHECKING:
    from bgjobs.system.handlers import SignalHandlers, ignore_interrupts, signal_name, stop_requests
    from bgjobs.system.own_process import (
        linking,
        memory,
        own_state,
        put_back_linking,
        put_back_scheduling,
        read_time_zone,
        rights,
        scheduling,
    )
    from bgjobs.system.stopped import is_stopped
    from bgjobs.system.supervisor import Supervisor, take_supervisor

if sys.platform == "win32":
    from bgjobs.system.windows import (
        CHECKS_WRITERS,
        LONGEST_ROOT,
        PLAIN_OUTPUT,
        SERVICES,
        base_environment,
        boot_id,
        cores,
        free_space,
        has_access_list,
        host,
        is_elevated,
        is_mine,
        is_private,
        is_trusted,
        links_are_guarded,
        listdir,
        may_read,
        move,
        network_filesystem,
        one_fsync_is_safe,
        open_append,
        open_create_append,
        open_folder,
        open_new,
        open_read,
        replace,
        rmdir,
        scandir,
        set_access,
        sync_directory,
        sync_file,
        sync_filesystem,
        unlink,
        user,
        weakness,
        writable_by_others,
    )

    if TYPE_CHECKING:
        from bgjobs.system.windows_adoption import adopting, reap_adopted
        from bgjobs.system.windows_child import Child, start_child
        from bgjobs.system.windows_detached import send_errors_to, silence_output, start_detached
        from bgjobs.system.windows_disks import disk_facts
        from bgjobs.system.windows_doorbell import Doorbell
        from bgjobs.system.windows_limits import CPU_SIGNAL, UNENFORCED, ResourceLimits
        from bgjobs.system.windows_poller import Poller
        from bgjobs.system.windows_processes import (
            birth,
            kill_descendants,
            kill_leftover,
            kill_marked,
            kill_marked_where,
            kill_orphan,
            kill_tree,
            marked,
            runners_above,
        )
        from bgjobs.system.windows_runner import (
            ChildProcesses,
            children,
            die_with_parent,
            open_descriptors,
            root_directory,
            unbuffer_c_output,
        )
        from bgjobs.system.windows_signals import install_interrupt, stop_signals
        from bgjobs.system.windows_user import become, cannot_become
        from bgjobs.system.windows_users import group_of, is_member, knows_user, may_give, user_of
else:
    from bgjobs.system.posix import (
        CHECKS_WRITERS,
        LONGEST_ROOT,
        PLAIN_OUTPUT,
        SERVICES,
        base_environment,
        free_space,
        has_access_list,
        host,
        is_elevated,
        is_mine,
        is_private,
        is_trusted,
        listdir,
        may_read,
        move,
        open_append,
        open_create_append,
        open_folder,
        open_new,
        open_read,
        replace,
        rmdir,
        scandir,
        set_access,
        unlink,
        user,
        weakness,
        writable_by_others,
    )

    if TYPE_CHECKING:
        from bgjobs.system.posix_child import Child, start_child
        from bgjobs.system.posix_detached import send_errors_to, silence_output, start_detached
        from bgjobs.system.posix_killing import kill_descendants, kill_leftover, kill_orphan, kill_tree
        from bgjobs.system.posix_limits import CPU_SIGNAL, UNENFORCED, ResourceLimits
        from bgjobs.system.posix_marks import kill_marked, kill_marked_where, marked, runners_above
        from bgjobs.system.posix_poller import Poller
        from bgjobs.system.posix_processes import birth
        from bgjobs.system.posix_runner import (
            ChildProcesses,
            children,
            open_descriptors,
            root_directory,
            unbuffer_c_output,
        )
        from bgjobs.system.posix_signals import install_interrupt, stop_signals
        from bgjobs.system.posix_user import become, cannot_become
        from bgjobs.system.posix_users import group_of, is_member, knows_user, may_give, user_of

    if sys.platform == "darwin":
        from bgjobs.system.darwin import (
            boot_id,
            cores,
            links_are_guarded,
            network_filesystem,
            one_fsync_is_safe,
            sync_directory,
            sync_file,
            sync_filesystem,
        )

        if TYPE_CHECKING:
            from bgjobs.system.darwin_adoption import adopting, reap_adopted
            from bgjobs.system.darwin_disks import disk_facts
            from bgjobs.system.darwin_doorbell import Doorbell
            from bgjobs.system.darwin_runner import die_with_parent
    else:
        from bgjobs.system.linux import (
            boot_id,
            cores,
            links_are_guarded,
            network_filesystem,
            one_fsync_is_safe,
            sync_directory,
            sync_file,
            sync_filesystem,
        )

        if TYPE_CHECKING:
            from bgjobs.system.linux_adoption import adopting, reap_adopted
            from bgjobs.system.linux_disks import disk_facts
            from bgjobs.system.linux_doorbell import Doorbell
            from bgjobs.system.linux_runner import die_with_parent

__all__ = [
    "CHECKS_WRITERS",
    "CPU_SIGNAL",
    "LONGEST_ROOT",
    "PLAIN_OUTPUT",
    "SERVICES",
    "UNENFORCED",
    "Child",
    "ChildProcesses",
    "Doorbell",
    "Poller",
    "ResourceLimits",
    "SignalHandlers",
    "Supervisor",
    "adopting",
    "base_environment",
    "become",
    "birth",
    "boot_id",
    "cannot_become",
    "children",
    "cores",
    "die_with_parent",
    "disk_facts",
    "free_space",
    "group_of",
    "has_access_list",
    "host",
    "ignore_interrupts",
    "install_interrupt",
    "is_elevated",
    "is_member",
    "is_mine",
    "is_private",
    "is_stopped",
    "is_trusted",
    "kill_descendants",
    "kill_leftover",
    "kill_marked",
    "kill_marked_where",
    "kill_orphan",
    "kill_tree",
    "knows_user",
    "linking",
    "links_are_guarded",
    "listdir",
    "marked",
    "may_give",
    "may_read",
    "memory",
    "move",
    "network_filesystem",
    "one_fsync_is_safe",
    "open_append",
    "open_create_append",
    "open_descriptors",
    "open_folder",
    "open_new",
    "open_read",
    "own_state",
    "put_back_linking",
    "put_back_scheduling",
    "read_time_zone",
    "reap_adopted",
    "replace",
    "rights",
    "ring",
    "rmdir",
    "root_directory",
    "runners_above",
    "scandir",
    "scheduling",
    "send_errors_to",
    "set_access",
    "signal_name",
    "silence_output",
    "start_child",
    "start_detached",
    "stop_requests",
    "stop_signals",
    "sync_directory",
    "sync_file",
    "sync_filesystem",
    "take_supervisor",
    "unbuffer_c_output",
    "unlink",
    "user",
    "user_of",
    "weakness",
    "writable_by_others",
]

if not TYPE_CHECKING:
    _FAMILY = "windows" if sys.platform == "win32" else "posix"
    _SYSTEM = {"win32": "windows", "darwin": "darwin"}.get(sys.platform, "linux")
    _LOADED_LATER = {
        "SignalHandlers": "handlers",
        "ignore_interrupts": "handlers",
        "signal_name": "handlers",
        "stop_requests": "handlers",
        "CPU_SIGNAL": f"{_FAMILY}_limits",
        "Child": f"{_FAMILY}_child",
        "Doorbell": f"{_SYSTEM}_doorbell",
        "Poller": f"{_FAMILY}_poller",
        "ResourceLimits": f"{_FAMILY}_limits",
        "UNENFORCED": f"{_FAMILY}_limits",
        "adopting": f"{_SYSTEM}_adoption",
        "become": f"{_FAMILY}_user",
        "birth": f"{_SYSTEM}_processes",
        "cannot_become": f"{_FAMILY}_user",
        "ChildProcesses": f"{_FAMILY}_runner",
        "children": f"{_FAMILY}_runner",
        "open_descriptors": f"{_FAMILY}_runner",
        "unbuffer_c_output": f"{_FAMILY}_runner",
        "die_with_parent": f"{_SYSTEM}_runner",
        "disk_facts": f"{_SYSTEM}_disks",
        "group_of": f"{_FAMILY}_users",
        "is_member": f"{_FAMILY}_users",
        "knows_user": f"{_FAMILY}_users",
        "may_give": f"{_FAMILY}_users",
        "user_of": f"{_FAMILY}_users",
        "install_interrupt": f"{_FAMILY}_signals",
        "is_stopped": "stopped",
        "kill_descendants": "windows_processes" if sys.platform == "win32" else "posix_killing",
        "kill_leftover": "windows_processes" if sys.platform == "win32" else "posix_killing",
        "kill_marked": "windows_processes" if sys.platform == "win32" else "posix_marks",
        "kill_marked_where": "windows_processes" if sys.platform == "win32" else "posix_marks",
        "kill_orphan": "windows_processes" if sys.platform == "win32" else "posix_killing",
        "kill_tree": "windows_processes" if sys.platform == "win32" else "posix_killing",
        "marked": "windows_processes" if sys.platform == "win32" else "posix_marks",
        "runners_above": "windows_processes" if sys.platform == "win32" else "posix_marks",
        "reap_adopted": f"{_SYSTEM}_adoption",
        "linking": "own_process",
        "memory": "own_process",
        "own_state": "own_process",
        "put_back_linking": "own_process",
        "put_back_scheduling": "own_process",
        "read_time_zone": "own_process",
        "rights": "own_process",
        "scheduling": "own_process",
        "send_errors_to": f"{_FAMILY}_detached",
        "silence_output": f"{_FAMILY}_detached",
        "root_directory": f"{_FAMILY}_runner",
        "start_child": f"{_FAMILY}_child",
        "start_detached": f"{_FAMILY}_detached",
        "stop_signals": f"{_FAMILY}_signals",
        "Supervisor": "supervisor",
        "take_supervisor": "supervisor",
    }

    def __getattr__(name: str) -> object:
        """Load what only workers need, when it is first asked for."""
        if name not in _LOADED_LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_LOADED_LATER[name]}"), name)
        globals()[name] = value
        return value
