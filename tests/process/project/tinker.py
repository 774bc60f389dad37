"""Jobs that do what they are told, and tell what they find."""

from __future__ import annotations

import os
from typing import Any


class Tinker:
    def do(self, code: str) -> int:
        """Run this as the body of a method; return the number of the process."""
        exec(code, {"__name__": "tinkering"})
        return os.getpid()

    def tell(self, expression: str) -> Any:
        """Return what this is, after `import` of whatever stands before the last line."""
        *imports, last = expression.splitlines()
        names: dict[str, Any] = {"__name__": "tinkering"}
        exec("\n".join(imports), names)
        return repr(eval(last, names))
