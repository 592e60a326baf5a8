"""Processors of vision-language models: image and text in, what the model reads out.

Several families' processors hold one of videos, which needs torchvision. Nothing here reads a video; where
torchvision is not installed, these processors are made without that part.
"""

import inspect
from pathlib import Path
from typing import Any

import transformers
from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.utils import is_torchvision_available

from .checkpoint import read_config

_NAMED_IN = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def load_processor(folder: Path) -> Any:
    """Return the processor of a model folder. Raises what the library raises where there is none, or a broken one."""
    local = {"trust_remote_code": False, "local_files_only": True}
    kind = _processor_class(folder)
    taken = inspect.signature(kind.__init__).parameters if kind else {}
    if is_torchvision_available() or kind is None or "video_processor" not in taken:
        return AutoProcessor.from_pretrained(folder, **local)
    settings, _ = kind.get_processor_dict(folder, local_files_only=True)
    settings = {name: value for name, value in settings.items() if name in taken and not name.endswith("processor")}
    images, tokenizer = AutoImageProcessor.from_pretrained(folder, **local), AutoTokenizer.from_pretrained(folder, **local)
    return without_videos(kind)(images, tokenizer, **settings)


def without_videos(kind: Any) -> Any:
    """Return a processor's class without its processor of videos: made from an image processor and a tokenizer."""

    def make(self: Any, image_processor: Any = None, tokenizer: Any = None, **settings: Any) -> None:
        kind.__init__(self, image_processor, tokenizer, None, **settings)

    # The library reads off the signature which parts a processor has, and which settings it saves.
    whole = inspect.signature(kind.__init__)
    parameters = [parameter for name, parameter in whole.parameters.items() if name != "video_processor"]
    make.__signature__ = whole.replace(parameters=parameters)  # type: ignore[attr-defined]
    # Named as the class it is: the name is saved, for whoever loads it.
    return type(kind.__name__, (kind,), {"__init__": make, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _processor_class(folder: Path) -> Any:
    for file in _NAMED_IN:
        if (folder / file).is_file() and (name := read_config(folder, file).get("processor_class")):
            return getattr(transformers, str(name), None)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return PROCESSOR_MAPPING.get(type(config))
