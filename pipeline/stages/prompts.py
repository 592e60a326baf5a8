"""Prompts into the run: the rows were read and checked by the source, and are only recorded here."""

from __future__ import annotations

from collections.abc import Sequence

from ..declaration import StageDeclaration
from ..prompts import STAGE as NAME
from ..prompts import PromptsConfig, read_prompts
from ..records import Prompt, Reject, content_id
from ..sources import ListSource
from ..stage import Stage


class RecordStage(Stage[Prompt | Reject, Prompt]):
    """Pass rows on that have become records or rejects already."""

    def compute(self, prepared: Sequence[Prompt | Reject]) -> list[Prompt | Reject]:
        """Return the rows as they are."""
        return list(prepared)


def prompt_source(config: PromptsConfig) -> ListSource[Prompt | Reject]:
    """Return the input's rows; a file that has grown since keeps its old rows' ids."""
    items = read_prompts(config)
    identities = [
        content_id("row", item.id, item.index, item.source)
        if isinstance(item, Prompt)
        else content_id("row", item.subject_id, item.reason)
        for item in items
    ]
    return ListSource(items, identities)


STAGE = StageDeclaration(
    name=NAME,
    output=Prompt,
    setting="prompts",
    source=lambda inputs: prompt_source(inputs.settings),
    build=lambda settings, engine: RecordStage(),
    unit="prompts",
    independent=frozenset({"path", "limit"}),  # a file may move and grow
    remedy="name a file with --prompts FILE",
)
