"""The methods by name. A new one is a file with a `Method`, its settings, and a line here."""

from __future__ import annotations

from pathlib import Path

from .method import Method, TuningTask


def make_method(task: TuningTask, run_folder: Path) -> Method:
    """The method that the settings name."""
    if task.config.method == "refl":
        from .refl import Refl

        return Refl(task)
    if task.config.method == "ppo":
        from .ppo.method import Ppo

        return Ppo(task)
    from .flow_dpo import FlowDpo
    from .preferences import StoredImages

    return FlowDpo(task, StoredImages(run_folder) if task.config.learns_from_preferences else None)
