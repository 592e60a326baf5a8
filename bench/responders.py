"""Responders measured: all requests at once against one answer at a time, as PDS-DPO's authors ask.

    prefmill bench responders                                   # 64 requests of mixed lengths on micro:responder-a
    prefmill bench responders --model random:llava-next
    prefmill bench responders --backend vllm --device cuda      # vLLM's process in the place of our own batches
    prefmill bench responders --model llava-hf/llava-1.5-7b-hf --device cuda --max-new-tokens 200

Both sides have the same model object (under vLLM the same checkpoint), in the same precision, the same decoded images
and the same rendered texts, and answer greedily. One at a time is a call of the processor and one of the library's
`generate` per request, which is what its pipeline does; ours is one call with all requests. On a CPU a claim is the
median of ratios of CPU seconds with one thread, and of wall seconds with one thread and with all; on a GPU, and with
vLLM, whose process has a clock of its own, it is that of wall seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig

from ..engine.responders.catalogue import load_responder
from ..engine.responders.interface import Answer, Request, Responder
from ..engine.responders.settings import ModelChoice, VllmSettings
from ..engine.responders.transformers import TransformersResponder
from ..engine.settings import EngineSettings, Sampling
from ..micro.world.language import color_question, count_question, describe_instruction, present_question
from ..micro.world.render import render_all
from ..micro.world.scenes import sample_scenes
from .result_file import called, write_result
from .turns import Timing, at_threads, ratio, take_turns, thread_counts, timed

MODEL = "micro:responder-a"
BACKENDS = ("transformers", "vllm")
_MEMORY_SHARE = 0.5
"""Of the GPU's, for vLLM: the model that answers one at a time is on it as well."""


def run(
    model: str = MODEL,
    requests: int = 64,
    *,
    backend: str = "transformers",
    device: str = "cpu",
    max_new_tokens: int = 64,
    rounds: int = 3,
    to: Path | None = None,
) -> dict[str, Any]:
    """Measure, print progress to stderr, write raw numbers to `to`, and return the claims.

    Raises PrefmillError for whatever does not load.
    """
    setting = {
        "model": model, "requests": requests, "backend": backend, "device": device, "max_new_tokens": max_new_tokens,
        "rounds": rounds,
    }  # fmt: skip
    if device == "cpu" and backend == "transformers":
        measured = {count: at_threads("responders", {**setting, "threads": count}, count) for count in thread_counts()}
        claims = claims_of(measured, "cpu")
    else:
        claims = claims_of(measured := {1: measure(setting)}, "wall")
    if to is not None:
        write_result(to, called("prefmill bench responders"), setting, claims, measured=measured)
    return claims


def measure(setting: dict[str, Any]) -> dict[str, Any]:
    """One process's part: `timings` of both sides round by round, and their answers."""
    torch.set_num_threads(setting.get("threads", torch.get_num_threads()))
    device = setting["device"]
    dtype = "float32" if device == "cpu" else "auto"
    settings = EngineSettings.model_validate({"device": device, "dtype": dtype})
    responder = TransformersResponder.from_pretrained(setting["model"], settings)
    ours = _ours(setting, settings, responder)
    requests, sampling = mixed_requests(setting["requests"]), Sampling(max_new_tokens=setting["max_new_tokens"])
    sides = {
        "sequential": lambda: timed(lambda: one_at_a_time(responder, requests, sampling), responder.model.device),
        "ours": lambda: timed(lambda: _together(ours, requests, sampling), responder.model.device),
    }
    try:
        raw = take_turns(sides, setting["rounds"])
    finally:
        ours.close()
    answers = {name: rows[0]["result"] for name, rows in raw.items()}
    timings = {name: [{clock: row[clock] for clock in ("wall", "cpu")} for row in rows] for name, rows in raw.items()}
    return {"timings": timings, "answers": answers}


def _ours(setting: dict[str, Any], settings: EngineSettings, responder: TransformersResponder) -> Responder:
    """What answers all requests at once: the same model object, or vLLM with the same checkpoint."""
    backend = setting.get("backend", "transformers")
    if backend == "transformers":
        return responder
    choice = ModelChoice(model=setting["model"], backend=backend, vllm=VllmSettings(memory_share=_MEMORY_SHARE))
    return load_responder(choice, settings)


def mixed_requests(count: int) -> list[Request]:
    """So many questions about as many scenes: short ones with short answers, and ones that ask for a description."""
    scenes = sample_scenes("dev", count, 0)
    images = render_all(scenes, 0)
    requests = []
    for number, (scene, pixels) in enumerate(zip(scenes, images, strict=True)):
        kind = scene.items[0].kind
        questions = (describe_instruction(number), present_question(kind), color_question(kind), count_question())
        requests.append(Request(questions[number % 4].text, number, (Image.fromarray(pixels),)))
    return requests


def one_at_a_time(responder: TransformersResponder, requests: Sequence[Request], sampling: Sampling) -> list[str]:
    """Answers of the library alone: its processor and its `generate`, a request a call."""
    model: Any = responder.model
    tokenizer = responder.tokenizer
    greedy = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
    )
    texts = []
    for request in requests:
        inputs = responder.processor(
            images=list(request.images),
            text=responder.render(request.text),
            add_special_tokens=responder.chat.adds_start,
            return_tensors="pt",
        ).to(model.device, model.dtype)
        tokens = model.generate(**inputs, generation_config=greedy)[0, inputs["input_ids"].shape[1] :]
        texts.append(str(tokenizer.decode(tokens, skip_special_tokens=True)).strip())
    return texts


def _together(responder: Responder, requests: Sequence[Request], sampling: Sampling) -> list[str]:
    replies = responder.answer(requests, sampling)
    return [reply.text if isinstance(reply, Answer) else f"failure: {reply.reason}" for reply in replies]


def claims_of(measured: dict[int, dict[str, Any]], clock: str) -> dict[str, Any]:
    """The claims from what each number of threads gave; `identical_greedy` is the share of requests."""
    one, most = measured[min(measured)], measured[max(measured)]
    timings: dict[str, list[Timing]] = one["timings"]
    pairs = list(zip(one["answers"]["sequential"], one["answers"]["ours"], strict=True))
    same = sum(theirs == ours for theirs, ours in pairs)
    seconds = statistics.median(row["wall"] for row in most["timings"]["ours"])
    return {
        "answers_per_s_vs_sequential": ratio(timings["sequential"], timings["ours"], clock),
        "wall_vs_sequential": ratio(timings["sequential"], timings["ours"], "wall"),
        "wall_vs_sequential_all_threads": ratio(most["timings"]["sequential"], most["timings"]["ours"], "wall"),
        "answers_per_s": round(len(pairs) / seconds, 3),
        "identical_greedy": round(same / len(pairs), 4),
        "identical": same,
        "requests": len(pairs),
        "different_answers": len({ours for _, ours in pairs}),
    }


def main() -> None:
    """Measure from the command line; the last line of stdout is one JSON object."""
    parser = argparse.ArgumentParser(prog="prefmill bench responders", description="Measure answering about images.")
    parser.add_argument("--model", default=MODEL, help="a folder, hub id, micro:NAME or random:NAME")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--backend", default="transformers", choices=BACKENDS, help="of the side with all at once")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--to", type=Path, help="write raw numbers to this JSON file")
    print(json.dumps(run(**vars(parser.parse_args()))))


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):  # a process of `at_threads`
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
