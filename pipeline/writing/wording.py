"""The words that writers use: readable files, each of which a user's own folder may replace.

    prompts.txt         what a model is asked for text-to-image prompts
    instructions.txt    what a model is asked for instructions about an image
    questions.yaml      the kinds of questions: a hint for models, and forms for the writer that needs none
    common.yaml         what the topics' grammars share
    topics/NAME.yaml    a topic: a hint and aspects for models, and a grammar

`prefmill write wording --to FOLDER` copies them out, to be edited and handed back with `--wording FOLDER` or
`instruct.wording`. A file that is not in the folder is taken from the package; a further one in topics/ is a topic.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ...base.errors import PrefmillError
from ...base.files import copy_folder, make_folder, reason_of
from ...base.paths import user_path

BUILT_IN = Path(__file__).with_name("texts")
TOPICS = "topics"
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


class Wording:
    """The files, those of `folder` before those of the package.

    Raises PrefmillError for a folder that is none, and for one without any of these files: a mistyped name would
    otherwise mean the package's own.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else user_path(folder, "the wording")
        if self.folder is not None and not self._names():
            raise PrefmillError(
                f"{self.folder} holds no wording: none of {', '.join(sorted(_names_in(BUILT_IN)))[:120]} ...",
                f"prefmill write wording --to {self.folder}",
            )

    def path(self, name: str) -> Path:
        """Return where a file is. Raises PrefmillError where it is nowhere."""
        for place in (self.folder, BUILT_IN):
            if place is not None and (place / name).is_file():
                return place / name
        raise PrefmillError(f"there is no {name} among the wording", f"choose one of {', '.join(self.topics())}")

    def text(self, name: str) -> str:
        """Return a file's text, without blank ends. Raises PrefmillError where it cannot be read or is empty."""
        path = self.path(name)
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise PrefmillError(f"cannot read {path}: {reason_of(error)}", "correct or remove it") from error
        if not text:
            raise PrefmillError(f"{path} is empty", "write something into it, or remove it for the built-in one")
        return text

    def table(self, name: str) -> dict[str, Any]:
        """Return a YAML file's mapping. Raises PrefmillError where it is none."""
        try:
            values = yaml.safe_load(self.text(name))
        except (yaml.YAMLError, RecursionError) as error:
            raise PrefmillError(f"{self.path(name)} is not valid YAML: {error}", "correct it") from error
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise PrefmillError(f"{self.path(name)} is not a mapping of names", "see the built-in one")
        return values

    def request(self, name: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> str:
        """Return a request to a model, its placeholders checked.

        Raises PrefmillError for one without a placeholder of `required`, and for a placeholder that nothing fills.
        """
        text = self.text(name)
        found, known = set(_PLACEHOLDER.findall(text)), (*required, *optional)
        if missing := [one for one in required if one not in found]:
            raise PrefmillError(f"{self.path(name)} lacks {{{missing[0]}}}", f"write {{{missing[0]}}} into it")
        if unknown := sorted(found - set(known)):
            choices = ", ".join(f"{{{one}}}" for one in known)
            raise PrefmillError(f"{self.path(name)} holds {{{unknown[0]}}}, which nothing fills", f"use {choices}")
        return text

    def topics(self) -> list[str]:
        """Return the names of all topics: those of the package, then one's own."""
        built_in, own = (_topics_in(place) for place in (BUILT_IN, self.folder))
        return [*built_in, *(name for name in own if name not in built_in)]

    def digest(self, *names: str) -> str:
        """Return a digest of what files say: what is written depends on it."""
        running = hashlib.sha256()
        for name in names:
            running.update(f"{name}\0{self.text(name)}\0".encode())
        return running.hexdigest()[:12]

    def _names(self) -> set[str]:
        assert self.folder is not None
        own = {f"{TOPICS}/{name}.yaml" for name in _topics_in(self.folder)}
        return own | {name for name in _names_in(BUILT_IN) if (self.folder / name).is_file()}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its placeholders filled, in one pass: what a value spells out is not filled again."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def copy_wording(folder: Path) -> list[str]:
    """Copy the built-in files into a new folder and return their names.

    Raises PrefmillError where the folder holds some already.
    """
    names = sorted(_names_in(BUILT_IN))
    if there := [name for name in names if (folder / name).exists()]:
        raise PrefmillError(f"{folder} holds {there[0]} already", "choose another folder with --to")
    make_folder(folder.parent)
    if not folder.exists():
        copy_folder([BUILT_IN / name for name in names if "/" not in name], folder)
    make_folder(folder)
    copy_folder([BUILT_IN / name for name in names if "/" in name], folder / TOPICS)
    return names


def _topics_in(place: Path | None) -> list[str]:
    return [] if place is None else sorted(path.stem for path in (place / TOPICS).glob("*.yaml"))


def _names_in(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.suffix in {".txt", ".yaml"}}
