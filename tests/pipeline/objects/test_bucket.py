"""The operations that decide between machines, on every kind of store."""

import hashlib
import http.server
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.objects.address import open_bucket


def test_an_object_is_created_once(bucket):
    assert bucket.create("log/1", b"first") is not None
    assert bucket.create("log/1", b"second") is None
    assert bucket.look("log/1").data == b"first"
    assert bucket.look("log/2") is None


def test_of_many_that_create_one_wins(tmp_path):
    place = open_bucket(f"file://{tmp_path}/bucket")
    with ThreadPoolExecutor(4) as pool:
        won = list(
            pool.map(lambda who: [bool(place.create(f"log/{n}", who)) for n in range(40)], (b"a", b"b", b"c", b"d"))
        )
    assert [sum(outcomes) for outcomes in zip(*won, strict=True)] == [1] * 40


def test_only_the_version_that_was_read_is_replaced(bucket):
    first = bucket.create("lease", b"1")
    second = bucket.swap("lease", b"2", first)
    assert second not in {None, first}
    assert bucket.swap("lease", b"3", first) is None
    assert bucket.look("lease").data == b"2"
    assert bucket.look("lease").etag == second


def test_of_many_that_swap_one_wins(tmp_path):
    place = open_bucket(f"file://{tmp_path}/bucket")
    etag = place.create("lease", b"0")
    assert etag is not None
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda who: place.swap("lease", b"%d" % who, etag), range(1, 9)))
    assert sum(one is not None for one in won) == 1


def test_files_go_there_and_come_back(bucket, tmp_path):
    source, target, content = tmp_path / "source", tmp_path / "target", b"prefmill" * 1000
    source.write_bytes(content)
    bucket.put("staged/1/a", source)
    bucket.put("staged/2/b", source)
    assert bucket.names("staged") == ["staged/1/a", "staged/2/b"]
    assert bucket.fetch("staged/1/a", target, hashlib.sha256(content).hexdigest())
    assert target.read_bytes() == content
    with pytest.raises(PrefmillError, match="damaged"):
        bucket.fetch("staged/2/b", target, "0" * 16)
    assert target.read_bytes() == content
    bucket.delete(["staged/1/a", "staged/1/a", "staged/2/b"])
    assert bucket.names("staged") == []
    assert not bucket.fetch("staged/1/a", target, "")


def test_the_store_says_what_time_it_is(bucket):
    bucket.create("a", b"")
    assert 0 <= (bucket.now() - bucket.look("a").modified).total_seconds() < 60
    assert bucket.names("clock") == []


def test_a_bucket_that_is_not_there(s3_server):
    place = open_bucket("s3://nobodys-bucket/run")
    for action in (
        lambda: place.create("a", b""),
        lambda: place.look("a"),
        lambda: place.names("log"),
        place.now,
    ):
        with pytest.raises(PrefmillError, match="s3://nobodys-bucket/run: there is no such bucket"):
            action()


def test_a_folder_that_went(tmp_path):
    place = open_bucket(f"file://{tmp_path}/bucket")
    (tmp_path / "bucket").rmdir()
    with pytest.raises(PrefmillError, match="is not there any more"):
        place.create("a", b"")


def test_credentials_that_are_refused(monkeypatch):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<Error><Code>InvalidAccessKeyId</Code><Message>unknown key</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_ALLOW_HTTP": "true"}
    for name, value in (environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}).items():
        monkeypatch.setenv(name, value)
    try:
        with pytest.raises(PrefmillError, match="refuses our credentials") as caught:
            open_bucket("s3://prefmill/run").look("lease.json")
    finally:
        server.shutdown()
        server.server_close()
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.fix
    assert "AKIAWRONG" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_nobody_answers(monkeypatch):
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PrefmillError, match="s3://prefmill/run cannot be used"):
        open_bucket("s3://prefmill/run").look("lease.json")
