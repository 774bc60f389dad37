"""Print which installed releases differ from those that a file pins: `differing_releases.py CONSTRAINTS`."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections import defaultdict
from pathlib import Path


def main(file: str) -> int:
    """Print them on one line; return 0."""
    pinned: defaultdict[str, list[str]] = defaultdict(list)
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", Path(file).read_text("utf-8"), re.MULTILINE):
        pinned[name].append(version)
    found = {
        re.sub(r"[-_.]+", "-", distribution.name).lower(): distribution.version
        for distribution in importlib.metadata.distributions()
    }
    differing = [
        f"{name} {version} ({' or '.join(pinned[name])})"
        for name, version in sorted(found.items())
        if name in pinned and version not in pinned[name]
    ]
    print(", ".join(differing))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
