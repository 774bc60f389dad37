"""The command line: turn a person's request into one call of the queue or the worker, and print what comes back."""

from __future__ import annotations

import gc
import sys

INTERRUPTED = 130  # as in `output`, which may not be loaded yet


def main() -> int:
    """Run the command line of this process and return its exit status."""
    gc.disable()  # what is imported now stays: `app` enables it again
    try:
        from bgjobs.cli.app import run  # noqa: PLC0415 - Ctrl-C may come while this is loaded

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    while True:
        try:
            from bgjobs.system import ignore_interrupts  # noqa: PLC0415 - as above

            ignore_interrupts()  # while the interpreter ends, one would be a traceback and another exit status
        except KeyboardInterrupt:
            continue
        return status
