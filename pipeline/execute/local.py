"""The local executor: one stage after the other, host work overlapped with the device's.

A stage runs to its end before the next one loads its model, because synthesis and scoring are both bound by
compute: keeping two models on one device gains almost nothing and costs memory. What does gain is host work beside
device work: while a batch computes, a thread prepares the next ones (decode, tokenise) and another finishes the
last one (encode) and commits it.

One stage may follow another: it takes what that one hands on, from memory, while that one runs. So images are scored
where they were drawn, and no image is read back from a file that was just written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from ...base.progress import Progress
from ..budget import Budget, Purse
from ..ledger import DeviceLedger
from ..stage import Task
from ..store import Run
from .ahead import prepared_ahead
from .crew import Crew
from .distributed import compute_by
from .follower import Follower
from .plan import Batch, plan_task, refuse_loss
from .work import ExecutorConfig, Work


def run_tasks(
    run: Run,
    tasks: list[Task],
    config: ExecutorConfig,
    progress: Progress,
    *,
    discard: bool = False,
    crew: Crew | None = None,
    budget: Budget | None = None,
) -> None:
    """Bring every task of a run to its end, in order. Safe to call again after any interruption.

    The workers of a `crew` compute what loads a model; everything else, and without a crew everything, this process.
    Raises PrefmillError where intact rows would have to be set aside, unless `discard` says that they may, and
    BudgetSpent before a batch that the budget does not cover.
    """
    fingerprints: dict[str, str] = {}
    ledger = DeviceLedger(run.folder)
    purse = Purse(budget, ledger) if budget else None
    remaining = deque(tasks)

    def work_on(task: Task) -> Work:
        plan = plan_task(run, task, fingerprints)
        if not discard:
            refuse_loss(run, plan, [other for other in remaining if other is not task])
        fingerprints[task.name] = plan.fingerprint
        return Work(run, plan, config, progress, ledger, purse)

    if crew and any(_is_for_crew(task) and not run.manifest(task.name).get("complete") for task in tasks):
        crew.warm()
    while remaining:
        work, follower = work_on(remaining.popleft()), None
        if crew and _is_for_crew(work.task):
            compute_by(crew, work)
            continue
        if remaining and not crew and Follower.may_run_beside(work, remaining[0]):
            follower = Follower.beside(work, work_on(remaining[0]))
        if follower:
            remaining.popleft()
        _run(work, follower)


def run_task(run: Run, task: Task, config: ExecutorConfig, progress: Progress) -> None:
    """Do what is missing of one task, whatever rows have to be set aside for it."""
    run_tasks(run, [task], config, progress, discard=True)


def _is_for_crew(task: Task) -> bool:
    return bool(task.checkpoints) and task.again is not None


def _run(work: Work, follower: Follower | None) -> None:
    batches = work.plan.missing
    work.begin(len(work.source), missing=bool(batches))
    if follower:
        follower.begin()
    if batches:
        _compute(work, batches, follower)
    work.end()
    if follower:
        follower.work.end()


def _compute(work: Work, batches: Sequence[Batch], follower: Follower | None) -> None:
    stage, depth = work.stage, work.config.prepare_ahead
    with (
        ThreadPoolExecutor(work.config.host_threads, "finish") as finishers,
        closing(prepared_ahead(stage, work.source, batches, depth)) as upcoming,
    ):
        try:
            for batch, ready in upcoming:
                computed = work.compute(batch, ready, finishers)
                work.drain(keep=depth)
                if follower:
                    follower.take(stage.hand_on(computed), finishers)
            if follower:
                follower.take_last(finishers)
        finally:  # what has been computed is paid for: keep it, whatever stopped the rest
            try:
                work.drain()
            finally:
                work.committer.commit()
                if follower:
                    follower.commit()
                work.note_outcome()
                stage.close()
