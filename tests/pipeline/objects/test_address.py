"""Addresses lead to one place, and carry no secrets."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.base.paths import user_path
from prefmill.pipeline.objects import address
from prefmill.pipeline.objects.address import checked_address, folder_of, open_bucket


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("s3://bucket/runs/first", "s3://bucket/runs/first"),
        ("s3://bucket/", "s3://bucket"),
        ("gs://a-bucket/x=1/y", "gs://a-bucket/x=1/y"),
        ("az://container/run", "az://container/run"),
        ("file:///srv/runs/first/", "file:///srv/runs/first"),
    ],
)
def test_what_is_an_address(given, meant):
    assert checked_address(given) == meant


@pytest.mark.parametrize(
    "given",
    [
        *(
            "s3://",
            "s3:///x",
            "s3://B/x",
            "s3://bucket//x",
            "s3://bucket/../other",
            "s3://bucket/./x",
            "s3://bucket/a%2e",
        ),
        *("file://", "file://host/x", "file:///", "file:///srv/../etc", "s3://bucket/a\nb", "s3://bucket/a\\b"),
        *("ftp://host/x", "https://host/x", "memory://x", "s3://bucket/a b"),
    ],
)
def test_what_is_none(given):
    with pytest.raises(PrefmillError) as caught:
        checked_address(given)
    assert caught.value.fix


@pytest.mark.parametrize("given", ["s3://key:hush@bucket/x", "s3://bucket/x?X-Amz-Signature=hush", "az://c/x#hush"])
def test_secrets_are_refused_and_not_repeated(given):
    with pytest.raises(PrefmillError, match="more than a bucket") as caught:
        checked_address(given)
    assert "hush" not in str(caught.value)


def test_an_address_where_a_folder_is_wanted():
    with pytest.raises(PrefmillError, match="takes a folder") as caught:
        user_path("s3://bucket/run", "--to")
    assert "prefmill pull" in caught.value.fix


def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(address, "find_spec", lambda _: None)
    with pytest.raises(PrefmillError, match="obstore") as caught:
        open_bucket("s3://bucket/x")
    assert "prefmill[objects]" in caught.value.fix


def test_an_account_that_nobody_named(monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PrefmillError, match="no credentials") as caught:
        open_bucket("az://container/run")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.fix


def test_each_address_has_its_own_folder():
    folders = {folder_of(f"s3://{name}/run", use) for name in ("a", "b") for use in ("work", "read")}
    assert len(folders) == 4
