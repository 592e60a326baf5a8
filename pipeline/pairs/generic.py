"""Answers that would fit any image: refusals, courtesies, announcements of an answer that does not come.

A text is taken apart into sentences; the measure is the share of its words that stand in such sentences. So "Sure! Here
is a description of the image:" is all generic, and the same in front of a description hardly counts. The phrases are
English, with the commonest refusals of some other languages.
"""

from __future__ import annotations

import re

from .words import words_of

_PICTURE = r"(?:image|picture|photo|photograph|photography|illustration|artwork|drawing|painting|scene)s?"
_BARE = r"(?:image|picture)s?"
_ANSWER = r"(?:description|answer|caption|response|analysis|summary|list|breakdown|explanation|interpretation|overview)"
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|(?<=[。！？：])|\n+")
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial|(?:large )?language|text-based|virtual)\b"
    r"|\bi(?:'m| am) (?:just |only )?an? (?:ai|artificial|(?:large )?language|text-based|virtual)\b"
    r"|^i(?:'m| am) (?:very |so |really )?sorry\b|^sorry\b|^(?:my )?apologies\b|^i apologi[sz]e\b"
    r"|\bi (?:can ?not|can't|could ?not|couldn't|am unable to|'m unable to|am not able to|'m not able to|don't|do not)"
    r" (?:actually |directly |currently )?(?:see|view|access|open|display|process|analy[sz]e|interpret|read)"
    rf" (?:(?:the|this|that|your|any|an|these|actual) ){{0,2}}(?:{_PICTURE}|files?|visual content)\b"
    r"|\bi(?:'m| am)? (?:can ?not|can't|unable to|not able to) (?:assist|help|answer|fulfil|comply|provide)\b"
    r"|\bi (?:don't|do not) have (?:access|the ability|the capability|any (?:image|information|visual|context))\b"
    rf"|\bno {_PICTURE} (?:was|were|is|are|has been|have been) (?:provided|attached|included|uploaded|available)\b"
    rf"|\b(?:please|could you|can you) (?:\w+ )?(?:provide|upload|attach|share|send) (?:\w+ ){{0,4}}{_PICTURE}\b"
    r"|\b(?:please|could you|can you) (?:\w+ )?(?:provide|clarify|rephrase|specify|give) (?:\w+ ){0,3}"
    r"(?:context|question|details|information|request)\b"
    r"|^(?:es tut mir leid|als (?:ein )?ki\b|je suis désolée?|en tant qu['’](?:ia|intelligence|assistant|modèle)"
    r"|lo siento|como (?:modelo|una? (?:ia|inteligencia))|mi dispiace|desculpe|извините|抱歉|对不起|申し訳)"
    r"|^作为(?:一个)?(?:人工智能|ai|语言模型)"
)
_EMPTY = re.compile(
    r"(?:sure|certainly|of course|absolutely|definitely|okay|ok|no problem|great|gladly)(?: thing)?"
    r"|(?:that(?:'s| is) an? )?(?:great|good|interesting|excellent) (?:question|image|picture)"
    r"|(?:thank you|thanks)(?: (?:for|so|very)(?: [\w'-]+){0,8})?"
    r"|i(?:'d| would| will|'ll)? be (?:happy|glad|pleased) to (?:help|assist|describe|answer)(?: [\w'-]+){0,8}"
    r"|(?:i )?hope (?:this|that|it) (?:helps|answers|is helpful)(?: [\w'-]+){0,6}"
    r"|(?:please )?(?:let me know|feel free|don't hesitate)(?: [\w'-]+){0,16}"
    r"|(?:is there anything else|do you have any|how can i|what would you like)(?: [\w'-]+){0,14}"
    rf"|here(?:'s| is| are)?(?: (?:an?|the|my|your|some|one|possible|detailed|brief|short)){{0,4}}(?: {_ANSWER}"
    rf"(?: (?:of|for|to|about)(?: (?:the|this|your|that|given|provided)){{0,2}}(?: (?:{_PICTURE}|question|prompt))?)?)?"
    rf"|the (?:{_ANSWER}|{_PICTURE}|following)(?: (?:is|are|of))?(?: as follows| below| attached)?"
    rf"|(?:i (?:can )?see|this is|it is|it's|that is|there is|(?:this|the|it)(?: {_BARE})? (?:is|shows|depicts|has))"
    rf" (?:an?|the|some) {_BARE}(?: of (?:something|things|an? (?:object|thing|{_BARE})))?"
    rf"|(?:an?|the|this)? ?{_BARE}"
    r"|it depends|i(?:'m| am) not (?:sure|certain)|i (?:don't|do not) know|(?:i have )?no idea|not applicable|n a"
)


def generic_share(text: str) -> float:
    """Return the share of a text's words that stand in sentences which would fit any image."""
    generic = total = 0
    for sentence in _SENTENCE.split(text.replace("\u2019", "'")):
        words = len(words_of(sentence))
        total += words
        if words and _is_generic(sentence.lower().strip()):
            generic += words
    return generic / total if total else 0.0


def _is_generic(sentence: str) -> bool:
    plain = " ".join(re.sub(r"[^\w\s'-]", " ", sentence).split())
    # an announcement in front of a colon, whatever it announces
    announces = sentence.endswith((":", "：")) and re.match(r"(?:sure|certainly|of course|here)\b", plain)
    return bool(announces or _EMPTY.fullmatch(plain) or _REFUSAL.search(plain))
