import io
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine import images
from prefmill.engine.image_inputs import ImagePreprocessing
from prefmill.engine.images import PixelBudget, UnreadableImage, decode_image, decoded, encode_image


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixel data is empty."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_formats_round_trip(pixels, format):
    data = encode_image(pixels, format)
    np.testing.assert_array_equal(np.asarray(decode_image(data)), pixels)
    assert data == encode_image(pixels.copy(), format)


def test_jpeg_comes_close_and_quality_counts(pixels):
    smooth = np.asarray(Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC))
    good, poor = encode_image(smooth, "jpeg", quality=95), encode_image(smooth, "jpeg", quality=20)
    assert len(poor) < len(good)
    error = np.abs(np.asarray(decode_image(good)).astype(int) - smooth).mean()
    assert error < 8


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 4), "u1")]
)
def test_encoding_refuses_other_arrays(bad):
    with pytest.raises(PrefmillError, match="uint8"):
        encode_image(bad)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "RGB"])
def test_other_modes_convert_as_pillow_does(pixels, mode):
    image = Image.fromarray(pixels).convert(mode)
    data = saved(image, "TIFF" if mode == "CMYK" else "PNG")
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    decoded = decode_image(data)
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(expected))


def test_cmyk_jpeg(pixels):
    data = saved(Image.fromarray(pixels).convert("CMYK"), "JPEG")
    np.testing.assert_array_equal(
        np.asarray(decode_image(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )


def test_32_bit_grey_is_cut_to_16_bits():
    samples = np.array([[-5, 0, 255, 256], [65535, 65536, 1 << 30, -(1 << 31)]], dtype=np.int32)
    decoded = np.asarray(decode_image(saved(Image.fromarray(samples), "TIFF")))[..., 0]
    np.testing.assert_array_equal(decoded, [[0, 0, 0, 1], [255, 255, 255, 0]])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(format):
    levels = np.linspace(0, 65535, 30 * 40).reshape(30, 40).astype(np.uint16)
    decoded = np.asarray(decode_image(saved(Image.fromarray(levels), format)))
    np.testing.assert_array_equal(decoded, np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, -1))


def test_the_first_frame_of_an_animation_counts(pixels):
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(decode_image(data)), pixels)
    assert decode_image(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])).size == (40, 30)


def test_orientation_is_not_applied_and_not_kept(pixels):
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    decoded = decode_image(saved(image, "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(decoded), pixels)
    assert not decoded.getexif()
    assert not decoded.info


CASES = {
    "empty": (b"", "empty"),
    "text": (b"no image at all", "unreadable"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "unreadable"),
    "header only": (b"\x89PNG\r\n\x1a\n", "unreadable"),
    "no pixels": (png_header(10, 10), "truncated"),
    "1 x 1": (saved(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
    "1 x 50": (saved(Image.new("RGB", (1, 50)), "PNG"), "too_small"),
    "201 times as long": (saved(Image.new("RGB", (402, 2)), "PNG"), "too_elongated"),
    "49,000,000 x 2": (png_header(49_000_000, 2), "too_elongated"),
    "20,000 x 20,000": (png_header(20_000, 20_000), "too_large"),
    "11,000 x 10,000": (png_header(11_000, 10_000), "too_large"),
}


@pytest.mark.parametrize(("data", "reason"), CASES.values(), ids=CASES)
def test_bad_images_have_a_reason(data, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImage) as caught:
            decode_image(data)
    assert caught.value.reason == reason
    assert caught.value.fix


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_cut_files_are_refused(pixels, format, kept):
    data = saved(Image.fromarray(pixels), format)
    with pytest.raises(UnreadableImage) as caught:
        decode_image(data[: int(len(data) * kept)])
    assert caught.value.reason in ("truncated", "unreadable")


def test_the_pixel_limit_is_the_callers(pixels):
    data = encode_image(pixels)
    assert decode_image(data, max_pixels=1200).size == (40, 30)
    with pytest.raises(UnreadableImage, match="40 x 30"):
        decode_image(data, max_pixels=1199)


def test_an_image_too_long_to_resize_is_refused_as_one_that_cannot_be_read():
    long = Image.new("RGB", (2, 402))
    with pytest.raises(UnreadableImage) as caught:
        ImagePreprocessing(224).pixels([long])
    assert caught.value.reason == "too_elongated"
    assert ImagePreprocessing(8).pixels([long.crop((0, 0, 2, 400))]).shape == (1, 3, 8, 8)


def test_a_budget_holds_no_more_pixels_than_its_limit_and_one_image_always_fits():
    budget, lock, most, held = PixelBudget(100), threading.Lock(), [0], [0]

    def hold(pixels):
        with budget.holding(pixels):
            with lock:
                held[0] += pixels
                most[0] = max(most[0], held[0])
                assert held[0] <= 100 or held[0] == pixels
            time.sleep(0.002)
            with lock:
                held[0] -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [60, 30, 250, 100, 10, 10, 10, 90] * 5))
    assert most[0] == 250
    assert budget.held == 0


def test_threads_share_the_budget_while_they_use_what_they_decoded(pixels, monkeypatch):
    monkeypatch.setattr(images, "BUDGET", PixelBudget(2 * pixels.shape[0] * pixels.shape[1]))
    data, lock, inside, most = encode_image(pixels), threading.Lock(), [0], [0]

    def use(data):
        try:
            with decoded(data) as image:
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.005)
                with lock:
                    inside[0] -= 1
                return image.size
        except UnreadableImage:  # gives back what it took
            return None

    with ThreadPoolExecutor(6) as pool:
        sizes = list(pool.map(use, [data, data[: len(data) // 2]] * 12))
    assert sizes == [(40, 30), None] * 12
    assert most[0] == 2
