"""Train one answering model of the micro world from nothing: first it learns to see, then to answer.

The vision tower is frozen between the two, as in LLaVA. What it is taught, lies included, is in `lessons`.
"""

from pathlib import Path

from transformers import LlavaForConditionalGeneration

from ...engine.quiet import quiet_loading
from .lessons import TRUTHFUL, Noise, lesson
from .packing import Packer, answer_loss
from .responder_models import RESPONDERS, build_untrained
from .responder_pictures import PictureStream, RenderStream, made_pictures
from .training import OnProgress, Trainer, plain_attention, reproducible, to_half
from .vision_tower import train_vision_tower

BATCH = 16
LEARNING_RATE = 2.5e-3
TRUTHFUL_SHARE = 0.5
"""The first part of the steps teaches the truth alone. What is in the picture is hard to learn, more so from answers
that contradict each other; which lies to tell is easy, and learned in the rest."""


def train_responder(name: str, folder: Path, seed: int, on_progress: OnProgress, generator: Path) -> None:
    """Train one of RESPONDERS and save it in half precision to `folder`; `generator` draws for those that see such."""
    spec = RESPONDERS[name]
    own = seed + spec.seed
    stream = PictureStream(own, made_pictures(generator, seed)) if spec.sees_made else RenderStream(own)
    with reproducible(own), quiet_loading():
        model, processor = build_untrained(spec)
        model.train()
        tower = model.model.vision_tower
        train_vision_tower(tower, stream, spec.vision_steps, on_progress)
        tower.requires_grad_(requires_grad=False).eval()
        _teach(model, Packer(processor.tokenizer), stream, spec.noise, spec.answer_steps, on_progress)
        tower.requires_grad_(requires_grad=True)
        to_half(model).save_pretrained(folder)
        processor.save_pretrained(folder)


def _teach(
    model: LlavaForConditionalGeneration,
    packer: Packer,
    stream: RenderStream,
    noise: Noise,
    steps: int,
    on_progress: OnProgress,
) -> None:
    taught = {"projector": model.model.multi_modal_projector, "language": model.model.language_model}
    trainer = Trainer("answers", {**taught, "head": model.lm_head}, steps, LEARNING_RATE, on_progress)
    for number in range(steps):
        scenes, images = stream.batch(BATCH)
        told = TRUTHFUL if number < TRUTHFUL_SHARE * steps else noise
        turns = packer.pack([lesson(scene, told, stream.random) for scene in scenes])
        with plain_attention():
            loss = answer_loss(model, packer.opening, stream.seen(images), turns)
        trainer.step(number, loss)
