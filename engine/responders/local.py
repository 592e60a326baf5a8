"""What the responders that run in this process have in common: requests to prompts, prompts through the decoder."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..device import Execution, execution_of
from ..settings import Sampling
from .chat import Chat, RequestRefused
from .decoding import Decoder, OpenAnswer, context_length
from .interface import Answer, Failure, Reply, Request, Responder
from .sampling import keep_stop_tokens_only


class LocalResponder(Responder):
    """A loaded model with its chat format; `key` names the weights by content."""

    def __init__(self, model: PreTrainedModel, chat: Chat, key: str) -> None:
        self.model = model
        self.chat = chat
        self.key = key
        self.tokenizer: PreTrainedTokenizerBase = chat.tokenizer
        keep_stop_tokens_only(model)
        self.decoder = Decoder(model, self._read)

    @property
    def execution(self) -> Execution:
        """How the model really runs."""
        return execution_of(self.model)

    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        """Answer each request, in their order; what cannot be asked is a `Failure`. A schema is not enforced here.

        Raises PrefmillError for NaN logits.
        """
        begun = time.perf_counter()
        prompts = [self._prompt(request, sampling) for request in requests]
        self.decoder.run([prompt for prompt in prompts if isinstance(prompt, OpenAnswer)], sampling)
        return [self._reply(prompt, begun) if isinstance(prompt, OpenAnswer) else prompt for prompt in prompts]

    def _inputs(self, request: Request) -> dict[str, torch.Tensor]:
        """The model's inputs of one request, with `input_ids` and `attention_mask`, on the host.

        Raises RequestRefused for what lies in the request.
        """
        raise NotImplementedError

    def _read(self, prompts: Sequence[OpenAnswer]) -> dict[str, Any]:
        """The model's inputs of several prompts, on its device."""
        inputs = collate([prompt.inputs for prompt in prompts], self._padding)
        return {name: self._moved(value) for name, value in inputs.items()}

    def _moved(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)

    @property
    def _padding(self) -> int:
        token = self.tokenizer.pad_token_id
        return int(token if token is not None else self.tokenizer.eos_token_id or 0)  # type: ignore[arg-type]

    def _prompt(self, request: Request, sampling: Sampling) -> OpenAnswer | Failure:
        try:
            inputs = self._inputs(request)
            self.chat.check(inputs["input_ids"][0].tolist())
        except RequestRefused as refused:
            return Failure(refused.reason, refused.detail)
        length, context = inputs["input_ids"].shape[1], context_length(self.model)
        if context is not None and length >= context:
            return Failure("too_long", f"{length} tokens, and the context of {self.key} has {context}")
        most = sampling.max_new_tokens if context is None else min(sampling.max_new_tokens, context - length)
        return OpenAnswer(inputs, request.seed, most)

    def _reply(self, prompt: OpenAnswer, begun: float) -> Answer:
        text = str(self.tokenizer.decode(prompt.tokens, skip_special_tokens=True)).strip()
        reason = "stop" if prompt.ended else "length"
        return Answer(text, reason, len(prompt.tokens), prompt.length, prompt.finished - begun)


def collate(rows: Sequence[dict[str, torch.Tensor]], padding: int = 0) -> dict[str, torch.Tensor]:
    """Inputs of one prompt each to those of a batch: texts [1, S] padded on the left, images with zeros at their ends.

    Processors, too, fill up with zeros where images of several prompts differ in number or size.
    """
    batch = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        sizes = [max(axis) for axis in zip(*(value.shape[1:] for value in values), strict=True)]
        is_text = all(
            value.shape == row.get("input_ids", row[name][0]).shape for value, row in zip(values, rows, strict=True)
        )
        fill = padding if name == "input_ids" else 0
        batch[name] = torch.cat([_filled(value, sizes, fill, in_front=is_text) for value in values])
    return batch


def _filled(value: torch.Tensor, sizes: Sequence[int], fill: int, *, in_front: bool) -> torch.Tensor:
    """`value` with every axis but the first grown to `sizes`."""
    missing = [size - present for present, size in zip(value.shape[1:], sizes, strict=True)][::-1]
    return torch.nn.functional.pad(
        value, [side for size in missing for side in ((size, 0) if in_front else (0, size))], value=fill
    )
