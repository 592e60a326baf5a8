"""A chat model that writes one question about an image, from nothing but the image's text-to-image prompt.

Synth-Align asked GPT-4 for this and did not publish its request; `META_PROMPT` is ours.
"""

from collections.abc import Sequence
from typing import Self, cast

from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ..checkpoint import checkpoint_key, load_strict
from ..device import Execution, execution_of, resolve_device, resolve_weights_dtype
from ..settings import EngineSettings, Sampling
from ..sources import resolve_checkpoint
from ..text import load_tokenizer, render_chat
from .sampling import Answer, decode_answers, fit_to_context, generate_tokens, keep_stop_tokens_only

META_PROMPT = (
    "An image was made from this description:\n\n{prompt}\n\n"
    "Write one question or request that a person looking at the image might address to an assistant. It must be "
    "answerable from the image, must not mention the description, and should call for a detailed answer. "
    "Write the question only."
)
"""The default request; `{prompt}` is replaced by the text-to-image prompt."""


class InstructionWriter:
    """A loaded chat model with its tokenizer; `key` names the weights by content."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key: str, *, meta_prompt: str = META_PROMPT
    ) -> None:
        if "{prompt}" not in meta_prompt:
            raise PrefmillError(f"the meta-prompt {meta_prompt[:80]!r} lacks {{prompt}}.", "write {prompt} into it")
        self.model = model
        self.tokenizer = tokenizer
        self.key = key
        self.meta_prompt = meta_prompt
        keep_stop_tokens_only(model)

    @classmethod
    def from_pretrained(
        cls, source: str, settings: EngineSettings | None = None, *, meta_prompt: str = META_PROMPT
    ) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        loaded = load_strict(AutoModelForCausalLM, folder, dtype=resolve_weights_dtype(settings, device))
        model = cast(PreTrainedModel, loaded)
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        return cls(model, load_tokenizer(folder), checkpoint_key(folder), meta_prompt=meta_prompt)

    @property
    def execution(self) -> Execution:
        """How the model really runs; the library's `generate` drives it, step by step with a cache."""
        return execution_of(self.model)

    def write(self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling) -> list[Answer]:
        """Write one instruction per text-to-image prompt.

        Raises PrefmillError for unequal counts, a prompt longer than the model's context, and NaN logits.
        """
        if len(prompts) != len(seeds):
            raise PrefmillError(f"{len(prompts)} prompts came with {len(seeds)} seeds.", "give one seed per prompt")
        if not prompts:
            return []
        # `replace`, not `format`: a prompt may contain braces, and so may the meta-prompt.
        requests = [self.meta_prompt.replace("{prompt}", prompt) for prompt in prompts]
        texts = [
            render_chat(self.tokenizer, [{"role": "user", "content": request}], add_generation_prompt=True)
            for request in requests
        ]
        batch = self.tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False, verbose=False
        )
        names = ("input_ids", "attention_mask")
        inputs = {name: batch[name].to(self.model.device) for name in names}  # type: ignore[union-attr]
        sampling = fit_to_context(self.model, inputs, sampling)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        tokens = generate_tokens(self.model, inputs, seeds, sampling, cast(int, pad))
        return decode_answers(self.model, self.tokenizer, tokens)
