"""Image bytes to pixels and back, with every way an image file can be bad given a name.

Images come from strangers. The header is checked before a pixel is decoded, only raster formats that Pillow
decodes by itself are admitted (EPS would start Ghostscript), and nothing of Pillow's own errors leaks out.

A file of 100 kB can hold 100 megapixels, so it is pixels that are counted where several threads decode: `decoded`
lets only so many be in memory at a time.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..base.errors import PrefmillError

Reason = Literal["empty", "unreadable", "truncated", "too_large", "too_small", "too_elongated"]
MOST_ELONGATED = 200  # times as long as wide: resized by its shorter side, such an image becomes huge
PIXELS_IN_FLIGHT = 128_000_000  # of all threads together; a pixel takes 8 bytes while it is converted
_EFFORT = 4  # of PNG, 0 to 9, and of WebP, 0 to 6: time for size

Image.init()  # registers the formats; `Image.open` does it lazily, and not for a given list
_FORMATS = tuple(name for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF") if name in Image.OPEN)
# `warnings.catch_warnings` changes process-wide state; decoding happens in worker threads.
_header_lock = threading.Lock()


class UnreadableImage(PrefmillError):
    """Bytes that cannot become an image of at least 2 x 2 pixels; `reason` is fit for a reject record."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"image is {reason}: {detail}", "replace the file, or drop its row from the input")
        self.args = (reason, detail)  # what pickling hands back to __init__
        self.reason: Reason = reason
        self.detail = detail


class PixelBudget:
    """A number of pixels that threads share. One image that is larger than all of it comes when no other is there."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many pixels, and keep it for the block, which must not ask for more."""
        with self._changed:
            self._changed.wait_for(lambda: not self.held or self.held + pixels <= self.limit)
            self.held += pixels
        try:
            yield
        finally:
            with self._changed:
                self.held -= pixels
                self._changed.notify_all()


BUDGET = PixelBudget(PIXELS_IN_FLIGHT)


@contextmanager
def decoded(data: bytes, *, max_pixels: int = 100_000_000) -> Iterator[Image.Image]:
    """`decode_image` for the length of a block, which makes something small of the image and decodes no other.

    Threads wait for each other here where their images together have more than `PIXELS_IN_FLIGHT` pixels.
    Raises UnreadableImage as `decode_image` does.
    """
    image = _open(data, max_pixels)
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImage("too_large", f"{width} x {height} pixels, the limit is {max_pixels}")
    if min(width, height) < 2:
        raise UnreadableImage("too_small", f"{width} x {height} pixels")
    refuse_elongated(width, height)
    with BUDGET.holding(width * height):
        try:
            image.load()
            rgb = _to_rgb(image)
        except MemoryError as error:
            raise UnreadableImage("too_large", f"{width} x {height} pixels do not fit into memory") from error
        except Exception as error:  # Pillow's decoders raise many types: OSError, SyntaxError, struct.error, EOFError
            raise UnreadableImage("truncated", f"the pixel data is cut or damaged ({error})") from error
        del image  # its pixels; what is left is the RGB copy
        rgb.info.clear()
        yield rgb


def refuse_elongated(width: int, height: int) -> None:
    """Raise UnreadableImage too_elongated for a side over 200 times as long as the other."""
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise UnreadableImage("too_elongated", f"{width} x {height} pixels, at most {MOST_ELONGATED} times as long")


def decode_image(data: bytes, *, max_pixels: int = 100_000_000) -> Image.Image:
    """Decode an image file to RGB the way the reference implementations do: Pillow's `convert("RGB")`.

    Alpha is dropped, not blended. The EXIF orientation is not applied (the references do not either), and no EXIF
    stays on the result. Of an animation the first frame counts. 16-bit greys keep their high byte, where Pillow's
    own conversion would clip them to white.

    Raises UnreadableImage: empty, unreadable, truncated, too_large (more than `max_pixels`, judged by the header),
    too_small (a side under 2 pixels), too_elongated.
    """
    with decoded(data, max_pixels=max_pixels) as image:
        return image


def encode_image(image: np.ndarray, format: Literal["png", "webp", "jpeg"] = "png", *, quality: int = 95) -> bytes:
    """Encode uint8 [H, W, 3] pixels: `png` and `webp` are lossless, `jpeg` takes `quality` (1 to 100).

    Equal pixels and arguments give equal bytes.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise PrefmillError(
            f"an image to encode must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}",
            "pass `Generated.images[i].cpu().numpy()`",
        )
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    if format == "png":
        picture.save(buffer, "PNG", compress_level=_EFFORT)
    elif format == "webp":
        picture.save(buffer, "WEBP", lossless=True, quality=50, method=_EFFORT)
    else:
        picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise UnreadableImage("empty", "the file has zero bytes")
    try:
        with _header_lock, warnings.catch_warnings():
            # Our own limit is the one that is enforced, in `decode_image`.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableImage("too_large", f"more pixels than the limit of {max_pixels} ({error})") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage("unreadable", f"{len(data)} bytes that are no {', '.join(_FORMATS)} image") from error
    except Exception as error:  # a header that is cut in the middle raises whatever its parser ran into
        raise UnreadableImage("unreadable", f"the header is cut or damaged ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey ("I;16" and its byte orders), or the same in a 32-bit container ("I": PGM, some TIFF).
        high = np.asarray(image) >> 8
        image = Image.fromarray(np.clip(high, 0, 255, out=high).astype(np.uint8))
    return image.convert("RGB")
