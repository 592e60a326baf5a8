"""Tokenizers of the real classes, made in memory: byte-level where the real one is, and lossless there.

Each holds some words as whole tokens, common ones unless told others, and spells everything else.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import BertTokenizer, CLIPTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5Tokenizer

from .words import COMMON_WORDS

LLAMA3_SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LLAMA3_TEMPLATE = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# The form LLaVA 1.5 was trained in. It ends without a space: the answer's first token brings its own.
VICUNA_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}{{ ' ' }}{% else %}"
    "{{ message['role'] | upper }}:{{ ' ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ ' ' }}{% endif %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

# Qwen's and InternVL's: every turn in marks; IMAGE stands for what the family puts in the place of an image.
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Idefics3's and SmolVLM's; it takes contents in parts only.
IDEFICS_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def clip_tokenizer(words: Sequence[str] = COMMON_WORDS, max_length: int = 77) -> CLIPTokenizer:
    """Byte-level, lower-casing; ends its words with `</w>`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*alphabet, *(symbol + "</w>" for symbol in alphabet)]
    # Built from the word's marked end: chains that share an unmarked beginning would tear other words apart.
    merges: list[tuple[str, str]] = []
    for word in words:
        suffixes = [word[start:] + "</w>" for start in range(len(word))]
        merges += [(symbol, suffix) for symbol, suffix in zip(word, suffixes[1:], strict=False)][::-1]
    merges = list(dict.fromkeys(merges))
    vocabulary += [*_merged(merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab=_numbered(vocabulary), merges=merges, model_max_length=max_length)  # type: ignore[arg-type]


def t5_tokenizer() -> T5Tokenizer:
    """Unigram over the words, printable ASCII and Latin letters; other characters are `<unk>`."""
    characters = [chr(code) for code in (*range(33, 127), *range(161, 383))]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -6.0 - 0.001 * rank) for rank, word in enumerate(COMMON_WORDS)]
    pieces += [(character, -8.0) for character in characters]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def bert_tokenizer(words: Sequence[str] = COMMON_WORDS) -> BertTokenizer:
    """WordPiece, lower-casing, with BLIP's two extra tokens at the end as in its real vocabulary."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += [*characters, *(f"##{character}" for character in characters)]
    vocabulary += [word for word in words if word not in characters] + ["[DEC]", "[ENC]"]
    tokenizer = BertTokenizer(vocab=_numbered(vocabulary), model_max_length=512)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


def byte_tokenizer(
    specials: Sequence[str], *, bos: str | None, eos: str, pad: str, named: dict[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text comes back unchanged. `bos` is put in front of every text.

    `named` are special tokens that a processor asks for by name, such as `context_image_token`.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # The byte-level alphabet writes a space as U+0120.
    merges = _merges("\u0120" + word for word in COMMON_WORDS)
    vocabulary = _numbered([*specials, *alphabet, *_merged(merges)])
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return language_tokenizer(backend, specials, max_length=4096, bos=bos, named=named, eos=eos, pad=pad)


def language_tokenizer(
    backend: Tokenizer,
    specials: Sequence[str],
    *,
    max_length: int,
    bos: str | None,
    named: dict[str, str] | None = None,
    **others: str,
) -> PreTrainedTokenizerFast:
    """A language model's tokenizer around `backend`, which puts `bos`, where there is one, in front of every text.

    `specials` are tokens of its vocabulary that no text is cut into; `others` names those with a role: eos, pad, unk.
    """
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    if bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
        others = {"bos": bos, **others}
    roles: dict[str, Any] = {f"{role}_token": token for role, token in others.items()}
    if named:
        roles["extra_special_tokens"] = named
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=max_length, clean_up_tokenization_spaces=False, **roles
    )


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The number of one token of the vocabulary."""
    return tokenizer.get_vocab()[token]


def word_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of the whole-word tokens and of plain punctuation: what a random model may say."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[token] for token in (*("\u0120" + word for word in COMMON_WORDS), ",", ".")]


def _merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """For each word the chain of merges that builds it from its marked beginning, each once."""
    return list(dict.fromkeys((word[:end], word[end]) for word in words for end in range(1, len(word))))


def _merged(merges: Sequence[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(left + right for left, right in merges))


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
