"""Processors of vision-language models: image and text in, what the model reads out.

Several families' processors hold one of videos, which needs torchvision. Nothing here reads a video; where
torchvision is not installed, these processors are made without that part.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import (
    PROCESSOR_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    Idefics3Processor,
    SmolVLMProcessor,
)
from transformers.utils.import_utils import is_torchvision_available

from ..base.errors import PrefmillError
from .checkpoint import read_config

_NAMED_IN = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def load_processor(folder: Path) -> Any:
    """Return the processor of a model folder. Raises what the library raises where there is none, or a broken one."""
    local = {"trust_remote_code": False, "local_files_only": True}
    kind = _processor_class(folder)
    if kind is None or is_torchvision_available() or "video_processor" not in _taken(kind):
        return AutoProcessor.from_pretrained(folder, **local)
    # SmolVLM's asks its video part how to render a chat; what it does with images is Idefics3's.
    kind = Idefics3Processor if kind is SmolVLMProcessor else without_videos(kind)
    settings, _ = kind.get_processor_dict(folder, local_files_only=True)
    settings = {name: value for name, value in settings.items() if name in _taken(kind) and name != "image_processor"}
    images, tokenizer = (
        AutoImageProcessor.from_pretrained(folder, **local),
        AutoTokenizer.from_pretrained(folder, **local),
    )
    return kind(images, tokenizer=tokenizer, **settings)


def without_videos(kind: Any) -> Any:
    """Return a processor's class without its processor of videos: made from an image processor and a tokenizer."""

    def make(self: Any, image_processor: Any = None, tokenizer: Any = None, **settings: Any) -> None:
        kind.__init__(self, image_processor, tokenizer, None, **settings)

    # The library reads off the signature which parts a processor has, and which settings it saves.
    parameters = [parameter for name, parameter in _taken(kind).items() if name != "video_processor"]
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    # Named as the class it is: the name is saved, for whoever loads it.
    return type(kind.__name__, (kind,), {"__init__": make, "__module__": kind.__module__, "__doc__": kind.__doc__})


def control_tokens(processor: Any) -> re.Pattern[str]:
    """Every text that a processor's tokenizer, or a tokenizer, would read as a special token, and the image token."""
    tokenizer = getattr(processor, "tokenizer", processor)
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= {*tokenizer.all_special_tokens, getattr(processor, "image_token", None) or ""} - {""}
    longest_first = sorted(special, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def check_tokenizer(processor: Any, folder: Path) -> None:
    """Raise PrefmillError where a folder's tokenizer knows tokens that its model does not, or another image token."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    embedded = config.get_text_config().vocab_size
    token, number = max(processor.tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    fix = f"put the tokenizer files that the model was published with into {folder}"
    if number >= embedded:
        raise PrefmillError(
            f"the tokenizer in {folder} is another model's: {token!r} has the number {number}, and the model embeds "
            f"{embedded} tokens",
            fix,
        )
    image_token, wanted = processor.image_token, getattr(config, "image_token_id", None)
    found = processor.tokenizer.convert_tokens_to_ids(image_token)
    if wanted is not None and found != wanted:
        raise PrefmillError(
            f"the tokenizer in {folder} is another model's: the image token {image_token!r} has the number {found}, "
            f"and the model expects {wanted}",
            fix,
        )


def _taken(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__init__).parameters


def _processor_class(folder: Path) -> Any:
    for file in _NAMED_IN:
        if (folder / file).is_file() and (name := read_config(folder, file).get("processor_class")):
            return getattr(transformers, str(name), None)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return PROCESSOR_MAPPING.get(type(config), None)
