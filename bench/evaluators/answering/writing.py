"""Write a model's answers to a benchmark's questions, in the form that its official script reads.

`ANSWERS` appears whole, in the questions' order; `ANSWERS.written/` has every reply from the moment that it came, and
a manifest. A call that was stopped continues with the same command. An image that cannot be read is named, and its
question stays without an answer: nothing takes its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ....base.files import make_folder, read_text, replacing, sha256_of, write_text
from ....base.progress import Progress
from ....base.tables.table import BadRow
from ....base.versions import package_versions
from ....engine.responders.adapter import CONFIG, require_adapter
from ....engine.responders.catalogue import backend_of
from ....engine.responders.interface import Answer, Failure
from ....engine.responders.settings import INDEPENDENT, ModelChoice
from ....engine.settings import EngineSettings, Sampling
from ....pipeline.exchange.image_files import ImageFile, locate
from ....train.manifest import ADAPTER
from .asking import AskedItem, ask_items
from .questions import BenchmarkQuestion

MANIFEST = "manifest.json"
SHORT, LONG = Sampling(max_new_tokens=64), Sampling(max_new_tokens=512)
"""How yes/no questions, and all others, are answered: greedily."""


@dataclass(frozen=True)
class Answering:
    """Who answers, and how. `suffix` is put after the questions that one word answers."""

    choice: ModelChoice
    images: Path | None
    adapter: Path | None = None
    engine: EngineSettings | None = None
    suffix: str = ""
    sampling: Sampling | None = None
    """None: `SHORT` for questions that one word answers, else `LONG`."""


@dataclass(frozen=True)
class Written:
    """The file of answers; `model` wrote it, and `failures` says of questions by id why they have none."""

    path: Path
    model: str
    answered: int
    failures: dict[str, str]


def write_answers(
    target: Path,
    questions: Sequence[BenchmarkQuestion],
    answering: Answering,
    progress: Progress,
    *,
    partial_answers: bool = False,
) -> Written:
    """Write the answers to questions, or continue to.

    A file that is complete is left as it is, and no model is loaded. Raises PrefmillError for a file that something
    else wrote, for images that are missing or lead out of their folder before anything is asked, and for questions
    that got no answer unless `partial_answers`.
    """
    work = target.with_name(f"{target.name}.written")
    settings = _settings(questions, answering)
    before = _before(target, work, settings)
    if before is not None and target.exists() and (partial_answers or not before["failures"]):
        return Written(target, before["model"], before["answered"], before["failures"])
    items, failures = _items(questions, answering)
    _require_whole(failures, len(questions), "image", partial_answers=partial_answers)
    backend_of(answering.choice).check(answering.choice)
    if answering.adapter is not None:
        require_adapter(answering.adapter)
    make_folder(work)
    write_text(work / MANIFEST, json.dumps({"settings": settings}, indent=1) + "\n")
    found = ask_items(
        items,
        answering.choice,
        work,
        progress,
        adapter=answering.adapter,
        engine=answering.engine,
        task=target.name,
    )
    replies = {item.name: reply for item, reply in zip(items, found.replies, strict=True)}
    failures |= {name: _why(reply) for name, reply in replies.items() if isinstance(reply, Failure)}
    _require_whole(failures, len(questions), "answer", partial_answers=partial_answers)
    rows = [
        {**question.row, question.answer_field: reply.text}
        for question in questions
        if isinstance(reply := replies.get(question.id), Answer)
    ]
    _write_rows(target, rows)
    result = {"model": found.model, "answered": len(rows), "failures": failures, "versions": package_versions()}
    write_text(work / MANIFEST, json.dumps({"settings": settings, "result": result}, indent=1) + "\n")
    return Written(target, found.model, len(rows), failures)


def adapter_in(folder: Path) -> Path:
    """Return a training's adapter, or the folder itself where it is one."""
    inside = folder / ADAPTER
    return inside if (inside / CONFIG).is_file() else folder


def missing_images(questions: Sequence[BenchmarkQuestion], images: Path) -> dict[str, str]:
    """Return, by question, why its image is not in a folder. Raises PrefmillError for one that leads out of it."""
    failures: dict[str, str] = {}
    for question in questions:
        try:
            _image_of(question, images)
        except BadRow as fault:
            failures[question.id] = fault.detail
    return failures


def require_images(questions: Sequence[BenchmarkQuestion], images: Path) -> None:
    """Raise PrefmillError, which names the first, where images of questions are not in a folder."""
    _require_whole(missing_images(questions, images), len(questions), "image", partial_answers=False)


def _settings(questions: Sequence[BenchmarkQuestion], answering: Answering) -> dict[str, Any]:
    """What answers depend on; questions and an adapter by their content."""
    asked = json.dumps([[one.id, one.text, one.images] for one in questions])
    adapter = answering.adapter
    sampling = answering.sampling.model_dump(mode="json") if answering.sampling else None
    return {
        "questions": hashlib.sha256(asked.encode()).hexdigest(),
        "choice": answering.choice.model_dump(mode="json", exclude=set(INDEPENDENT | {"batch_size"})),
        "adapter": sha256_of(adapter) if adapter is not None and adapter.is_dir() else str(adapter or ""),
        "suffix": answering.suffix,
        "sampling": sampling,
    }


def _before(target: Path, work: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier call with these settings came to. Raises PrefmillError for a file of another's."""
    fix = f"name another file with --answers, or remove {target}"
    text = read_text(work / MANIFEST, fix)
    if text is None:
        if target.exists():
            raise PrefmillError(
                f"{target} is there, and was not written by this command", f"{fix}; without --model it is evaluated"
            )
        return None
    try:
        manifest = json.loads(text)
        before, result = manifest["settings"], manifest.get("result")
    except (ValueError, KeyError, TypeError) as error:
        raise PrefmillError(f"{work / MANIFEST} is damaged", fix) from error
    if changed := sorted(key for key in settings if before.get(key) != settings[key]):
        raise PrefmillError(f"{target} was begun with other settings: {', '.join(changed)}", fix)
    return result


def _items(questions: Sequence[BenchmarkQuestion], answering: Answering) -> tuple[list[AskedItem], dict[str, str]]:
    """What to ask, and of which questions the image is not there.

    Questions that one word answers come first: a batch runs as long as its longest answer.
    """
    items: list[AskedItem] = []
    failures: dict[str, str] = {}
    for question in sorted(questions, key=lambda one: not one.short):
        text = f"{question.text} {answering.suffix}" if question.short and answering.suffix else question.text
        sampling = answering.sampling or (SHORT if question.short else LONG)
        try:
            items.append(AskedItem(question.id, text, sampling, _image_of(question, answering.images)))
        except BadRow as fault:
            failures[question.id] = fault.detail
    return items, failures


def _require_whole(failures: dict[str, str], count: int, what: str, *, partial_answers: bool) -> None:
    """Raise PrefmillError, which names the first, where questions lack something and that was not allowed."""
    if failures and (not partial_answers or len(failures) == count):
        named = "; ".join(f"question {name}: {why}" for name, why in list(failures.items())[:3])
        raise PrefmillError(
            f"{len(failures)} of {count} questions have no usable {what}: {named}",
            "repair that (--images) and give the same command again, which asks only what is missing; or give "
            "--allow-partial, which leaves them out and says so",
        )


def _image_of(question: BenchmarkQuestion, folder: Path | None) -> Callable[[], bytes]:
    """Return what reads a question's image: the first of its names that is there.

    Raises BadRow where none is, and PrefmillError for a name that leads out of the folder, which is never read.
    """
    if question.embedded is not None:
        return partial(bytes, question.embedded)
    if folder is None:
        raise PrefmillError("the images' folder is not given.", "name it with --images")
    missing: BadRow | None = None
    for name in question.images:
        try:
            return partial(_read, locate(folder.resolve(), name))
        except BadRow as fault:
            if fault.reason == "unsafe_path":
                raise PrefmillError(f"question {question.id}: {fault.detail}", "correct the questions") from fault
            missing = missing or fault
    raise missing or BadRow("file_missing", "it names no image")


def _read(image: ImageFile) -> bytes:
    try:
        return image.read()
    except BadRow as fault:
        raise PrefmillError(f"{image.path.name}: {fault.detail}", "replace the image") from fault


def _why(reply: Failure) -> str:
    return f"{reply.reason}: {reply.detail}" if reply.detail else reply.reason


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    make_folder(path.parent)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True) + "\n")
