"""The form in which images of one prompt are rated, and the request for it: what annotators are asked and trained on.

One request shows all images of a prompt and asks about one aspect, or about all of them together. The answer is one
JSON object with an entry for each image, in the order shown, the reason before what it is the reason for:

    {"images": [{"rationale": "the kite is blue, not red", "rating": 3}, {"rationale": "...", "rating": null}]}
    {"images": [{"prompt_following": {"rationale": "...", "rating": 3}, "aesthetic": {...}, ...}, ...]}

`null` is an abstention. The rubrics, what 1 to 5 mean, are the caller's.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, create_model

from .quoting import quote
from .structured import Form

Aspect = Literal["prompt_following", "aesthetic", "fidelity", "harmlessness"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
LONGEST_PROMPT = 4000
"""Characters of a prompt that are shown."""


class ImageRating(Form):
    rationale: str = Field(min_length=1, max_length=2000, description="two or three sentences")
    rating: Annotated[int, Field(ge=1, le=5)] | None = Field(description="1 to 5, or null if you cannot tell")


class ImageRatings(Form):
    """The base of the forms; `images` has one entry for each image."""

    reasons: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("too_short", "too_long"), "wrong_count"),
        **dict.fromkeys(("greater_than_equal", "less_than_equal"), "out_of_range"),
    }

    images: tuple[Any, ...]

    def ratings(self, aspects: Sequence[str]) -> list[dict[str, ImageRating]]:
        """Return the rating of every aspect, image by image in the order shown."""
        if len(aspects) == 1:
            return [{aspects[0]: entry} for entry in self.images]
        return [{aspect: getattr(entry, aspect) for aspect in aspects} for entry in self.images]


def ratings_form(count: int, aspects: Sequence[str]) -> type[ImageRatings]:
    """Return the form for so many images: a rating of each where one aspect is asked about, else one by each aspect."""
    return _form(count, tuple(aspects) if len(aspects) > 1 else ())


@cache
def _form(count: int, together: tuple[str, ...]) -> type[ImageRatings]:
    entry: Any = ImageRating
    if together:
        fields: dict[str, Any] = dict.fromkeys(together, (ImageRating, ...))
        entry = create_model("ImageByAspects", __base__=Form, **fields)
    images = (tuple[entry, ...], Field(min_length=count, max_length=count, description="one entry each, in order"))
    return create_model("Ratings", __base__=ImageRatings, images=images)


def ratings_request(prompt: str, rubrics: Mapping[str, str], count: int) -> str:
    """Return the text of a request that shows `count` images of a prompt; `rubrics` by the aspects asked about.

    The prompt is quoted as data (`quoting.py`). `ask_forms` appends the form, `ratings_form(count, list(rubrics))`.
    """
    quoted, _ = quote({"prompt": prompt}, LONGEST_PROMPT)
    shown = f"{count} images were made" if count > 1 else "An image was made"
    return "\n\n".join([f"{shown} from one prompt. Rate each by itself.", *rubrics.values(), quoted])
