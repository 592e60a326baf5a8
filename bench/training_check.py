"""A quick look at what a training did to hallucination: the same questions to the model without and with its adapter.

`pope` takes some of POPE's questions, spread over its categories, about the user's images; `micro` takes scenes of the
micro world. The answers, and the report of each side, stay in OUTPUT/evaluation; what came out is in
OUTPUT/evaluation.json and in the training's manifest (`evaluation`). It is a look, not the benchmark: `prefmill eval`
has that.
"""

from __future__ import annotations

import gc
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..base.errors import PrefmillError
from ..base.files import make_folder, write_text
from ..base.progress import Progress
from ..engine.responders.settings import ModelChoice
from ..engine.settings import EngineSettings
from ..train.manifest import ADAPTER, MANIFEST, AdapterManifest, write
from .evaluators.answering.questions import first_of
from .evaluators.answering.writing import Answering, require_images, write_answers
from .evaluators.answers.comparing import compare, read_report
from .evaluators.pope.asking import pope_questions_to_ask
from .evaluators.pope.evaluating import MEAN, evaluate_pope
from .evaluators.pope.questions import ObjectQuestions, read_questions
from .evaluators.pope.rule import OFFICIAL, RULES
from .evaluators.report import write_report

CheckName = Literal["pope", "micro"]
QUESTIONS, SCENES = 300, 100
FOLDER, RESULT = "evaluation", "evaluation.json"
_SPLIT, _PROMPTS, _SEED = "test", 240, 1  # the demo's: its scenes are none of its prompts'


@dataclass(frozen=True)
class TrainingCheck:
    """What is asked: so many questions of POPE, or about so many micro scenes. Checked before anything is trained."""

    name: CheckName
    count: int
    questions: ObjectQuestions | None = None
    images: Path | None = None

    @classmethod
    def of(cls, name: str, questions: Path | None, images: Path | None, count: int | None) -> TrainingCheck:
        """Read the questions and see that their images are there. Raises PrefmillError for whatever is missing."""
        if name not in get_args(CheckName):
            raise PrefmillError(f"--eval {name!r} is not known", f"choose one of {', '.join(get_args(CheckName))}")
        if name == "micro":
            if questions is not None or images is not None:
                raise PrefmillError("--eval micro draws its own scenes", "leave --eval-questions and --eval-images out")
            return cls("micro", count or SCENES)
        if questions is None or images is None:
            raise PrefmillError(
                "--eval pope needs POPE's questions and COCO's images (val2014)",
                "give --eval-questions FOLDER (output/coco of github.com/RUCAIBox/POPE) and --eval-images FOLDER",
            )
        found = _some(read_questions([questions]), count or QUESTIONS)
        asked = pope_questions_to_ask(found)
        require_images(asked, images)
        return cls("pope", len(asked), found, images)


def check_training(
    check: TrainingCheck, output: Path, manifest: AdapterManifest, progress: Progress
) -> AdapterManifest:
    """Ask both sides, write what came out beside the adapter and into its manifest, and return that.

    Continues where it stopped. Raises PrefmillError as the model does.
    """
    model, adapter = manifest.config.model, output / ADAPTER
    engine = EngineSettings(device=manifest.config.device)
    ask = _ask_micro if check.name == "micro" else _ask_pope
    result = {"benchmark": check.name, "count": check.count, **ask(check, model, adapter, output, engine, progress)}
    if manifest.config.system_prompt:
        result["note"] = "asked without the training's system prompt"
    write_text(output / RESULT, json.dumps(result, indent=1) + "\n")
    evaluated = manifest.model_copy(update={"evaluation": result})
    write(output / MANIFEST, evaluated)
    return evaluated


def _ask_pope(
    check: TrainingCheck, model: str, adapter: Path, output: Path, engine: EngineSettings, progress: Progress
) -> dict[str, Any]:
    assert check.questions is not None
    folder = output / FOLDER
    make_folder(folder)
    for side, own in (("before", None), ("after", adapter)):
        answers = folder / f"{side}.jsonl"
        answering = Answering(ModelChoice(model=model), check.images, own, engine)
        written = write_answers(answers, pope_questions_to_ask(check.questions), answering, progress)
        _let_go()
        found = evaluate_pope(check.questions, [(answers, None)], RULES[OFFICIAL])
        write_report(folder / f"{side}.json", found.report(f"evaluation of {output.name}, {side}: {written.model}"))
    return _compared(folder / "before.json", folder / "after.json")


def _compared(before: Path, after: Path) -> dict[str, Any]:
    """Every measure before and after with the ends of its change's interval, and McNemar's test on the questions."""
    found = compare(read_report(before, "before"), read_report(after, "after"))
    means = [one for one in found["measures"] if one["group"] == MEAN]
    measures = {f"{one['group']}: {one['name']}": one for one in means or found["measures"]}
    tested = found["items"].get("all") or next(iter(found["items"].values()))
    return {
        "measures": {name: [one["before"], one["after"]] for name, one in measures.items()},
        "change": {name: [one["low"], one["high"]] for name, one in measures.items()},
        **{"mended": tested["mended"], "broken": tested["broken"], "mcnemar_p": tested["p"], "n": tested["items"]},
    }


def _ask_micro(
    check: TrainingCheck, model: str, adapter: Path, output: Path, engine: EngineSettings, progress: Progress
) -> dict[str, Any]:
    from ..micro.measure.held_out import held_out_scenes
    from ..micro.world.render import render_all
    from .hallucination import compare as compare_policies
    from .hallucination import evaluate_policy

    _, scenes = held_out_scenes(_SPLIT, _PROMPTS, check.count, _SEED)
    images = render_all(scenes, _SEED)
    said = []
    for side, own in (("before", None), ("after", adapter)):
        said.append(evaluate_policy(model, own, images, scenes, engine, progress, f"evaluation {side}"))
        _let_go()
    found = compare_policies(*said)
    tested = {name: found.pop(name) for name in ("mended", "broken", "mcnemar_p", "n")}
    measures = {name: [None if math.isnan(one) else one for one in sides] for name, sides in found.items()}
    return {"measures": measures, **tested}


def _some(questions: ObjectQuestions, count: int) -> ObjectQuestions:
    """About so many questions, as many of each category, spread over its file."""
    each = max(1, count // len(questions.by_category))
    return replace(
        questions, by_category={name: list(first_of(own, each)) for name, own in questions.by_category.items()}
    )


def _let_go() -> None:
    """Give back a GPU's memory: the other side comes next."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
