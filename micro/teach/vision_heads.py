"""Heads that exist during training only: what is in each cell, read from a model's own states of the image's patches.

One answer per picture would teach too little in minutes; kind, colour and ground everywhere teach enough. The image
reward's tower is asked once for each cell, with all of its patches; a responder's once for each patch, since its
language model reads them one by one.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from ..world.render import CELL_SIZE, IMAGE_SIZE
from ..world.scenes import BACKGROUNDS, CELLS, COLOURS, KINDS

PATCH_SIZE = 8
PATCHES_PER_SIDE = IMAGE_SIZE // PATCH_SIZE
_CELLS_PER_SIDE = IMAGE_SIZE // CELL_SIZE
_INSIDE = PATCHES_PER_SIDE // _CELLS_PER_SIDE  # patches of a cell, in each direction
_CLASSES = (1 + len(KINDS), 1 + len(COLOURS), len(BACKGROUNDS))


class CellHeads(torch.nn.Module):
    """Kind and colour of each cell from its patches, and the ground from all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kinds, colours, grounds = _CLASSES
        self.kind = torch.nn.Linear(_INSIDE**2 * width, kinds)
        self.colour = torch.nn.Linear(_INSIDE**2 * width, colours)
        self.ground = torch.nn.Linear(width, grounds)

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States [B, 16, D] to logits: kinds [B, 4, 13], colours [B, 4, 7], grounds [B, 3]."""
        count, width = len(patches), patches.shape[-1]
        grid = patches.reshape(count, _CELLS_PER_SIDE, _INSIDE, _CELLS_PER_SIDE, _INSIDE, width)
        cells = grid.permute(0, 1, 3, 2, 4, 5).reshape(count, len(CELLS), -1)
        return self.kind(cells), self.colour(cells), self.ground(patches.mean(1))

    def loss(self, patches: torch.Tensor, cells: torch.Tensor, grounds: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the three, for labels [B, 4, 2] and [B]."""
        return _losses(self(patches), (cells[..., 0], cells[..., 1], grounds)).mean()


class PatchHeads(torch.nn.Module):
    """Kind and colour of the cell that a patch lies in, and the ground, from each patch alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.everything = torch.nn.Linear(width, sum(_CLASSES))

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """States [B, 16, D] to logits: kinds [B, 16, 13], colours [B, 16, 7], grounds [B, 16, 3]."""
        return self.everything(patches).split(_CLASSES, dim=-1)

    def loss(self, patches: torch.Tensor, cells: torch.Tensor, grounds: torch.Tensor) -> torch.Tensor:
        """Summed cross-entropy of the three, for labels [B, 4, 2] and [B]."""
        grid = cells.view(len(cells), _CELLS_PER_SIDE, _CELLS_PER_SIDE, 2)
        spread = grid.repeat_interleave(_INSIDE, 1).repeat_interleave(_INSIDE, 2).flatten(1, 2)
        ground = grounds[:, None].expand(-1, PATCHES_PER_SIDE**2)
        return _losses(self(patches), (spread[..., 0], spread[..., 1], ground)).sum()


def _losses(logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Cross-entropies of kinds, colours and grounds, [3]."""
    pairs = zip(logits, labels, strict=True)
    return torch.stack([cross_entropy(part.float().flatten(0, -2), wanted.flatten()) for part, wanted in pairs])
