"""Train the micro image reward, of ImageReward's architecture, on preferences that the oracle gives.

The reward itself learns from pairs only, by Bradley-Terry, as ImageReward does. Beside it, heads that are thrown away
afterwards learn what is in the picture where a word of the prompt wants something, and whether that word is true;
without them the same minutes of training give a reward near chance. The image tower is taught first, what is in each
cell, and then left as it is: seeing is learnt in a minute, reading a prompt against what is seen takes ten times the
steps, and needs no pixels.
"""

from pathlib import Path

import torch
from transformers import BertTokenizer

from ...engine.quiet import quiet_loading
from ...engine.scorers.image_reward import PIXEL_DEVIATION, PIXEL_MEAN, ImageRewardConfig, ImageRewardModel
from ...engine.tiny.configs import blip_configs
from ..world.candidates import Candidates, draw_candidates, open_generator
from ..world.render import IMAGE_SIZE
from ..world.scenes import COLOURS, KINDS, sample_scenes
from ..world.truth import UNKNOWN, cell_labels, ground_labels
from .morphs import morph_candidates
from .preferences import GROUP, TEXT_LENGTH, PreferenceBatch, PreferenceStream, of_training_only, rendered_candidates
from .tokenizers import world_bert_tokenizer
from .training import OnProgress, Trainer, TrainingStep, plain_attention, reproducible, to_half
from .vision_heads import PATCH_SIZE, CellHeads

PROMPTS = 3000
MORPHED = 3000
RENDERED = 2000
VISION_STEPS = 1500
VISION_BATCH = 64
STEPS = 2600
GROUPS = 32
LEARNING_RATE = 1e-3
EXACT_WEIGHT = 3.0
_WIDTH = 128
_LAYERS = 3


def train_image_reward(folder: Path, seed: int, on_progress: OnProgress, generator: Path) -> None:
    """Draw with `generator` for training prompts, train on what the oracle prefers, and write to `folder`."""
    drawn = draw_training_candidates(generator, seed, on_progress)
    pool = drawn + morphed_training_candidates(generator, seed) + rendered_candidates(RENDERED, seed)
    train_on(pool, folder, seed, on_progress)


def draw_training_candidates(generator: Path, seed: int, on_progress: OnProgress) -> Candidates:
    """Four pictures for each of the training scenes."""
    model = open_generator(generator)
    with reproducible(seed + 2):
        scenes = sample_scenes("train", PROMPTS, seed + 77)
        candidates = draw_candidates(model, scenes, seed + 78)
    on_progress(TrainingStep("pictures to judge", PROMPTS, PROMPTS, 1 - float(candidates.exact.mean()), 0.0))
    return of_training_only(candidates)


def morphed_training_candidates(generator: Path, seed: int) -> Candidates:
    """Four mixtures with near misses for each of other training scenes, decoded by the generator's autoencoder."""
    model = open_generator(generator)
    with reproducible(seed + 2):
        return of_training_only(
            morph_candidates(model.autoencoder, sample_scenes("train", MORPHED, seed + 99), seed + 5)
        )


def train_on(candidates: Candidates, folder: Path, seed: int, on_progress: OnProgress) -> None:
    """Train on judged candidates and write model and tokenizer to `folder`."""
    tokenizer = world_bert_tokenizer()
    with reproducible(seed + 3):
        model = ImageRewardModel(reward_config(tokenizer))
        stream = PreferenceStream(candidates, seed)
        states = _train_vision(model, stream, on_progress)
        sizes = {"words": 1, "exact": 1, "kinds": 1 + len(KINDS), "colours": 1 + len(COLOURS)}
        heads = torch.nn.ModuleDict({name: torch.nn.Linear(_WIDTH, size) for name, size in sizes.items()})
        taught: dict[str, torch.nn.Module] = {"text": model.text_model, "head": model.head, "heads": heads}
        trainer = Trainer("image reward", taught, STEPS, LEARNING_RATE, on_progress, average=0.99)
        for number in range(STEPS):
            batch = stream.batch(GROUPS)
            with plain_attention():
                loss = _loss(model, heads, tokenizer, states, batch)
            trainer.step(number, loss)
        for name, module in (("text_model", "text"), ("head", "head")):
            setattr(model, name, trainer.averaged[module])
        _standardise(model, tokenizer, states, stream)
    with quiet_loading():
        to_half(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def reward_config(tokenizer: BertTokenizer, width: int = _WIDTH, layers: int = _LAYERS) -> ImageRewardConfig:
    """ImageReward's pair of configs at micro size, raw rewards not yet standardised."""
    vision, text = blip_configs(
        tokenizer, width, image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, widening=4, layers=layers
    )
    vision.initializer_range = 0.02  # the library's default is 1e-10, from which nothing is learnt
    text.hidden_dropout_prob = text.attention_probs_dropout_prob = 0.0
    return ImageRewardConfig(vision_config=vision, text_config=text, reward_mean=0.0, reward_deviation=1.0)


def scorer_pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 [B, 32, 32, 3] to what `ImageRewardScorer.preprocess` makes of them: float32 [B, 3, 32, 32]."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_DEVIATION))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def _train_vision(model: ImageRewardModel, stream: PreferenceStream, on_progress: OnProgress) -> torch.Tensor:
    """Teach the tower what is in each cell, and return what it makes of the stream's images: [N, 17, D]."""
    heads = CellHeads(_WIDTH)
    modules: dict[str, torch.nn.Module] = {"vision": model.vision_model, "heads": heads}
    trainer = Trainer("image tower of the reward", modules, VISION_STEPS, LEARNING_RATE, on_progress)
    cells, grounds = cell_labels(stream.shown), ground_labels(stream.shown)
    pixels = scorer_pixels(torch.from_numpy(stream.images))
    for number in range(VISION_STEPS):
        rows = torch.from_numpy(stream.random.integers(len(pixels), size=VISION_BATCH))
        with plain_attention():
            tokens = model.vision_model(pixels[rows]).last_hidden_state
            loss = heads.loss(tokens[:, 1:], cells[rows], grounds[rows])
        trainer.step(number, loss)
    with torch.no_grad():
        return torch.cat([model.vision_model(part).last_hidden_state for part in pixels.split(256)])


def _loss(
    model: ImageRewardModel,
    heads: torch.nn.ModuleDict,
    tokenizer: BertTokenizer,
    states: torch.Tensor,
    batch: PreferenceBatch,
) -> torch.Tensor:
    text = _forward(model, tokenizer, states, batch)
    rewards = model.head(text[:, 0]).view(-1, GROUP).float()
    margin = batch.alignment[:, :, None] - batch.alignment[:, None, :]
    preferred = margin > 0
    difference = torch.nn.functional.logsigmoid(rewards[:, :, None] - rewards[:, None, :])[preferred]
    # the reward will pick one of a group: what counts most is that a right picture is above a nearly right one
    right = (batch.alignment == 1)[:, :, None].expand_as(margin)[preferred]
    weight = torch.where(right, EXACT_WEIGHT, 1.0)
    preference = -(difference * weight).sum() / weight.sum().clamp(min=1)
    known = batch.words != UNKNOWN
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    words = binary(heads["words"](text).squeeze(-1).float()[known], batch.words[known])
    is_exact = (batch.alignment == 1).float().flatten()
    exact = binary(heads["exact"](text[:, 0]).squeeze(-1).float(), is_exact)
    # what a word looks at, said outright: whether it is true follows from that
    looked = sum(
        torch.nn.functional.cross_entropy(heads[name](text).float().flatten(0, 1), batch.seen[:, row].flatten())
        for row, name in enumerate(("kinds", "colours"))
    )
    return preference + 2 * words + exact + looked


def _forward(
    model: ImageRewardModel, tokenizer: BertTokenizer, states: torch.Tensor, batch: PreferenceBatch
) -> torch.Tensor:
    """Text tokens [B, 24, D] that have seen the images' states."""
    texts = tokenizer(batch.prompts, padding="max_length", max_length=TEXT_LENGTH, return_tensors="pt")
    return model.text_model(
        texts["input_ids"],
        attention_mask=texts["attention_mask"],
        encoder_hidden_states=states[batch.rows],
        is_decoder=False,
    ).last_hidden_state


def _standardise(
    model: ImageRewardModel, tokenizer: BertTokenizer, states: torch.Tensor, stream: PreferenceStream
) -> None:
    """Give rewards mean 0 and deviation 1 over training pictures, as the published reward has over its own."""
    model.eval()
    with torch.no_grad():
        raw = model.head(_forward(model, tokenizer, states, stream.batch(128))[:, 0])
    model.config.reward_mean = round(raw.mean().item(), 4)
    model.config.reward_deviation = round(raw.std().item(), 4)
