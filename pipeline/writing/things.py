"""The things that a prompt names, found by the shape of English noun phrases: no model, no dictionary.

A phrase begins after an article, a number word or a possessive, and ends before a preposition, a conjunction, a verb
in a participle, or punctuation. That misses things and never invents one: every phrase is words of the prompt.
"""

from __future__ import annotations

import re

MOST_WORDS = 4

_TOKEN = re.compile(r"[^\W\d_][\w’'-]*|[^\w\s]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPENING = _words(
    """a an the one two three four five six seven eight nine ten dozen several some many its their his her each"""
)
_CLOSING = _words(
    """about above across after against along amid among around as at atop before behind below beneath beside
    between beyond by down during for from in inside into like near next of off on onto out outside over past
    since through to toward towards under underneath until up upon via while with within without and or but nor
    so than that then where which who whose when is are was were be been has have had can could will would may
    might stands sits lies rests hangs"""
)
_VIEWS = _words(
    """photograph photo image picture view shot close-up closeup painting drawing illustration portrait scene
    render rendering depiction collection series set pair group row rows variety number array piece kind sort
    cluster macro study panorama snapshot handful flock couple glimpse"""
)
_NOUNS_IN_ING = _words(
    "painting drawing building ceiling lighting clothing etching railing lining morning evening string"
)
_IRREGULAR = _words("made left hung seen drawn held lit cut set full worn grown built woven shown")
_NO_THINGS = _words(
    """essence air distance background foreground way day morning evening night noon afternoon dawn dusk sunset
    center centre middle edge corner top bottom side world moment atmosphere sense mood depth composition style
    effect variations variation attention detail details light glow hues hue tones tone colors colours color
    colour lines touch feeling contrast beauty interplay season sky shadows shadow
    front faces face lights shades early late wet red blue green yellow orange purple violet pink black white gray grey
    brown"""
)


def things_in(prompt: str) -> tuple[str, ...]:
    """Return the things that a prompt names, in its order and words, without articles; none where it is not such
    English.
    """
    tokens = _TOKEN.findall(prompt)
    lower = [token.lower() for token in tokens]
    found: dict[str, None] = {}
    place = 0
    while place < len(tokens):
        if lower[place] not in _OPENING:
            place += 1
            continue
        start = place = place + 1
        while place < len(tokens) and not _ends(lower, place, start):
            place += 1
        words, last = tokens[start:place], lower[place - 1]
        if last in _VIEWS and lower[place : place + 1] == ["of"]:
            lower[place] = "the"  # "a photograph of dewdrops": what it shows needs no article
        elif any(map(_is_participle, lower[start + 1 : place])):
            continue  # "a man feeding pigeons": where the thing ends cannot be told by the words' shape
        elif 0 < len(words) <= MOST_WORDS and last not in _NO_THINGS:
            found[" ".join(words)] = None
    return tuple(found)


def _ends(lower: list[str], place: int, start: int) -> bool:
    word, after = lower[place], lower[place + 1] if place + 1 < len(lower) else "."
    if not word[0].isalpha() or word in _CLOSING or word in _OPENING:
        return True
    # "a woman reading a paper", "a cup filled with tea", but "a steaming cup"
    follows = not after[0].isalpha() or after in _CLOSING or after in _OPENING
    return place > start and follows and _is_participle(word)


def _is_participle(word: str) -> bool:
    regular = len(word) > 4 and word.endswith(("ing", "ed")) and word not in _NOUNS_IN_ING
    return regular or word in _IRREGULAR
