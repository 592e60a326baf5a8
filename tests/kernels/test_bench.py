"""The kernel benchmark: its table, its gate, its headline, and the dry run of the GPU rows."""

import csv
import json
from functools import partial

import pytest
import torch
from prefmill.bench import kernel_timing
from prefmill.bench import kernels as bench
from prefmill.bench.kernel_providers import providers
from prefmill.bench.kernel_timing import Trial, disagreement, peak_memory, quantiles
from prefmill.kernels.catalogue import OPS
from prefmill.kernels.operation import Case, Op

CPU = torch.device("cpu")
LOGPROB = next(op for op in OPS if op.name == "logprob")
SMALL = Case("small", {"N": 300, "D": 32, "V": 4000})


def test_dry_run_fills_every_gpu_row(tmp_path, capsys):
    bench.main(
        [
            "--device",
            "cuda",
            "--dry-run",
            "--output",
            str(tmp_path),
            *(f"--peer={peer}" for peer in ("materialised", "trl", "liger", "cce")),
        ]
    )
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    keys = {"logprob_fwd_bwd_vs_trl", "logprob_fwd_bwd_vs_materialised", "logprob_fraction_of_floor"}
    assert keys <= set(last)
    assert all(last[key] > 0 for key in keys)
    with (tmp_path / "kernels-cuda-dry-run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == bench.FIELDS
    assert {row["kernel"] for row in rows} == {op.name for op in OPS}
    assert {row["hardware"] for row in rows} == {"dry run"}, "no row of a dry run can pass for a measurement"
    reasons = {row["provider"]: row["unit"] for row in rows if row["metric"] == "left out"}
    assert {"liger", "cce"} <= set(reasons)
    for mode in ("forward", "backward", "both"):
        timed = {
            row["provider"] for row in rows if (row["kernel"], row["mode"], row["metric"]) == ("logprob", mode, "time")
        }
        assert timed == {"floor", "ours", "reference", "materialised", "trl", "trl_chunk_1024"}
    assert (tmp_path / "kernels-cuda-dry-run.png").stat().st_size > 1000


def test_emulated_bfloat16_is_left_out_with_its_reason(monkeypatch):
    measured = []
    monkeypatch.setattr(bench, "_case", lambda op, case, *_: measured.append(case.dtype) or [])
    monkeypatch.setattr(bench, "why_no_bfloat16", lambda: "an old CPU")
    rows = list(bench._rows(CPU, "cpu", (), False, False, ["logprob"]))
    half = [str(case) for case in LOGPROB.cases if case.dtype == torch.bfloat16]
    assert [(row["shape"], row["metric"], row["unit"]) for row in rows] == [
        (shape, "left out", "an old CPU") for shape in half
    ]
    assert set(measured) == {torch.float32}


def test_a_wrong_provider_is_not_timed(monkeypatch):
    wrong = {"ours": LOGPROB.public, "reference": LOGPROB.reference}
    wrong["trl"] = lambda **inputs: LOGPROB.reference(**inputs) * 1.1
    wrong["cce"] = lambda **inputs: LOGPROB.reference(**inputs).to("nowhere")
    monkeypatch.setattr(bench, "providers", lambda *_: (wrong, {}))
    rows = list(bench._case(LOGPROB, SMALL, CPU, (), quick=True))
    reasons = {row["provider"]: row["unit"] for row in rows if row["metric"] == "left out"}
    assert "differs from the reference by 0.1" in reasons["trl"]
    assert reasons["cce"].startswith("fails: ")
    assert {row["provider"] for row in rows if row["metric"] == "time"} == {"floor", "ours", "reference"}


def test_peers_agree_with_the_reference():
    found, _ = providers(LOGPROB, CPU, ("materialised", "trl", "torch_chunked"))
    assert {"materialised", "trl", "trl_chunk_1024", "torch_chunked"} <= set(found)
    inputs = LOGPROB.make(SMALL, CPU)
    expected = Trial(LOGPROB, found["reference"], inputs, CPU).values()
    for name, provider in found.items():
        assert disagreement(Trial(LOGPROB, provider, inputs, CPU).values(), expected, SMALL) is None, name


def test_every_case_is_compiled_also_beyond_the_recompile_limit(monkeypatch):
    """Else the ninth shape of an operation would run uncompiled under the compiler's name."""
    compiled = []

    def backend(module, inputs):
        compiled.append(module)
        return module.forward

    def double(values):
        return 2 * values

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    work = lambda case, mode: 1.0  # noqa: E731
    make = lambda case, device: {"values": torch.ones(case.sizes["N"])}  # noqa: E731
    op = Op("double", double, double, make, (), (), work, work, "memory", ())
    counts = []
    for size in range(2, 12):
        rows = list(bench._case(op, Case("size", {"N": size}), CPU, ("compile",), quick=True))
        assert any(row["provider"] == "compile" and row["metric"] == "time" for row in rows)
        counts.append(len(compiled))
    assert counts == sorted(set(counts)), "each case compiles anew"


def test_a_gpu_is_timed_with_a_cold_cache(monkeypatch):
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("event")

        def elapsed_time(self, end):
            return 5.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("wait"))
    monkeypatch.setattr(kernel_timing, "_flush_cache", lambda device: order.append("flush"))
    assert kernel_timing.seconds(torch.device("cuda"), lambda: order.append("work")) == 0.005
    assert order == ["flush", "event", "work", "event", "wait"]


def test_memory_counts_what_is_alive():
    def work():
        first = torch.zeros(1 << 20, dtype=torch.uint8)
        second = first.clone()
        del first
        third = second + 1
        return third[:5].clone()

    assert peak_memory(CPU, work) == (2 << 20) + 5
    used = {
        name: Trial(LOGPROB, provider, LOGPROB.make(SMALL, CPU), CPU).memory()
        for name, provider in (("ours", LOGPROB.public), ("reference", LOGPROB.reference))
    }
    assert used["reference"] >= 2 * 300 * 4000 * 4
    assert used["ours"] < used["reference"] / 3
    assert used["ours"] > 300 * 512 * 4, "what is alive within an operation counts"


def test_headline_takes_the_worst_shape_and_the_best_peer():
    def row(shape, provider, value, metric="time"):
        return {
            "kernel": "logprob",
            "mode": "both",
            "metric": metric,
            "shape": shape,
            "provider": provider,
            "p50": value,
        }

    rows = [
        *(
            row("a", name, value)
            for name, value in (("ours", "2"), ("materialised", "3"), ("trl", "9"), ("trl_chunk_1024", "4"))
        ),
        *(
            row("b", name, value)
            for name, value in (("ours", "2"), ("materialised", "1"), ("reference", "9"), ("trl", "5"))
        ),
        row("a", "ours", "0.9", "fraction of floor"),
        row("b", "ours", "0.8", "fraction of floor"),
        row("b", "cce", "", "left out"),
    ]
    got = bench.summary(rows)
    assert got["logprob_fwd_bwd_vs_trl"] == 2.0
    assert got["logprob_fwd_bwd_vs_materialised"] == 0.5
    assert got["logprob_fraction_of_floor"] == 0.8
    assert bench.summary([])["logprob_fwd_bwd_vs_trl"] is None


def test_quantiles():
    assert quantiles([3.0]) == (3.0, 3.0, 3.0)
    assert quantiles([float(value) for value in range(11)]) == (5.0, 2.0, 8.0)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"unknown peers \['nobody'\]"):
        bench.run(peers=["nobody"])
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            bench.run("cuda")
