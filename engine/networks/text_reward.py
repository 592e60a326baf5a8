"""The ArmoRM network (arXiv 2406.12845), natively and with the key names of the published checkpoint.

The published model comes as remote code. Two of its traps are closed here: its gate is found by searching for a
token pattern, which an answer that quotes the pattern moves, so the position can be passed in; and attention needs
no mask, so a row does not change with the padding that its neighbours cause.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel, PreTrainedTokenizerBase

from ...base.errors import PrefmillError
from ...kernels.reward_head import GatedHead, gated_rewards

OFFICIAL_GATE_PATTERN = (128009, 128006, 78191, 128007, 271)
GATE_TEXT = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


class GatingNetwork(torch.nn.Module):
    """Prompt state to attribute weights: linear layers with ReLU between them, then a tempered softmax."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.temperature = float(config.gating_temperature)
        hidden = [config.gating_hidden_dim] * config.gating_n_hidden
        widths = [config.hidden_size, *hidden, config.num_objectives]
        self.logit_scale = torch.nn.Parameter(torch.ones(1))
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, following) for width, following in pairwise(widths))

    def forward(self, prompt: torch.Tensor) -> torch.Tensor:
        """Prompt states [B, D] to weights [B, 19]."""
        return self.logit_scale * torch.softmax(self.last(self.hidden(prompt)) / self.temperature, dim=-1)

    def hidden(self, prompt: torch.Tensor) -> torch.Tensor:
        """Prompt states [B, D] to what the last layer reads."""
        for layer in self.layers[:-1]:
            prompt = torch.relu(layer(prompt))
        return prompt

    @property
    def last(self) -> torch.nn.Linear:
        """The layer whose output the softmax takes."""
        return cast(torch.nn.Linear, self.layers[-1])


class TextRewardModel(LlamaPreTrainedModel):
    """Llama body, attribute regression, and the gate. Config fields and keys are the published checkpoint's.

    The config may name its own `gate_pattern`, for tokenizers other than Llama-3's.
    """

    config: LlamaConfig
    config_class = LlamaConfig

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model = LlamaModel(config)
        self.regression_layer = torch.nn.Linear(config.hidden_size, config.num_objectives, bias=False)
        self.reward_transform_matrix = torch.nn.Parameter(torch.eye(config.num_objectives), requires_grad=False)
        self.gating = GatingNetwork(config)
        self.post_init()

    def forward(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, gate_positions: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Right-padded tokens [B, T] with `lengths` [B] to scores [B], rewards [B, 19] and gate [B, 19].

        `gate_positions` [B] are where the prompts' last turn ends; without them, the last occurrence of the gate
        pattern, as the reference does. Raises PrefmillError where a row has no such pattern.
        """
        if gate_positions is None:
            pattern = getattr(self.config, "gate_pattern", None) or OFFICIAL_GATE_PATTERN
            gate_positions = find_gate(input_ids, pattern)
        # Without a mask: attention is causal and padding stands on the right, so no kept position can see it.
        hidden = self.model(input_ids=input_ids, use_cache=False).last_hidden_state
        rows = torch.arange(len(input_ids), device=hidden.device)
        last = hidden[rows, lengths.to(hidden.device) - 1]
        return self.read_heads(last, hidden[rows, gate_positions.to(hidden.device)], rows)

    def read_heads(
        self, last: torch.Tensor, prompts: torch.Tensor, prompt_of: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Answers' last states [B, D] and prompts' states [P, D] to scores [B], rewards [B, 19] and gate [B, 19].

        `prompt_of` [B] is each answer's prompt, so that the gate is computed once for all answers to a prompt.
        """
        precise, gating = self.regression_layer.weight.dtype, self.gating
        if torch.is_grad_enabled():  # the kernel has no backward
            rewards, gate = self.regression_layer(last.to(precise)), gating(prompts.to(precise))[prompt_of]
            return (gate * (rewards @ self.reward_transform_matrix)).sum(-1), rewards, gate
        head = GatedHead(
            self.regression_layer.weight,
            self.reward_transform_matrix,
            gating.last.weight,
            gating.last.bias,
            gating.logit_scale,
            gating.temperature,
        )
        scores, rewards, gate = gated_rewards(last.to(precise), gating.hidden(prompts.to(precise)), prompt_of, head)
        return scores, rewards, gate

    def keep_heads_precise(self) -> None:
        """Hold the heads in float32: they are tiny, and 19 products add up in them."""
        self.regression_layer.float()
        self.gating.float()
        self.reward_transform_matrix.data = self.reward_transform_matrix.data.float()


def find_gate(input_ids: torch.Tensor, pattern: Sequence[int]) -> torch.Tensor:
    """Where the last occurrence of `pattern` begins in each row of tokens [B, T], as [B].

    Raises PrefmillError where a row has none.
    """
    wanted = torch.tensor(list(pattern), device=input_ids.device)
    if input_ids.shape[1] < len(wanted):
        raise PrefmillError(f"{input_ids.shape[1]} tokens hold no prompt end.", "render rows with the chat template")
    found = (input_ids.unfold(1, len(wanted), 1) == wanted).all(-1)
    if not bool(found.any(1).all()):
        raise PrefmillError(
            f"the end of the prompt, tokens {list(pattern)}, is missing in a row.", "render rows with the chat template"
        )
    return found.shape[1] - 1 - found.flip(1).int().argmax(1)


def gate_pattern_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that a Llama-3 chat template writes where a prompt ends."""
    return tokenizer(GATE_TEXT, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]
