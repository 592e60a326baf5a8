"""A chat model that vLLM runs, in a process of its own: the backend for a GPU and many requests.

Prompts are rendered and tokenised here and go to vLLM as tokens: its own chat template handling leaves out the
beginning-of-text token of some checkpoints and takes an image token that a text spells. Answers come back as tokens and
are decoded here, so that equal tokens are equal texts whichever backend drew them. A process holds one model; the next
one starts when it is gone, with all the memory it had: vLLM's sleep mode leaks with images.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from PIL import Image

from ....base.errors import PrefmillError
from ...checkpoint import read_config
from ...device import Execution, resolve_device, resolve_weights_dtype
from ...settings import EngineSettings, Sampling
from ...sources import resolve_checkpoint
from ...text import load_tokenizer
from ..chat import Chat, RequestRefused
from ..interface import Answer, Failure, Reply, Request, Responder
from ..settings import ModelChoice
from ..transformers import processor_of, reads_images
from .interpreter import environment, interpreter, runtime
from .process import WorkerProcess
from .servable import servable

_REPRODUCIBLE = (
    "vLLM's answers depend in the last bits of their logits on what else is in a batch, so a rerun may differ in some: "
    "set the responder's reproducible=true for its batch-invariant kernels"
)
_GPU_ONLY = "reproducible=true asks for batch-invariant kernels, which vLLM has for GPUs only: it runs on a CPU here"
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the checkpoint is a folder
    "PYTHONSAFEPATH": "1",  # the folder of the worker is no place to import from
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


class VllmResponder(Responder):
    """A model in a process of vLLM's with its chat format; `key` names the weights by content, and vLLM's version."""

    def __init__(self, chat: Chat, key: str, worker: WorkerProcess, choice: ModelChoice, stops: set[int]) -> None:
        self.key = key
        self.chat = chat
        self.choice = choice
        self._worker = worker
        self._stops = stops
        self._dtype = ""
        self._tokenizer: Any = chat.tokenizer
        self._image = self._tokenizer.convert_tokens_to_ids(chat.image_token) if chat.image_token else None

    @classmethod
    def of(cls, choice: ModelChoice, settings: EngineSettings, adapter: Path | None = None) -> Self:
        """Start the process of a model. Raises PrefmillError for whatever does not load."""
        python, version = interpreter(), runtime()
        device = resolve_device(settings)
        dtype = resolve_weights_dtype(settings, device)
        source = resolve_checkpoint(choice.model)
        folder, weights = servable(source, adapter, dtype)
        key = f"{weights}+{version}"
        chat = Chat(_chat_owner(folder), key)
        load = {
            "model": str(folder),
            "dtype": str(dtype).removeprefix("torch."),
            "max_tokens": choice.vllm.max_tokens,
            "memory_share": choice.vllm.memory_share,
            "images": choice.vllm.images if chat.image_token else 0,
        }
        variables = environment(**_ENVIRONMENT, VLLM_BATCH_INVARIANT=str(int(choice.reproducible)))
        if device.index:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            variables["CUDA_VISIBLE_DEVICES"] = visible[device.index] if visible != [""] else str(device.index)
        worker = WorkerProcess(python, choice.model, load, variables, choice.vllm.start_seconds)
        responder = cls(chat, key, worker, choice, _stop_tokens(folder, chat))
        responder._dtype = load["dtype"]
        return responder

    @property
    def execution(self) -> Execution:
        """How the model really runs, as its process told."""
        return Execution("vllm", self._dtype, str(self._worker.about.get("device")))

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader of its answers should know."""
        if not self.choice.reproducible:
            return (_REPRODUCIBLE,)
        return (_GPU_ONLY,) if self.execution.device == "cpu" else ()

    def answer(
        self, requests: Sequence[Request], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[Reply]:
        """Answer each request; vLLM holds the model to a schema where it can. What it refuses is a `Failure`.

        Raises PrefmillError for a request with more images than the model was started for, and where the process dies,
        hangs or answers nonsense.
        """
        images: dict[int, Image.Image] = {}  # several requests may be about one
        asked: list[dict[str, Any] | Failure] = [self._prompt(request, images) for request in requests]
        prompts = [prompt for prompt in asked if not isinstance(prompt, Failure)]
        places = {identity: place for place, identity in enumerate(images)}
        for prompt in prompts:
            prompt["images"] = [places[identity] for identity in prompt["images"]]
        replies = iter(self._ask(prompts, list(images.values()), sampling, schema) if prompts else ())
        return [prompt if isinstance(prompt, Failure) else self._reply(next(replies)) for prompt in asked]

    def close(self) -> None:
        """End the process; the memory of its device is free then."""
        self._worker.stop()

    def _prompt(self, request: Request, images: dict[int, Image.Image]) -> dict[str, Any] | Failure:
        most = self.choice.vllm.images if self._image is not None else 0
        if len(request.images) > most:
            raise PrefmillError(
                f"{self.key} is asked {request.text[:80]!r} about {len(request.images)} images, and was started for "
                f"{most}.",
                "set the responder's vllm.images" if self._image is not None else "name a vision-language model",
            )
        try:
            rendered = self.chat.render(request.text, len(request.images))
            tokens = self._tokenizer(rendered, add_special_tokens=self.chat.adds_start, verbose=False)["input_ids"]
            self.chat.check(tokens)
        except RequestRefused as refused:
            return Failure(refused.reason, refused.detail)
        if self._image is not None and (found := tokens.count(self._image)) != len(request.images):
            return Failure("control_tokens", f"{found} image tokens for {len(request.images)} images")
        if len(tokens) >= (context := self._worker.about["context"]):
            return Failure("too_long", f"{len(tokens)} tokens, and the context of {self.key} has {context}")
        images.update((id(image), image) for image in request.images)
        return {"tokens": tokens, "seed": request.seed, "images": [id(image) for image in request.images]}

    def _ask(
        self, prompts: list[dict[str, Any]], images: list[Image.Image], sampling: Sampling, schema: Any
    ) -> list[dict[str, Any]]:
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_new_tokens}
        message = {
            "prompts": prompts,
            "images": [image.size for image in images],
            "sampling": {**drawn, "stop_token_ids": sorted(self._stops)},
            "schema": schema,
        }
        payload = b"".join(image.convert("RGB").tobytes() for image in images)
        return self._worker.ask(message, payload, self.choice.vllm.stall_seconds)

    def _reply(self, told: dict[str, Any]) -> Reply:
        if "failure" in told:
            return Failure(str(told["failure"]), str(told.get("detail", "")))
        finish, tokens = told["finish"], [int(token) for token in told["tokens"]]
        if finish not in ("stop", "length"):
            return Failure(f"ended_by_{finish}", f"after {len(tokens)} tokens")
        try:
            self.chat.check(told["start"])  # what vLLM read, and not only what it was given
        except RequestRefused as refused:
            return Failure(refused.reason, refused.detail)
        if tokens and tokens[-1] in self._stops:
            tokens.pop()
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True)).strip()
        return Answer(text, finish, len(tokens), int(told["prompt_tokens"]), told.get("seconds"))


def _chat_owner(folder: Path) -> Any:
    """The processor of a model that reads images, or the tokenizer of one that does not."""
    return processor_of(folder) if reads_images(folder) else load_tokenizer(folder)


def _stop_tokens(folder: Path, chat: Chat) -> set[int]:
    """What ends an answer, by the checkpoint's own files, which vLLM does not read: they set a temperature too."""
    config = read_config(folder)
    places = [config, config.get("text_config") or {}]
    if (folder / "generation_config.json").is_file():
        places.insert(0, json.loads((folder / "generation_config.json").read_text(encoding="utf-8")))
    found = next((place["eos_token_id"] for place in places if place.get("eos_token_id") is not None), None)
    stated = found if isinstance(found, list) else [found]
    return {token for token in (*stated, chat.tokenizer.eos_token_id) if isinstance(token, int)}
