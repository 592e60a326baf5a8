"""Rates and times left, on a clock that the test turns."""

from io import StringIO

from prefmill.cli.pace import Pace
from prefmill.cli.progress import ConsoleProgress
from rich.console import Console


def test_a_slow_beginning_is_forgotten_after_a_minute():
    pace = Pace(1000, 0, "rows", began=0.0)
    pace.step(10, 100.0)
    assert pace.left(100.0) == 9900
    for second in range(101, 181):
        pace.step(1, float(second))
    assert pace.rate(180.0) == 1.0
    assert pace.left(180.0) == 910


def test_what_was_found_done_counts_in_no_rate():
    pace = Pace(100, 80, "rows", began=0.0)
    pace.step(5, 10.0)
    assert pace.rate(10.0) == 0.5
    assert pace.left(10.0) == 30


def test_a_follower_is_in_step_with_its_leader_and_not_with_its_bursts():
    """Scores come in bursts of hundreds a minute: the first of a burst once announced ten times the time left."""
    now, output = 0.0, StringIO()
    progress = ConsoleProgress(Console(file=output, width=200), clock=lambda: now)
    progress.begin("candidates", 1000, unit="prompts")
    progress.begin("image_scores", 4000, unit="images")
    for second in range(1, 61):  # one prompt a second
        now = float(second)
        progress.step("candidates", 1)
    for _ in range(15):  # and then the scores of all of them at once
        progress.step("image_scores", 16)
    line = next(line for line in output.getvalue().splitlines() if line.startswith("image_scores"))
    assert "16/4000, 4.0 images/s" in line
    left = int(line.split(", ")[-1].split()[0])
    assert 940 <= left <= 1000
    now = 61.0
    progress.step("candidates", 940)
    progress.end("candidates", "done")
    now = 71.0
    progress.step("image_scores", 3760)
    assert progress.paces["image_scores"].over
    assert progress.paces["image_scores"].left(now) == 0


def test_texts_from_elsewhere_do_not_steer_the_terminal():
    output = StringIO()
    ConsoleProgress(Console(file=output, width=200)).notice("a model \x1b[2J[red]said[/red]")
    assert output.getvalue() == "note: a model \\u001b[2J[red]said[/red]\n"
