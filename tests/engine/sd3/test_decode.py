import torch
from prefmill.engine.sd3.decode import quantize


def test_only_the_bad_rows_are_reported():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[1, 2, 3, 4] = float("inf")
    images[2] = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1)
    assert quantize(images).failures == [None, "nan", "constant", None]
    expected = (images[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
    assert torch.equal(quantize(images).images[0], expected)
