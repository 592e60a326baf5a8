"""Nobody but a page of the viewer's own gets at a run, and nothing but verdicts can be written."""

import pytest
from prefmill.pipeline.records import content_id
from prefmill.pipeline.viewing.verdicts import VerdictFile


@pytest.fixture
def client(run, made):
    with made.viewed(run) as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8765", "", "localhost.evil"])
def test_a_name_that_was_made_to_point_here_is_refused(client, host):
    for path in ("/", "/api/overview", f"/image/{content_id('image', 1, 3.0)}/original", "/page/main.js"):
        assert client.get(path, headers={"host": host}).status_code == 400
    assert client.get("/", headers={"host": "localhost:1234"}).status_code == 200  # a tunnel's other end


def test_another_sites_page_gets_nothing(client):
    for site in ("cross-site", "same-site"):
        for path in ("/api/overview", f"/image/{content_id('image', 1, 3.0)}/small", "/page/main.js"):
            assert client.get(path, headers={"sec-fetch-site": site}).status_code == 403
        assert client.get("/", headers={"sec-fetch-site": site}).status_code == 200  # a link that leads here
    assert client.get("/api/overview", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_every_answer_tells_browsers_what_they_may_do(client):
    for path in ("/", "/api/overview", "/page/main.js", "/nowhere", f"/image/{content_id('image', 1, 3.0)}/original"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        *("/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/image/../run.yaml/original"),
        *("/image/%2e%2e%2frun.yaml/original", "/image/..%5crun/original", "/api/entries/..%2f..%2fetc%2fpasswd"),
        *("/api/entries/%00", f"/image/{content_id('image', 1, 3.0)}/huge", "/image/x/small", "/run.yaml"),
        f"/api/entries/{content_id('image', 1, 3.0)}",
    ],
)
def test_an_address_leads_to_nothing_else(client, path):
    answer = client.get(path)
    assert answer.status_code in {400, 404}
    assert "import" not in answer.text


def test_nothing_is_written_without_a_file_the_token_and_the_right_origin(run, made, tmp_path):
    body = {"entry": content_id("prompt", 1), "pair": content_id("pair", 1), "verdict": "agree"}
    with made.viewed(run) as client:
        assert client.post("/api/verdicts", json=body).status_code == 403
        assert 'content=""' in client.get("/").text
    with VerdictFile.writing(tmp_path / "v.jsonl") as file, made.viewed(run, verdicts=file) as client:
        token = {"x-prefmill-token": client.viewer.token}
        for headers in (
            {},
            {"x-prefmill-token": "guess"},
            {**token, "origin": "http://evil.example"},
            {**token, "origin": "null"},
            {**token, "sec-fetch-site": "cross-site"},
            {**token, "origin": "http://127.0.0.1:9999"},
        ):
            assert client.post("/api/verdicts", json=body, headers=headers).status_code == 403
        plain = {**token, "content-type": "text/plain"}
        assert client.post("/api/verdicts", content=b"{}", headers=plain).status_code == 415
        assert client.get("/api/verdicts").status_code == 405
        for path in ("/api/entries", "/", f"/image/{content_id('image', 1, 3.0)}/small"):
            for method in ("POST", "PUT", "DELETE"):
                assert client.request(method, path).status_code == 405
        assert (tmp_path / "v.jsonl").read_text() == ""
        origin = {**token, "origin": "http://127.0.0.1:8765"}
        assert client.post("/api/verdicts", json=body, headers=origin).status_code == 200
