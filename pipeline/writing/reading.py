"""What a model wrote, read as data: the list that was asked for, and every line of it that is refused, with why.

Asked for one text a line, models number them, put them into quotes, bold, JSON or a code block, introduce them,
apologise, think aloud, repeat the request, or never stop. What can be read without a guess is read; the rest is
refused line by line. Nothing here depends on which model it was.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..image_marker import without_marker

MOST_CHARACTERS = 100_000
"""Of one reply: what comes after is refused as a whole."""
SHOWN = 80

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_CHAT = r"<\|[^<>|\n]{1,40}\|>|</?s>|\[/?(?:INST|IMG)\]|<</?SYS>>|<(?:start|end)_of_turn>"
_EDGE = re.compile(rf"\A(?:\s|{_CHAT})+|(?:\s|{_CHAT})+\Z")
_CHAT_MARKER = re.compile(rf"{_CHAT}|^\s*#*\s*(?:human|user|assistant|system)\s*:", re.IGNORECASE)
_MARKUP = re.compile(r"</?[A-Za-z!][^<>]{0,500}>|&(?:[a-z]{2,8}|#\d{1,6});|<\s*/?\s*script", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```\w*\s*$")
_NUMBER = re.compile(r"^\s*(?:[-*•–]\s+|\(?\d{1,5}\s*[.):](?:\s+|(?=[\"“*]))|\(?[a-zA-Z][.)]\s+)")
_LABEL = re.compile(r"^(?:prompt|question|instruction|request|answer)s?\s*(?:#?\s*\d{1,5})?\s*[:\-–]\s+", re.IGNORECASE)
_HEADING = re.compile(r"^\s*#{1,6}\s|^\s*(?:-{3,}|={3,}|\*{3,})\s*$")
_PREAMBLE = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok)[,!.:]|(?:here(?:'s|’s| is| are)|below (?:is|are))\b).*|.*:$",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) sorry|i can(?:'t|not)|i(?:'m| am) (?:not able|unable)|as an? (?:ai|language model))\b",
    re.IGNORECASE,
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff]")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}
_FIELDS = ("prompt", "text", "question", "instruction", "caption", "description")


@dataclass(frozen=True)
class Refused:
    """A line that is not used: `reason` in a word, `line` as far as it is worth showing."""

    reason: str
    line: str


@dataclass
class ReadTexts:
    """What was read of one reply: texts in their order, and what was refused."""

    texts: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def refuse(self, reason: str, line: str) -> None:
        """Record a line that is not used."""
        self.refused.append(Refused(reason, line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."))


@dataclass(frozen=True)
class Reader:
    """What a usable line is: how long, in words, and what it may not say."""

    fewest_words: int
    most_words: int
    forbidden: re.Pattern[str] | None = None
    forbidden_reason: str = ""

    def read(self, reply: str, request: str, cut: bool = False) -> ReadTexts:
        """Return the texts of a reply to a request. `cut`: the reply was ended by its length, so its last line is part
        of one.
        """
        reading = ReadTexts()
        rest = reply[MOST_CHARACTERS:]
        lines = list(_lines(_THOUGHT.sub("\n", reply[:MOST_CHARACTERS])))
        last = len(lines) - 1
        for number, line in enumerate(lines):
            text = without_marker(_bare(line))
            if reason := "cut" if number == last and (cut or rest) else self.reason_against(text, request):
                reading.refuse(reason, text)
            elif text in reading.texts:
                reading.refuse("duplicate", text)
            else:
                reading.texts.append(text)
        if rest:
            reading.refuse("too_long", f"{len(reply):,} characters, of which {MOST_CHARACTERS:,} were read")
        if not reading.texts and not reading.refused:
            reading.refuse("empty", reply.strip())
        return reading

    def reason_against(self, text: str, request: str) -> str:
        """Return why a line cannot be used, or nothing."""
        words = text.split()
        if _CONTROL.search(text):
            return "invalid_text"
        if _CHAT_MARKER.search(text):
            return "chat_marker"
        if _MARKUP.search(text):
            return "markup"
        if _REFUSAL.search(text):
            return "refusal"
        if len(words) <= self.most_words and _PREAMBLE.match(text):
            return "preamble"
        if _same(text) and _same(text) in _same(request):
            return "echo"
        if len(words) < self.fewest_words:
            return "too_short"
        if len(words) > self.most_words or len(text) > 20 * self.most_words:
            return "too_long"
        if len(words) >= 8 and Counter(word.lower() for word in words).most_common(1)[0][1] > len(words) / 2:
            return "repetition"
        if self.forbidden is not None and self.forbidden.search(text):
            return self.forbidden_reason
        return ""


def _lines(reply: str) -> Iterator[str]:
    """Yield the lines of a reply, or the entries of the JSON that it is; what only separates lines is left out."""
    body = "\n".join(line for line in reply.splitlines() if not _FENCE.match(line))
    body = _EDGE.sub("", body)
    if body[:1] in ("[", "{"):
        try:
            yield from _entries(json.loads(body))
            return
        except (ValueError, RecursionError):
            pass  # then it is lines that look like it
    for line in body.splitlines():
        if line.lstrip()[:2] == '{"':
            try:
                yield from _entries(json.loads(line.strip().rstrip(",")))
                continue
            except (ValueError, RecursionError):
                pass
        if line.strip() and not _HEADING.match(line):
            yield line


def _entries(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield " ".join(value.splitlines())
    elif isinstance(value, list):
        for one in value:
            yield from _entries(one)
    elif isinstance(value, dict):
        named = [value[name] for name in _FIELDS if isinstance(value.get(name), str)]
        for one in named[:1] or [one for one in value.values() if isinstance(one, list | dict | str)]:
            yield from _entries(one)


def _bare(line: str) -> str:
    """Return a line without its number, label, emphasis, quotes and the marks of a chat's turn around it."""
    text = _EDGE.sub("", line)
    for _ in range(4):  # **1. "text"** has one inside the other
        before = text
        text = _LABEL.sub("", _NUMBER.sub("", text)).strip()
        for mark in ("**", "__", "*", "_"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)].strip()
        if len(text) > 1 and _QUOTES.get(text[0]) == text.rstrip(",")[-1]:
            text = text.rstrip(",")[1:-1].strip()
        if text == before:
            break
    return re.sub(r"^\*\*[^*]{0,40}\*\*\s*[:\-–]?\s*", "", text) if re.match(r"\*\*[^*]{0,40}:?\*\*\s", text) else text


def _same(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
