"""The pictures of a data card: margins, scores by fate, guidance of the images."""

from __future__ import annotations

from pathlib import Path

from .tally import RowTally

PLOTS = "plots"
BLUE, GREEN, RED = "#1f5fbf", "#14804a", "#b3382c"
BINS = 30


def draw_plots(tally: RowTally, folder: Path) -> list[tuple[str, str]]:
    """Draw what there are numbers of into FOLDER/plots; return (title, path inside the folder) of each picture."""
    numbers = tally.numbers
    panels = [
        ("margin of chosen over rejected", {"": (numbers["margin"], BLUE)}),
        (
            "score of the answers",
            {"chosen": (numbers["chosen_score"], GREEN), "rejected": (numbers["rejected_score"], RED)},
        ),
        ("score of the images", {"": (numbers["image_score"], BLUE)}),
    ]
    panels = [(title, lines) for title, lines in panels if all(values for values, _ in lines.values())]
    if not panels and len(tally.guidance) < 2:
        return []
    from matplotlib.figure import Figure  # slow to import

    (folder / PLOTS).mkdir()
    drawn = []
    for title, lines in panels:
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        everything = [value for values, _ in lines.values() for value in values]
        for label, (values, colour) in lines.items():
            axes.hist(
                values, bins=BINS, range=(min(everything), max(everything)), color=colour, alpha=0.65, label=label
            )
        if len(lines) > 1:
            axes.legend(frameon=False)
        drawn.append(_saved(figure, title, "rows", folder))
    if len(tally.guidance) > 1:
        figure = Figure(figsize=(6, 3), layout="constrained")
        scales = sorted(tally.guidance)
        figure.subplots().bar(
            [f"{scale:g}" for scale in scales], [tally.guidance[scale] for scale in scales], color=BLUE
        )
        drawn.append(_saved(figure, "guidance of the images", "rows", folder))
    return drawn


def _saved(figure: object, title: str, unit: str, folder: Path) -> tuple[str, str]:
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    path = f"{PLOTS}/{title.replace(' ', '-')}.png"
    figure.savefig(folder / path, format="png", dpi=120)
    return title, path
