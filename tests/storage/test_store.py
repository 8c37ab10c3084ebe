import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from storage import BadUriError, MissingError, StorageError, Store

REPOSITORY = Path(__file__).parents[2]


def test_write_bytes_then_read_bytes_returns_them(store):
    store.write_bytes("a/b/c.bin", b"\x00\xff")
    assert store.read_bytes("a/b/c.bin") == b"\x00\xff"


def test_write_bytes_twice_keeps_the_second(store):
    store.write_bytes("a.bin", b"first, longer")
    store.write_bytes("a.bin", b"second")
    assert store.read_bytes("a.bin") == b"second"


def test_write_bytes_empty_makes_an_empty_file(store):
    store.write_bytes("a.bin", b"")
    assert store.exists("a.bin")
    assert store.read_bytes("a.bin") == b""


def test_read_bytes_absent_raises_missing(store):
    with pytest.raises(MissingError, match=r"a/b\.bin must be there to read it"):
        store.read_bytes("a/b.bin")


def test_read_bytes_of_a_folder_raises_missing(store):
    store.write_bytes("a/b.bin", b"x")
    with pytest.raises(MissingError, match="to read it"):
        store.read_bytes("a")


def test_exists_tells_files_from_folders_and_absent(store):
    store.write_bytes("a/b.bin", b"x")
    assert store.exists("a/b.bin")
    assert not store.exists("a")
    assert not store.exists("a/c.bin")
    assert not store.exists("a/b.bin/c")


def test_list_is_sorted_recursive_and_relative(store):
    for path in ("b.bin", "a/z.bin", "a/y/x.bin", "_manifest.json"):
        store.write_bytes(path, b"x")
    assert store.list() == ["_manifest.json", "a/y/x.bin", "a/z.bin", "b.bin"]


def test_list_prefix_is_a_folder_not_a_beginning(store):
    for path in ("a/1.bin", "ab/2.bin", "a.bin"):
        store.write_bytes(path, b"x")
    assert store.list("a") == ["a/1.bin"]


def test_list_of_absent_folder_is_empty(store):
    assert store.list() == []
    assert store.list("a") == []


def test_list_of_a_file_is_empty(store):
    store.write_bytes("a.bin", b"x")
    assert store.list("a.bin") == []


def test_list_shows_what_another_process_wrote_later(s3_bucket):
    store = Store(f"{s3_bucket}/later")
    assert store.list() == []
    script = "import sys; from storage import Store; Store(sys.argv[1]).write_bytes('a.bin', b'x')"
    subprocess.run([sys.executable, "-c", script, store.uri], cwd=REPOSITORY, check=True)
    assert store.list() == ["a.bin"]
    assert store.exists("a.bin")


def test_list_keeps_names_that_globs_and_urls_would_change(store):
    names = ["a b.bin", "a%20b.bin", "a[1].bin", "a*.bin", "a#1?.bin", "\u00e4.bin"]
    for name in names:
        store.write_bytes(name, name.encode())
    assert store.list() == sorted(names)
    assert [store.read_bytes(name) for name in names] == [name.encode() for name in names]


def test_delete_removes_only_that_file(store):
    store.write_bytes("a*.bin", b"x")
    store.write_bytes("ab.bin", b"x")
    store.delete("a*.bin")
    assert store.list() == ["ab.bin"]


def test_delete_absent_does_nothing(store):
    store.delete("a/b.bin")
    assert store.list() == []


def test_child_is_the_store_of_a_folder(store):
    store.child("a/b").write_bytes("c.bin", b"x")
    assert store.list() == ["a/b/c.bin"]
    assert store.child("a/b").list() == ["c.bin"]
    assert store.child("a/b").uri == f"{store.uri}/a/b"


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../../b", "a//b", "a/", "./a", "a/.hidden"])
def test_every_method_with_a_path_outside_raises_bad_uri(store, path):
    for call in (store.read_bytes, store.exists, store.delete, store.child):
        with pytest.raises(BadUriError, match="path must be relative"):
            call(path)
    with pytest.raises(BadUriError, match="path must be relative"):
        store.write_bytes(path, b"x")


def test_pickled_store_reads_the_same(store):
    store.write_bytes("a.bin", b"x")
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert hash(copy) == hash(store)
    assert copy.read_bytes("a.bin") == b"x"


def test_write_bytes_from_threads_writes_all(store):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: store.write_bytes(f"{i:02d}/a.bin", bytes([i])), range(6)))
    assert [store.read_bytes(path) for path in store.list()] == [bytes([i]) for i in range(6)]


@pytest.mark.parametrize(("size", "expected"), [(2, b"yz"), (3, b"xyz"), (9, b"xyz")])
def test_read_end_is_the_last_bytes_or_all_of_them(store, size, expected):
    store.write_bytes("a.bin", b"xyz")
    assert store.read_end("a.bin", size) == expected


def test_read_end_absent_raises_missing(store):
    with pytest.raises(MissingError, match=r"a\.bin"):
        store.read_end("a.bin", 4)


def test_uri_of_file_protocol_and_relative_path_is_the_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("out/").uri == Store(f"file://{tmp_path}/out").uri == Store(tmp_path / "out").uri == f"{tmp_path}/out"


def test_uri_of_one_place_has_one_spelling(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    place = f"{tmp_path}/\u00fcber uns/a run"
    spellings = (
        "~/\u00fcber uns/a run/",
        f"file://{place}",
        f"file://{place}//",
        f"/{place}",
        f"{tmp_path}//\u00fcber uns/./a run",
    )
    assert {Store(uri).uri for uri in spellings} == {place}
    assert {Store(f"memory://a{x}b{y}").uri for x in ("/", "//") for y in ("", "/", "//")} == {"memory://a/b"}
    assert Store("s3://bucket//a///b/").uri == "s3://bucket/a/b"


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/tmp/a b/x.npy", "/tmp/a b", "x.npy"),
        ("/x.npy", "/", "x.npy"),
        ("file:///x.npy", "/", "x.npy"),
        ("memory://x.npy", "memory://", "x.npy"),
        ("memory://a/x.npy", "memory://a", "x.npy"),
        ("s3://bucket/x.npy", "s3://bucket", "x.npy"),
    ],
)
def test_of_file_splits_folder_and_name(uri, folder, name):
    assert Store.of_file(uri) == (Store(folder), name)


def test_of_file_without_a_folder_is_in_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store.of_file("x.npy") == (Store(str(tmp_path)), "x.npy")
    with pytest.raises(BadUriError, match="must end in its name"):
        Store.of_file("folder/")


def test_uri_of_the_whole_memory_lists_its_children():
    Store("memory://whole").write_bytes("a.bin", b"x")
    assert "whole/a.bin" in Store("memory://").list()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "must be one path"),
        ("simplecache::s3://bucket", "without '::'"),
        ("nosuch://a", "protocol of a store must be one that fsspec knows; got 'nosuch'"),
        ("s3://", "must name a bucket"),
    ],
)
def test_store_of_bad_uri_raises_bad_uri(uri, message):
    with pytest.raises(BadUriError, match=message):
        Store(uri)


def test_store_of_uninstalled_protocol_says_what_to_install(monkeypatch):
    def absent(protocol):
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    with pytest.raises(BadUriError, match="must have its filesystem installed; got: Install gcsfs"):
        Store("gs://bucket/a")


def test_write_bytes_to_absent_bucket_raises_missing(s3_bucket):
    with pytest.raises(MissingError, match=r"no-such-bucket/a\.bin must be there to write it"):
        Store("s3://no-such-bucket").write_bytes("a.bin", b"x")


def test_write_bytes_failing_at_the_end_leaves_the_old_file_and_no_other(local_store, tmp_path, monkeypatch):
    local_store.write_bytes("a.bin", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"must let us write .*a\.bin; got: .*No space left"):
        local_store.write_bytes("a.bin", b"new")
    assert local_store.read_bytes("a.bin") == b"old"
    assert os.listdir(tmp_path / "store") == ["a.bin"]


def test_write_bytes_killed_before_the_rename_shows_nothing(local_store, tmp_path):
    local_store.write_bytes("a.bin", b"old")
    script = (
        "import os, sys; from storage import Store; os.replace = lambda *names: os._exit(9);"
        "Store(sys.argv[1]).write_bytes('a.bin', b'new')"
    )
    assert subprocess.run([sys.executable, "-c", script, local_store.uri], cwd=REPOSITORY, check=False).returncode == 9
    assert len(os.listdir(tmp_path / "store")) == 2  # the temporary file is still there
    assert local_store.list() == ["a.bin"]
    assert local_store.read_bytes("a.bin") == b"old"


def test_write_bytes_over_a_folder_raises_storage_error(local_store):
    local_store.write_bytes("a/b.bin", b"x")
    with pytest.raises(StorageError, match="must be a file to write it"):
        local_store.write_bytes("a", b"x")
    assert local_store.list() == ["a/b.bin"]


def test_write_bytes_follows_the_umask(local_store, tmp_path):
    previous = os.umask(0o022)
    try:
        local_store.write_bytes("a.bin", b"x")
    finally:
        os.umask(previous)
    (path,) = tmp_path.rglob("a.bin")
    assert path.stat().st_mode & 0o777 == 0o644


def test_list_where_it_may_not_look_raises_storage_error(local_store, monkeypatch):
    local_store.write_bytes("a/b.bin", b"x")

    def forbidden(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(StorageError, match=r"must let us list .* Permission denied"):
        local_store.list()


def test_check_writable_leaves_nothing(store: Store):
    store.check_writable()
    assert store.list() == []


def test_check_writable_without_the_bucket_is_missing(s3_bucket: str):
    with pytest.raises(MissingError):
        Store("s3://no-such-bucket-here/run").check_writable()


def test_check_writable_without_rights_is_refused_and_names_the_place():
    with pytest.raises(StorageError, match="/proc/nope/run"):
        Store("/proc/nope/run").check_writable()
