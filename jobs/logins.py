"""Keep a diary of who came and went in `app_logs/logins.log`."""

from __future__ import annotations

from jobs.app_log import append


class UserLoginService:
    """Somebody has logged in."""

    def handle(self, user: str) -> str:
        """Write it down."""
        return append("logins", "logged in", user)


class UserLogoutService:
    """Somebody has logged out."""

    def handle(self, user: str) -> str:
        """Write it down."""
        return append("logins", "logged out", user)
