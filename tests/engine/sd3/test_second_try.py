"""What failed is drawn once more, and only that."""

from typing import Any, cast

import torch
from prefmill.engine.device import Execution
from prefmill.engine.sd3.decode import Generated
from prefmill.engine.sd3.second_try import SecondTry

ROWS = (["a", "b", "c"], [5.0, 7.0, 9.0], [1, 2, 3])
SIZE: Any = {"steps": 2, "width": 2, "height": 2}
HALF = Execution("eager", "bfloat16", "cpu")


class Exact:
    """Draws white images, the last of a batch black."""

    def __init__(self):
        self.asked = []

    def generate(self, *rows, **size):
        self.asked.append((rows, size))
        images = torch.full((len(rows[0]), 2, 2, 3), 255, dtype=torch.uint8)
        images[-1] = 0
        return Generated(images, [*([None] * (len(images) - 1)), "black"])


def test_failed_rows_alone_are_drawn_again():
    exact, loaded = Exact(), []
    again = SecondTry(lambda: loaded.append(1) or cast(Any, exact), HALF)
    first = Generated(torch.full((3, 2, 2, 3), 7, dtype=torch.uint8), ["nan", None, "black"])
    assert again.mend(Generated(first.images, [None] * 3), *ROWS, **SIZE).images is first.images
    assert (loaded, again.notices) == ([], ())
    got = again.mend(first, *ROWS, **SIZE)
    assert exact.asked == [((["a", "c"], [5.0, 9.0], [1, 3]), {**SIZE, "levers": None})]
    assert got.failures == [None, None, "black"]
    assert got.images[:, 0, 0, 0].tolist() == [255, 7, 0]
    again.mend(first, *ROWS, **SIZE)
    assert loaded == [1]
    assert again.notices[0].startswith("4 images")
    assert "float32: 2 of them are pictures" in again.notices[0]


def test_where_the_first_try_was_exact_there_is_no_second():
    exact = Exact()
    first = Generated(torch.zeros((3, 2, 2, 3), dtype=torch.uint8), ["black"] * 3)
    for execution in (Execution("eager", "float32", "cpu"), Execution("onnxruntime", "float32", "cpu")):
        SecondTry(lambda: cast(Any, exact), execution).mend(first, *ROWS, **SIZE)
    assert len(exact.asked) == 1, "a compiled engine has a second try, eager float32 has none"
