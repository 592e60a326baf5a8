"""A vision-language model that answers instructions about images (LLaVA 1.5, 1.6 and others of that form).

LLaVA's vision tower with its projector runs through a `Runner`, once for an image however many requests are about it;
other families read their images together with the text. A request may have several images, but with LLaVA 1.6.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, cast

import torch
from transformers import (
    AutoModelForImageTextToText,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ...base.errors import PrefmillError
from ..backends.catalogue import make_runner
from ..checkpoint import checkpoint_key, load_strict, summary
from ..device import resolve_device, resolve_weights_dtype
from ..network import Dimension, Input, Network, whole_numbers
from ..processors import load_processor
from ..runner import Runner
from ..settings import EngineSettings, Sampling
from ..sources import resolve_checkpoint
from ..text import check_tokenizer_files
from .adapter import merge_adapter
from .chat import Chat, RequestRefused
from .decoding import OpenAnswer
from .interface import Reply, Request
from .local import LocalResponder, collate

_PIXELS = ("pixel_values", "image_sizes")


class TransformersResponder(LocalResponder):
    """A loaded vision-language model with its processor; `key` names the weights by content.

    Raises PrefmillError for a processor without a working chat template with one image token, the model's own.
    """

    def __init__(
        self, model: PreTrainedModel, processor: Any, key: str, *, settings: EngineSettings | None = None
    ) -> None:
        super().__init__(model, Chat(processor, key), key)
        self.processor = processor
        network = _vision(model)
        self.vision = None if network is None else make_runner(network, settings)
        self._takes_several = not isinstance(model, LlavaNextForConditionalGeneration)
        """LLaVA 1.6 cuts images into tiles by their shapes: how many tokens are whose is known for one image only."""
        self._features: dict[str, torch.Tensor] = {}
        """Of the images of the present call."""
        self._check_image_token()

    @property
    def runners(self) -> tuple[Runner, ...]:
        """The vision tower, where the family has it apart."""
        return () if self.vision is None else (self.vision,)

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
        loaded = load_strict(AutoModelForImageTextToText, folder, dtype=resolve_weights_dtype(settings, device))
        model = cast(PreTrainedModel, loaded)
        key = checkpoint_key(folder)
        if adapter is not None:
            model, key = merge_adapter(model, adapter), f"{key}+{checkpoint_key(adapter, 'adapter')}"
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        return cls(model, processor_of(folder), f"{key}+transformers-{version('transformers')}", settings=settings)

    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        """Answer each request about its images, in their order; what cannot be asked is a `Failure`.

        A schema is not enforced here. Raises PrefmillError for NaN logits.
        """
        try:
            return super().answer(requests, sampling, schema)
        finally:
            self._features.clear()

    def render(self, instruction: str) -> str:
        """One dialogue turn about one image, as the model reads it."""
        return self.chat.render(instruction, 1)

    def _inputs(self, request: Request) -> dict[str, torch.Tensor]:
        count = len(request.images)
        if count == 0 or (count > 1 and not self._takes_several):
            wanted = "images" if self._takes_several else "one image"
            raise RequestRefused("images", f"{self.key} is asked about {count}, and takes {wanted}")
        text = self.chat.render(request.text, count)
        try:
            encoded = self.processor(
                images=[[image.convert("RGB") for image in request.images]],
                text=[text],
                return_tensors="pt",
                add_special_tokens=self.chat.adds_start,
            )
        except Exception as error:  # the library's reasons are many: an image too narrow, one that is not whole
            raise RequestRefused("unreadable", summary(error)) from error
        return {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor)}

    def _read(self, prompts: Sequence[OpenAnswer]) -> dict[str, Any]:
        """The model's inputs, with image features in place of the pixels where the family takes them."""
        if self.vision is None:
            return super()._read(prompts)
        seen = [image for prompt in prompts for image in self._images(prompt)]
        keys = [_digest(pixels) for pixels, _ in seen]
        new = {key: row for row, key in enumerate(keys) if key not in self._features}
        if new:
            images = collate([seen[row][0] for row in new.values()])
            features = self.vision.run({name: self._moved(value) for name, value in images.items()})["features"]
            counts = [seen[row][1] for row in new.values()]
            self._features.update(zip(new, features.split(counts), strict=True))
        texts = [{name: value for name, value in prompt.inputs.items() if name not in _PIXELS} for prompt in prompts]
        inputs = {name: self._moved(value) for name, value in collate(texts, self._padding).items()}
        # The library holds a list of all images' features there, whatever the type says.
        features = [self._features[key] for key in keys]
        image = BaseModelOutputWithPooling(pooler_output=features)  # type: ignore[arg-type]
        return {**inputs, "mm_encoder_outputs": {"image": image}}

    def _images(self, prompt: OpenAnswer) -> list[tuple[dict[str, torch.Tensor], int]]:
        """Of each image of a prompt its pixels, and the number of its tokens in the text."""
        pixels = {name: prompt.inputs[name] for name in _PIXELS if name in prompt.inputs}
        tokens = int((prompt.inputs["input_ids"] == cast(Any, self.model.config).image_token_id).sum())
        count = len(pixels["pixel_values"])
        return [
            ({name: value[row : row + 1] for name, value in pixels.items()}, tokens // count) for row in range(count)
        ]

    def _check_image_token(self) -> None:
        token, wanted = self.chat.image_token, getattr(self.model.config, "image_token_id", None)
        found = self.tokenizer.convert_tokens_to_ids(token) if token else wanted
        if wanted is not None and found != wanted:
            raise PrefmillError(
                f"the image token {token!r} of {self.key} has the number {found}, the model expects {wanted}.",
                "use the processor and chat_template.jinja that the model was published with",
            )


def reads_images(folder: Path) -> bool:
    """Return whether a checkpoint is a vision-language model, by its config."""
    config = folder / "config.json"
    return not config.is_file() or "vision_config" in json.loads(config.read_text(encoding="utf-8"))


def _vision(model: Any) -> Network | None:
    """What turns pixels into features, for the families whose language model takes those."""
    if not isinstance(model, (LlavaForConditionalGeneration, LlavaNextForConditionalGeneration)):
        return None
    side, batch = int(cast(Any, model.config.vision_config).image_size), Dimension("batch", 1, 4, 64)
    if isinstance(model, LlavaForConditionalGeneration):
        pixels = {"pixel_values": Input((batch, 3, side, side))}
        return Network("llava_vision", model, _llava_features, pixels, ("features",))
    sized = {
        "pixel_values": Input((batch, Dimension("tiles", 1, 5, 16), 3, side, side)),
        "image_sizes": Input((batch, 2), torch.int64, whole_numbers(side, side + 1)),
    }
    return Network(
        *("llava_next_vision", model, _image_features, sized, ("features",)),
        eager_only="the number of its outputs depends on values",
    )


def _digest(pixels: dict[str, torch.Tensor]) -> str:
    """What an image is known by: the same question about the same image may come with another copy of it."""
    whole = hashlib.blake2b(digest_size=16)
    for name, value in pixels.items():
        whole.update(f"{name} {list(value.shape)}".encode())
        whole.update(value.numpy().tobytes())
    return whole.hexdigest()


def _image_features(model: Any, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None) -> torch.Tensor:
    sizes = {} if image_sizes is None else {"image_sizes": image_sizes}
    return torch.cat(list(model.get_image_features(pixel_values=pixel_values, **sizes).pooler_output))


def _llava_features(model: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """Features [B * P, D] as `get_image_features` has them, whose list of images fixes their number in a trace."""
    config = model.config
    layers = config.vision_feature_layer
    states = model.model.vision_tower(pixel_values, output_hidden_states=True, return_dict=True).hidden_states
    first = 1 if config.vision_feature_select_strategy == "default" else 0  # without the class token
    seen = [states[layer][:, first:] for layer in ([layers] if isinstance(layers, int) else layers)]
    return model.model.multi_modal_projector(torch.cat(seen, dim=-1)).flatten(0, 1)


def processor_of(folder: Path) -> Any:
    """The processor of a model that reads images. Raises PrefmillError where there is none, or no whole one."""
    check_tokenizer_files(folder)
    try:
        processor = load_processor(folder)
    except Exception as error:  # the library's reasons are many; all of them mean that there is no processor
        raise PrefmillError(
            f"the processor in {folder} does not load: {summary(error)}",
            f"delete {folder} and download or build it again",
        ) from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        # what the library gives for a class that it does not know: the tokenizer alone
        raise PrefmillError(
            f"{folder} has no processor for images, only a {type(processor).__name__}.",
            "put the processor_config.json of the published model into its folder",
        )
    return processor
