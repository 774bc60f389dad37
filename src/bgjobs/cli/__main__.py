"""`python -m bgjobs.cli`, the same as `python -m bgjobs`."""

from __future__ import annotations

import sys

from bgjobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
