"""Folders of cached numbers, named by everything that they depend on: what is found under its name is right.

A name is the digest of a few facts (weights, precision, way of computing, versions), which lie beside the numbers in
`key.json`. Another fact is another folder, so a stale number is never met; and every entry carries a checksum, so a
damaged one counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...base.files import replacing, write_text

_CHECKSUM = "checksum"


def keyed_folder(parent: Path, facts: Mapping[str, Any]) -> Path:
    """Return the folder of `parent` for these facts, made if it was not there."""
    text = json.dumps(dict(facts), sort_keys=True, indent=1)
    folder = parent / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "key.json").exists():
        write_text(folder / "key.json", text + "\n")
    return folder


class VisionCache:
    """What the language model reads of each image, one memory-mapped file an image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged = 0

    def has(self, image_id: str) -> bool:
        """Return whether an image's features are here, undamaged. Reads them."""
        try:
            with safe_open(self._path(image_id), framework="pt") as file:
                whole = (file.metadata() or {}).get(_CHECKSUM) == _checksum(file.get_tensor("features"))
        except FileNotFoundError:
            return False
        except (OSError, SafetensorError, KeyError):
            whole = False
        self.damaged += not whole
        return whole

    def get(self, image_id: str) -> torch.Tensor:
        """Return an image's features [tokens, D]. Call `has` once before."""
        with safe_open(self._path(image_id), framework="pt") as file:
            return file.get_tensor("features")

    def put(self, image_id: str, features: torch.Tensor) -> None:
        """Keep an image's features. Raises PrefmillError where the disk refuses."""
        content = features.detach().cpu().contiguous()
        with replacing(self._path(image_id)) as temporary:
            try:
                save_file({"features": content}, temporary, metadata={_CHECKSUM: _checksum(content)})
            except SafetensorError as error:  # a full disk, in the library's words
                raise OSError(str(error)) from error

    def _path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.safetensors"


class ReferenceCache:
    """The reference's summed log-probability of an answer, by all that it was read after: once, whichever pairs and
    trainings have it. Every process writes a file of its own."""

    def __init__(self, folder: Path, process: int) -> None:
        self.folder, self.process = folder, process
        self.damaged = 0
        self._own: dict[str, float] = {}
        self._all: dict[str, float] = {}

    def load(self) -> None:
        """Read the files of all processes; one that is damaged counts as empty, and is counted."""
        self.damaged = 0
        for path in self.folder.glob("logps-*.json"):
            try:
                body = json.loads(path.read_text(encoding="utf-8"))
                entries = {key: float(logp) for key, logp in body["logps"].items()}
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                body, entries = {}, {}
            if body.get(_CHECKSUM) != _digest(entries):
                self.damaged += 1
                continue
            self._all |= entries
            if path == self._path():
                self._own = dict(entries)

    def __contains__(self, key: str) -> bool:
        return key in self._all

    def get(self, key: str) -> float:
        """Return the log-probability of an answer."""
        return self._all[key]

    def put(self, key: str, logp: float) -> None:
        """Keep an answer's log-probability; on the disk only after `save`."""
        self._own[key] = self._all[key] = logp

    def save(self) -> None:
        """Write this process's file, whole or not at all."""
        body = {_CHECKSUM: _digest(self._own), "logps": self._own}
        write_text(self._path(), json.dumps(body) + "\n")

    def _path(self) -> Path:
        return self.folder / f"logps-{self.process}.json"


def _checksum(tensor: torch.Tensor) -> str:
    return f"{zlib.crc32(tensor.contiguous().view(torch.uint8).numpy().data):08x}"


def _digest(entries: dict[str, float]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
