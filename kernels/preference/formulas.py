"""The formulas of preference losses in plain torch, on sums per segment, and their derivatives written out.

With c, r, k the differences of a pair's summed log-probabilities to the reference, n its lengths, D = c - r, N the
chosen tokens of all B pairs, and s the logistic function:

    sigmoid       -(1-e) log s(bD) - e log s(-bD)              DPO, arXiv 2305.18290; e > 0: its conservative form
    robust        (-(1-e) log s(bD) + e log s(-bD)) / (1-2e)   arXiv 2403.00409
    exo_pair      s(bD) log(s(bD)/(1-e)) + s(-bD) log(s(-bD)/e)     arXiv 2402.00856, e > 0
    hinge         max(0, 1 - bD)                               SLiC, arXiv 2305.10425
    ipo           (c/n_c - r/n_r - 1/(2b))^2                   arXiv 2310.12036, per token as its authors advise
    sigmoid_norm  -log s(b (c/n_c - r/n_r))                    arXiv 2411.15124
    nca_pair      -log s(bc) - log s(-bc)/2 - log s(-br)/2     arXiv 2402.05369
    bco_pair      -log s(bc) - log s(-br)                      arXiv 2404.04656, without its running mean, as TRL has it
    sppo_hard     (c - 1/(2b))^2 + (r + 1/(2b))^2              arXiv 2405.00675, a win being certain
    apo_zero      1 - s(bc) + s(br)                            arXiv 2408.06266
    apo_down      s(bc) + 1 - s(bD)
    discopop      -(1-m) log s(bD) + m exp(-bD)                arXiv 2406.08414, m = s(bD/0.05)
    sft           -(B/N) times the chosen answer's sum         its mean over pairs is that over all chosen tokens
  plus, for images (mDPO, arXiv 2406.11839):
    image         w_i * -log s(b (c - k))
    anchor        w_a * -log s(bc - delta)

The derivatives by c, r and k are constants per segment.
"""

import math
from typing import NamedTuple, Self

import torch
from torch import sigmoid
from torch.nn.functional import logsigmoid, relu

LOSSES = (
    *("sigmoid", "robust", "exo_pair", "hinge", "ipo", "sigmoid_norm", "nca_pair", "bco_pair", "sppo_hard"),
    *("apo_zero", "apo_down", "discopop", "sft"),
)
"""In the order in which the kernel counts them."""
SMOOTHED = ("sigmoid", "robust", "exo_pair")
TAU = 0.05
"""Of discopop: its authors' temperature, and TRL's default."""


class Terms(NamedTuple):
    """Which loss, and its numbers."""

    loss: str
    beta: float
    label_smoothing: float
    image_weight: float
    anchor_weight: float
    anchor_margin: float


class Answers(NamedTuple):
    """What a loss looks at: c, r, n_c and n_r of the module per pair [B], k where there is one, and chosen sums."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    corrupted: torch.Tensor
    chosen_sums: torch.Tensor

    @classmethod
    def of(cls, sums: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor, pairs: int) -> Self:
        """From sums of the policy and the reference, and numbers of tokens, per segment [S]."""
        ratios = sums - reference.to(sums.dtype)
        chosen, rejected, corrupted = ratios.tensor_split((pairs, 2 * pairs))
        return cls(chosen, rejected, tokens[:pairs], tokens[pairs : 2 * pairs], corrupted, sums[:pairs])

    @property
    def mean_delta(self) -> torch.Tensor:
        """c/n_c - r/n_r."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens

    @property
    def chosen_share(self) -> torch.Tensor:
        """B/N."""
        return len(self.chosen) / self.chosen_tokens.sum().to(self.chosen.dtype)


def losses(own: Answers, terms: Terms) -> torch.Tensor:
    """Loss [B] of every pair."""
    b, e, c, r = terms.beta, terms.label_smoothing, own.chosen, own.rejected
    x = b * (c - r)
    kept, flipped = logsigmoid(x), logsigmoid(-x)
    formulas = {
        "sigmoid": lambda: -(1 - e) * kept - e * flipped,
        "robust": lambda: (e * flipped - (1 - e) * kept) / (1 - 2 * e),
        "exo_pair": lambda: sigmoid(x) * (kept - math.log1p(-e)) + sigmoid(-x) * (flipped - math.log(e)),
        "hinge": lambda: relu(1 - x),
        "ipo": lambda: torch.square(own.mean_delta - 0.5 / b),
        "sigmoid_norm": lambda: -logsigmoid(b * own.mean_delta),
        "nca_pair": lambda: -logsigmoid(b * c) - 0.5 * logsigmoid(-b * c) - 0.5 * logsigmoid(-b * r),
        "bco_pair": lambda: -logsigmoid(b * c) - logsigmoid(-b * r),
        "sppo_hard": lambda: torch.square(c - 0.5 / b) + torch.square(r + 0.5 / b),
        "apo_zero": lambda: sigmoid(-b * c) + sigmoid(b * r),
        "apo_down": lambda: sigmoid(b * c) + sigmoid(-x),
        # the exponents joined: exp(-x) alone overflows where m is 0
        "discopop": lambda: torch.exp(logsigmoid(x / TAU) - x) - sigmoid(-x / TAU) * kept,
        "sft": lambda: -own.chosen_sums * own.chosen_share,
    }
    value = formulas[terms.loss]()
    if terms.image_weight:
        value = value - terms.image_weight * logsigmoid(b * (c - own.corrupted))
    if terms.anchor_weight:
        value = value - terms.anchor_weight * logsigmoid(b * c - terms.anchor_margin)
    return value


def slopes(own: Answers, terms: Terms) -> torch.Tensor:
    """Derivatives [S] of the pairs' losses by their segments' sums."""
    b, e, c, r = terms.beta, terms.label_smoothing, own.chosen, own.rejected
    x, up, down = b * (c - r), sigmoid(b * (c - r)), sigmoid(b * (r - c))
    by_delta = {  # by x
        "sigmoid": lambda: e * up - (1 - e) * down,
        "robust": lambda: ((e - 1) * down - e * up) / (1 - 2 * e),
        "exo_pair": lambda: up * down * (x - math.log1p(-e) + math.log(e)),
        "hinge": lambda: -(x < 1).to(x.dtype),
        "discopop": lambda: _discopop_slope(x),
    }
    by_mean = {"ipo": lambda: 2 * own.mean_delta - 1 / b, "sigmoid_norm": lambda: -b * sigmoid(-b * own.mean_delta)}
    by_both = {
        "nca_pair": lambda: (b * (0.5 * sigmoid(b * c) - sigmoid(-b * c)), 0.5 * b * sigmoid(b * r)),
        "bco_pair": lambda: (-b * sigmoid(-b * c), b * sigmoid(b * r)),
        "sppo_hard": lambda: (2 * c - 1 / b, 2 * r + 1 / b),
        "apo_zero": lambda: (-b * sigmoid(b * c) * sigmoid(-b * c), b * sigmoid(b * r) * sigmoid(-b * r)),
        "apo_down": lambda: (b * (sigmoid(b * c) * sigmoid(-b * c) - up * down), b * up * down),
        "sft": lambda: (-own.chosen_share.expand_as(c), torch.zeros_like(r)),
    }
    if terms.loss in by_delta:
        slope = b * by_delta[terms.loss]()
        by_c, by_r = slope, -slope
    elif terms.loss in by_mean:
        slope = by_mean[terms.loss]()
        by_c, by_r = slope / own.chosen_tokens, -slope / own.rejected_tokens
    else:
        by_c, by_r = by_both[terms.loss]()
    by_k = own.corrupted  # empty where there are none
    if terms.image_weight:
        by_k = terms.image_weight * b * sigmoid(b * (own.corrupted - c))
        by_c = by_c - by_k
    if terms.anchor_weight:
        by_c = by_c - terms.anchor_weight * b * sigmoid(terms.anchor_margin - b * c)
    return torch.cat([by_c, by_r, by_k])


def _discopop_slope(x: torch.Tensor) -> torch.Tensor:
    mixed = sigmoid(x / TAU) * sigmoid(-x / TAU) / TAU  # dm/dx
    burst = torch.exp(logsigmoid(x / TAU) - x)  # m exp(-x)
    # mixed exp(-x) as burst (1 - m) / tau: exp(-x) alone overflows
    return burst * (sigmoid(-x / TAU) / TAU - 1) + mixed * logsigmoid(x) - sigmoid(-x / TAU) * sigmoid(-x)
