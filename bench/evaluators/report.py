"""The report of an evaluation: numbers beside their inputs' digests, the rule, the command and the versions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...base.files import make_folder, write_text
from ...base.versions import package_versions
from ...engine.device import hardware_description


def report_of(evaluation: str, command: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with what it was made by: date, command, hardware and versions."""
    return {
        "evaluation": evaluation,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": command,
        "hardware": hardware_description(),
        "versions": package_versions(),
        **content,
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report whole or not at all. Raises PrefmillError when the file system refuses."""
    make_folder(path.parent)
    write_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
