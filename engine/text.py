"""Tokenizers: loading them, rendering chats with them, and keeping a pathological text from stalling them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..base.errors import PrefmillError

_CHARACTERS_PER_TOKEN = 32
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")


def bounded_text(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> str:
    """A beginning of `text` that has more than `max_tokens` tokens, or all of it.

    The tokenizer cuts at `max_tokens` itself, so it returns the same for the beginning as for a megabyte of text.
    The beginning ends at white space, where words and with them tokens end; only a single word of thousands of
    characters is cut inside, far behind the tokens that are kept.
    """
    length = _CHARACTERS_PER_TOKEN * max_tokens
    while length < len(text):
        head = text[:length]
        words = head.rsplit(maxsplit=1)
        if len(words) == 2 and len(words[0]) > length // 2:
            head = words[0]
        if len(tokenizer(head, verbose=False)["input_ids"]) > 2 * max_tokens:  # type: ignore[arg-type]
            return head
        length *= 4
    return text


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
    """Tokens and mask [B, T], padded on the right to the longest row and cut at `max_tokens`, and which were cut."""
    texts = [bounded_text(prompt, tokenizer, max_tokens) for prompt in prompts]
    full = tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]
    batch = tokenizer(
        texts,
        padding=True,
        padding_side="right",
        truncation=True,
        max_length=max_tokens,
        return_tensors="pt",
        verbose=False,
    )
    cut = [len(row) > max_tokens for row in full]  # type: ignore[arg-type]
    return batch["input_ids"], batch["attention_mask"], cut  # type: ignore[return-value]


def load_tokenizer(folder: Path, tokenizer_class: type[Any] = AutoTokenizer) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder. Raises PrefmillError where there is none or it is broken."""
    check_tokenizer_files(folder)
    try:
        return tokenizer_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library's reasons are many; all of them mean that there is no tokenizer
        raise PrefmillError(
            f"the tokenizer in {folder} does not load: {error}", f"delete {folder} and download or build it again"
        ) from error


def check_tokenizer_files(folder: Path) -> None:
    """Raise PrefmillError where a folder has no vocabulary: the library would make up an empty one."""
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise PrefmillError(f"{folder} has no tokenizer files.", f"delete {folder} and download or build it again")


def render_chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], *, add_generation_prompt: bool = False
) -> str:
    """Messages as the text that the model was trained on. Raises PrefmillError without a chat template."""
    if tokenizer.chat_template is None:
        raise PrefmillError(
            f"the tokenizer in {tokenizer.name_or_path} has no chat template.",
            "use a chat model, or put its chat_template.jinja into the folder",
        )
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)  # type: ignore[return-value]


def token_ids(tokenizer: PreTrainedTokenizerBase, rendered: str) -> list[int]:
    """Tokens of an already rendered chat, which carries its own special tokens."""
    return tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[return-value]


def judge_prompt(prompt: str, instruction: str) -> str:
    """What a text reward reads as the user's turn where it is to know what the image should show.

    It never sees the picture: the text-to-image prompt, a line break, the instruction.
    """
    return f"{prompt}\n{instruction}"
