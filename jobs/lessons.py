"""Keep a diary of lessons in `app_logs/lessons.log`."""

from __future__ import annotations

from jobs.app_log import append


class LessonCreatedService:
    """A lesson was added to the timetable."""

    def handle(self, title: str) -> str:
        """Write it down."""
        return append("lessons", "created", title)


class LessonStartedService:
    """A lesson has begun."""

    def handle(self, title: str) -> str:
        """Write it down."""
        return append("lessons", "started", title)


class LessonEndedService:
    """A lesson is over."""

    def handle(self, title: str) -> str:
        """Write it down."""
        return append("lessons", "ended", title)
