"""Paths of users: what cannot be one is named with its option, and nothing of the system's errors leaks out."""

from pathlib import Path

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.paths import user_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("x" * 256, "too long"),
        ("a/" * 5000, "too long"),
        ("~nosuchuser/prompts.txt", "home directory"),
        ("a\0b", "null"),
        ("\ud800", "surrogates"),
        ("circle", "symbolic links"),
    ],
)
def test_what_is_no_path_is_named_with_its_option(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    with pytest.raises(PrefmillError, match=said) as caught:
        user_path(text, "--prompts")
    assert "--prompts" in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.fix


def test_a_path_need_not_exist_and_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").touch()
    assert user_path("~/nothing.txt", "--to") == tmp_path / "nothing.txt"
    assert user_path(tmp_path / "file/below", "--to") == tmp_path / "file/below"
    assert user_path(b"caf\xe9".decode("utf-8", "surrogateescape"), "--to").name == "caf\udce9"
