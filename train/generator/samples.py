"""What the generator draws as it learns: grids of fixed prompts and seeds, and a strip of them over time.

    samples/step-000050.png     a row per prompt, its images side by side
    samples/strip.png           a row per step, the first image of every prompt
    samples/samples.json        the prompts, and per step the reward and the diversity

Every image is drawn by the averaged weights, without noise in its steps. A reward that rises while the images of a
prompt come to look alike is being hacked: the two numbers stand side by side.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...base.files import make_folder, replacing, write_text
from ...engine.images import encode_image
from ...engine.sd3.decode import quantize
from ...pipeline.records import seed_for
from .method import TuningTask
from .rewards import diversity

SAMPLES = "samples"


class Samples:
    """Draws a training's samples into OUTPUT/samples; in one process alone."""

    def __init__(self, task: TuningTask, output: Path) -> None:
        self.task, self.folder = task, output / SAMPLES
        self.prompts = list(task.prompts)[: task.config.eval_prompts]
        make_folder(self.folder)

    def draw(self, step: int) -> dict[str, float]:
        """Draw the grid after a step, and return reward, its deviation and the diversity as columns of a line."""
        config, policy = self.task.config, self.task.policy
        size = config.eval_images
        texts = [prompt.text for prompt in self.prompts for _ in range(size)]
        seeds = [seed_for(prompt.id, "sample", number) for prompt in self.prompts for number in range(size)]
        with policy.averaged():
            images = policy.images(texts, config.guidance, seeds, config.eval_steps)
        rewards = self.task.reward(images, texts).values.double()
        finite = rewards[rewards.isfinite()]
        spread = [diversity(group) for group in images.nan_to_num(0.0).split(size)]
        found = {
            "eval_reward": float(finite.mean()) if len(finite) else 0.0,
            "eval_reward_std": float(finite.std(correction=0)) if len(finite) else 0.0,
            "eval_diversity": sum(spread) / len(spread),
        }
        self._write(images, step, found)
        return found

    def _write(self, images: torch.Tensor, step: int, found: dict[str, float]) -> None:
        rows, columns = len(self.prompts), self.task.config.eval_images
        height, width = images.shape[2:]
        pixels = quantize(images).images.view(rows, columns, height, width, 3)
        grid = pixels.permute(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
        with replacing(self.folder / f"step-{step:06d}.png") as temporary:
            temporary.write_bytes(encode_image(grid.cpu().numpy()))
        self._note(step, found)
        self._strip(height, width)

    def _note(self, step: int, found: dict[str, float]) -> None:
        path = self.folder / "samples.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        steps = [one for one in known.get("steps", []) if one["step"] < step]
        config = self.task.config
        told = {"guidance": config.guidance, "sampling_steps": config.eval_steps, "images": config.eval_images}
        content = {
            "prompts": [prompt.text for prompt in self.prompts],
            **told,
            "steps": [*steps, {"step": step, **found}],
        }
        write_text(path, json.dumps(content, indent=1) + "\n")

    def _strip(self, height: int, width: int) -> None:
        grids = sorted(self.folder.glob("step-*.png"))
        strip = Image.new("RGB", (width * len(self.prompts), height * len(grids)))
        for row, path in enumerate(grids):
            with Image.open(path) as grid:
                for column in range(len(self.prompts)):
                    first = grid.crop((0, column * height, width, (column + 1) * height))
                    strip.paste(first, (column * width, row * height))
        with replacing(self.folder / "strip.png") as temporary:
            strip.save(temporary, format="png")
