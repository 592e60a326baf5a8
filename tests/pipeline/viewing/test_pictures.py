"""Images by id: small copies, the stored file, what is too large for a copy, and what browsers may keep."""

import io

import numpy as np
import pytest
from PIL import Image
from prefmill.engine.images import encode_image
from prefmill.pipeline.viewing import pictures

LARGE = encode_image(np.random.default_rng(0).integers(0, 256, (700, 1400, 3), dtype=np.uint8), "jpeg", quality=60)


def opened(answer):
    return Image.open(io.BytesIO(answer.content))


@pytest.fixture
def client(tmp_path, made):
    tiff = io.BytesIO()
    Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(tiff, "TIFF")
    files = {"large": (LARGE, 1400, 700), "tiny": (made.picture(90), 16, 16), "broken": (b"\x89PNG\r\n\x1a\nno", 5, 5)}
    files |= {"tiff": (tiff.getvalue(), 9, 9), "lies": (made.picture(1), 90_000, 90_000)}
    rows = [
        made.records.Candidate(name, None, width, height, data, "m") for name, (data, width, height) in files.items()
    ]
    made.stage(tmp_path, "candidates", rows)
    from prefmill.pipeline.store import Run

    with made.viewed(Run(tmp_path)) as client:
        yield client


def test_sizes_and_formats(client, made):
    assert opened(client.get("/image/large/small")).size == (320, 160)
    assert opened(client.get("/image/large/large")).size == (1024, 512)
    assert client.get("/image/large/original").content == LARGE
    tiny = client.get("/image/tiny/small")  # as it is: nothing to gain
    assert (tiny.content, tiny.headers["content-type"]) == (made.picture(90), "image/png")
    assert opened(client.get("/image/tiff/small")).format == "JPEG"
    stored = client.get("/image/tiff/original")
    assert stored.headers["content-type"] == "application/octet-stream"
    assert stored.headers["content-disposition"] == "attachment"
    assert client.get("/image/gone/small").status_code == 404


def test_what_cannot_be_made_small_says_why(client, monkeypatch):
    assert "unreadable" in client.get("/image/broken/small").json()["error"]
    lies = client.get("/image/lies/small")
    assert (lies.status_code, lies.json()["reason"]) == (415, "too_large")
    assert "90000 x 90000" in lies.json()["error"]
    monkeypatch.setattr(pictures, "MOST_BYTES", 10_000)
    read = []
    monkeypatch.setattr(pictures, "small_jpeg", lambda *_, **__: read.append(1))
    refused = client.get("/image/large/large")
    assert refused.status_code == 415
    assert "MB" in refused.json()["error"]
    assert not read  # the file was not even opened
    assert client.get("/image/large/original").content == LARGE


def test_browsers_may_keep_what_the_address_names(client):
    first = client.get("/image/large/small")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/image/large/small", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    [entry] = [one for one in client.get("/api/entries").json()["entries"] if one["id"] == "large"]
    tag = client.get(f"/api/entries/{entry['id']}").json()["image_tags"]["large"]
    assert tag in first.headers["etag"]
    assert "immutable" in client.get(f"/image/large/small?v={tag}").headers["cache-control"]


def test_what_a_file_is_by_its_first_bytes():
    for format, kind in (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, format)
        assert pictures.media_type(buffer.getvalue()) == kind
    for other in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", b"RIFF1234WAVE"):
        assert pictures.media_type(other) == "application/octet-stream"
