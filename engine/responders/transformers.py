"""A vision-language model that answers instructions about images (LLaVA 1.5, 1.6 and others of that form).

Chat models answer badly outside their chat format, so the processor's own template is always used; a batch is padded
on the left, only new tokens are decoded, and each row draws from its own random stream. Control tokens in an
instruction are taken out of it: a second image token would ask for a second image, an end of turn would end it.

LLaVA's vision tower with its projector runs through a `Runner`; the language model is driven by the library's
`generate`, which calls it step by step with a cache, and other families run as a whole inside of it.
"""

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
from ..device import Execution, execution_of, resolve_device, resolve_weights_dtype
from ..network import Dimension, Input, Network, whole_numbers
from ..processors import control_tokens, load_processor
from ..runner import Runner
from ..settings import EngineSettings, Sampling
from ..sources import resolve_checkpoint
from ..text import check_tokenizer_files
from .adapter import merge_adapter
from .interface import Reply, Request
from .sampling import decode_answers, fit_to_context, generate_tokens, keep_stop_tokens_only

_PROBE = "What is this?"


class TransformersResponder:
    """A loaded vision-language model with its processor; `key` names the weights by content.

    Raises PrefmillError for a processor without a working chat template with one image token, the model's own.
    """

    def __init__(
        self, model: PreTrainedModel, processor: Any, key: str, *, settings: EngineSettings | None = None
    ) -> None:
        self.model = model
        self.processor = processor
        self.key = key
        network = _vision(model)
        self.vision = None if network is None else make_runner(network, settings)
        self._markers = control_tokens(processor)
        self._check()
        keep_stop_tokens_only(model)

    @property
    def runners(self) -> tuple[Runner, ...]:
        """Everything that runs a network of it, apart from the library's `generate`."""
        return () if self.vision is None else (self.vision,)

    @property
    def execution(self) -> Execution:
        """How the model really runs."""
        return execution_of(self.model)

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
        return cls(model, _processor(folder), f"{key}+transformers-{version('transformers')}", settings=settings)

    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        """Answer each request about its image; a schema is not enforced here.

        Raises PrefmillError for a request without exactly one image, one longer than the model's context, and NaN
        logits.
        """
        if not requests:
            return []
        if wrong := next((request for request in requests if len(request.images) != 1), None):
            raise PrefmillError(
                f"{self.key} is asked {wrong.text[:80]!r} about {len(wrong.images)} images.", "give one image"
            )
        seeds = [request.seed for request in requests]
        texts = [self.render(request.text) for request in requests]
        tokenizer = self.processor.tokenizer
        batch = self.processor(
            images=[[image.convert("RGB") for image in request.images] for request in requests],
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
        tokens = generate_tokens(self.model, self._with_features(inputs), seeds, sampling, pad)
        return list(decode_answers(self.model, tokenizer, tokens))

    def keep_in(self, folder: Path) -> None:
        """Nothing to keep: what was not committed is computed again."""

    def close(self) -> None:
        """Nothing to stop: the model goes with the object."""

    def render(self, instruction: str) -> str:
        """The text of one dialogue turn as the model was trained on it, with the image in front.

        Control tokens that the instruction spells out are left away.
        """
        plain = instruction
        while (shorter := self._markers.sub("", plain)) != plain:  # what is left may spell one anew
            plain = shorter
        content = [{"type": "image"}, {"type": "text", "text": plain}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    def _with_features(self, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Inputs with the image features in place of the pixels, where the family takes them."""
        if self.vision is None:
            return inputs
        seen = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
        with torch.inference_mode():
            features = self.vision.run(seen)["features"]
        rest = {name: value for name, value in inputs.items() if name not in seen}
        # The library holds a list of all images' features there, whatever the type says.
        image = BaseModelOutputWithPooling(pooler_output=[features])  # type: ignore[arg-type]
        return {**rest, "mm_encoder_outputs": {"image": image}}

    def _check(self) -> None:
        """Find what is wrong with the processor now, and not after all images were drawn."""
        if not self.processor.chat_template:
            raise PrefmillError(
                f"the processor of {self.key} has no chat template.",
                "put the model's chat_template.jinja into its folder",
            )
        fix = "use the processor and chat_template.jinja that the model was published with"
        try:
            rendered = self.render(_PROBE)
        except Exception as error:  # a template is a program: it may raise anything
            raise PrefmillError(f"the chat template of {self.key} does not work: {summary(error)}", fix) from error
        token = getattr(self.processor, "image_token", None)
        if _PROBE not in rendered or (token and rendered.count(token) != 1):
            raise PrefmillError(
                f"the chat template of {self.key} writes {rendered[:200]!r}, without the instruction or without "
                f"exactly one image token {token!r}.",
                fix,
            )
        wanted = getattr(self.model.config, "image_token_id", None)
        found = self.processor.tokenizer.convert_tokens_to_ids(token) if token else wanted
        if wanted is not None and found != wanted:
            raise PrefmillError(
                f"the image token {token!r} of {self.key} has the number {found}, the model expects {wanted}.", fix
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


def _processor(folder: Path) -> Any:
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
