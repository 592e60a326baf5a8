"""`prefmill study NAME`: the papers' findings, measured anew on the micro world."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from ..base.errors import PrefmillError
from ..bench.studies.catalogue import STUDIES
from ..bench.studies.seeds import Seeds
from ..bench.studies.study import write_study
from .progress import watched


def study_command(name: str, to: Path, seeds: int, prompts: int, as_json: bool) -> None:
    """Run one study, or all."""
    if name not in (*STUDIES, "all"):
        raise PrefmillError(f"there is no study {name!r}", f"choose one of {', '.join(STUDIES)}, or all")
    with watched(f"prefmill study {name} --to {to}") as progress:
        shared = Seeds(to, range(1, seeds + 1), prompts, progress)
        for each in STUDIES if name == "all" else [name]:
            study = STUDIES[each](shared)
            files = write_study(study, to, f"prefmill study {each} --seeds {seeds} --prompts {prompts}")
            if as_json:
                typer.echo(
                    json.dumps({"study": each, "sentence": study.sentence, "files": [str(one) for one in files]})
                )
            else:
                typer.echo(f"{each}: {study.sentence}\n  {', '.join(str(one) for one in files)}")
