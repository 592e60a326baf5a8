"""What there is to do for one task: what is missing, and which shards have to be made again. Reads only.

A batch is always the same inputs: it is cut at multiples of the batch size from the start of the input, also after
a crash, so that the last bits of its results, which depend on its composition, do not change either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...base.errors import PrefmillError
from ..dataset import without_overlaps
from ..manifest import check_fingerprint
from ..shards import Footer, Shard
from ..stage import Source, Task, work_digest
from ..store import Run


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs start..stop-1, computed together."""

    start: int
    stop: int


@dataclass(frozen=True)
class Useless:
    """A shard to set aside: its bytes are damaged, its inputs are no longer what they were, or others hold its rows."""

    shard: Shard
    why: Literal["damaged", "out-of-date", "overlapping"]
    rows: int
    """That are lost with it; 0 where they are lost already, or held by others."""


@dataclass(frozen=True)
class Plan:
    """One task against what its folder holds."""

    task: Task
    fingerprint: str
    source: Source[Any] = field(repr=False)
    inputs: int
    shards: tuple[Shard, ...]
    """That stay."""
    useless: tuple[Useless, ...]
    missing: tuple[Batch, ...]

    @property
    def done(self) -> int:
        """How many inputs the shards cover."""
        return sum(shard.stop - shard.start for shard in self.shards)

    @property
    def misses_only_its_end(self) -> bool:
        """Whether the shards cover the first inputs without a gap."""
        return self.done == (self.shards[-1].stop if self.shards else 0)


def plan_task(run: Run, task: Task, fingerprints: Mapping[str, str] | None = None) -> Plan:
    """Return what there is to do for a task. `fingerprints`: those of the tasks planned before, by name.

    Raises PrefmillError where its folder holds rows of another configuration, and where its inputs cannot be read.
    """
    known = fingerprints or {}
    upstream = [known.get(name) or run.manifest(name).get("fingerprint", "") for name in task.reads]
    fingerprint = task.fingerprint(*upstream)
    check_fingerprint(run, task, fingerprint)
    source = task.source()
    useless = tuple(_useless_shards(run, task, source, fingerprint))
    gone = {entry.shard for entry in useless}
    dataset = run.dataset(task.name, task.output)
    shards = tuple(shard for shard in sorted((*dataset.shards, *dataset.conflicts)) if shard not in gone)
    missing = tuple(missing_batches(shards, len(source), task.batch_size))
    return Plan(task, fingerprint, source, len(source), shards, useless, missing)


def refuse_loss(run: Run, plan: Plan, after: Sequence[Task]) -> None:
    """Raise PrefmillError where intact rows would be set aside; `after` are the tasks whose rows may go with them."""
    lost = [entry for entry in plan.useless if entry.why == "out-of-date"]
    rows = sum(entry.rows for entry in lost)
    if not rows:
        return
    counted = [(task.name, len(run.dataset(task.name, task.output))) for task in after]
    made = [f"{count} {name}" for name, count in counted if count]
    raise PrefmillError(
        f"the inputs of {plan.task.name} are no longer what {rows} of its rows were made from; those would be set "
        "aside" + (f", and with them up to {', '.join(made)} made from them" if made else ""),
        "give the earlier inputs again (they may grow at their end), choose a new folder with --to, or say with "
        "--discard that these rows may go",
    )


def _useless_shards(run: Run, task: Task, source: Source[Any], fingerprint: str) -> Iterator[Useless]:
    dataset = run.dataset(task.name, task.output)
    good = []
    for shard in sorted((*dataset.shards, *dataset.conflicts)):
        if not shard.is_intact():
            yield Useless(shard, "damaged", 0)
            continue
        metadata = shard.metadata(task.output)
        work = work_digest(fingerprint, source.keys(shard.start, shard.stop))
        if shard.stop <= len(source) and Footer.decode(metadata.metadata[b"prefmill"]).work == work:
            good.append(shard)
        else:
            yield Useless(shard, "out-of-date", metadata.num_rows)
    _, conflicts = without_overlaps(good)
    yield from (Useless(shard, "overlapping", 0) for shard in conflicts)


def missing_batches(shards: Sequence[Shard], total: int, batch_size: int) -> Iterator[Batch]:
    """Yield the batches that no shard covers, cut at multiples of the batch size."""
    position = 0
    for start, stop in [*((shard.start, shard.stop) for shard in shards), (total, total)]:
        yield from cut(position, start, batch_size)
        position = max(position, start, stop)


def cut(start: int, stop: int, batch_size: int) -> Iterator[Batch]:
    """Yield inputs start..stop-1 in batches that end at multiples of the batch size."""
    while start < stop:
        end = min(stop, (start // batch_size + 1) * batch_size)
        yield Batch(start, end)
        start = end
