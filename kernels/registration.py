"""Operations registered with torch, so that a compiled graph stays whole around them.

To the dispatcher such an operation is one call. Whoever counts or watches what is done inside (memory in benchmarks,
waiting in tests) looks its body up here.
"""

from collections.abc import Callable
from typing import Any

import torch

BODIES: dict[Any, Callable[..., Any]] = {}
"""By what a dispatch mode is handed."""


def register(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function of tensors that returns fresh tensors and changes none: it becomes `prefmill::name`."""

    def wrap(body: Callable[..., Any]) -> Any:
        made = torch.library.custom_op(f"prefmill::{name}", body, mutates_args=())
        BODIES[getattr(torch.ops.prefmill, name).default] = body
        return made

    return wrap
