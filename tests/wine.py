"""Wine, which stands in for Windows where there is none, differs from it here and there; this is how tests know."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import ctypes

    ON_WINE = hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
else:
    ON_WINE = False
