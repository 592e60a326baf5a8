"""What no answer should hold: traces of templates, tokenizers, markup and broken encodings.

They reach data when a responder is prompted without its chat template, when a server hands out raw tokens, or when
bytes are read in another encoding. Trained on as the rejected side they teach a model to avoid what it never says; on
the chosen side they teach it to say them.
"""

from __future__ import annotations

import json
import re
import unicodedata

from .words import SPACELESS

_LONGEST_WORD = 100  # letters; longer ones are base64, addresses or one letter over and over
_TAGS = (
    "a|abbr|b|blockquote|body|br|button|code|div|em|font|form|h[1-6]|head|hr|html|i|iframe|img|input|li|link|meta|ol|p|"
    "pre|script|span|strong|style|sub|sup|svg|table|tbody|td|th|thead|title|tr|u|ul|video"
)
_TRACES = (
    # first what decides most; each pattern is bounded, so that a long text is read once
    ("half a character", re.compile("[\ud800-\udfff]")),
    ("a replacement character", re.compile("[\ufffd\ufffe\uffff]")),
    ("a control character", re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    ("a private character", re.compile("[\ue000-\uf8ff]")),
    ("text read in another encoding", re.compile("â€[™œ\u02dc¦“”]|Ã[©¨¤¶¼±¡­³]|ï»¿")),
    ("a special token", re.compile(r"<\|[^|<>\n]{0,60}\|>|</?(?:s|bos|eos|pad|unk|mask|sep|cls|eot|end)>", re.I)),
    ("a special token", re.compile(r"\[/?(?:INST|PAD|CLS|SEP|UNK|MASK|BOS|EOS|IMG)\]|<</?SYS>>|<0x[0-9A-F]{2}>")),
    ("a special token", re.compile(r"</?[a-z]{1,16}(?:_[a-z]{1,16}){1,5}>", re.I)),
    ("an image marker", re.compile(r"</?(?:image|images|img|video|pic|im_patch)(?:[ _]?\d{0,4})/?>", re.I)),
    ("a tokenizer's marks", re.compile("\u2581|\u0120\\w[^\u0120]{0,40}\u0120")),
    ("a chat template's role", re.compile(r"\b(?:USER|ASSISTANT|HUMAN|SYSTEM) ?:|^ {0,3}(?:User|Assistant) ?:", re.M)),
    ("a chat template's role", re.compile(r"#{2,3} ?(?:human|user|assistant|system|instruction|response)\b", re.I)),
    ("a script", re.compile(r"<script\b|javascript:|<\?php|<!DOCTYPE", re.I)),
    ("an HTML tag", re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]{{0,300}})?/?>|<!--", re.I)),
    ("an HTML entity", re.compile(r"&(?:nbsp|amp|lt|gt|quot|apos|#x?[0-9a-f]{1,6});", re.I)),
    ("a code fence", re.compile("```")),
    ("a Markdown image", re.compile(r"!\[[^\]\n]{0,300}\]\(")),
    ("JSON", re.compile(r"\A\s{0,20}[\[{]\s{0,20}(?:\{\s{0,20})?\"[^\"\n]{1,60}\"\s{0,20}[:,]")),
)
_LONG = re.compile(rf"[^\W{SPACELESS}]{{{_LONGEST_WORD + 1}}}")
_SPELLED = re.compile(r"[^\W_]")


def artifact_in(text: str) -> str | None:
    """Return what a text holds that no answer should, or None. An empty text holds nothing."""
    for name, pattern in _TRACES:
        if pattern.search(text):
            return name
    if _is_json(text):
        return "JSON"
    visible = sum(not character.isspace() for character in text)
    # marks belong to the letters before them: a third of what Hindi or Thai is written with
    spelled = len(_SPELLED.findall(text)) + sum(unicodedata.category(character)[0] == "M" for character in text)
    if 2 * spelled < visible:
        return f"{visible - spelled} signs among {visible} characters"
    if _LONG.search(text):
        return f"a word of more than {_LONGEST_WORD} letters"
    return None


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except RecursionError:
        return True
    except ValueError:
        return False
