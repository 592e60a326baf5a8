"""Tiny random-weight builds of the models around images: Stable Diffusion 3 and ImageReward."""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from pathlib import Path

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel

from ..networks.image_reward import ImageRewardConfig, ImageRewardModel
from .configs import blip_configs, clip_text_config
from .folder import build_once
from .tokenizers import bert_tokenizer, clip_tokenizer, t5_tokenizer
from .weights import randomize


def build_text_to_image(folder: Path, seed: int = 0, *, with_t5: bool = True) -> Path:
    """Stable Diffusion 3 in the diffusers layout: 64 x 64 pixels, 16 latent channels, two CLIP encoders and T5."""

    def build(fresh: Path) -> None:
        clip, t5 = clip_tokenizer(), t5_tokenizer()
        encoders = []
        for number in range(2):
            activation = ("quick_gelu", "gelu")[number]
            encoder = CLIPTextModelWithProjection(clip_text_config(clip, 32, activation=activation))
            randomize(encoder, seed + 1000 * number)
            encoders.append(encoder)
        t5_encoder = T5EncoderModel(
            T5Config(
                vocab_size=len(t5),
                d_model=64,
                d_kv=16,
                d_ff=128,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
            )
        )
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=64,
            pooled_projection_dim=64,
            pos_embed_max_size=16,
        )
        vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 4,  # type: ignore[arg-type]  # annotated as a 1-tuple
            up_block_types=("UpDecoderBlock2D",) * 4,  # type: ignore[arg-type]
            block_out_channels=(16, 16, 32, 32),  # type: ignore[arg-type]
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=8,
            sample_size=64,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        for number, module in enumerate((t5_encoder, transformer, vae)):
            randomize(module, seed + number)
        StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae,
            text_encoder=encoders[0],
            tokenizer=clip,
            text_encoder_2=encoders[1],
            tokenizer_2=clip,
            text_encoder_3=t5_encoder if with_t5 else None,  # type: ignore[arg-type]  # optional, though not typed so
            tokenizer_3=t5 if with_t5 else None,  # type: ignore[arg-type]
        ).save_pretrained(fresh)

    return build_once(folder, seed, f"text-to-image, T5 {'in' if with_t5 else 'left out'}", build)


def build_image_reward(folder: Path, seed: int = 0) -> Path:
    """ImageReward: the BLIP pair at width 64, images at the real 224 x 224."""

    def build(fresh: Path) -> None:
        tokenizer = bert_tokenizer()
        vision, text = blip_configs(tokenizer, 64, image_size=224, patch_size=32)
        model = ImageRewardModel(ImageRewardConfig(vision_config=vision, text_config=text))
        randomize(model, seed)
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)

    return build_once(folder, seed, "image reward", build)
