import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from prefmill.base.errors import PrefmillError
from prefmill.engine.images import UnreadableImage, decode_image, encode_image


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
