"""Servers, keys, and what is found out before a run."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.bench.loopback import Sent, serving
from prefmill.engine.responders.catalogue import backend_of
from prefmill.engine.responders.server.access import access_of
from prefmill.engine.responders.settings import ModelChoice

from .fake_chat import FakeChat, error


def choice(**values):
    return ModelChoice(model="m", **{"backend": "openai", **values})


def test_a_vendor_has_its_address_and_its_variable(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-1\n")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-2")
    monkeypatch.setenv("MINE", "sk-3")
    found = [
        access_of(choice(**values)) for values in ({}, {"backend": "anthropic_batch"}, {"server": {"api_key": "MINE"}})
    ]
    assert [(one.url, one.variable, one.key) for one in found] == [
        ("https://api.openai.com/v1", "OPENAI_API_KEY", "sk-1"),
        ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "sk-2"),
        ("https://api.openai.com/v1", "MINE", "sk-3"),
    ]
    assert "sk-" not in repr(found)


def test_a_missing_key_is_named_and_a_server_nearby_needs_none(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(PrefmillError, match=r"OPENAI_API_KEY, for the key to https://api.openai.com/v1, is not set"):
        access_of(choice())
    near = (
        "http://localhost:8000/v1/",
        "http://127.0.0.1/v1",
        "http://10.1.2.3/v1",
        "http://vllm:8000/v1",
        "http://[::1]:1/v1",
    )
    assert [access_of(choice(url=url)).key for url in near] == [None] * 5
    assert access_of(choice(url=near[0])).url == "http://localhost:8000/v1"
    assert access_of(choice(server={"api_key": ""})).key is None


@pytest.mark.parametrize("url", ["ftp://host/v1", "host:8000", "http://", "http://host:port/v1"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(PrefmillError, match="is not the address of a server"):
        access_of(choice(url=url))


@pytest.mark.parametrize("url", ["https://me:sk-9@host/v1", "https://host/v1?key=sk-9", "https://host/v1#sk-9"])
def test_a_secret_in_an_address_is_refused_and_not_shown(url):
    with pytest.raises(PrefmillError) as raised:
        access_of(choice(url=url))
    assert "sk-9" not in f"{raised.value} {raised.value.fix}"


def test_a_probe_finds_a_wrong_key_and_a_server_that_is_not_there():
    class Strict(FakeChat):
        async def __call__(self, received) -> Sent:
            reply = await super().__call__(received)
            return error(401, "no") if received.headers.get("authorization") == "Bearer wrong" else reply

    fake = Strict()
    with serving(fake) as url, pytest.MonkeyPatch.context() as patch:
        here = choice(url=f"{url}/v1")
        patch.setenv("OPENAI_API_KEY", "right")
        backend_of(here).check(here)
        assert fake.paths == ["GET /v1/models"]
        patch.setenv("OPENAI_API_KEY", "wrong")
        with pytest.raises(PrefmillError, match=r"refuses the key in OPENAI_API_KEY \(401\)"):
            backend_of(here).check(here)
    with pytest.raises(PrefmillError, match="no server answers at http://127"):
        backend_of(here).check(here)
