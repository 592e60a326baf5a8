"""Prompts into a file: settings, the work's folder beside it, and what is written in the end.

    prompts.jsonl               rows {id, text, topic}: what `prefmill run --prompts` reads
    prompts.jsonl.written/      manifest.json (settings, coverage, usage, versions), rejects.jsonl, replies.jsonl, and
                                paid/, where a server's backend keeps answers of a batch that is not complete

The file appears whole. A command that was stopped continues from the replies that are kept; one that asks for more
prompts uses them again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from ...base.errors import PrefmillError
from ...base.files import make_folder, read_text, remove_leftovers, replacing, write_text
from ...base.locks import exclusive, holder_of
from ...base.progress import Progress
from ...base.versions import package_versions
from ...engine.responders.catalogue import backend_of, load_responder
from ...engine.responders.settings import INDEPENDENT, ModelChoice
from ...engine.settings import EngineSettings, Sampling
from .journal import ReplyJournal
from .near_duplicates import NearDuplicates
from .prompts import PromptWriting
from .topics import Topic, load_topics
from .wording import Wording
from .writers import REQUEST, GrammarWriter, ModelWriter, PromptWriter

GRAMMAR = "grammar"
MANIFEST, REJECTS, REPLIES, PAID = "manifest.json", "rejects.jsonl", "replies.jsonl", "paid"
_MAY_GROW = frozenset({"topics", "count"})


class PromptWritingConfig(ModelChoice):
    """Which prompts are written, and by whom."""

    model: str = Field(default=GRAMMAR, description="grammar, or a model: a folder, hub id or a server's name of it")
    topics: str = Field(default="all", description="names with commas; all, paper (ten) or later (five)")
    count: int = Field(default=1000, ge=1, description="prompts over all topics")
    seed: int = Field(default=0, ge=0)
    similarity: float = Field(
        default=0.5, gt=0, le=1, description="the share of word pairs from which a prompt repeats another"
    )
    sampling: Sampling = Sampling(max_new_tokens=1000, temperature=1.0)
    per_request: int = Field(default=10, ge=1, description="prompts that a model is asked for at a time")
    wording: str | None = Field(default=None, description="a folder with wording of one's own")


def write_prompts(
    to: Path, config: PromptWritingConfig, engine: EngineSettings, progress: Progress | None = None
) -> dict[str, Any]:
    """Write prompts to a .jsonl file and return the account: what was asked, read, rejected and kept, by topic.

    Raises PrefmillError for a file that something else wrote, settings that do not fit, and what a model raises.
    Fewer prompts than were asked are written, and are the caller's to announce (`kept` below `asked`).
    """
    if to.suffix != ".jsonl":
        raise PrefmillError(f"{to} is no .jsonl file", "name one with --to")
    wording = Wording(config.wording)
    topics = load_topics(config.topics, wording)
    work = to.with_name(f"{to.name}.written")
    made_of = _settings(config, wording, topics)
    _check_file(to, work, made_of)
    make_folder(work)
    lock = work / ".lock"
    with exclusive(lock, PrefmillError(f"{to} is being written by {holder_of(lock)}", "wait for it, or name another")):
        remove_leftovers(work)
        writer, close = _writer(config, engine, wording, work)
        try:
            seen = NearDuplicates(config.similarity)
            writing = PromptWriting(topics, config.count, writer, seen, progress or Progress())
            writing.run()
        finally:
            close()
        account = {"file": str(to), **writing.to_json()}
        _write_rows(work / REJECTS, map(asdict, writing.rejects))
        write_text(
            work / MANIFEST, json.dumps({"settings": made_of, "account": account, **package_versions()}, indent=1)
        )
        _write_rows(to, map(asdict, writing.prompts))
    return account


def _settings(config: PromptWritingConfig, wording: Wording, topics: list[Topic]) -> dict[str, Any]:
    """What the prompts depend on, for the manifest; the topics' files by their content."""
    values = config.model_dump(mode="json", exclude=set(INDEPENDENT | {"wording"}))
    files = ["common.yaml", *(f"topics/{topic.name}.yaml" for topic in topics)]
    if config.model != GRAMMAR:
        files.append(REQUEST)
        values["runtime"] = backend_of(config).runtime(config)
    return values | {"wording": {file: wording.digest(file) for file in files}}


def _check_file(to: Path, work: Path, made_of: dict[str, Any]) -> None:
    """Raise PrefmillError where the file is there and was made with settings that more prompts cannot follow."""
    if not to.exists():
        return
    fix = f"name another file with --to, or remove {to}"
    text = read_text(work / MANIFEST, fix)
    if text is None:
        raise PrefmillError(f"{to} is there, and was not written by this command", fix)
    try:
        before = json.loads(text)["settings"]
        files, now = before["wording"], made_of["wording"]
    except (ValueError, KeyError, TypeError) as error:
        raise PrefmillError(f"{work / MANIFEST} is damaged", fix) from error
    keys = (before.keys() | made_of.keys()) - _MAY_GROW - {"wording"}
    changed = sorted(key for key in keys if before.get(key) != made_of.get(key))
    changed += sorted(file for file in files.keys() & now.keys() if files[file] != now[file])
    if changed:
        raise PrefmillError(f"{to} was written with other settings: {', '.join(changed)}", fix)


def _writer(
    config: PromptWritingConfig, engine: EngineSettings, wording: Wording, work: Path
) -> tuple[PromptWriter, Callable[[], None]]:
    """Return the writer, and what lets go of it."""
    if config.model == GRAMMAR:
        return GrammarWriter(config.seed), lambda: None
    responder = load_responder(config, engine)
    responder.keep_in(work / PAID)
    writer = ModelWriter(
        responder,
        wording,
        ReplyJournal(work / REPLIES),
        sampling=config.sampling,
        seed=config.seed,
        per_order=config.per_request,
        batch_size=config.batch_size,
    )
    return writer, responder.close


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace a file of JSON lines whole; what says nothing is left out."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            values = {key: value for key, value in row.items() if value is not None}
            file.write(json.dumps(values, ensure_ascii=True) + "\n")
