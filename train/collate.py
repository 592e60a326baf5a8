"""Pairs to token ids: what exactly the model reads, and which of it counts.

Prompt and answer are tokenised together, as the model reads them when it answers. Tokenised apart (what TRL's own
collator does), many tokenizers put a second space before the answer's first word. The sequence begins with the
tokenizer's begin token and ends with its end token, also where the model's chat template leaves them out, as that of
LLaVA 1.5 does: a model not trained to stop does not stop. The answer with its end token counts, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..base.errors import PrefmillError
from ..pipeline.records import Pair
from .data import conversation

if TYPE_CHECKING:
    import torch

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Tokenized:
    """A prompt with an answer, the image still one token. `prompt_length` tokens of `ids` do not count."""

    text: str
    ids: list[int]
    prompt_length: int


class PairCollator:
    """Make TRL's batch of preference pairs: B pairs become 2B rows, chosen first.

    input_ids, attention_mask, completion_mask [2B, T] int64, padded on the right; pixel_values [2B, 3, H, W] float32
    and whatever else the model's processor makes of the images. Raises PrefmillError for a processor without a chat
    template.
    """

    def __init__(self, processor: Any) -> None:
        from ..engine.processors import control_tokens  # and with it transformers

        self.processor = processor
        self.tokenizer = processor.tokenizer
        if not processor.chat_template:
            raise PrefmillError(
                f"the processor in {self.tokenizer.name_or_path} has no chat template",
                "put the chat_template.jinja that the model was published with into its folder",
            )
        adds_begin = self.tokenizer("").input_ids[:1] == [self.tokenizer.bos_token_id]
        self._begin: str = (self.tokenizer.bos_token or "") if adds_begin else ""
        self._end: str = self.tokenizer.eos_token
        self._control_tokens = control_tokens(processor)
        self._system_in_parts = not self._takes_plain_system()
        self.image_token_id: int = self.tokenizer.convert_tokens_to_ids(processor.image_token)
        self._blank_images: dict[tuple[int, int], Any] = {}

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        import torch

        sequences = [self.tokenize(row["prompt"], row[side]) for side in ("chosen", "rejected") for row in examples]
        batch = self.processor(
            images=[row["images"] for row in examples] * 2,
            text=[sequence.text for sequence in sequences],
            padding=True,
            padding_side="right",
            return_tensors="pt",
            add_special_tokens=False,  # `text` holds them already
        )
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        mask = torch.zeros_like(batch["input_ids"])
        for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
            # The processor has replaced the image's one token by many, all of them in the prompt.
            mask[row, sequence.prompt_length + length - len(sequence.ids) : length] = 1
        return {**batch, "completion_mask": mask}

    def tokenize(self, prompt: Messages, answer: Messages) -> Tokenized:
        """Return a prompt with an answer as text and ids; the image is still its one placeholder token.

        Raises PrefmillError for a chat template that renders the prompt differently once an answer follows.
        """
        question = self._begin + self._render(prompt, add_generation_prompt=True)
        whole = self._begin + self._render([*prompt, *answer], add_generation_prompt=False)
        if not whole.startswith(question):
            raise PrefmillError(
                "the chat template of the model renders a question differently when an answer follows it",
                "train a model whose template appends the answer, such as llava-hf/llava-1.5-7b-hf",
            )
        # Some templates end a turn with a space or a line break that the model would otherwise learn to say; some
        # have a token of their own that ends a turn.
        whole = whole.rstrip()
        if not whole.endswith(tuple(self.tokenizer.all_special_tokens)):
            whole += self._end
        question_ids, ids = self._ids(question), self._ids(whole)
        return Tokenized(whole, ids, _common_prefix(question_ids, ids))

    def length(self, pair: Pair, image_size: tuple[int, int], system_prompt: str | None = None) -> int:
        """Return the tokens of a pair's longer side, those of its image (width, height in pixels) included."""
        prompt = conversation(pair.instruction, system_prompt)
        sides = [
            self.tokenize(prompt, [{"role": "assistant", "content": text}]) for text in (pair.chosen, pair.rejected)
        ]
        return max(len(side.ids) for side in sides) - 1 + len(self.image_ids(image_size))

    def fault(self, pair: Pair) -> str | None:
        """Return why a pair's texts cannot be trained on, or None.

        A spelled image token would announce a second image, another control token would end a turn or begin one;
        without an answer, and from two equal ones, there is nothing to learn.
        """
        texts = (pair.instruction, pair.chosen, pair.rejected)
        if any(self.processor.image_token in text for text in texts):
            return "image token in a text"
        if any(self._control_tokens.search(text) for text in texts):
            return "control token in a text"
        if not pair.chosen.strip() or not pair.rejected.strip():
            return "empty answer"
        return "equal answers" if pair.chosen.strip() == pair.rejected.strip() else None

    def image_ids(self, size: tuple[int, int]) -> list[int]:
        """Return the tokens that the processor puts in the place of an image of a width and height in pixels."""
        return self._blank_image(size)["input_ids"][0]

    def image_grid(self, size: tuple[int, int]) -> torch.Tensor:
        """Return the grid [1, 3] (times, rows, columns of patches) of an image of a width and height in pixels."""
        import torch

        return torch.as_tensor(self._blank_image(size)["image_grid_thw"])

    def _blank_image(self, size: tuple[int, int]) -> dict[str, Any]:
        # The processor is asked with a blank image: how many tokens an image takes can depend on its shape.
        if size not in self._blank_images:
            from PIL import Image

            blank = [[Image.new("RGB", size)]]
            made = self.processor(images=blank, text=[self.processor.image_token], add_special_tokens=False)
            self._blank_images[size] = {key: made[key] for key in ("input_ids", "image_grid_thw") if key in made}
        return self._blank_images[size]

    def _render(self, messages: Messages, *, add_generation_prompt: bool) -> str:
        shaped = [
            message if message["role"] == "system" and not self._system_in_parts else _with_parts(message)
            for message in messages
        ]
        text = self.processor.apply_chat_template(shaped, add_generation_prompt=add_generation_prompt, tokenize=False)
        return text.removeprefix(self._begin)

    def _takes_plain_system(self) -> bool:
        """Templates differ in how they want a system prompt, and drop or misprint it in the other form."""
        probe = "be brief"
        messages = [{"role": "system", "content": probe}, _with_parts({"role": "user", "content": "?"})]
        try:
            return probe in self.processor.apply_chat_template(messages, tokenize=False)
        except Exception:  # a template may raise anything on a shape or a role it does not know
            return False

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids


def split_trainable(
    pairs: Sequence[Pair],
    sizes: dict[str, tuple[int, int]],
    collator: PairCollator,
    max_tokens: int,
    system_prompt: str | None = None,
) -> tuple[list[Pair], dict[str, list[str]]]:
    """Return the pairs that can be trained on, in their order, and the ids of the others by reason.

    Raises PrefmillError when none is left.
    """
    kept: list[Pair] = []
    excluded: dict[str, list[str]] = {}
    shortest = None
    for pair in pairs:
        if fault := collator.fault(pair):
            excluded.setdefault(fault, []).append(pair.id)
            continue
        length = collator.length(pair, sizes[pair.image_id], system_prompt)
        shortest = min(length, shortest or length)
        if length > max_tokens:
            excluded.setdefault(f"longer than {max_tokens} tokens", []).append(pair.id)
        else:
            kept.append(pair)
    if not kept:
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in excluded.items())
        fix = f"set max_tokens to at least {shortest}" if shortest else "give pairs of two different plain answers"
        raise PrefmillError(f"none of the {len(pairs)} pairs can be trained on: {reasons}", fix)
    return kept, excluded


def _with_parts(message: dict[str, Any]) -> dict[str, Any]:
    parts: list[dict[str, str]] = [{"type": "text", "text": message["content"]}]
    if message["role"] == "user":
        parts.insert(0, {"type": "image"})
    return {"role": message["role"], "content": parts}


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
