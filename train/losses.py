"""The menu of preference losses: every name that `train.loss` takes, and what it does with `label_smoothing`.

The names are those of TRL's trainer, which computes them all; kernels/preference computes some of them, under the
same names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

LOSSES: dict[str, Literal["takes none", "takes some", "needs some"]] = {
    "sigmoid": "takes none",  # DPO, arXiv 2305.18290
    "hinge": "takes none",  # SLiC, arXiv 2305.10425
    "ipo": "takes none",  # arXiv 2310.12036
    "exo_pair": "needs some",  # arXiv 2402.00856
    "nca_pair": "takes none",  # arXiv 2402.05369
    "robust": "takes some",  # arXiv 2403.00409
    "bco_pair": "takes none",  # arXiv 2404.04656
    "sppo_hard": "takes none",  # arXiv 2405.00675
    "aot": "takes some",  # arXiv 2406.05882
    "aot_unpaired": "takes some",
    "apo_zero": "takes none",  # arXiv 2408.06266
    "apo_down": "takes none",
    "discopop": "takes none",  # arXiv 2406.08414
    "sft": "takes none",  # the chosen answers' likelihood alone
    "sigmoid_norm": "takes none",  # DPO per token, arXiv 2411.15124
}
"""What each does with label smoothing, the assumed share of flipped preferences."""


def check_loss(name: str) -> str:
    """Return the name of a loss. Raises ValueError, with the menu, for any other."""
    if name not in LOSSES:
        raise ValueError(f"there is no loss {name!r}; choose one of {', '.join(LOSSES)}")
    return name


def check_smoothing(name: str, label_smoothing: float) -> None:
    """Raise ValueError where a loss would ignore its label smoothing, or cannot do without."""
    if label_smoothing == 0 and LOSSES[name] == "needs some":
        raise ValueError(f"loss {name} needs label_smoothing above 0; its authors use 0.001")
    if label_smoothing and LOSSES[name] == "takes none":
        able = ", ".join(loss for loss, smoothing in LOSSES.items() if smoothing != "takes none")
        raise ValueError(
            f"loss {name} would ignore label_smoothing={label_smoothing:g}; set it to 0, or set loss to one of {able}"
        )


Loss = Annotated[str, AfterValidator(check_loss)]
