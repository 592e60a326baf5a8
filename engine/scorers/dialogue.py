"""One prompt and one answer as a reward model with Llama-3's chat format reads them."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ..networks.text_reward import gate_pattern_of
from ..text import render_chat, token_ids


@dataclass(frozen=True)
class Dialogue:
    """Tokens up to the answer, tokens of the answer, where the prompt's turn ends, and whether anything was cut."""

    opening: tuple[int, ...]
    answer: tuple[int, ...]
    gate: int
    truncated: bool


def judge_context(prompt: str | None, instruction: str) -> str:
    """What the reward reads as the user's turn: the image's text-to-image prompt where there is one, then the question.

    It never sees the picture, so the prompt is its only knowledge of what should be there.
    """
    return f"{prompt}\n{instruction}" if prompt else instruction


def opening_text(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The user's turn and the beginning of the answer's, as the reward was trained on them."""
    return render_chat(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)


def tokenize_dialogue(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, max_length: int) -> Dialogue:
    """One row's tokens, cut to `max_length` so that the prompt's end and the answer's final token stay.

    Prompt and answer are tokenised apart: the template puts a special token and two line ends between them, so the
    result is that of the whole text, and the gate's place is known however the answer looks. Raises PrefmillError
    for a chat template that is not Llama-3's.
    """
    opening = opening_text(tokenizer, prompt)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    whole = render_chat(tokenizer, turns)
    if not whole.startswith(opening):
        raise PrefmillError(
            "the chat template writes a finished dialogue differently from its opening.",
            "use the reward model's own tokenizer",
        )
    asked = token_ids(tokenizer, opening)
    answered = token_ids(tokenizer, whole[len(opening) :])
    pattern = gate_pattern_of(tokenizer)
    if asked[-len(pattern) :] != pattern:
        raise PrefmillError(
            "the chat template does not end a prompt with Llama-3's assistant header.",
            "use the reward model's own tokenizer",
        )
    content, answer_room = asked[: -len(pattern)], min(len(answered), max_length // 4)
    if len(asked) + len(answered) <= max_length:
        return Dialogue(tuple(asked), tuple(answered), len(content), False)
    content = content[: max(1, max_length - len(pattern) - answer_room)]
    room = max_length - len(content) - len(pattern)
    # The score is read at the final end-of-turn token, so that one stays.
    answered = [*answered[: room - 1], answered[-1]] if room < len(answered) else answered
    return Dialogue((*content, *pattern), tuple(answered), len(content), True)
