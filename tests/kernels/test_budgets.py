"""Every kernel compiles for A100 and H100/H200, spills nothing, fits its shared memory, and takes what is recorded."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from prefmill.kernels import logprob
from prefmill.kernels.budgets import SHARED_LIMIT, compiled, key, measure, read_record
from prefmill.kernels.catalogue import OPS
from prefmill.kernels.triton_support import HAS_TRITON

triton = pytest.importorskip("triton", reason="Triton is not installed here (Linux only)")
BUILDS = [build for op in OPS for build in op.builds]
TESTED = (3, 9)  # the Triton version whose compiler the record was made with


@pytest.mark.parametrize("architecture", sorted(SHARED_LIMIT))
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_budget(build, architecture):
    """Moved on purpose? `python -m prefmill.bench.budgets --update`."""
    usage = measure(build, architecture)
    assert usage.spilled == 0
    assert usage.shared <= SHARED_LIMIT[architecture]
    assert usage.registers * build.warps * 32 <= 65_536, "one block must fit into a multiprocessor's registers"
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) == TESTED:
        assert usage == read_record()[key(build, architecture)]


def test_record_holds_no_other_kernel():
    assert set(read_record()) == {key(build, target) for build in BUILDS for target in SHARED_LIMIT}


def test_a_spill_is_seen():
    """The reader of machine code finds spills where there are some: twice the rows on the same threads."""
    build = next(build for build in BUILDS if build.name == "resize_tiles u8")
    crowded = replace(build, constants={**build.constants, "DEPTH": 64})
    assert measure(crowded, 80).spilled > 0


@pytest.mark.parametrize("build", logprob.OP.builds, ids=lambda build: build.name)
def test_logits_of_any_vocabulary_are_read_and_written_in_whole_vectors(build):
    """16 bytes at a time, ahead of their use; nothing is promised of the vocabulary, which may be odd."""
    assert "vocabulary" not in build.divisible
    ptx = compiled(build, 90).asm["ptx"]
    ahead = re.findall(r"cp\.async\.c[ag]\.shared\.global \[[^\]]*\], \[[^\]]*\], (\w+)", ptx)
    assert {int(size, 0) for size in ahead} == {16}
    stores = re.findall(r"st\.global\.(?:v\d\.)?b(?:16|32)", ptx)
    assert stores.count("st.global.v4.b32") == len(stores) - 3 - 2 * build.constants["EXTRAS"], "all but the statistics"
    assert ("st.global.v4.b32" in stores) == build.constants["WRITE"]


def test_imports_without_triton():
    """The package works where Triton is not to be had (macOS): it imports, and the CPU paths run."""
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from prefmill.kernels.catalogue import OPS\n"
        "from prefmill.kernels.triton_support import HAS_TRITON\n"
        "assert not HAS_TRITON\n"
        "from prefmill.kernels.logprob import token_logprobs\n"
        "print(token_logprobs(torch.ones(2, 3), torch.ones(5, 3), torch.tensor([0, 4])).sum().item(), len(OPS))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("-3.2188")


def test_triton_is_used_where_it_is():
    assert HAS_TRITON
