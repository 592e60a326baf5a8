import torch
from prefmill.engine.sd3.decode import quantize


def test_only_the_bad_rows_are_reported():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[1, 2, 3, 4] = float("inf")
    images[2] = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1)
    assert quantize(images).failures == [None, "nan", "constant", None]
    expected = (images[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
    assert torch.equal(quantize(images).images[0], expected)


def test_an_image_that_is_nearly_black_is_named_so_and_a_dark_one_is_a_picture():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[0] = 0
    images[1] *= 2.4 / 255
    images[2] *= 4 / 255
    assert quantize(images).failures == ["black", "black", None, None]
