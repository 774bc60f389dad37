"""Everything that differs between Linux, macOS and Windows, behind one interface.

Each name is loaded from its module when it is first asked for, because `bgjobs submit` imports this package and needs
few of them. The type checker reads the imports below; Python reads the table.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgjobs.system.doorbell import *
    from bgjobs.system.own_process import *
    from bgjobs.system.signals import *
    from bgjobs.system.supervisor import *

    if sys.platform == "win32":
        from bgjobs.system.windows import *
        from bgjobs.system.windows_child import *
        from bgjobs.system.windows_poller import *
        from bgjobs.system.windows_process_tree import *
        from bgjobs.system.windows_runner import *
    else:
        from bgjobs.system.posix import *
        from bgjobs.system.posix_child import *
        from bgjobs.system.posix_poller import *
        from bgjobs.system.posix_process_tree import *
        from bgjobs.system.posix_runner import *
        from bgjobs.system.posix_users import *

        if sys.platform == "darwin":
            from bgjobs.system.darwin import *
            from bgjobs.system.darwin_doorbell import *
            from bgjobs.system.darwin_processes import *
            from bgjobs.system.darwin_runner import *
        else:
            from bgjobs.system.linux import *
            from bgjobs.system.linux_adoption import *
            from bgjobs.system.linux_doorbell import *
            from bgjobs.system.linux_processes import *
            from bgjobs.system.linux_runner import *

_FAMILY, _SYSTEM = {
    "win32": ("windows", "windows"),
    "darwin": ("posix", "darwin"),
}.get(sys.platform, ("posix", "linux"))
_PROCESSES = "windows_process_tree" if _SYSTEM == "windows" else f"{_SYSTEM}_processes"
_ADOPTION = "linux_adoption" if _SYSTEM == "linux" else _PROCESSES
_DOORBELL = "windows_poller" if _SYSTEM == "windows" else f"{_SYSTEM}_doorbell"
_USERS = "windows" if _SYSTEM == "windows" else "posix_users"
_INTERFACE = (
    ("doorbell", "ring"),
    ("own_process", "linking memory own_state put_back_linking put_back_scheduling read_time_zone rights scheduling"),
    ("signals", "SignalHandlers ignore_interrupts install_interrupt signal_name stop_requests stop_signals"),
    ("supervisor", "Supervisor take_supervisor"),
    (_FAMILY, "CHECKS_WRITERS LONGEST_ROOT PLAIN_OUTPUT SERVICES base_environment free_space has_access_list host"),
    (_FAMILY, "is_elevated is_mine is_private is_trusted listdir may_read move open_append open_create_append"),
    (_FAMILY, "open_folder open_new open_read replace rmdir scandir set_access unlink user weakness"),
    (_FAMILY, "writable_by_others"),
    (_SYSTEM, "boot_id cores disk_facts links_are_guarded network_filesystem one_fsync_is_safe sync_directory"),
    (_SYSTEM, "sync_file sync_filesystem"),
    (_USERS, "become cannot_become group_of is_member knows_user may_give user_of"),
    (f"{_FAMILY}_child", "Child send_errors_to silence_output start_child start_detached"),
    (f"{_FAMILY}_poller", "Poller"),
    (_DOORBELL, "Doorbell"),
    (f"{_FAMILY}_process_tree", "kill_descendants kill_leftover kill_marked kill_marked_where kill_orphan kill_tree"),
    (f"{_FAMILY}_process_tree", "marked runners_above"),
    (_PROCESSES, "birth is_stopped"),
    (_ADOPTION, "adopting reap_adopted"),
    (f"{_FAMILY}_runner", "CPU_SIGNAL UNENFORCED ChildProcesses ResourceLimits children open_descriptors"),
    (f"{_FAMILY}_runner", "root_directory unbuffer_c_output"),
    (f"{_SYSTEM}_runner", "die_with_parent"),
)
MODULE_OF = {name: module for module, names in _INTERFACE for name in names.split()}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a name from its module, and keep it. Raises AttributeError for a name that is not of the interface."""
        if name not in MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
        return value
