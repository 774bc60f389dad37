"""Fuzz targets for whatever reads what somebody else wrote, and a kept corpus for each."""

from __future__ import annotations

from pathlib import Path

TARGETS = ("jobfile", "allowed", "line", "command", "incoming")
CORPUS = Path(__file__).with_name("corpus")
