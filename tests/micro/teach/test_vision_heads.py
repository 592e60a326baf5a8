"""Heads of the vision lessons: labels of the right places, and no more than that."""

import pytest
import torch
from prefmill.micro.teach.vision_heads import CellHeads, PatchHeads
from prefmill.micro.world.scenes import BACKGROUNDS, COLOURS, KINDS, Item, Scene
from prefmill.micro.world.truth import cell_labels, ground_labels

SCENE = Scene((Item(1, "boat", "blue"), Item(2, "cup", "red")), "gray")
LABELS = (cell_labels([SCENE]), ground_labels([SCENE]))


def logits_of(patch_label) -> torch.Tensor:
    """Very sure logits [1, 16, 23] of kind, colour and ground for each of 4 x 4 patches."""
    logits = torch.zeros(1, 16, 1 + len(KINDS) + 1 + len(COLOURS) + len(BACKGROUNDS))
    for patch in range(16):
        kind, colour = patch_label(2 * (patch // 4 // 2) + patch % 4 // 2)
        logits[0, patch, kind] = logits[0, patch, 1 + len(KINDS) + colour] = 30
        logits[0, patch, -len(BACKGROUNDS) + BACKGROUNDS.index("gray")] = 30
    return logits


def in_cell(cell: int) -> tuple[int, int]:
    item = next((item for item in SCENE.items if item.cell == cell), None)
    return (1 + KINDS.index(item.kind), 1 + COLOURS.index(item.colour)) if item else (0, 0)


def test_every_patch_is_asked_for_what_is_in_its_cell():
    heads = PatchHeads(23)
    heads.everything.weight.data, heads.everything.bias.data = torch.eye(23), torch.zeros(23)
    assert heads.loss(logits_of(in_cell), *LABELS).item() < 1e-6
    assert heads.loss(logits_of(lambda cell: in_cell(3 - cell)), *LABELS).item() > 10


def test_a_cell_is_read_from_its_own_patches():
    torch.manual_seed(0)
    heads = CellHeads(8)
    patches = torch.randn(2, 16, 8)
    kinds, colours, grounds = heads(patches)
    assert (kinds.shape, colours.shape, grounds.shape) == ((2, 4, 13), (2, 4, 7), (2, 3))
    changed = patches.clone()
    changed[:, [2, 3, 6, 7]] += 1  # the four patches at the top right
    differs = (heads(changed)[0] != kinds).any(-1).any(0).tolist()
    assert differs == [False, True, False, False]
    assert heads.loss(patches, cell_labels([SCENE] * 2), ground_labels([SCENE] * 2)).item() == pytest.approx(1.9, abs=1)
