import contextlib
import http.server
import os
import threading
import tracemalloc
from pathlib import Path

import boto3
import pytest

from storage import MissingError, Store, iter_files, join_uri, read_file

TREE = {"b.png": b"12", "a/b.png": b"345", "a/c/x y.jpg": b"6", "z#1?.png": b"7"}


def fill(store: Store) -> Store:
    for path, data in TREE.items():
        store.write_bytes(path, data)
    return store


def test_iter_files_finds_every_file_below_a_folder_on_every_backend(store: Store):
    found = {file.path: file for file in iter_files(fill(store).uri)}
    assert {path: file.size for path, file in found.items()} == {path: len(data) for path, data in TREE.items()}
    assert {path: read_file(file.uri, most=100) for path, file in found.items()} == TREE
    assert all(file.version for file in found.values())


def test_iter_files_of_a_pattern_keeps_to_it(store: Store):
    uri = fill(store).uri
    assert sorted(file.path for file in iter_files(f"{uri}/**/*.png")) == ["a/b.png", "b.png", "z#1?.png"]
    assert [file.path for file in iter_files(f"{uri}/a/*.png")] == ["b.png"]
    assert [file.path for file in iter_files(f"{uri}/[ac]*/c/*")] == ["a/c/x y.jpg"]


def test_iter_files_of_one_file_is_that_file(store: Store):
    fill(store)
    (found,) = iter_files(f"{store.uri}/a/b.png")
    assert (found.path, found.size, found.uri) == ("b.png", 3, f"{store.uri}/a/b.png")


def test_iter_files_of_nothing_says_so(store: Store):
    fill(store)
    with pytest.raises(MissingError, match="must be there"):
        list(iter_files(f"{store.uri}/absent"))


def test_iter_files_leaves_out_names_that_begin_with_a_dot(tmp_path: Path):
    for name in (".DS_Store", ".cache/x.png", "y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    assert [file.path for file in iter_files(str(tmp_path))] == ["y.png"]


def test_iter_files_follows_links_to_folders_but_not_round_and_round(tmp_path: Path):
    (tmp_path / "photos/in").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.png").write_bytes(b"1")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "other")
    (tmp_path / "photos/in/up").symlink_to(tmp_path / "photos")
    assert [file.path for file in iter_files(str(tmp_path / "photos"))] == ["linked/x.png"]


def test_iter_files_lists_what_cannot_be_read(tmp_path: Path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    (Path(os.fsdecode(bytes(tmp_path) + b"/\xff.png"))).write_bytes(b"1")
    found = {file.path: file for file in iter_files(str(tmp_path))}
    assert sorted(found) == [r"\xff.png", "gone.png", "pipe.png"]
    for file in found.values():
        with pytest.raises(MissingError):
            read_file(file.uri, most=10)


def test_iter_files_of_a_folder_that_is_called_like_a_pattern_takes_the_folder(tmp_path: Path):
    (tmp_path / "photos [2020]").mkdir()
    (tmp_path / "photos [2020]/x.png").write_bytes(b"1")
    assert [file.path for file in iter_files(str(tmp_path / "photos [2020]"))] == ["x.png"]


def test_iter_files_of_a_bucket_reads_page_after_page(s3_bucket: str, tmp_path: Path):
    client = boto3.client("s3")
    bucket = s3_bucket.removeprefix("s3://")
    for number in range(1_005):  # a page has 1,000
        client.put_object(Bucket=bucket, Key=f"{tmp_path.name}/{number:04d}.png", Body=b"1")
    client.put_object(Bucket=bucket, Key=f"{tmp_path.name}-beside/x.png", Body=b"1")
    client.put_object(Bucket=bucket, Key=f"{tmp_path.name}/folder/", Body=b"")
    found = [file.path for file in iter_files(f"{s3_bucket}/{tmp_path.name}")]
    assert found == [f"{number:04d}.png" for number in range(1_005)]


def test_iter_files_holds_no_more_for_more_files(tmp_path: Path):
    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:08d}.png").touch()
        tracemalloc.start()
        assert sum(1 for _ in iter_files(str(folder))) == count
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(4_000) < peak(100) + 100_000


def test_read_file_stops_after_the_most(store: Store):
    fill(store)
    assert read_file(f"{store.uri}/a/b.png", most=1) == b"34"
    assert read_file(f"{store.uri}/a/b.png", most=3) == b"345"


class EndlessServer(http.server.BaseHTTPRequestHandler):
    """A web server that says nothing of the length and takes no ranges."""

    sent = 0

    def do_HEAD(self) -> None:
        self.send_error(405)

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1_024):
                self.wfile.write(bytes(65_536))
                type(self).sent += 65_536

    def log_message(self, *_: object) -> None: ...


def test_read_file_from_a_server_without_end_stops_after_the_most():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EndlessServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = read_file(f"http://127.0.0.1:{server.server_port}/x.png", most=3_000_000)
        server.shutdown()
    assert len(found) == 3_000_001
    assert EndlessServer.sent < 20_000_000  # what is in the buffers on the way comes on top


def test_read_file_of_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(MissingError, match="regular file"):
        read_file(str(tmp_path), most=10)


@pytest.mark.parametrize(
    ("folder", "path", "uri"),
    [
        ("s3://bucket/list", "x/y.png", "s3://bucket/list/x/y.png"),
        ("s3://bucket/list", "s3://other/y.png", "s3://other/y.png"),
        ("/photos", "../y.png", "/y.png"),
        ("/photos", "/y.png", "/y.png"),
    ],
)
def test_join_uri(folder: str, path: str, uri: str):
    assert join_uri(folder, path) == uri
