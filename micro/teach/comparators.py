"""Train the scorers that the image reward is compared with, as their originals are: on clean pictures and captions.

Neither sees a generated picture or a preference. CLIP learns to find each picture's caption in its batch; BLIP does
the same, and then tells true captions from the most similar wrong ones.
"""

from pathlib import Path

import torch
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
)

from ...engine.quiet import quiet_loading
from ...engine.scorers.image_reward import PIXEL_DEVIATION, PIXEL_MEAN
from ...engine.tiny.configs import clip_text_config
from ..world.render import IMAGE_SIZE
from .image_reward import reward_config, scorer_pixels
from .tokenizers import world_bert_tokenizer, world_clip_tokenizer
from .training import OnProgress, SceneStream, Trainer, plain_attention, reproducible, to_half
from .vision_heads import PATCH_SIZE

CLIP_STEPS = 500
CLIP_BATCH = 128
MATCHING_STEPS = 600
MATCHING_BATCH = 48
LEARNING_RATE = 1.5e-3
_WIDTH = 96
_LAYERS = 3
_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


def train_clip(folder: Path, seed: int, on_progress: OnProgress) -> None:
    """Train a CLIP by contrast within batches of clean pictures and their captions, and write it to `folder`."""
    tokenizer = world_clip_tokenizer()
    with reproducible(seed + 20):
        text = clip_text_config(tokenizer, _WIDTH, widening=4, layers=_LAYERS)
        vision = CLIPVisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=4 * _WIDTH,
            num_hidden_layers=_LAYERS,
            num_attention_heads=4,
            projection_dim=_WIDTH,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
        )
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=_WIDTH))
        trainer = Trainer("CLIP", {"model": model}, CLIP_STEPS, LEARNING_RATE, on_progress, average=0.99)
        stream = SceneStream(seed + 20)
        for number in range(CLIP_STEPS):
            scenes, images = stream.batch(CLIP_BATCH)
            tokens = tokenizer(stream.captions(scenes), padding=True, return_tensors="pt")
            with plain_attention():
                loss = model(pixel_values=_pixels(images), **tokens, return_loss=True).loss
            trainer.step(number, loss)
    averaged = trainer.averaged["model"]
    assert isinstance(averaged, CLIPModel)
    processor = CLIPProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=_SQUARE),
        tokenizer=tokenizer,
    )
    with quiet_loading():
        to_half(averaged).save_pretrained(folder)
        processor.save_pretrained(folder)


def train_matching(folder: Path, seed: int, on_progress: OnProgress) -> None:
    """Train a BLIP with its contrastive and its matching loss on clean pictures, and write it to `folder`."""
    tokenizer = world_bert_tokenizer()
    with reproducible(seed + 21):
        parts = reward_config(tokenizer, _WIDTH, _LAYERS)
        config = BlipConfig(
            text_config=parts.text_config, vision_config=parts.vision_config, image_text_hidden_size=_WIDTH
        )
        model = BlipForImageTextRetrieval(config)
        temperature = torch.nn.Linear(1, 1, bias=False)
        modules: dict[str, torch.nn.Module] = {"model": model, "temperature": temperature}
        trainer = Trainer("BLIP", modules, MATCHING_STEPS, LEARNING_RATE, on_progress, average=0.99)
        torch.nn.init.constant_(temperature.weight, 10.0)
        stream = SceneStream(seed + 21)
        for number in range(MATCHING_STEPS):
            scenes, images = stream.batch(MATCHING_BATCH)
            tokens = tokenizer(stream.captions(scenes), padding=True, return_tensors="pt")
            with plain_attention():
                loss = _matching_loss(
                    model, temperature.weight, _pixels(images), tokens["input_ids"], tokens["attention_mask"]
                )
            trainer.step(number, loss)
    averaged = trainer.averaged["model"]
    assert isinstance(averaged, BlipForImageTextRetrieval)
    processor = BlipProcessor(
        image_processor=BlipImageProcessorPil(size=_SQUARE, image_mean=PIXEL_MEAN, image_std=PIXEL_DEVIATION),
        tokenizer=tokenizer,
    )
    with quiet_loading():
        to_half(averaged).save_pretrained(folder)
        processor.save_pretrained(folder)


def _matching_loss(
    model: BlipForImageTextRetrieval,
    temperature: torch.Tensor,
    pixels: torch.Tensor,
    tokens: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Contrast over the batch, and matching of each picture with its caption and with a similar wrong one."""
    count = len(pixels)
    image = model.vision_model(pixels).last_hidden_state
    text = model.text_encoder(tokens, attention_mask=mask, is_decoder=False).last_hidden_state
    normalize, cross_entropy = torch.nn.functional.normalize, torch.nn.functional.cross_entropy
    image_features = normalize(model.vision_proj(image[:, 0]).float(), dim=-1)
    text_features = normalize(model.text_proj(text[:, 0]).float(), dim=-1)
    similarity = temperature.float() * image_features @ text_features.T
    own = torch.arange(count)
    contrast = (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2
    # The same caption may come twice in a batch; then it is no wrong one.
    same = (tokens[:, None] == tokens[None]).all(-1)
    chances = similarity.detach().masked_fill(same, -torch.inf).softmax(-1)
    wrong = torch.multinomial(chances, 1).squeeze(-1)
    rows = torch.cat([own, wrong])
    matched = model.text_encoder(
        tokens[rows], attention_mask=mask[rows], encoder_hidden_states=image.repeat(2, 1, 1), is_decoder=False
    ).last_hidden_state
    logits = model.itm_head(matched[:, 0]).float()
    return contrast + cross_entropy(logits, (torch.arange(2 * count) < count).long())


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """Drawings [B, 3, 32, 32] in -1 to 1 to what the processors make of them."""
    return scorer_pixels(((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
