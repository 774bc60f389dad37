"""What needs root, other users, mounts or systemd: with the workers and projects of tests/process."""

from __future__ import annotations

from tests.process.conftest import home, project, queue, shared

__all__ = ["home", "project", "queue", "shared"]  # fixtures
