"""One turn of a chat as a model was trained on it: its own template, with one beginning-of-text token.

What a text spells of that form is taken out of it: a second image token would ask for a second image, an end of turn
would end it, and the label of the assistant's turn would put words into the model's mouth. Everything else stays as it
is, HTML and scripts included: it is data.
"""

import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from ...base.characters import BROKEN, is_encodable
from ...base.errors import PrefmillError
from ..checkpoint import summary
from ..processors import control_tokens

PROBE = "What is this?"
_MARKS = re.compile(
    r"<{1,2}/?[^<>\s'\"]+>{1,2}"  # <|im_end|>, <end_of_turn>, <<SYS>>
    r"|\[/?[A-Z_]+\]"  # [INST]
    r"|\b(?:user|assistant|system|human|model):",  # USER: ASSISTANT:
    re.IGNORECASE,
)
"""What templates mark turns with where those are no special tokens: looked for in the template, not in texts."""
_FIX = "use the processor and chat_template.jinja that the model was published with"


class RequestRefused(Exception):  # no error of ours: it becomes a `Failure`
    """This request cannot be answered, for a reason that lies in it; the others can."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Chat:
    """Renders requests for one model; `owner` is its processor, or the tokenizer of a model that reads no images.

    Raises PrefmillError without a chat template, or with one that does not carry a text, exactly one image token of an
    image, and exactly one beginning-of-text token.
    """

    def __init__(self, owner: Any, key: str) -> None:
        self.owner = owner
        self.tokenizer: PreTrainedTokenizerBase = getattr(owner, "tokenizer", owner)
        self.key = key
        self.image_token: str | None = getattr(owner, "image_token", None)
        self._reads_images = owner is not self.tokenizer
        if not owner.chat_template:
            kind = "processor" if self._reads_images else "tokenizer"
            raise PrefmillError(
                f"the {kind} of {key} has no chat template.",
                "use a chat model, or put the model's chat_template.jinja into its folder",
            )
        self._taken_out = control_tokens(owner)
        rendered = self._probe()
        marks = {*_MARKS.findall(rendered.replace(PROBE, " ")), *_MARKS.findall(str(owner.chat_template)), "<image>"}
        longest_first = sorted(marks, key=len, reverse=True)
        self._taken_out = re.compile("|".join([self._taken_out.pattern, *map(re.escape, longest_first)]))
        # Some templates write the beginning-of-text token themselves; it must not come twice.
        start = self.tokenizer.bos_token
        self.adds_start = not (start and rendered.startswith(str(start)))
        self._start = self.tokenizer.bos_token_id if not self.adds_start or self._starts_texts() else None
        try:
            self.check(self.tokenizer(rendered, add_special_tokens=self.adds_start)["input_ids"])  # type: ignore[arg-type]
        except RequestRefused as refused:
            raise PrefmillError(f"the chat template of {key} is wrong: {refused.detail}.", _FIX) from refused

    def render(self, text: str, images: int = 0) -> str:
        """One turn of the user's, after so many images, up to where the answer begins.

        Raises RequestRefused for a text that is none: one with half a surrogate pair.
        """
        if not is_encodable(text):
            raise RequestRefused("invalid_text", f"it {BROKEN}")
        plain = text
        while (shorter := self._taken_out.sub("", plain)) != plain:  # what is left may spell one anew
            plain = shorter
        return self._render(plain, images)

    def check(self, tokens: list[int]) -> None:
        """Raise RequestRefused unless tokens begin with exactly one beginning-of-text token, where the model has it."""
        if self._start is not None and (tokens[:1] != [self._start] or self._start in tokens[1:2]):
            count = sum(token == self._start for token in tokens[:2])
            raise RequestRefused("control_tokens", f"it begins with {count} tokens {self.tokenizer.bos_token!r}, not 1")

    def _render(self, text: str, images: int) -> str:
        parts = [*[{"type": "image"}] * images, {"type": "text", "text": text}]
        message = {"role": "user", "content": parts if self._reads_images else text}
        return self.owner.apply_chat_template([message], tokenize=False, add_generation_prompt=True)

    def _probe(self) -> str:
        try:
            rendered = self._render(PROBE, 1 if self._reads_images else 0)
        except Exception as error:  # a template is a program: it may raise anything
            raise PrefmillError(f"the chat template of {self.key} does not work: {summary(error)}", _FIX) from error
        if PROBE not in rendered:
            raise PrefmillError(
                f"the chat template of {self.key} writes {rendered[:200]!r}, without the instruction.", _FIX
            )
        if self.image_token and rendered.count(self.image_token) != 1:
            raise PrefmillError(
                f"the chat template of {self.key} writes {rendered[:200]!r}, without exactly one image token "
                f"{self.image_token!r}.",
                _FIX,
            )
        return rendered

    def _starts_texts(self) -> bool:
        start = self.tokenizer.bos_token_id
        return start is not None and self.tokenizer(PROBE)["input_ids"][:1] == [start]  # type: ignore[index]
