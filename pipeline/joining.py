"""Several runs as one: the rows of all of them, each once, with the time they took and where they came from.

Ids are hashes of what rows were made from, so runs of the same configuration on other prompts are put one after the
other, shard by shard, and their bytes stay. A prompt that two runs share has to have the same images, answers and pairs
in both; the first run's are kept then. Where it has not, the runs are not joined, and the row is named. Pixels, and
numbers within `CLOSE`, may differ: their last bits depend on the machine, and on what else was in a batch.

The rows of a joined run are imported ones: nothing makes them again. Stages that none of the runs has are computed as
in any run, and it is trained on like any.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

from ..base.errors import PrefmillError
from ..base.files import make_folder
from .device_time import device_times
from .ledger import DeviceLedger
from .records import Prompt, Reject
from .shards import CHECKSUM_LENGTH, Footer, write_shard
from .store import Run
from .summary import record_type_of, stage_names
from .usage import Usage, total

CLOSE = 0.02
"""Relative, and absolute below one: what bfloat16 leaves of a score."""
_NAMES = frozenset({"scorer", "judge", "annotator", "aspect", "presentation"})
_OF_PLACE = frozenset({"index", "source"})
"""What rows say of the file that a prompt was read from: the same prompt stands at another place in another file."""


@dataclass(frozen=True)
class _Content:
    """What a row says: a digest of what has to be the same, and the numbers that have to be close."""

    digest: bytes
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, row: Any) -> _Content:
        exact: list[Any] = []
        numbers: list[float] = []
        for value in (getattr(row, one.name) for one in fields(row) if one.name not in _OF_PLACE):
            named = value.values() if isinstance(value, dict) else [value]
            numbers += [number for number in named if isinstance(number, float)]
            exact.append(list(value) if isinstance(value, dict) else type(value) if _is_output(value) else value)
        digest = hashlib.blake2b(repr(exact).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return cls(digest, tuple(numbers))

    def agrees(self, other: _Content) -> bool:
        same = self.digest == other.digest and len(self.numbers) == len(other.numbers)
        pairs = zip(self.numbers, other.numbers, strict=False)
        return same and all(math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE) for a, b in pairs)


def _is_output(value: Any) -> bool:
    return isinstance(value, float | bytes)


@dataclass
class _Known:
    """What has been taken of one stage: every row's content by its identity, with the run it came from."""

    shared: frozenset[str]
    """Prompts of several runs."""
    rows: dict[tuple[Any, ...], tuple[_Content, int]] = field(default_factory=dict)
    rejects: set[Reject] = field(default_factory=set)
    owned: defaultdict[tuple[int, str], set[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(set))
    """The rows of a run that a shared prompt has."""
    position: int = 0


def join_runs(runs: Sequence[Run], target: Run) -> dict[str, int]:
    """Write all runs' rows into `target`, which is empty, and return how many there are by stage.

    Raises PrefmillError for runs of different configurations, unfinished stages, and rows that contradict each other.
    """
    names = list(dict.fromkeys(chain.from_iterable(stage_names(run) for run in runs)))
    for name in names:
        _require_alike(runs, name)
    shared = _shared_prompts(runs)
    counts = {}
    for name in names:
        known, kind = _Known(shared), record_type_of(name)
        make_folder(target.folder / name)
        for number in range(len(runs)):
            _take(runs, number, target.folder / name, kind, known)
        _require_same_owned(runs, name, known)
        counts[name] = len(known.rows)
        target.write_manifest(name, _manifest(runs, name, known))
    ledger = DeviceLedger(target.folder)
    for run in runs:
        ledger.add(*DeviceLedger(run.folder))
    return counts


def _require_alike(runs: Sequence[Run], name: str) -> None:
    """Raise PrefmillError where a stage is not complete in all runs, or was made in another way in one of them."""
    first = runs[0].manifest(name)
    for run in runs:
        manifest = run.manifest(name)
        if not manifest.get("complete"):
            raise PrefmillError(
                f"{run.folder} has not finished {name}", f"finish it first: prefmill run --to {run.folder}"
            )
        if manifest["fingerprint"] != first["fingerprint"] or manifest["models"] != first["models"]:
            before, now = (
                first["config"] | {"models": first["models"]},
                manifest["config"] | {"models": manifest["models"]},
            )
            changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
            told = [f"{key} is {before.get(key)!r} and {now.get(key)!r}" for key in changed]
            raise PrefmillError(
                f"{runs[0].folder} and {run.folder} made {name} in different ways: "
                f"{'; '.join(told) or 'a stage before it differs'}",
                "join runs of the same settings; export others with `prefmill export`, and put the files together",
            )


def _shared_prompts(runs: Sequence[Run]) -> frozenset[str]:
    counts = Counter(chain.from_iterable(run.dataset("prompts", Prompt).column("id") for run in runs))
    return frozenset(identity for identity, count in counts.items() if count > 1)


def _take(runs: Sequence[Run], number: int, folder: Path, kind: type, known: _Known) -> None:
    """Copy the shards of one run; those that hold rows which are there already are written without them."""
    dataset, row = runs[number].dataset(folder.name, kind), 0
    for shard, footer in dataset.footers():
        count = shard.metadata(kind).num_rows
        rows = dataset.read(row, row + count)
        row += count
        kept = [one for one in rows if _is_new(runs, number, folder.name, one, known)]
        rejects = tuple(one for one in footer.rejects if one not in known.rejects)
        known.rejects |= set(rejects)
        if not kept and not rejects:
            continue
        inputs = shard.stop - shard.start
        if len(kept) < count:  # those of shared prompts are counted already
            inputs = max(1, round(inputs * len(kept) / count))
        start, stop = known.position, known.position + inputs
        known.position = stop
        if len(kept) == count and rejects == footer.rejects:
            if not shard.is_intact():
                raise PrefmillError(f"{shard.path} is damaged", f"prefmill run --to {runs[number].folder} repairs it")
            name = f"{start:09d}-{stop:09d}-{shard.checksum[:CHECKSUM_LENGTH]}.parquet"
            shutil.copyfile(shard.path, folder / name)
        else:
            write_shard(folder, start, stop, kind, kept, Footer(footer.work, rejects))


def _is_new(runs: Sequence[Run], number: int, name: str, row: Any, known: _Known) -> bool:
    """Return whether a row is not there yet. Raises PrefmillError for one that is there with another content."""
    identity, content = _identity(row), _Content.of(row)
    owner = getattr(row, "prompt_id", None)
    if owner in known.shared:
        known.owned[number, owner].add(identity)
    before, origin = known.rows.setdefault(identity, (content, number))
    if not before.agrees(content):
        raise PrefmillError(
            f"{runs[origin].folder} and {runs[number].folder} contradict each other: the row "
            f"{' '.join(map(str, identity))} of {name} is not the same in both",
            "leave out one of the runs, or run its shared prompts again on the same kind of machine",
        )
    return origin == number


def _require_same_owned(runs: Sequence[Run], name: str, known: _Known) -> None:
    """Raise PrefmillError where a prompt of two runs has other rows in one than in the other."""
    first: dict[str, tuple[int, set[tuple[Any, ...]]]] = {}
    for (number, owner), rows in known.owned.items():
        there, before = first.setdefault(owner, (number, rows))
        if rows != before:
            raise PrefmillError(
                f"{runs[there].folder} and {runs[number].folder} both hold the prompt {owner}, with other {name}",
                "leave the prompt out of one of them; with generate.seeds=id its images do not depend on its line",
            )


def _identity(row: Any) -> tuple[Any, ...]:
    names = [one.name for one in fields(row)]
    keys = ["id"] if "id" in names else [name for name in names if name.endswith("_id") or name in _NAMES]
    return tuple(getattr(row, name) for name in keys)


def _manifest(runs: Sequence[Run], name: str, known: _Known) -> dict[str, Any]:
    manifests = [run.manifest(name) for run in runs]
    rejects = Counter(reject.reason for reject in known.rejects)
    notices = list(dict.fromkeys(chain.from_iterable(manifest["notices"] for manifest in manifests)))
    usages = [usage for manifest in manifests if (usage := manifest.get("usage"))]
    costs = [manifest["cost"] for manifest in manifests if manifest["cost"] is not None]
    return dict(manifests[0]) | {
        "config": manifests[0]["config"] | {"imported": {"joined": [_origin(run, name) for run in runs]}},
        "notices": notices,
        "inputs": known.position,
        "outputs": len(known.rows),
        "rejects": dict(rejects.most_common()),
        "seconds": round(sum(device_times(run)[name].seconds for run in runs), 3),
        "cost": round(sum(costs), 6) if costs else None,
        "usage": asdict(total(Usage(**usage) for usage in usages)) if usages else None,
    }


def _origin(run: Run, name: str) -> dict[str, Any]:
    manifest = run.manifest(name)
    return {
        "run": str(run.folder),
        "fingerprint": manifest["fingerprint"],
        "outputs": manifest["outputs"],
        "hardware": manifest.get("hardware", {}),
    }


def chosen_runs(folders: Sequence[Path]) -> Iterator[Run]:
    """Yield the runs in folders. Raises PrefmillError for a folder that is none, or is named twice."""
    seen: set[Path] = set()
    for folder in folders:
        run = Run.open(folder)
        if folder.resolve() in seen:
            raise PrefmillError(f"{folder} is named twice", "name each run once")
        seen.add(folder.resolve())
        yield run
