"""What a store does when the network or the server fails: the same bytes in the end, or a refusal at once."""

import errno
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec.config
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, SSLError
from tenacity import stop_after_attempt

from storage import MissingError, RefusedError, StorageError, Store, UnavailableError, iter_files, read_file, retries
from storage.retries import is_transient
from tests.storage.faulty_proxy import FAULTS, FaultyProxy, running


def through(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Have this process's S3 go to another endpoint, with waits that a test can afford."""
    config = {"read_timeout": 0.4, "retries": {"mode": "standard", "total_max_attempts": 1}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": url, "config_kwargs": config})
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)


def test_a_share_of_faulty_answers_changes_no_byte(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    store, generator = Store(f"{s3_bucket}/{tmp_path.name}"), random.Random(1)
    files = {f"folder/{i}.bin": generator.randbytes(3_000) for i in range(12)}
    with running(FaultyProxy(os.environ["AWS_ENDPOINT_URL"], share=0.25)) as proxy, caplog.at_level("INFO"):
        through(monkeypatch, proxy.url)
        for path, data in files.items():
            store.write_bytes(path, data)
        read = {path: store.read_bytes(path) for path in store.list()}
        ends = [store.read_end(path, 100) for path in files]
        listed = {found.path: read_file(found.uri, most=9_999) for found in iter_files(f"{store.uri}/folder")}
    assert read == files
    assert ends == [data[-100:] for data in files.values()]
    assert listed == {path.removeprefix("folder/"): data for path, data in files.items()}
    assert set(proxy.spoilt) == set(FAULTS)
    assert "try 2: " in caplog.text


@pytest.mark.parametrize(
    ("fault", "error", "requests"), [("403", RefusedError, 1), ("404", MissingError, 1), ("503", UnavailableError, 3)]
)
def test_a_refusal_is_told_at_once_and_an_overload_after_our_patience(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, fault: str, error: type[StorageError], requests: int
):
    monkeypatch.setattr(retries, "stop_after_delay", lambda _: stop_after_attempt(3))
    store = Store(f"{s3_bucket}/refused")
    with (
        running(FaultyProxy(os.environ["AWS_ENDPOINT_URL"], share=0.0, faults=(fault,))) as proxy,
        monkeypatch.context() as patch,
    ):
        through(patch, proxy.url)
        store.exists("a.bin")  # the client is there
        proxy.share, proxy.requests = 1.0, 0
        with pytest.raises(error, match=r"storage-tests/refused/a\.bin"):
            store.write_bytes("a.bin", b"x")
    assert proxy.requests == requests
    assert not store.exists("a.bin")


@pytest.mark.parametrize("fault", ["503", "hang", "nobody listens"])
def test_check_writable_does_not_wait_for_a_store_that_is_away(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, fault: str
):
    with running(FaultyProxy(os.environ["AWS_ENDPOINT_URL"], share=1.0, faults=(fault,))) as proxy:
        through(monkeypatch, "http://127.0.0.1:9" if fault == "nobody listens" else proxy.url)
        with pytest.raises(UnavailableError, match="the store must answer to write"):
            Store(f"{s3_bucket}/away").check_writable()
    assert proxy.requests <= 1


def client_error(status: int, code: str) -> OSError:
    """As s3fs raises it: an error of the system's kind, caused by botocore's."""
    error = OSError(errno.EIO, "told in other words")
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error.__cause__ = ClientError(response, "GetObject")  # pyright: ignore[reportArgumentType]
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (client_error(500, "InternalError"), True),
        (client_error(503, "SlowDown"), True),
        (client_error(429, "TooManyRequests"), True),
        (client_error(200, "InternalError"), True),  # a multipart upload's, which fails after its headers
        (client_error(403, "AccessDenied"), False),
        (client_error(404, "NoSuchBucket"), False),
        (client_error(400, "InvalidArgument"), False),
        (client_error(501, "NotImplemented"), False),
        (EndpointConnectionError(endpoint_url="http://x"), True),
        (SSLError(endpoint_url="http://x", error="certificate"), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (PermissionError(13, "denied"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (ValueError("a bug"), False),
    ],
)
def test_is_transient_is_what_may_pass_by_itself(error: BaseException, expected: bool):
    assert is_transient(error) is expected


def test_a_bug_is_called_once():
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        retries.call_again(broken, what="test")
    assert calls == [1]


def test_create_bytes_of_many_one_succeeds(store: Store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create_bytes("a/claim", f"{i}".encode()), range(8)))
    assert sum(won) == 1
    assert store.read_bytes("a/claim") == f"{won.index(True)}".encode()
    assert store.list() == ["a/claim"]


def test_create_bytes_where_there_are_no_links(local_store: Store, monkeypatch: pytest.MonkeyPatch):
    def refused(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert local_store.create_bytes("claim", b"first")
    assert not local_store.create_bytes("claim", b"second")
    assert local_store.read_bytes("claim") == b"first"


def test_patience_is_a_setting_and_a_first_look_has_less(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(retries.PATIENCE, "7")
    assert retries.patience() == 7
    with retries.impatient():
        start = time.monotonic()
        assert retries.patience() == 0
        with pytest.raises(ConnectionError):
            retries.call_again(lambda: (_ for _ in ()).throw(ConnectionError()), what="test")
    assert retries.patience() == 7
    assert start
