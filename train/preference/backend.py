"""`backend: shared`: the training of TRL's DPOTrainer, to the last rounding, in a fraction of its work."""

from __future__ import annotations

from pathlib import Path

from ...base.errors import PrefmillError
from ...engine.checkpoint import read_config
from ..events import say
from ..job import TrainingJob
from ..settings import DPOTrainingConfig
from .objective import SUPPORTED
from .scorer import FAMILIES


def train(job: TrainingJob) -> None:
    """Train to the last step; with TRL, and a word about it, what is not supported here."""
    if job.resume and job.resume.is_last:
        return
    reason = unsupported(job.config, job.model_folder)
    if reason and job.config.shared_alone:
        raise PrefmillError(
            f"{' and '.join(job.config.shared_alone)} is for backend=shared alone, and {reason}",
            "use a model and a loss that backend=shared knows, or leave these settings out",
        )
    if reason:
        from ..trl_backend import train as train_with_trl

        text = f"trained by TRL instead of backend=shared: {reason}"
        say(job.output, text)
        train_with_trl(job, [text])
        return
    from .trainer import build_trainer

    build_trainer(job).train(resume_from_checkpoint=str(job.resume.path) if job.resume else None)


def unsupported(config: DPOTrainingConfig, model_folder: Path) -> str | None:
    """Return why a training cannot be done here, or None."""
    if config.loss not in SUPPORTED:
        return f"it has no loss {config.loss} (it has {', '.join(sorted(SUPPORTED))})"
    family = read_config(model_folder).get("model_type")
    if family not in FAMILIES:
        return f"it does not know {family} models (it knows {', '.join(FAMILIES)})"
    return None
