"""A vision-language model that answers instructions about images (LLaVA 1.5, 1.6 and others of that form).

Chat models answer badly outside their chat format, so the processor's own template is always used; a batch is padded
on the left, only new tokens are decoded, and each row draws from its own random stream.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from ...base.errors import PrefmillError
from ..checkpoint import checkpoint_key, load_strict, summary
from ..device import resolve_device, resolve_dtype
from ..quiet import quiet_loading
from ..settings import EngineSettings, Sampling
from ..sources import resolve_checkpoint
from ..text import check_tokenizer_files
from .adapter import check_adapter
from .sampling import Answer, decode_answers, fit_to_context, generate_tokens, keep_stop_tokens_only

__all__ = ["Answer", "Responder", "Sampling"]


class Responder:
    """A loaded vision-language model with its processor; `key` names the weights by content."""

    def __init__(self, model: PreTrainedModel, processor: Any, key: str) -> None:
        self.model = model
        self.processor = processor
        self.key = key
        keep_stop_tokens_only(model)

    @classmethod
    def from_pretrained(
        cls, source: str, settings: EngineSettings | None = None, *, adapter: Path | None = None
    ) -> Self:
        """Load from a folder or hub id, strictly, with a trained adapter merged in where one is given.

        Raises PrefmillError for whatever does not fit.
        """
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        loaded = load_strict(AutoModelForImageTextToText, folder, dtype=resolve_dtype(settings, device))
        model = cast(PreTrainedModel, loaded)
        key = checkpoint_key(folder)
        if adapter is not None:
            model, key = _with_adapter(model, adapter), f"{key}+{checkpoint_key(adapter, 'adapter')}"
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        return cls(model, _processor(folder), key)

    def answer(
        self, images: Sequence[Image.Image], instructions: Sequence[str], seeds: Sequence[int], sampling: Sampling
    ) -> list[Answer]:
        """Answer one instruction about each image.

        Raises PrefmillError for unequal counts, an instruction longer than the model's context, and NaN logits.
        """
        if not len(images) == len(instructions) == len(seeds):
            raise PrefmillError(
                f"{len(images)} images came with {len(instructions)} instructions and {len(seeds)} seeds.",
                "give one of each per row",
            )
        if not images:
            return []
        texts = [self.render(instruction) for instruction in instructions]
        tokenizer = self.processor.tokenizer
        batch = self.processor(
            images=[[image.convert("RGB")] for image in images],
            text=texts,
            return_tensors="pt",
            padding=True,
            padding_side="left",
            # Some templates write the beginning-of-text token themselves; it must not come twice.
            add_special_tokens=not (tokenizer.bos_token and texts[0].startswith(tokenizer.bos_token)),
        )
        inputs = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
            for name, value in batch.items()
            if isinstance(value, torch.Tensor)
        }
        sampling = fit_to_context(self.model, inputs, sampling)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        tokens = generate_tokens(self.model, inputs, seeds, sampling, pad)
        return decode_answers(self.model, tokenizer, tokens)

    def render(self, instruction: str) -> str:
        """The text of one dialogue turn as the model was trained on it, with the image in front."""
        if not self.processor.chat_template:
            raise PrefmillError(
                f"the processor of {self.key} has no chat template.",
                "put the model's chat_template.jinja into its folder",
            )
        content = [{"type": "image"}, {"type": "text", "text": instruction}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )


def _processor(folder: Path) -> Any:
    check_tokenizer_files(folder)
    try:
        return AutoProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library's reasons are many; all of them mean that there is no processor
        raise PrefmillError(
            f"the processor in {folder} does not load: {error}", f"delete {folder} and download or build it again"
        ) from error


def _with_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel  # only trained policies need it

    check_adapter(adapter)
    try:
        with quiet_loading():
            adapted = PeftModel.from_pretrained(model, str(adapter), local_files_only=True, use_safetensors=True)
    except Exception as error:  # peft's and safetensors' reasons are many; all of them mean that it does not load
        raise PrefmillError(
            f"the adapter in {adapter} does not fit the model: {summary(error)}",
            "give the adapter folder of a training on this model",
        ) from error
    return cast(PreTrainedModel, adapted.merge_and_unload())  # type: ignore[operator]
