"""Tokenizers of the micro world's trained language models: one word, one token, and lower case.

A small vocabulary is what lets models of a megabyte learn in minutes. Unknown words become `<unk>`: an instruction
with one is still read, only with a gap.
"""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from ...engine.tiny.tokenizers import LLAMA3_SPECIALS, LLAMA3_TEMPLATE
from ..world.language import WORDS

IMAGE_TOKEN = "<image>"
CONTEXT = 256
"""Tokens a model can hold: image, instruction and answer take about 60."""
_MARKS = (".", ",", "?", ":")


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
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary[bos])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
