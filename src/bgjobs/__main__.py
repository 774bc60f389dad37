"""`python -m bgjobs`, where the `bgjobs` command is not on the path."""

from __future__ import annotations

import sys

from bgjobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
