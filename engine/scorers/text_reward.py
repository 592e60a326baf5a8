"""ArmoRM as a scorer: rates an answer on 19 attributes and weighs them by the prompt (arXiv 2406.12845).

It reads text only; the image is never shown to it. The beginning-of-text token is set once, by the chat template
alone, and an answer too long for the model is cut without losing the place that the gate reads. All answers to one
prompt share its states and its gate; rows of like length share a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from transformers import PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ..backends.catalogue import make_runners
from ..checkpoint import checkpoint_key, load_strict
from ..device import Execution, resolve_device, resolve_weights_dtype
from ..network import Dimension, Input, Network, causal, positions, whole_numbers
from ..networks.text_reward import TextRewardModel, find_gate, gate_pattern_of
from ..prefix import SharedRow, batches, pack, share
from ..runner import Runner
from ..settings import EngineSettings
from ..sources import resolve_checkpoint
from ..text import load_tokenizer
from .attributes import ATTRIBUTES
from .dialogue import Dialogue, tokenize_dialogue

__all__ = ["ATTRIBUTES", "GatePosition", "Judgements", "TextReward", "TextRewardModel", "find_gate", "gate_pattern_of"]

GatePosition = Literal["prompt_end", "last_occurrence"]
"""Where the gate reads the prompt. The reference searches for the last end of a prompt in the tokens, which an answer
that quotes one moves into the answer; `prompt_end` is the place meant, and the same wherever no answer quotes it."""
_HELPSTEER = 5
# A GPU wants many rows at once; a CPU is busy with one packed row, and a second would only add padding.
_BATCH_TOKENS = {"cuda": 16384, "cpu": 1024}


@dataclass(frozen=True)
class Judgements:
    """`scores` [B], `attributes` and `gate` [B, 19] (order of ATTRIBUTES), all float32 on the CPU.

    `truncated[i]` tells that row i did not fit and was cut.
    """

    scores: torch.Tensor
    attributes: torch.Tensor
    gate: torch.Tensor
    truncated: list[bool]

    def named(self, row: int) -> dict[str, float]:
        """The 19 attributes of one row by name, as the model gives them."""
        return dict(zip(ATTRIBUTES, self.attributes[row].tolist(), strict=True))

    def helpsteer(self, row: int) -> dict[str, float]:
        """Helpfulness, correctness, coherence, complexity and verbosity of one row on HelpSteer's scale, 0 to 4."""
        values = (self.attributes[row, :_HELPSTEER] * 5 - 0.5).tolist()
        names = (name.removeprefix("helpsteer-") for name in ATTRIBUTES)
        return dict(zip(names, values, strict=False))


class TextReward:
    """A loaded ArmoRM with its tokenizer; `key` names the weights by content."""

    def __init__(
        self,
        model: TextRewardModel,
        tokenizer: PreTrainedTokenizerBase,
        key: str,
        *,
        max_length: int | None = None,
        gate_position: GatePosition = "prompt_end",
        batch_tokens: int | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.key = key
        self.max_length = max_length or model.config.max_position_embeddings
        self.gate_position: GatePosition = gate_position
        self.batch_tokens = batch_tokens or _BATCH_TOKENS.get(model.device.type, 16384)
        networks = _networks(model, self.max_length)
        self.body, self.shared_body, self.heads = make_runners(networks, settings, release=(model.model,))

    @classmethod
    def from_pretrained(
        cls,
        source: str,
        settings: EngineSettings | None = None,
        *,
        max_length: int | None = None,
        gate_position: GatePosition = "prompt_end",
    ) -> Self:
        """Load from a folder or hub id, strictly. Raises PrefmillError for whatever does not fit."""
        settings = settings or EngineSettings()
        device = resolve_device(settings)
        folder = resolve_checkpoint(source)
        model = load_strict(TextRewardModel, folder, dtype=resolve_weights_dtype(settings, device))
        model.keep_heads_precise()
        tokenizer = load_tokenizer(folder)
        model.to(device)  # type: ignore[arg-type]  # the stub of `to` is that of a decorated function
        key = checkpoint_key(folder, "text_reward")
        return cls(model, tokenizer, key, max_length=max_length, gate_position=gate_position, settings=settings)

    @property
    def runners(self) -> tuple[Runner, ...]:
        """Everything that runs a network of it."""
        return (self.body, self.shared_body, self.heads)

    @property
    def execution(self) -> Execution:
        """How the network really runs; its heads are in float32 whatever the precision."""
        return self.body.execution

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Judgements:
        """Judge each response to its prompt; equal prompts are read once, wherever in the input they stand.

        A row that overflows scores NaN or infinity, and the others are not touched. Raises PrefmillError for unequal
        counts.
        """
        if len(prompts) != len(responses):
            raise PrefmillError(f"{len(prompts)} prompts came with {len(responses)} responses.", "give equal numbers")
        dialogues = [
            tokenize_dialogue(self.tokenizer, prompt, response, self.max_length)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        count = len(dialogues)
        scores, attributes, gate = torch.empty(count), *torch.empty(2, count, len(ATTRIBUTES))
        texts = [(dialogue.opening, dialogue.answer) for dialogue in dialogues]

        def judge(batch: Sequence[SharedRow]) -> None:
            places = [place for row in batch for place in row.places]
            with torch.inference_mode():
                judged = self._judge(batch, dialogues)
            scores[places], attributes[places], gate[places] = (values.float().cpu() for values in judged)

        for batch in batches(share(texts, self.max_length), self.batch_tokens):
            judge(batch)
        # NaN in one answer's states spoils those of its whole row, masked or not: who is to blame shows alone.
        for place in (~scores.isfinite()).nonzero().flatten().tolist():
            judge([SharedRow(texts[place][0], (texts[place][1],), (place,))])
        return Judgements(scores, attributes, gate, [dialogue.truncated for dialogue in dialogues])

    def _judge(
        self, rows: Sequence[SharedRow], dialogues: Sequence[Dialogue]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        pad = self.tokenizer.pad_token_id
        packed = pack(rows, pad if isinstance(pad, int) else 0)
        device = self.body.device
        inputs = {"tokens": packed.tokens, "positions": packed.positions}
        visible = packed.visible()
        body = self.body
        if visible is not None:
            inputs["visible"] = visible
            body = self.shared_body
        hidden = body.run({name: value.to(device) for name, value in inputs.items()})["states"]
        ends: list[tuple[int, int]] = []
        gates: list[tuple[int, int]] = []
        for number, row in enumerate(rows):
            end = len(row.opening)
            for place, answer in zip(row.places, row.continuations, strict=True):
                gates.append((number, self._gate(dialogues[place], end)))
                end += len(answer)
                ends.append((number, end - 1))
        unique = {spot: index for index, spot in enumerate(dict.fromkeys(gates))}
        last, prompts = (hidden[tuple(torch.tensor(list(spots)).T)] for spots in (ends, unique))
        owner = torch.tensor([unique[spot] for spot in gates], device=device)
        judged = self.heads.run({"last": last, "prompts": prompts, "owner": owner})
        return judged["scores"], judged["attributes"], judged["gate"]

    def _gate(self, dialogue: Dialogue, start: int) -> int:
        """Where in its row the gate reads an answer's prompt; the answer begins at `start`."""
        if self.gate_position == "prompt_end":
            return dialogue.gate
        whole = torch.tensor([[*dialogue.opening, *dialogue.answer]])
        found = int(find_gate(whole, gate_pattern_of(self.tokenizer)))
        return found if found < len(dialogue.opening) else found - len(dialogue.opening) + start


def _networks(model: TextRewardModel, longest: int) -> tuple[Network, Network, Network]:
    """The body for rows of one answer, for rows of several, and the heads."""
    batch, length = Dimension("batch", 1, 4, 64), Dimension("length", 8, min(longest, 512), min(longest, 4096))
    wide = Dimension("answers", 1, 16, 512)
    width = int(model.config.hidden_size)
    text = {
        "tokens": Input((batch, length), torch.int64, whole_numbers(0, int(model.config.vocab_size))),
        "positions": Input((batch, length), torch.int64, positions),
    }
    several = {**text, "visible": Input((batch, 1, length, length), torch.bool, causal)}
    states = {
        "last": Input((wide, width)),
        "prompts": Input((Dimension("prompts", 1, 16, 512), width)),
        "owner": Input((wide,), torch.int64, whole_numbers(0, 1)),
    }
    return (
        Network("armorm", model, _states, text, ("states",)),
        Network("armorm_shared", model, _states, several, ("states",)),
        Network(
            *("armorm_heads", model, _heads, states, ("scores", "attributes", "gate")),
            eager_only="one kernel computes it (kernels/reward_head)",
        ),
    )


def _states(
    model: TextRewardModel, tokens: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor | None = None
) -> torch.Tensor:
    return model.model(
        input_ids=tokens, position_ids=positions, attention_mask=visible, use_cache=False
    ).last_hidden_state


def _heads(
    model: TextRewardModel, last: torch.Tensor, prompts: torch.Tensor, owner: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return model.read_heads(last, prompts, owner)
