"""Tokenizers of the trained checkpoints: the real classes, one token for each word of the micro world.

A small vocabulary is what lets models of a megabyte learn in minutes. Image models spell other words in single
characters or bytes. To language models they are `<unk>`: an instruction with one is still read, only with a gap.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import BertTokenizer, CLIPTokenizer, PreTrainedTokenizerFast

from ...engine.tiny.tokenizers import (
    LLAMA3_SPECIALS,
    LLAMA3_TEMPLATE,
    bert_tokenizer,
    clip_tokenizer,
    language_tokenizer,
)
from ..world.language import WORDS

CLIP_LENGTH = 24
"""Tokens of the longest caption with its two marks. Stable Diffusion 3 pads every prompt to it, at its cost."""
IMAGE_TOKEN = "<image>"
CONTEXT = 256
"""Tokens a language model can hold: image, instruction and answer take about 60."""
_MARKS = (".", ",", "?", ":")


def world_clip_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level tokenizer over the world's words."""
    return clip_tokenizer(WORDS, CLIP_LENGTH)


def world_bert_tokenizer() -> BertTokenizer:
    """BLIP's WordPiece tokenizer over the world's words."""
    return bert_tokenizer(WORDS)


def responder_tokenizer() -> PreTrainedTokenizerFast:
    """Llama's and LLaVA's special tokens; `user`, `assistant` and the colon are words of the chat template."""
    specials = ["<unk>", "<s>", "</s>", "<pad>", IMAGE_TOKEN]
    return _word_tokenizer(specials, bos="<s>", eos="</s>", pad="<pad>")


def text_reward_tokenizer() -> PreTrainedTokenizerFast:
    """Llama-3's special tokens and chat template, so that the gate finds its pattern."""
    specials = ["<unk>", "<|pad|>", *LLAMA3_SPECIALS]
    tokenizer = _word_tokenizer(specials, bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|pad|>")
    tokenizer.chat_template = LLAMA3_TEMPLATE
    return tokenizer


def _word_tokenizer(specials: Sequence[str], *, bos: str, eos: str, pad: str) -> PreTrainedTokenizerFast:
    words = dict.fromkeys([*specials, *_MARKS, "user", "assistant", "system", *WORDS])
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return language_tokenizer(backend, specials, max_length=CONTEXT, bos=bos, eos=eos, pad=pad, unk="<unk>")
