"""SD3-medium on a GPU: images per second at 1024 x 1024, and how much of the matrix units' rate that is.

    prefmill bench sd3_device --to bench/results/sd3.json
    prefmill bench sd3_device --tiny                           # the same script, a tiny model on a CPU

The published sizes with random weights, which change no speed, made where they are used. Sides take turns: the
library's pipeline, our loop over the same modules, and our loop with its networks compiled. All of them draw the same
images from the same noise; text is read before, once, and left out (two per cent of the time). Operations are counted
by torch on shapes alone.
"""

# diffusers exports lazily, which pyright takes for private use.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

from ..base.errors import PrefmillError
from ..engine.backends.catalogue import DIRECT, make_runner
from ..engine.sd3.decode import decode, decoder_network
from ..engine.sd3.denoise import Drawing, make_schedule
from ..engine.sd3.guidance import Conditioning
from ..engine.sd3.step import Steps, step_network
from ..engine.sd3.text import TextEmbedding
from ..engine.settings import EngineSettings
from ..train.accelerators import accelerator_of
from .kernel_timing import ceilings, operations
from .result_file import called, write_result
from .sd3_medium import Medium, making, medium_transformer
from .turns import Timing, ratio, take_turns, timed

GUIDANCE = 7.0
PEER = "diffusers"


TINY = Medium(2, 2, 32, 5, 16, 8, (8, 8), torch.float32)


class Model:
    """A transformer, an autoencoder and a scheduler of these sizes, and what a batch is drawn from."""

    def __init__(self, sizes: Medium, device: torch.device) -> None:
        with making(sizes, device):
            blocks: Any = ["DownEncoderBlock2D"] * len(sizes.channels), ["UpDecoderBlock2D"] * len(sizes.channels)
            make: Any = AutoencoderKL
            autoencoder: Any = make(
                down_block_types=blocks[0], up_block_types=blocks[1], block_out_channels=sizes.channels,
                latent_channels=16, layers_per_block=2, norm_num_groups=min(32, *sizes.channels),
                scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False,
            )  # fmt: skip
        self.transformer, self.autoencoder = medium_transformer(sizes, device), autoencoder.eval()
        self.sizes, self.device = sizes, device
        self.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)

    def drawn(self, images: int) -> dict[str, torch.Tensor]:
        """Noise, and text of the prompts and of the empty one: from a seed, on the device."""
        sizes, stream = self.sizes, torch.Generator().manual_seed(1)
        shapes = {
            "latents": (images, 16, sizes.latent_side, sizes.latent_side),
            "tokens": (images, sizes.text_tokens, sizes.text_width),
            "pooled": (images, sizes.pooled),
            "empty_tokens": (1, sizes.text_tokens, sizes.text_width),
            "empty_pooled": (1, sizes.pooled),
        }
        return {
            name: torch.randn(shape, generator=stream).to(self.device, sizes.dtype) for name, shape in shapes.items()
        }

    def flops(self, steps: int) -> int:
        """Operations of one guided image, decoded."""
        plain = Model(self.sizes, torch.device("meta")) if self.device.type != "meta" else self
        given = plain.drawn(1)
        text = {"encoder_hidden_states": given["tokens"], "pooled_projections": given["pooled"]}
        times = torch.ones(1, device="meta")
        step = operations(lambda: plain.transformer(hidden_states=given["latents"], timestep=times, **text))
        return 2 * steps * step + operations(lambda: plain.autoencoder.decode(given["latents"]))


def run(
    *,
    tiny: bool = False,
    images: int = 4,
    steps: int = 28,
    rounds: int = 2,
    backends: Sequence[str] = ("eager", "torch_compile"),
    to: Path | None = None,
) -> dict[str, Any]:
    """Measure, write raw seconds to `to`, and return the claims. Raises PrefmillError where there is no GPU."""
    if not tiny and not torch.cuda.is_available():
        raise PrefmillError("torch sees no GPU here.", "add --tiny to try it on a CPU")
    device = torch.device("cpu" if tiny else "cuda")
    model = Model(TINY if tiny else Medium(), device)
    matmul, _ = ceilings(device, model.sizes.dtype, tiny)
    given = model.drawn(images)
    sides: dict[str, Callable[[], torch.Tensor]] = {PEER: _peer(model, given, steps)}
    for backend in backends:
        sides[backend] = _ours(model, given, steps, backend)
    with torch.inference_mode():
        raw = take_turns({name: lambda draw=draw: timed(draw, device) for name, draw in sides.items()}, rounds)
    claims = {"tiny": tiny, "images": images, "steps": steps, **claims_of(raw, images, model.flops(steps), matmul)}
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
        known = accelerator_of(name)
        claims |= {"gpu": name, "memory_bytes": torch.cuda.max_memory_allocated()}
        for side in raw:
            claims[f"{side}_of_peak"] = (
                round(claims[f"{side}_of_matmul_rate"] * matmul / known.peak, 4) if known else None
            )
    if to is not None:
        seconds = {name: [row["wall"] for row in rows] for name, rows in raw.items()}
        write_result(
            to, called("prefmill bench sd3_device"), {"rounds": rounds, "guidance": GUIDANCE}, claims, seconds=seconds
        )
    return claims


def claims_of(raw: dict[str, list[Timing]], images: int, flops: int, matmul: float) -> dict[str, Any]:
    """The claims from rounds of all sides, each with its images as `result`."""
    claims: dict[str, Any] = {"matmul_tflops": round(matmul / 1e12, 4), "tflop_per_image": round(flops / 1e12, 6)}
    peer = raw[PEER][-1]["result"]
    for side, rows in raw.items():
        rate = images / statistics.median(row["wall"] for row in rows)
        claims[f"{side}_images_per_s"] = round(rate, 4)
        claims[f"{side}_of_matmul_rate"] = round(flops * rate / matmul, 4)
        if side != PEER:
            claims[f"{side}_vs_{PEER}"] = ratio(raw[PEER], rows, "wall")
            claims[f"{side}_mean_difference"] = float((rows[-1]["result"] - peer).abs().mean())
    claims["finite"] = all(bool(row["result"].isfinite().all()) for rows in raw.values() for row in rows)
    return claims


def _peer(model: Model, given: dict[str, torch.Tensor], steps: int) -> Callable[[], torch.Tensor]:
    nothing: Any = None  # text is read before: the pipeline needs no encoders
    pipeline: Any = StableDiffusion3Pipeline(
        model.transformer, model.scheduler, model.autoencoder, nothing, nothing, nothing, nothing, nothing, nothing
    )
    pipeline.set_progress_bar_config(disable=True)
    images, side = len(given["latents"]), model.sizes.latent_side * pipeline.vae_scale_factor
    text = {
        "prompt_embeds": given["tokens"],
        "pooled_prompt_embeds": given["pooled"],
        "negative_prompt_embeds": given["empty_tokens"].expand(images, -1, -1),
        "negative_pooled_prompt_embeds": given["empty_pooled"].expand(images, -1),
    }
    options = {"num_inference_steps": steps, "guidance_scale": GUIDANCE, "output_type": "pt", "return_dict": False}

    def draw() -> torch.Tensor:
        images = pipeline(latents=given["latents"], width=side, height=side, **text, **options)[0]
        return images.float()

    return draw


def _ours(model: Model, given: dict[str, torch.Tensor], steps: int, backend: str) -> Callable[[], torch.Tensor]:
    settings = EngineSettings.model_validate({"device": model.device.type, "backend": backend})
    step = make_runner(step_network(model.transformer, model.sizes.text_tokens, guided=True), settings)
    decoder = make_runner(decoder_network(model.autoencoder, model.transformer.config), settings)
    latents, config = given["latents"], model.autoencoder.config
    conditioning = Conditioning(
        TextEmbedding(given["tokens"], given["pooled"]),
        torch.full((len(latents),), GUIDANCE, device=model.device),
        TextEmbedding(given["empty_tokens"], given["empty_pooled"]),
    )

    def draw() -> torch.Tensor:
        schedule = make_schedule(model.scheduler, steps, (model.sizes.latent_side // 2) ** 2)
        *_, last = Drawing(Steps(step), latents, conditioning, schedule)
        return decode(decoder, last.latents, config.scaling_factor, config.shift_factor)

    return draw


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench sd3_device", description="Measure SD3-medium on a GPU.")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on a CPU: that it runs, and nothing of speed")
    parser.add_argument("--images", type=int, default=4, help="in one batch")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--backend", action="append", choices=tuple(DIRECT), help="of our loop; repeatable")
    parser.add_argument("--to", type=Path, help="write raw seconds to this JSON file")
    given = parser.parse_args()
    options = {name: getattr(given, name) for name in ("tiny", "images", "steps", "rounds", "to")}
    print(json.dumps(run(**options, backends=given.backend or ("eager", "torch_compile"))))


if __name__ == "__main__":
    main()
