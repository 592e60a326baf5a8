"""What lies in a training's folder while it saves."""

from prefmill.train import step_reporter
from prefmill.train.checkpoints import mark_complete
from prefmill.train.preference.trainer import build_trainer


def test_two_complete_checkpoints_lie_beside_the_one_being_written(make_job, monkeypatch):
    """A kill may come then, and one of the two may be damaged."""
    job, complete = make_job(batch_size=1, save_every=1, max_steps=4), []

    def counted(folder, *about):
        complete.append(len(list(job.checkpoints.glob("*/complete.json"))))
        mark_complete(folder, *about)

    monkeypatch.setattr(step_reporter, "mark_complete", counted)
    build_trainer(job).train()
    assert complete == [0, 1, 2, 2]
