"""A benchmark's result as a file: numbers beside the hardware, versions, command and date that they belong to."""

import json
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import Any

from ..base.versions import package_versions
from ..engine.device import hardware_description


def called(program: str) -> str:
    """The command line of this process, by the program's printed name."""
    return shlex.join([*program.split(), *sys.argv[1:]])


def write_result(path: Path, command: str, setting: dict[str, Any], claims: dict[str, Any], **raw: Any) -> None:
    """Write one JSON object: where and how it was measured, `setting`, `claims`, and the raw numbers behind them."""
    record = {
        "date": date.today().isoformat(),
        "command": command,
        "hardware": hardware_description(),
        "versions": package_versions(),
        "setting": setting,
        "claims": claims,
        **raw,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
