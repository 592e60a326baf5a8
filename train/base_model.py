"""The frozen base of a training: in the training's precision, or in four bits (QLoRA, arXiv 2305.14314).

In four bits only the linear layers of the language model are kept: NF4 with doubly quantised scales, multiplied in
the training's precision. The vision tower, the projector, the norms, the embeddings and the head stay as they are.

What peft's prepare_model_for_kbit_training does beyond that is not needed: it freezes, which the adapter does too, and
copies everything that is not quantised to float32 (1.1 GB more for a LLaVA of 7 billion), which norms do by themselves
where they compute.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar, cast

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel

from ..base.versions import package_versions
from ..engine.checkpoint import load_strict, raise_for_report
from .job import TrainingJob

Model = TypeVar("Model")


def load_base(model_class: type[Model], job: TrainingJob) -> Model:
    """Load the base model of a job, strictly. Raises PrefmillError for weights that do not fit."""
    dtype = torch.bfloat16 if job.precision == "bfloat16" else torch.float32
    if job.config.base_bits is None:
        return load_strict(model_class, job.model_folder, dtype=dtype)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=_kept_whole(job),
    )
    place = torch.device(job.device, int(os.environ.get("LOCAL_RANK", "0")))
    model = load_strict(
        model_class, job.model_folder, dtype=dtype, quantization_config=quantization, device_map={"": place}
    )
    _complete(cast(PreTrainedModel, model), job)
    return model


def base_facts(job: TrainingJob) -> dict[str, Any]:
    """Return what numbers of the base model depend on besides its weights and the precision."""
    if job.config.base_bits is None:
        return {}
    return {"base": "nf4, double quantisation", "bitsandbytes": package_versions().get("bitsandbytes")}


def _kept_whole(job: TrainingJob) -> list[str]:
    """Names of the linear layers outside of the language model."""
    config = AutoConfig.from_pretrained(job.model_folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    quantised = set(model.get_decoder().modules())
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return [name for name, module in linear if module not in quantised]


def _complete(model: PreTrainedModel, job: TrainingJob) -> None:
    """Check the shapes, which the loading report does not know of what has four bits, and keep weights trainable."""
    from bitsandbytes.nn.modules import Linear4bit

    wrong = []
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            stored, wanted = (
                tuple(cast(Any, module.weight).quant_state.shape),
                (module.out_features, module.in_features),
            )
            if stored != wanted:
                wrong.append((f"{name}.weight", stored, wanted))
            # else it turns its weights over to a layout for inference, in which nothing can be trained
            module.support_avx512bf16_for_cpu = False
    raise_for_report(job.model_folder, {"mismatched_keys": wrong, "missing_keys": [], "unexpected_keys": []})
