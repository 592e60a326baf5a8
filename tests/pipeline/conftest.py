"""What tests of the pipeline share: a responder that says what a test wants, and imports with small images."""

import io
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from prefmill.base.progress import Progress
from prefmill.engine.responders.catalogue import RESPONDERS, ResponderBackend
from prefmill.engine.responders.interface import Answer, Failure, Responder
from prefmill.pipeline.exchange.importing import ImportSpec, import_into
from prefmill.pipeline.execute.work import ExecutorConfig
from prefmill.pipeline.records import Candidate, ImagePreference, Instruction, Pair, Prompt, Response, Selection
from prefmill.pipeline.store import Run

TYPES: dict[str, type] = {"prompts": Prompt, "candidates": Candidate, "picks": Selection, "instructions": Instruction}
TYPES |= {"responses-imported": Response, "pairs": Pair, "image_preferences": ImagePreference}


class Scripted(Responder):
    """Answers with `script(request)`: a text, or an Answer or Failure; remembers what it was asked."""

    key = "scripted@1"

    def __init__(self, script):
        self.script, self.asked, self.folder, self.closed = script, [], None, False

    def answer(self, requests, sampling, schema=None):
        self.asked.append([request.name for request in requests])
        replies = [self.script(request) for request in requests]
        return [
            reply if isinstance(reply, Answer | Failure) else Answer(reply, "stop", len(reply.split()), cost=0.5)
            for reply in replies
        ]

    def keep_in(self, folder):
        self.folder = folder

    def close(self):
        self.closed = True


@pytest.fixture
def scripted(monkeypatch):
    """Register the backend `scripted`: `scripted.say(script)` sets what it says, `scripted.last` is the last loaded."""
    state = SimpleNamespace(script=None, last=None, version="1")

    def load(choice, settings, adapter):
        state.last = Scripted(state.script)
        return state.last

    def say(script):
        state.script = script

    state.say = say
    monkeypatch.setitem(
        RESPONDERS, "scripted", ResponderBackend(load, lambda choice: f"scripted-{state.version}", False)
    )
    return state


class Recorder(Progress):
    """A Progress that counts the inputs worked on, per stage, and stops where it is told to."""

    def __init__(self, stop_at=None):
        self.worked, self.notices, self.stop_at = Counter[str](), list[str](), stop_at

    def step(self, name, steps, note=""):
        self.worked[name] += steps
        if name == self.stop_at:
            raise KeyboardInterrupt

    def notice(self, text):
        self.notices.append(text)


def _bring(folder, progress=None, **paths) -> Any:
    spec = ImportSpec.model_validate({name: str(path) for name, path in paths.items()})
    with Run.writing(folder) as run:
        import_into(run, spec, ExecutorConfig(commit_seconds=0), progress or Recorder())
    return run


def _rows(run, stage) -> list[Any]:
    return list(run.dataset(stage, TYPES[stage]))


def _rejects(run, stage):
    return {reject.subject_id: reject.reason for reject in run.dataset(stage, TYPES[stage]).rejects()}


def _write_lines(path, items):
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return path


def _picture(number, size=(8, 6), mode="RGB", format="PNG", **options):
    """Return the bytes of an image that differs from those of other numbers."""
    image = Image.new("RGB", size, (number * 40 % 256, number * 7 % 256, number)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def bring():
    """Import files (by the names of ImportSpec's fields) into a folder; returns the run."""
    return _bring


@pytest.fixture(scope="session")
def rows():
    """The records of a stage."""
    return _rows


@pytest.fixture(scope="session")
def rejects():
    """The rejects of a stage, as {subject: reason}."""
    return _rejects


@pytest.fixture(scope="session")
def write_lines():
    """Write JSON lines; a string is written as it is."""
    return _write_lines


@pytest.fixture(scope="session")
def picture():
    """The bytes of a small image that differs from those of other numbers."""
    return _picture


@pytest.fixture(scope="session")
def lines_of():
    """Read JSON lines."""
    return _lines_of


@pytest.fixture
def recorder():
    """Make a Progress that counts the inputs worked on, per stage."""
    return Recorder


@pytest.fixture
def few(tmp_path):
    """A folder with two prompts of two images each, the second of each picked, and one answer per prompt."""
    folder = tmp_path / "few"
    (folder / "images").mkdir(parents=True)
    prompts = [{"id": name, "text": f"a {name}", "instruction": f"Which {name}?"} for name in ("cat", "dog")]
    _write_lines(folder / "prompts.jsonl", prompts)
    images = []
    for number in range(4):
        name = f"images/{number}.png"
        (folder / name).write_bytes(_picture(number))
        images.append({"prompt_id": ("cat", "dog")[number // 2], "image": name, "picked": number % 2 == 1})
    _write_lines(folder / "images.jsonl", images)
    answers = [{"prompt_id": name, "model": "m", "text": f"The {name} there."} for name in ("cat", "dog")]
    _write_lines(folder / "answers.jsonl", answers)
    return folder
