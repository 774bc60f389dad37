"""Print from pytest's JUnit report which tests were skipped, by reason: `list-skipped.py REPORT.xml`."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from xml.etree import ElementTree as ET


def main(report: str) -> int:
    """Print each reason with its tests; return 0."""
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        skipped = case.find("skipped")
        if skipped is not None:
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"
            reason = skipped.get("message", "")
            if reason == "collection skipped":  # of a whole file
                name, reason = case.get("name", ""), (skipped.text or "").partition("Skipped: ")[2].rstrip("')")
            reasons[reason][name] += 1
    for reason, tests in sorted(reasons.items(), key=lambda item: -item[1].total()):
        print(f"\n{tests.total():5d} {reason}")
        for name, times in sorted(tests.items()):
            print(f"        {name}{f' ({times})' if times > 1 else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
