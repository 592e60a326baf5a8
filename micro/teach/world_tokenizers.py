"""Tokenizers of the trained checkpoints: the real classes, one token for each word of the micro world.

Other words are spelled in single characters or bytes, so that any prompt is read without an error.
"""

from tokenizers import pre_tokenizers
from transformers import BertTokenizer, CLIPTokenizer

from ..world.language import WORDS

CLIP_LENGTH = 24
"""Tokens of the longest caption with its two marks. Stable Diffusion 3 pads every prompt to it, at its cost."""


def world_clip_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level tokenizer over the world's words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Each word grows from its marked end, so that no word's merges tear another word apart.
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        suffixes = [word[start:] + "</w>" for start in range(len(word))]
        merges |= dict.fromkeys([*zip(word, suffixes[1:], strict=False)][::-1])
    merged = dict.fromkeys(left + right for left, right in merges)
    tokens = [*alphabet, *(symbol + "</w>" for symbol in alphabet), *merged, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab=_numbered(tokens), merges=list(merges), model_max_length=CLIP_LENGTH)  # type: ignore[arg-type]


def world_bert_tokenizer() -> BertTokenizer:
    """BLIP's WordPiece tokenizer over the world's words, with its own two extra tokens at the end."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{each}" for each in characters)]
    tokens += [word for word in WORDS if word not in characters] + ["[DEC]", "[ENC]"]
    tokenizer = BertTokenizer(vocab=_numbered(tokens), model_max_length=512)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
