"""Train the text reward of the micro world from nothing: ArmoRM's architecture, 19 objectives and the gate.

Three lessons at once: each answer's 19 attributes; of two answers to one question the better one (through the gate,
Bradley-Terry); and word by word what the prompt says about it. Without the last, one number per answer would have to
teach reading, and minutes would not do.
"""

from itertools import combinations
from pathlib import Path

import torch
from torch.nn import functional
from transformers import DynamicCache, LlamaConfig, PreTrainedTokenizerFast

from ...engine.quiet import quiet_loading
from ...engine.scorers.text_reward import ATTRIBUTES, TextRewardModel, gate_pattern_of
from .packing import spread_cache
from .reward_lessons import ANSWERS, KNOWN_CLASSES, UNKNOWN, DialogueMaker, Dialogues
from .tokenizers import CONTEXT, text_reward_tokenizer
from .training import OnProgress, SceneStream, Trainer, plain_attention, reproducible, to_half

STEPS = 1400
CONTEXTS = 32
LEARNING_RATE = 2.5e-3
_WIDTH, _LAYERS, _HEADS = 96, 4, 6
_SEED = 606
_SCORE_UNIT = 0.1
"""A difference of this much in score is one unit of preference: scores lie between 0 and 1."""
_LEAST_DIFFERENCE = 0.02
"""Answers whose quality differs less are not ranked."""
_ATTRIBUTE_WEIGHT = 10.0


def train_text_reward(folder: Path, seed: int, on_progress: OnProgress) -> None:
    """Train it and save it in half precision to `folder`."""
    with reproducible(seed + _SEED), quiet_loading():
        tokenizer = text_reward_tokenizer()
        model = TextRewardModel(_config(tokenizer)).train()
        reader = torch.nn.Linear(_WIDTH, sum(KNOWN_CLASSES))
        trainer = Trainer("text reward", {"model": model, "reader": reader}, STEPS, LEARNING_RATE, on_progress)
        stream, maker = SceneStream(seed + _SEED), DialogueMaker(tokenizer)
        for number in range(STEPS):
            dialogues = maker.make(stream.scenes_of(CONTEXTS), stream.random)
            with plain_attention():
                loss = _loss(model, reader, dialogues, maker.gate_offset)
            trainer.step(number, loss)
        to_half(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _loss(model: TextRewardModel, reader: torch.nn.Linear, dialogues: Dialogues, gate_offset: int) -> torch.Tensor:
    prompts, answers = dialogues.prompts, dialogues.answers
    # Every prompt is read once, its answers go on from there.
    asked = model.model(input_ids=prompts.input_ids, attention_mask=prompts.mask, use_cache=True)
    assert isinstance(asked.past_key_values, DynamicCache)
    owner = torch.arange(len(prompts.input_ids)).repeat_interleave(ANSWERS)
    answered = model.model(
        input_ids=answers.input_ids,
        attention_mask=torch.cat([prompts.mask[owner], answers.mask], dim=1),
        past_key_values=spread_cache(asked.past_key_values, owner),
    )
    ends = answered.last_hidden_state[torch.arange(len(owner)), answers.mask.sum(1) - 1]
    rewards = model.regression_layer(ends).float()
    gate = model.gating(asked.last_hidden_state[:, -gate_offset]).float()[owner]
    scores = (gate * (rewards @ model.reward_transform_matrix)).sum(-1)
    reading = _reading_loss(reader, asked.last_hidden_state, prompts.known)
    reading = reading + _reading_loss(reader, answered.last_hidden_state, answers.known)
    speaking = _speaking_loss(model, answered.last_hidden_state[::ANSWERS], answers.input_ids[::ANSWERS])
    right_attributes = functional.mse_loss(rewards, dialogues.attributes)
    return speaking + reading + _ranking_loss(scores, dialogues.quality) + _ATTRIBUTE_WEIGHT * right_attributes


def _reading_loss(reader: torch.nn.Linear, states: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    parts = reader(states).float().split(KNOWN_CLASSES, dim=-1)
    losses = [
        functional.cross_entropy(part.flatten(0, 1), known[..., number].flatten(), ignore_index=UNKNOWN)
        for number, part in enumerate(parts)
        if bool((known[..., number] != UNKNOWN).any())
    ]
    return torch.stack(losses).sum()


def _speaking_loss(model: TextRewardModel, states: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Saying the true answers oneself: what wakes the copying from prompt to answer that checking is made of."""
    logits = functional.linear(states[:, :-1], model.model.embed_tokens.weight).float()
    pad = model.config.pad_token_id
    assert pad is not None
    return functional.cross_entropy(logits.flatten(0, 1), said[:, 1:].flatten(), ignore_index=pad)


def _ranking_loss(scores: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    scores, quality = scores.view(-1, ANSWERS), quality.view(-1, ANSWERS)
    losses = []
    for one, other in combinations(range(ANSWERS), 2):
        ahead = quality[:, one] - quality[:, other]
        clear = ahead.abs() > _LEAST_DIFFERENCE
        margin = (scores[:, one] - scores[:, other]) / _SCORE_UNIT * ahead.sign()
        losses.append(functional.softplus(-margin[clear]))
    return torch.cat(losses).mean()


def _config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    vocabulary = tokenizer.get_vocab()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        bos_token_id=vocabulary["<|begin_of_text|>"],
        eos_token_id=vocabulary["<|eot_id|>"],
        pad_token_id=vocabulary["<|pad|>"],
        tie_word_embeddings=False,
        # 1 / sqrt(width): with the usual 0.02 attention starts so even that it takes hundreds of steps to wake up.
        initializer_range=_WIDTH**-0.5,
    )
    config.num_objectives = len(ATTRIBUTES)
    config.gating_temperature = 1
    config.gating_hidden_dim = 64
    config.gating_n_hidden = 2
    config.gate_pattern = gate_pattern_of(tokenizer)
    return config
