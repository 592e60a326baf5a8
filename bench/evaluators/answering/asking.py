"""Ask a model about many items, a batch at a time, with every reply on the disk before the next batch is asked.

A reply is kept under a digest of the model, the sampling, the text and the image's bytes: what was asked once is
never asked again, and another model, text or image never meets an old reply. Without chance in the sampling, items that
ask the same share it: a third of POPE's questions are in all three of its files. What failed is asked again by the next
call.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path

from ....base.errors import PrefmillError
from ....base.progress import Progress
from ....engine.images import UnreadableImage, decode_image
from ....engine.responders.catalogue import load_responder
from ....engine.responders.interface import Answer, Failure, Reply, Request, Responder
from ....engine.responders.server.ledger import Ledger
from ....engine.responders.settings import ModelChoice
from ....engine.settings import EngineSettings, Sampling
from ....pipeline.records import seed_for

REPLIES = "replies.jsonl"
_JOURNAL = "_journal"
_KEPT = {field.name for field in fields(Answer)}


@dataclass(frozen=True)
class AskedItem:
    """What is asked. `image` gives the bytes of the image it is about; it raises PrefmillError where there are none."""

    name: str
    text: str
    sampling: Sampling
    image: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Replies:
    """What came back, one reply per item in their order, and from which model; `asked`: how often it was asked now."""

    model: str
    replies: Sequence[Reply]
    asked: int


Accept = Callable[[str], Failure | None]
"""Says what is wrong with an answer's text; such a one is asked for once more, with another seed."""


def ask_items(
    items: Sequence[AskedItem],
    choice: ModelChoice,
    folder: Path,
    progress: Progress,
    *,
    adapter: Path | None = None,
    engine: EngineSettings | None = None,
    task: str = "questions",
    accept: Accept | None = None,
) -> Replies:
    """Return the replies to all items, those that `folder` keeps without asking for them again.

    Raises PrefmillError as the model does.
    """
    with closing(load_responder(choice, engine, adapter=adapter)) as responder, closing(_Kept(folder)) as kept:
        responder.keep_in(folder / _JOURNAL)
        progress.begin(task, len(items), unit="questions")
        replies: list[Reply] = []
        asked = 0
        for batch, images in _batches(items, choice.batch_size):
            digests = [_digest(item, image, responder.key) for item, image in zip(batch, images, strict=True)]
            found, missing = _known(batch, images, digests, kept)
            for _ in range(1 if accept is None else 2):
                if missing:
                    asked += len(missing)
                    _ask(responder, missing, kept, found, accept)
                missing = [one for one in missing if accept and _is_unfit(found[one.digest])]
            replies += [found[digest] for digest in digests]
            progress.step(task, len(batch))
        progress.end(task, f"{len(items)} questions, {asked} of them asked now")
        return Replies(responder.key, replies, asked)


@dataclass(frozen=True)
class _Open:
    item: AskedItem
    digest: str
    image: bytes | None


class _Kept:
    """The replies in a folder, by the digest of what was asked."""

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(folder / REPLIES)
        self.replies: dict[str, Answer] = {}
        self.unfit: Counter[str] = Counter()
        """How often a question was answered in vain: the next try is another request, with another seed."""
        for _, value in self._ledger.lines():
            if isinstance(value, dict) and isinstance(value.get("asked"), str) and isinstance(value.get("text"), str):
                known = {name: value[name] for name in _KEPT & value.keys()}
                self._note(value["asked"], Answer(**known), unfit=bool(value.get("unfit")))

    def keep(self, digest: str, name: str, answer: Answer, *, unfit: bool) -> None:
        self._note(digest, answer, unfit=unfit)
        self._ledger.append({"name": name, "asked": digest, **asdict(answer), **({"unfit": True} if unfit else {})})

    def _note(self, digest: str, answer: Answer, *, unfit: bool) -> None:
        if unfit:
            self.unfit[digest] += 1
        else:
            self.replies[digest] = answer

    def sync(self) -> None:
        self._ledger.sync()

    def close(self) -> None:
        self._ledger.close()


def _digest(item: AskedItem, image: bytes | Failure | None, key: str) -> str:
    """What an answer depends on, in 32 hex digits; by the item's name, too, where there is chance in it."""
    picture = hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else str(image)
    name = item.name if item.sampling.temperature or isinstance(image, Failure) else ""
    parts = [key, item.sampling.model_dump(), name, item.text, picture]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _known(
    batch: Sequence[AskedItem], images: Sequence[bytes | Failure | None], digests: Sequence[str], kept: _Kept
) -> tuple[dict[str, Reply], list[_Open]]:
    """The replies that are there by their digests, and what has to be asked."""
    found: dict[str, Reply] = {}
    missing: dict[str, _Open] = {}
    for item, image, digest in zip(batch, images, digests, strict=True):
        if isinstance(image, Failure):
            found[digest] = image
        elif (answer := kept.replies.get(digest)) is not None:
            found[digest] = answer
        else:
            missing.setdefault(digest, _Open(item, digest, image))
    return found, list(missing.values())


def _ask(
    responder: Responder,
    missing: Sequence[_Open],
    kept: _Kept,
    found: dict[str, Reply],
    accept: Accept | None,
) -> None:
    requests, asked = [], []
    for one in missing:
        try:
            pictures = () if one.image is None else (decode_image(one.image),)
        except UnreadableImage as error:
            found[one.digest] = Failure("unreadable", error.detail)
            continue
        attempt = kept.unfit[one.digest]
        name = f"{one.item.name}-{attempt}" if attempt else one.item.name
        requests.append(Request(one.item.text, seed_for(one.item.name, attempt), pictures, name))
        asked.append(one)
    replies = responder.answer(requests, asked[0].item.sampling) if asked else []
    for one, reply in zip(asked, replies, strict=True):
        fault = accept(reply.text) if accept and isinstance(reply, Answer) else None
        found[one.digest] = fault or reply
        if isinstance(reply, Answer):
            kept.keep(one.digest, one.item.name, reply, unfit=fault is not None)
    kept.sync()


def _is_unfit(reply: Reply) -> bool:
    return isinstance(reply, Failure) and reply.reason == UNFIT


UNFIT = "unfit"
"""The reason of a failure that `Accept` finds, which is worth another try."""


def _batches(
    items: Sequence[AskedItem], size: int
) -> Iterator[tuple[Sequence[AskedItem], list[bytes | Failure | None]]]:
    """Cut items into batches of one sampling; the images of the next are read while one is asked."""
    by_sampling = [list(group) for _, group in groupby(items, key=lambda item: item.sampling)]
    batches = [group[start : start + size] for group in by_sampling for start in range(0, len(group), size)]
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(_read, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches):
            ahead += [pool.submit(_read, one) for one in batches[number + 1 : number + 2]]
            yield batch, ahead.pop(0).result()


def _read(batch: Sequence[AskedItem]) -> list[bytes | Failure | None]:
    images: list[bytes | Failure | None] = []
    for item in batch:
        try:
            images.append(item.image() if item.image else None)
        except PrefmillError as error:
            images.append(Failure("unreadable", error.message))
    return images
