"""The other process of the lock self-test: for each line it is sent, it tries the lock and says what came of it."""

from __future__ import annotations

import sys

from filelock import Timeout

from bgjobs.spool.locks import life_lock


def main() -> None:
    """Try to take the lock that the command line names, as often as asked, and keep it."""
    lock = life_lock(sys.argv[1])
    for _ in sys.stdin:
        try:
            lock.acquire(timeout=0)
            answer = "taken"
        except Timeout:
            answer = "refused"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
