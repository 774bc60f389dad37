"""The other process of the lock self-test: for each line it is sent, it tries the lock and says what came of it."""

from __future__ import annotations

import sys

from bgjobs.locks import life_lock, taken


def main() -> None:
    """Try to take the lock that the command line names, as often as asked, and keep it."""
    lock = life_lock(sys.argv[1])
    for _ in sys.stdin:
        sys.stdout.write("taken\n" if taken(lock, 0) else "refused\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
