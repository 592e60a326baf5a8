"""What is in COCO's images: the objects of their instances, and those that people's captions name.

The annotations are the user's: instances_{train,val}2014.json and captions_{train,val}2014.json.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....base.errors import PrefmillError
from ....base.files import sha256_of
from .language import Language
from .words import ObjectWords

FILES = tuple(f"{kind}_{part}2014.json" for kind in ("instances", "captions") for part in ("val", "train"))
SOURCE = "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"


@dataclass
class Truth:
    """The objects of images by COCO's image id, and the files that say so, with their SHA-256."""

    objects: dict[int, set[str]]
    files: dict[str, str] = field(default_factory=dict)


def missing_files(folder: Path) -> list[Path]:
    """Return which of the annotations are not in a folder."""
    return [folder / name for name in FILES if not (folder / name).is_file()]


def read_truth(folder: Path, images: Collection[int], words: ObjectWords, language: Language) -> Truth:
    """Return what is in images. Raises PrefmillError for files that are missing or no annotations, unknown images."""
    if missing := missing_files(folder):
        raise PrefmillError(
            f"{folder} lacks {', '.join(path.name for path in missing)}.",
            f"unpack {SOURCE} and give its folder `annotations` with --coco",
        )
    truth = Truth({image: set() for image in images})
    known: set[int] = set()
    for name in FILES:
        path = folder / name
        content = _content(path)
        truth.files[str(path)] = sha256_of(path)
        try:
            known |= {image["id"] for image in content["images"]}
            for image, found in _objects(content, truth.objects.keys(), words, language, path):
                truth.objects[image].update(found)
        except (KeyError, TypeError) as error:
            raise PrefmillError(f"{path} holds no annotations of COCO: {error!r}", f"unpack {SOURCE} again") from error
    if unknown := sorted(truth.objects.keys() - known):
        raise PrefmillError(
            f"COCO has no image {unknown[0]} (and {len(unknown) - 1} others of the answers).",
            "correct the image_id of the answers; COCO's is the number in the image's file name",
        )
    return truth


def _objects(
    content: dict[str, Any], images: Collection[int], words: ObjectWords, language: Language, path: Path
) -> Iterator[tuple[int, list[str]]]:
    """The objects that each annotation of a wanted image names."""
    names = {one["id"]: one["name"] for one in content.get("categories", ())}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in images:
            continue
        if "caption" in annotation:
            yield annotation["image_id"], words.named(annotation["caption"], language)
            continue
        name = names[annotation["category_id"]]
        if name not in words.objects:
            raise PrefmillError(f"the synonyms have no {name!r}, a category of {path}.", "add a line for it")
        yield annotation["image_id"], [words.objects[name]]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise PrefmillError(f"{path} is no JSON: {error}", f"unpack {SOURCE} again") from error
    if not isinstance(content, dict):
        raise PrefmillError(f"{path} holds no annotations of COCO.", f"unpack {SOURCE} again")
    return content
