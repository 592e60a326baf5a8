"""A pair's tokens in one row are those of its two rows, in the places where the two rows have them."""

from dataclasses import replace

import pytest
import torch
from prefmill.base.errors import PrefmillError
from prefmill.train.data import RunImages, load_pairs, preference_dataset
from prefmill.train.preference.layout import PairTokens, lay_out, split


@pytest.fixture
def pairs(run_folder):
    return load_pairs(run_folder)


def two_rows(collator, run_folder, pair, system_prompt=None):
    """The tokens of the chosen and the rejected row as the usual collator makes them, and which are counted."""
    batch = collator([preference_dataset([pair], RunImages(run_folder), system_prompt)[0]])
    for row in range(2):
        real = batch["attention_mask"][row].bool()
        yield batch["input_ids"][row][real].tolist(), batch["completion_mask"][row][real].tolist()


@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
def test_tokens_are_those_of_two_rows(collator, run_folder, pairs, system_prompt):
    sizes = RunImages(run_folder).sizes()
    odd = replace(pairs[0], rejected="", chosen="A </s> inside.")
    for pair in [*pairs, odd]:
        tokens = split(collator, pair, sizes[pair.image_id], system_prompt)
        chosen, rejected = two_rows(collator, run_folder, pair, system_prompt)
        for (ids, counted), answer, skipped in (
            (chosen, tokens.chosen, tokens.chosen_skipped),
            (rejected, tokens.rejected, tokens.rejected_skipped),
        ):
            assert tokens.prefix + answer == ids
            assert counted == [0] * (len(tokens.prefix) + skipped) + [1] * (len(answer) - skipped)


def test_a_prompt_whose_end_joins_one_answer_is_shared_up_to_there(collator, run_folder, pairs, monkeypatch):
    """A tokenizer that joins the prompt's last character with a letter, but not with a digit."""
    original = collator.tokenize

    def joined(prompt, answer):
        found = original(prompt, answer)
        return replace(found, prompt_length=found.prompt_length - 1) if answer[0]["content"] == "joins" else found

    monkeypatch.setattr(collator, "tokenize", joined)
    pair = replace(pairs[0], chosen="joins", rejected="A dog.")
    size = RunImages(run_folder).sizes()[pair.image_id]
    tokens = split(collator, pair, size, None)
    assert (tokens.chosen_skipped, tokens.rejected_skipped) == (0, 1)
    assert (
        tokens.chosen[0]
        == tokens.rejected[0]
        == original([{"role": "user", "content": pair.instruction}], [{"role": "assistant", "content": "A dog."}]).ids[
            len(tokens.prefix) - 15
        ]
    )  # 16 image tokens were one


def test_an_answer_without_a_token_is_named(collator, run_folder, pairs, monkeypatch):
    original = collator.tokenize
    monkeypatch.setattr(collator, "tokenize", lambda *args: replace(original(*args), prompt_length=10**6))
    with pytest.raises(PrefmillError, match=f"the chosen answer of pair {pairs[0].id} has no token"):
        split(collator, pairs[0], (56, 56), None)


@pytest.mark.parametrize("packed", [True, False])
def test_places_targets_and_segments(packed):
    """Read off by hand: two pairs, [1 2 | 3 4 | 5] and [6 | 7 8 | 9], the second's chosen with one skipped token."""
    pairs = [PairTokens([1, 2], [3, 4], [5]), PairTokens([6], [7, 8], [9], chosen_skipped=1)]
    layout = lay_out(pairs, 0, packed=packed)
    if packed:
        assert layout.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
        assert layout.positions.tolist() == [[0, 1, 2, 3, 2, 0, 1, 2, 1]]
        assert layout.answer_rows.tolist() == [1, 2, 6, 1, 5]
        assert layout.spans == (((2, 2, 1), (1, 2, 1)),)
    else:
        assert layout.input_ids.tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]
        assert layout.positions.tolist() == [[0, 1, 2, 3, 2], [0, 1, 2, 1, 0]]
        assert layout.answer_rows.tolist() == [1, 2, 6, 1, 5]
        assert layout.spans == (((2, 2, 1),), ((1, 2, 1),))
    assert layout.targets.tolist() == [3, 4, 8, 5, 9]
    assert layout.segments.tolist() == [0, 0, 1, 2, 3]
    assert (layout.chosen_tokens, layout.tokens) == (3, 9)


@pytest.mark.parametrize("packed", [True, False])
def test_mask_follows_its_definition(tokens, packed):
    """Token by token: same pair, not later, and not from the chosen answer into the rejected one."""
    layout = lay_out(tokens, 0, packed=packed)
    rows, length = layout.input_ids.shape
    marks = torch.full((rows, length, 2), -1)
    for row, pairs in enumerate(layout.spans):
        at = 0
        for number, spans in enumerate(pairs):
            for part, count in enumerate(spans):
                marks[row, at : at + count] = torch.tensor([number, part])
                at += count
    mask = layout.mask()
    assert mask.shape == (rows, 1, length, length)
    for row in range(rows):
        for i in range(length):
            for j in range(length):
                (pair, part), (other, seen) = marks[row, i].tolist(), marks[row, j].tolist()
                sees = pair == other and pair >= 0 and j <= i and seen in (0, part)
                assert mask[row, 0, i, j] == (sees or i == j), (row, i, j)
