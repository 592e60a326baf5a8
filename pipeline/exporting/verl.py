"""verl's data for reinforcement learning: a prompt with its image, and the chosen answer as the truth to reward.

Read from volcengine/verl, examples/data_preprocess/geo3k.py and verl/utils/dataset/rl_dataset.py: `<image>` in the
prompt is where the image goes, `data_source` picks the reward function, `extra_info` reaches it. verl has none for
`prefmill`: name one with `custom_reward_function.path`.
"""

from __future__ import annotations

from typing import Any

from .lineage import PAIR_COLUMNS
from .pair_rows import PairRow, pair_rows
from .parquet_shards import ParquetShards, features
from .trl import IMAGE
from .writer import ExportFormat, Target, Writer

_EXTRA = {"index": "int64", "question": "string", "chosen": "string", "rejected": "string", **PAIR_COLUMNS}


class VerlWriter(Writer[PairRow]):
    """Parquet with data_source, prompt, images, ability, reward_model and extra_info."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        from datasets import Image, List, Value

        columns = {
            "data_source": "string",
            "prompt": List({"role": Value("string"), "content": Value("string")}),
            "images": List(Image()),
            "ability": "string",
            "reward_model": {"style": Value("string"), "ground_truth": Value("string")},
            "extra_info": dict(features(_EXTRA)),
        }
        self.shards = ParquetShards(target, features(columns).arrow_schema, IMAGE)

    def add(self, row: PairRow) -> dict[str, Any]:
        """Write a pair's question, with both answers in `extra_info`."""
        pair = row.pair
        asked = {"question": pair.instruction, "chosen": pair.chosen, "rejected": pair.rejected}
        said = {
            "data_source": "prefmill",
            "prompt": [{"role": "user", "content": f"<image>{pair.instruction}"}],
            "images": [{"bytes": row.image.image, "path": self.images.name(row.image)}],
            "ability": "vision",
            "reward_model": {"style": "rule", "ground_truth": pair.chosen},
            "extra_info": {"index": self.rows[row.split], **asked, **row.about},
        }
        self.shards.add(row.split, said, len(row.image.image))
        self.rows[row.split] += 1
        return row.about

    def close(self) -> None:
        """End the files."""
        self.shards.close()


FORMAT = ExportFormat(
    "verl",
    "Parquet with prompt, images, reward_model and extra_info, as verl's RLHFDataset reads it",
    "questions",
    pair_rows,
    VerlWriter,
    "python -m verl.trainer.main_ppo data.train_files={name}/train-00000.parquet data.image_key=images "
    "custom_reward_function.path=REWARD.py",
    {"default": "{split}-*.parquet"},
    single=True,
)
