"""Files appear whole or not at all, leftovers go, and what the file system refuses is said in one sentence."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.files import (
    copy_folder,
    make_folder,
    read_text,
    remove_leftovers,
    replacing,
    sha256_of,
    sync,
    write_text,
)

BAD_NAMES = ["a\0b", "x" * 300, "file/below", "\ud800"]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "file").write_text("in the way")
    return tmp_path


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("write", [make_folder, lambda path: write_text(path, "x"), lambda path: copy_folder([], path)])
def test_names_that_no_file_system_takes(place, name, write):
    with pytest.raises(PrefmillError, match="cannot write") as error:
        write(place / name)
    assert error.value.fix
    assert [path.name for path in place.iterdir()] == ["file"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def half():
        with replacing(target) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_file_may_be_named_by_what_was_written(tmp_path):
    with replacing(tmp_path / "x", lambda written: tmp_path / sha256_of(written)[:4]) as temporary:
        temporary.write_bytes(b"abc")
    assert [path.name for path in tmp_path.iterdir()] == ["ba78"]  # FIPS 180-2: SHA-256 of "abc" is ba7816bf...


def test_a_leftover_folder_under_the_temporary_name_is_no_obstacle(tmp_path):
    (tmp_path / ".tmp-a.txt" / "deep").mkdir(parents=True)
    write_text(tmp_path / "a.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_in_the_way_of_a_file_is_named(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(PrefmillError, match=r"a\.txt: Is a directory"):
        write_text(tmp_path / "a.txt", "text")


def test_half_a_surrogate_pair_is_written_as_its_escape(tmp_path):
    write_text(tmp_path / "a", '{"name": "\udcff"}')
    assert (tmp_path / "a").read_bytes() == rb'{"name": "\udcff"}'


@pytest.mark.parametrize("content", [b"\xff\xfe", b"caf\xe9"])
def test_text_that_is_not_utf8_is_named(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(PrefmillError, match="a: it is not UTF-8 text") as error:
        read_text(tmp_path / "a", "mend it")
    assert error.value.fix == "mend it"


def test_reading_what_is_not_there_or_no_file(place):
    assert read_text(place / "nothing", "") is None
    for name in (".", *BAD_NAMES):
        with pytest.raises(PrefmillError, match="cannot read"):
            read_text(place / name, "")


def test_leftovers_go_files_links_and_folders_alike(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    run = tmp_path / "run"
    (run / ".tmp-folder" / "sub").mkdir(parents=True)
    (run / ".tmp-folder" / "sub" / "file").touch()
    (run / ".tmp-file").touch()
    (run / ".tmp-link").symlink_to(outside)
    (run / ".tmp-dangling").symlink_to(tmp_path / "nowhere")
    (run / "kept.tmp-").touch()
    remove_leftovers(run)
    assert [path.name for path in run.iterdir()] == ["kept.tmp-"]
    assert (outside / "kept").exists()


def test_a_copied_folder_is_the_new_one_whole_and_the_old_one_is_gone(tmp_path):
    (tmp_path / "new").write_text("new")
    (tmp_path / "to" / "old").mkdir(parents=True)
    copy_folder([tmp_path / "new"], tmp_path / "to")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["new", "to", "to/new"]


@pytest.mark.parametrize("call", ["copyfile", "rmtree", "replace"])
def test_a_kill_at_any_moment_leaves_no_part_of_a_folder(tmp_path, call):
    """A folder is taken away in one step: killed at its n-th operation, a copy never leaves a folder of two halves."""
    code = f"""
import os, shutil, sys
from pathlib import Path
from prefmill.base import files
folder, left = Path(sys.argv[1]), [int(sys.argv[2])]
def counted(real):
    def operation(*arguments, **keywords):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return real(*arguments, **keywords)
    return operation
if {call!r} == "replace":
    Path.replace = counted(Path.replace)
elif {call!r} == "copyfile":
    files.shutil.copyfile = counted(shutil.copyfile)
else:
    os.unlink = counted(os.unlink)
files.copy_folder([folder / "a", folder / "b"], folder / "to")
"""
    for number in range(3):
        folder = tmp_path / str(number)
        (folder / "to").mkdir(parents=True)
        for name in ("a", "b"):
            (folder / name).write_text("new")
            (folder / "to" / name).write_text("old")
        subprocess.run([sys.executable, "-c", code, str(folder), str(number)], check=False)
        found = sorted(path.read_text() for path in (folder / "to").iterdir()) if (folder / "to").exists() else []
        assert found in (["old", "old"], ["new", "new"], [])
        copy_folder([folder / "a", folder / "b"], folder / "to")
        assert sorted(path.read_text() for path in (folder / "to").iterdir()) == ["new", "new"]


def test_a_folder_whose_file_system_knows_no_sync_is_no_error(tmp_path, monkeypatch):
    def refuses(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", refuses)
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        sync(tmp_path / "file")


def test_a_folder_s_hash_depends_on_names_and_bytes(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, name, content in ((first, "a", "x"), (second, "a", "x")):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / name).write_text(content)
    assert sha256_of(first) == sha256_of(second)
    Path(second / "sub" / "a").rename(second / "sub" / "b")
    assert sha256_of(first) != sha256_of(second)
