"""The same tests on three stores: memory, a folder, and a loopback S3 server that lives as long as the session."""

import os
import uuid
from datetime import timedelta

import pytest
from prefmill.pipeline.objects.address import open_bucket
from prefmill.pipeline.objects.bucket import Bucket

KEYS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3_server():
    """Where a bucket `prefmill` is; the environment leads there."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true"}).items():
            patch.setenv(name, value)
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        backend.create_bucket("prefmill", "us-east-1")
        yield backend
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def bucket(request, tmp_path):
    """An empty place in a store."""
    pytest.importorskip("obstore", reason="the extra `objects` is not installed")
    if request.param == "memory":
        from obstore.store import MemoryStore

        return Bucket(MemoryStore(), "memory://test")
    if request.param == "file":
        return open_bucket(f"file://{tmp_path}/bucket")
    request.getfixturevalue("s3_server")
    return open_bucket(f"s3://prefmill/{uuid.uuid4().hex}/run")


@pytest.fixture
def age(request, bucket):
    """Have a store think that it took an object so many seconds earlier than it did."""

    def move(name, seconds):
        if bucket.root is not None:
            path = bucket.root / name
            moment = path.stat().st_mtime - seconds
            os.utime(path, (moment, moment))
        elif bucket.address.startswith("s3://"):
            backend, key = (
                request.getfixturevalue("s3_server"),
                f"{bucket.address.removeprefix('s3://prefmill/')}/{name}",
            )
            backend.get_object("prefmill", key).last_modified -= timedelta(seconds=seconds)
        else:
            pytest.skip("nobody can set the clock of a store in memory")

    return move
