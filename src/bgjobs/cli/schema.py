"""The JSON Schema of a job file: of its first line, which is the job as it was submitted."""

from __future__ import annotations

from typing import Any

import msgspec

from bgjobs.config.settings import MOST_RETRIES, NAME
from bgjobs.ids import ID
from bgjobs.job import HIGHEST_PRIORITY, LATEST_MS, MOST_TAGS, TAG
from bgjobs.signing import KEY_ID
from bgjobs.spool.line1 import FORMAT, LONGEST_USER, Line1

DESCRIPTION = (
    "Line 1 of a bgjobs job file. Moments are milliseconds since 1970 (UTC), lengths are seconds. "
    "Each later line is an event in the life of the job."
)
ABOUT: dict[str, dict[str, Any]] = {
    "format": {"const": FORMAT},
    "id": {"pattern": f"^{ID.pattern}$", "description": "a ULID in lower case: sorts by the moment of submission"},
    "class": {"pattern": f"^{NAME.pattern}$", "description": "a name from allowed_jobs.toml"},
    "method": {"pattern": f"^{NAME.pattern}$", "description": "one of its methods"},
    "args": {"description": "by position; together with kwargs at most 256 KiB, nested at most 32 deep"},
    "kwargs": {"description": "by name"},
    "text": {"description": "texts among the arguments become what the annotations of the method say"},
    "priority": {"minimum": 0, "maximum": HIGHEST_PRIORITY, "description": "a higher number runs first"},
    "not_before": {"minimum": 0, "maximum": LATEST_MS, "description": "may not start earlier, ms since 1970 (UTC)"},
    "retries": {"minimum": 0, "maximum": MOST_RETRIES, "description": "further attempts after the first"},
    "retry_delay": {"minimum": 0, "maximum": LATEST_MS / 1000, "description": "seconds"},
    "timeout": {"exclusiveMinimum": 0, "maximum": LATEST_MS / 1000, "description": "seconds for each attempt"},
    "tags": {"items": {"type": "string", "pattern": f"^{TAG.pattern}$"}, "maxItems": MOST_TAGS},
    "retry_of": {"pattern": f"^{ID.pattern}$", "description": "the job that this one runs again"},
    "submitted_at": {"minimum": 0, "maximum": LATEST_MS, "description": "ms since 1970 (UTC)"},
    "submitted_by": {"description": "user@host"},
    "sig": {"pattern": f"^{KEY_ID}:[0-9a-f]{{64}}$", "description": "of all the bytes before it; the last member"},
    "from_user": {
        "minLength": 1,
        "maxLength": LONGEST_USER,
        "description": "the other user who handed the job in, as the system says: a name, or # and a number",
    },
}


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of line 1, from the type that reads it."""
    [line_1] = msgspec.json.schema(Line1)["$defs"].values()
    properties = {name: found | ABOUT[name] for name, found in line_1["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bgjobs job",
        "description": DESCRIPTION,
        "type": "object",
        "properties": properties,
        "required": line_1["required"],
        "additionalProperties": False,
    }
