"""How micro annotators read and write: one token for each word of the world, and for each piece of the answer's JSON.

A request is long, and most of it says the same every time. Words that the annotators do not know are taken out before
they read it: no model of two megabytes would learn more from them, and a fifth of the tokens takes a fifth of the time.
"""

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from ...engine.tiny.tokenizers import language_tokenizer
from ..world.aspects import RUBRICS
from ..world.scenes import BACKGROUNDS, CELLS, COLOURS, KINDS
from .tokenizers import IMAGE_TOKEN

CONTEXT = 512
"""Tokens; a request with four images and its answer take about 220."""
OPENINGS = ('{"images": [{"rationale": "', *(f'}},{" " * place}{{"rationale": "' for place in (1, 2, 3)))
"""Of each image's entry. A model this small counts badly: what it wrote itself says which image it is at."""
RATING, CLOSE = '", "rating": ', "}]}"
NUMBERS = ("1", "2", "3", "4", "5")
_SPECIALS = ("<unk>", "<s>", "</s>", "<pad>", IMAGE_TOKEN)
_SAID = (
    "a an the is are there on at and no not all as asked more colors match clash clear pale both sides one side alone",
    "empty sharp clean almost little rough very nothing harmful of two three four",
)

# The text comes first, so that what is seen is seen in its light, and each image is numbered after it.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}:{{ ' ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '\n<image> ' }}{{ loop.index }}{% endfor %}"
    "{% endif %}{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def annotator_tokenizer() -> PreTrainedTokenizerFast:
    """LLaVA's special tokens, the world's words and those of rubrics and rationales, and pieces of JSON."""
    texts = (*_SAID, *KINDS, *COLOURS, *CELLS, *BACKGROUNDS, *RUBRICS.values())
    known = sorted({word for text in texts for word in text.split() if word.isalpha()})
    words = ["user", "assistant", *NUMBERS, *known]
    pieces = [*OPENINGS, RATING, CLOSE, "null", ","]
    numbered = {word: number for number, word in enumerate([*_SPECIALS, *words, *pieces])}
    backend = Tokenizer(WordLevel(numbered, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(rf"\b(?:{'|'.join(words)})\b"), behavior="removed", invert=True)
    # words apart by spaces, and none inside the quotes of the JSON
    spaces = {'": " ': '": "', ' ", "': '", "', ":  ": ": ", " }": "}", "},   {": "}, {", "},  {": "}, {"}
    joined = [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*joined, *(decoders.Replace(*pair) for pair in spaces.items())])
    return language_tokenizer(backend, _SPECIALS, max_length=CONTEXT, bos="<s>", eos="</s>", pad="<pad>", unk="<unk>")


def answer_tokens(entries: Sequence[tuple[str, int | None]], vocabulary: dict[str, int]) -> list[int]:
    """The answer of (rationale, rating) for each image as tokens, without the end of the text."""
    words: list[str] = []
    for (rationale, rating), opening in zip(entries, OPENINGS, strict=False):
        words += [opening, *rationale.split(), RATING, "null" if rating is None else str(rating)]
    return [vocabulary[word] for word in [*words, CLOSE]]


def request_tokens(text: Sequence[int], images: int, image_tokens: int, vocabulary: dict[str, int]) -> list[int]:
    """What the template makes of the tokens of a text with so many images."""
    marked = [[vocabulary[IMAGE_TOKEN]] * image_tokens + [vocabulary[NUMBERS[number]]] for number in range(images)]
    opening = [vocabulary["<s>"], vocabulary["user"]]
    return [*opening, *text, *(token for image in marked for token in image), vocabulary["assistant"]]
