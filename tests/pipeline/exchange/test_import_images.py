"""Other people's images come in whole; what cannot is a reject with its reason and its place."""

import io
import os
import struct
import zlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def png_of(width, height, bits=1):
    """Return a valid PNG of black pixels, cheaply also where it is huge."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    line = bytes(1 + (width * bits + 7) // 8)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(line * height))
        + chunk(b"IEND", b"")
    )


def test_bad_images_between_good_ones_cost_nothing_but_themselves(tmp_path, bring, rows, rejects, picture):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64), dtype=np.uint16)
    sixteen, animated = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).save(sixteen, "PNG")
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    whole = io.BytesIO()
    Image.fromarray((noise >> 8).astype(np.uint8)).save(whole, "JPEG", quality=95)
    good = {
        "a.png": picture(0),
        "cmyk.jpg": picture(2, mode="CMYK", format="JPEG"),
        "16-bit.png": sixteen.getvalue(),
        "animated.gif": animated.getvalue(),
        "deep/er/m.webp": picture(3, format="WEBP"),
        "large.png": png_of(9_000, 9_000),
        "z.png": picture(4),
    }
    bad = {
        "empty.png": (b"", "image_empty"),
        "text.png": (b"<html>not found</html>", "image_unreadable"),
        "cut.jpg": (whole.getvalue()[: len(whole.getvalue()) // 2], "image_truncated"),
        "dot.png": (picture(5, (1, 1)), "image_too_small"),
        "huge.png": (png_of(20_000, 20_000), "image_too_large"),
        "second.png": (picture(4), "duplicate"),
        "eps.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_unreadable"),
    }
    for name, data in [*good.items(), *((name, data) for name, (data, _) in bad.items())]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    # the copy comes before its original in the order of names, so the original is the duplicate
    expected = {name: reason for name, (_, reason) in bad.items() if name != "second.png"} | {"z.png": "duplicate"}
    run = bring(tmp_path / "run", images=tmp_path / "in")
    assert rejects(run, "candidates") == expected
    arrived = {candidate.source: candidate.image for candidate in rows(run, "candidates")}
    assert arrived == {name: data for name, data in good.items() if name != "z.png"} | {"second.png": picture(4)}
    sizes = {candidate.source: (candidate.width, candidate.height) for candidate in rows(run, "candidates")}
    assert sizes["large.png"] == (9_000, 9_000)
    assert run.manifest("candidates")["rejects"] == dict(Counter(expected.values()).most_common())


def test_paths_that_leave_the_folder_are_refused_unopened(tmp_path, bring, rows, rejects, write_lines, picture):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (outside / "secret.png").write_bytes(picture(1))
    (inside / "good.png").write_bytes(picture(2))
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "folder").symlink_to(outside)
    (inside / "circle.png").symlink_to(inside / "circle.png")
    (inside / "alias.png").symlink_to(inside / "good.png")
    os.mkfifo(inside / "pipe.png")
    cases = {
        "../outside/secret.png": "unsafe_path",
        "x/../../outside/secret.png": "unsafe_path",
        str(outside / "secret.png"): "unsafe_path",
        str(inside / "good.png"): "unsafe_path",  # absolute, though it leads inside
        "C:\\secret.png": "unsafe_path",
        "..\\outside\\secret.png": "unsafe_path",
        "link.png": "unsafe_path",
        "folder/secret.png": "unsafe_path",
        "nul\0byte.png": "unsafe_path",
        "missing.png": "file_missing",
        "circle.png": "file_missing",
        "pipe.png": "file_missing",  # opening it would wait for ever
        "x" * 5000: "file_missing",
        ".": "file_missing",
        "": "no_image",
    }
    table = write_lines(inside / "images.jsonl", [*({"image": path} for path in cases), {"image": "good.png"}])
    run = bring(tmp_path / "run", images=table)
    assert rejects(run, "candidates") == {f"images.jsonl:{line}": why for line, why in enumerate(cases.values(), 1)}
    assert [candidate.image for candidate in rows(run, "candidates")] == [picture(2)]
    # the same folder as a folder: nothing outside is reached, and nothing is passed by in silence
    run = bring(tmp_path / "run2", images=inside)
    assert [candidate.image for candidate in rows(run, "candidates")] == [picture(2)]
    assert rejects(run, "candidates") == {
        "circle.png": "file_missing",
        "folder": "unsafe_path",
        "good.png": "duplicate",  # of alias.png, which leads to it
        "link.png": "unsafe_path",
        "pipe.png": "file_missing",
    }


def test_a_folder_of_images_takes_its_prompts_from_the_texts_beside_them(
    tmp_path, bring, rows, rejects, picture, recorder
):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.PNG", "sub/c.jpg", "d.png", "e.png", "f.png")):
        (folder / name).write_bytes(picture(number, format="JPEG" if name.endswith("jpg") else "PNG"))
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfa cat \r\n")
    (folder / "sub/c.txt").write_text("a dog")
    (folder / "b.txt").write_text("a cat ")
    (folder / "e.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "f.txt").write_text(" ")
    (folder / "notes.md").write_text("not an image")
    progress = recorder()
    run = bring(tmp_path / "run", progress, images=folder)
    prompts = {prompt.id: prompt.text for prompt in rows(run, "prompts")}
    assert list(prompts.values()) == ["a cat ", "a dog"]
    texts = {candidate.source: prompts.get(candidate.prompt_id) for candidate in rows(run, "candidates")}
    assert texts == {"a.PNG": "a cat ", "b.png": "a cat ", "d.png": None, "sub/c.jpg": "a dog"}
    assert rejects(run, "candidates") == {"e.png": "binary", "f.png": "unknown_prompt"}
    assert any("1 file" in notice for notice in progress.notices)


def test_a_table_of_images_brings_prompts_settings_and_rejects(tmp_path, bring, rows, rejects, write_lines, picture):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    table = [
        {"image": "0.png", "prompt_id": "p", "prompt": "a cat", "guidance": 5, "seed": 7, "steps": 28, "model": "sd3"},
        {"image": "1.png", "prompt_id": "p", "prompt": "a cat", "instruction": "never read: the first row's counts"},
        '{"image": "2.png", "prompt_id": "p", ',
        {"image": "2.png", "prompt_id": "p", "prompt": "another cat"},
        {"image": "2.png", "prompt_id": "q"},
        {"image": "2.png", "seed": "7"},
        {"image": "2.png", "seed": 1 << 70},
        '{"image": "2.png", "guidance": NaN}',
        {"image": ["1.png", "2.png"]},
        {"image": 7},
        {"prompt": "a dog"},
        [1, 2],
        {"image": "2.png", "model": "\ud800"},
        {"image": "2.png"},
    ]
    run = bring(tmp_path / "run", images=write_lines(tmp_path / "images.jsonl", table))
    (prompt,) = [prompt for prompt in rows(run, "prompts") if prompt.source == "p"]
    kept = [(c.source, c.prompt_id, c.model, c.seed, c.guidance, c.steps) for c in rows(run, "candidates")]
    assert kept == [
        ("0.png", prompt.id, "sd3", 7, 5.0, 28),
        ("1.png", prompt.id, "imported", None, None, None),
        ("2.png", None, "imported", None, None, None),
    ]
    assert rejects(run, "candidates") == {
        "images.jsonl:3": "invalid_json",
        "images.jsonl:4": "prompt_conflict",
        "images.jsonl:5": "unknown_prompt",
        "images.jsonl:6": "invalid_field",
        "images.jsonl:7": "invalid_field",
        "images.jsonl:8": "invalid_field",
        "images.jsonl:9": "several_images",
        "images.jsonl:10": "no_image",
        "images.jsonl:11": "no_image",
        "images.jsonl:12": "not_an_object",
        "images.jsonl:13": "invalid_text",
    }


def test_one_picture_of_two_prompts_is_two_candidates(few, tmp_path, bring, rows, rejects, write_lines):
    write_lines(few / "images.jsonl", [{"image": "images/0.png", "prompt_id": name} for name in ("cat", "dog", "cat")])
    run = bring(tmp_path / "run", prompts=few / "prompts.jsonl", images=few / "images.jsonl")
    assert len({candidate.id for candidate in rows(run, "candidates")}) == 2
    assert rejects(run, "candidates") == {"images.jsonl:3": "duplicate"}


@pytest.mark.parametrize("kind", ["one.parquet", "shards", "saved"])
def test_tables_that_hold_the_bytes(kind, tmp_path, bring, rows, rejects, picture, recorder):
    images = [picture(number) for number in range(50)]
    images[20], images[30] = b"", images[3]
    items = [{"image": {"bytes": data, "path": f"{n}.png"}, "prompt": f"p{n}"} for n, data in enumerate(images)]
    items[30]["prompt"] = "p3"
    path = tmp_path / kind
    if kind == "saved":
        import datasets

        datasets.Dataset.from_list(items).cast_column("image", datasets.Image()).save_to_disk(str(path))
    elif kind == "shards":
        path.mkdir()
        for shard in range(2):
            pq.write_table(pa.Table.from_pylist(items[shard * 25 : shard * 25 + 25]), path / f"{shard}.parquet")
    else:
        pq.write_table(pa.Table.from_pylist(items), path, row_group_size=7)
    run = bring(tmp_path / "run", images=path)
    texts = {prompt.id: prompt.text for prompt in rows(run, "prompts")}
    arrived = {texts[candidate.prompt_id]: candidate.image for candidate in rows(run, "candidates")}
    assert arrived == {f"p{number}": data for number, data in enumerate(images) if number not in {20, 30}}
    places = {"saved": "saved:{}", "one.parquet": "one.parquet:{}", "shards": "{}"}[kind]
    bad = ("0.parquet:21", "1.parquet:6") if kind == "shards" else (places.format(21), places.format(31))
    assert rejects(run, "candidates") == {bad[0]: "image_empty", bad[1]: "duplicate"}
    again = recorder()
    bring(tmp_path / "run", again, images=path)
    assert not again.worked


def test_separated_values_bring_settings_that_are_numbers(tmp_path, bring, rows, rejects, picture):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    lines = ["image,prompt,seed,guidance,steps,picked", '0.png,"a cat, red",7,5.5,28,True', "1.png,12,,,,false"]
    (tmp_path / "images.csv").write_text("\n".join([*lines, "1.png,,seven,,,"]))
    run = bring(tmp_path / "run", images=tmp_path / "images.csv")
    assert [prompt.text for prompt in rows(run, "prompts")] == ["a cat, red", "12"]
    told = [(c.source, c.seed, c.guidance, c.steps) for c in rows(run, "candidates")]
    assert told == [("0.png", 7, 5.5, 28), ("1.png", None, None, None)]
    assert rejects(run, "candidates") == {"images.csv:4": "invalid_field"}
    assert len(rows(run, "picks")) == 1
