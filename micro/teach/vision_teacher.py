"""Heads that exist during training only: what is in each cell, read from a model's own map of the image."""

import torch

from ..world.render import CELL_SIZE, IMAGE_SIZE
from ..world.scenes import BACKGROUNDS, CELLS, COLOURS, KINDS

PATCH_SIZE = 8


class CellHeads(torch.nn.Module):
    """Kind and colour of each cell from the part of a map that lies there, and the ground from the whole map.

    The map has `side` x `side` places of `width` numbers.
    """

    def __init__(self, width: int, side: int = IMAGE_SIZE // PATCH_SIZE) -> None:
        super().__init__()
        self.inside = side * CELL_SIZE // IMAGE_SIZE  # places of a cell, in each direction
        self.kind = torch.nn.Linear(self.inside**2 * width, 1 + len(KINDS))
        self.colour = torch.nn.Linear(self.inside**2 * width, 1 + len(COLOURS))
        self.ground = torch.nn.Linear(width, len(BACKGROUNDS))

    def forward(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A map [B, side * side, D] to logits: kinds [B, 4, 13], colours [B, 4, 7], grounds [B, 3]."""
        count, width = len(places), places.shape[-1]
        rows = IMAGE_SIZE // CELL_SIZE
        grid = places.reshape(count, rows, self.inside, rows, self.inside, width)
        cells = grid.permute(0, 1, 3, 2, 4, 5).reshape(count, len(CELLS), -1)
        return self.kind(cells), self.colour(cells), self.ground(places.mean(1))

    def loss(self, places: torch.Tensor, cells: torch.Tensor, grounds: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the three, for labels [B, 4, 2] and [B]."""
        kinds, colours, ground = (logits.float() for logits in self(places))
        cross_entropy = torch.nn.functional.cross_entropy
        return (
            cross_entropy(kinds.flatten(0, 1), cells[..., 0].flatten())
            + cross_entropy(colours.flatten(0, 1), cells[..., 1].flatten())
            + cross_entropy(ground, grounds)
        ) / 3
