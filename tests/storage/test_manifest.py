import json
import pickle
from threading import Lock
from time import sleep

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import (
    ConflictError,
    CorruptError,
    ShardManifest,
    StorageError,
    Store,
    config_hash,
    is_done,
    read_shard,
    read_shards,
    read_stage,
    shard_outputs,
    write_shard,
    write_stage,
)

HASH = config_hash({"psi": 0.7})
OTHER_HASH = config_hash({"psi": 0.5})
MANIFEST = "_shards/latents/00003.json"
CONFIGS = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def write(store, shard=3, config=HASH, files=None):
    return write_shard(
        store,
        stage="latents",
        shard=shard,
        config_hash=config,
        pack_digest="sha256:peeps",
        code_version="0.1.0",
        rows=12,
        failures=1,
        files={f"latents-{shard:05d}.parquet": b"rows", f"curve-{shard:05d}.parquet": b"curve"}
        if files is None
        else files,
    )


def done(store, shard=3):
    return is_done(store, "latents", shard, config_hash=HASH)


def test_write_shard_then_read_shard_returns_the_manifest(store):
    manifest = write(store)
    assert isinstance(manifest, ShardManifest)
    assert read_shard(store, "latents", 3) == manifest
    assert manifest.outputs["curve-00003.parquet"] == {
        "bytes": 5,
        "sha256": "80c1018a4c8f1d7fe7502bb5936f986b4cbe43cfe7e4dca7967aefb370518007",
    }
    assert store.list() == [MANIFEST, "curve-00003.parquet", "latents-00003.parquet"]


def test_write_shard_twice_writes_the_same_bytes(store):
    write(store)
    first = {path: store.read_bytes(path) for path in store.list()}
    write(store)
    assert {path: store.read_bytes(path) for path in store.list()} == first


def test_write_shard_of_reordered_files_writes_the_same_manifest(store):
    write(store, files={"a": b"1", "b": b"2"})
    first = store.read_bytes(MANIFEST)
    write(store, files={"b": b"2", "a": b"1"})
    assert store.read_bytes(MANIFEST) == first


def test_write_shard_writes_the_manifest_last(store, monkeypatch):
    order = []
    original = Store.write_bytes

    def recording(self, path, data):
        order.append(path)
        original(self, path, data)

    monkeypatch.setattr(Store, "write_bytes", recording)
    write(store)
    assert order == ["latents-00003.parquet", "curve-00003.parquet", MANIFEST]


@pytest.mark.parametrize("crash_at", ["latents-00003.parquet", "curve-00003.parquet", MANIFEST])
def test_write_shard_killed_before_any_write_is_not_done_and_can_be_run_again(store, monkeypatch, crash_at):
    original = Store.write_bytes

    def crashing(self, path, data):
        if path == crash_at:
            raise KeyboardInterrupt
        original(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_bytes", crashing)
        with pytest.raises(KeyboardInterrupt):
            write(store)
    assert not store.exists(MANIFEST)
    assert not done(store)
    write(store)
    assert done(store)


def test_write_shard_over_another_config_raises_conflict_and_writes_nothing(store):
    write(store)
    before = {path: store.read_bytes(path) for path in store.list()}
    with pytest.raises(ConflictError, match="must hold the results of one config"):
        write(store, config=OTHER_HASH, files={"other.parquet": b"x"})
    assert {path: store.read_bytes(path) for path in store.list()} == before


def test_write_shard_without_files_is_done(store):
    write(store, files={})
    assert done(store)


@pytest.mark.parametrize(
    ("stage", "shard", "message"), [("", 0, "one part"), ("a/b", 0, "one part"), ("a", -1, "0 or more")]
)
def test_read_shard_of_impossible_name_raises(stage, shard, message):
    with pytest.raises(ValueError, match=message):
        read_shard(Store("memory://names"), stage, shard)


def test_read_shard_absent_is_none(store):
    assert read_shard(store, "latents", 3) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"stage": "lat', "must be JSON"),
        (b"\xff\xfe\xff", "must be JSON"),
        (b"[]", "must be a JSON object; got list"),
        (b'{"stage": "latents"}', "manifest with the fields"),
    ],
)
def test_read_shard_damaged_raises_corrupt_and_is_not_done(store, data, message):
    write(store)
    store.write_bytes(MANIFEST, data)
    with pytest.raises(CorruptError, match=rf"00003\.json {message}|00003\.json must be a shard's {message}"):
        read_shard(store, "latents", 3)
    assert not done(store)


@pytest.mark.parametrize("outputs", [None, {"a": 5}, {"a": {"bytes": 1}}])
def test_read_shard_with_odd_outputs_raises_corrupt(store, outputs):
    write(store)
    payload = json.loads(store.read_bytes(MANIFEST)) | {"outputs": outputs}
    store.write_bytes(MANIFEST, json.dumps(payload).encode())
    with pytest.raises(CorruptError, match="manifest with the fields"):
        read_shard(store, "latents", 3)


def test_read_shard_copied_from_another_shard_raises_corrupt(store):
    write(store)
    store.write_bytes("_shards/latents/00004.json", store.read_bytes(MANIFEST))
    with pytest.raises(CorruptError, match="must be the manifest of latents 4; got that of latents 3"):
        read_shard(store, "latents", 4)


def test_read_shards_reads_each_once_many_at_a_time_and_keeps_their_order(local_store, monkeypatch):
    for shard in range(40):
        if shard != 25:
            write(local_store, shard)
    lock, at_once, most, reads = Lock(), 0, 0, []
    read_bytes = type(local_store).read_bytes

    def counted(self, path):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            reads.append(path)
        sleep(0.01)
        data = read_bytes(self, path)
        with lock:
            at_once -= 1
        return data

    monkeypatch.setattr(type(local_store), "read_bytes", counted)

    found = list(read_shards(local_store, "latents", range(40)))

    assert [None if done is None else done.shard for done in found] == [*range(25), None, *range(26, 40)]
    assert sorted(reads) == [f"_shards/latents/{shard:05d}.json" for shard in range(40)]
    assert most > 1


def test_is_done_only_for_the_shard_written(store):
    write(store)
    assert done(store)
    assert not done(store, shard=4)
    assert not is_done(store, "scores", 3, config_hash=HASH)


@pytest.mark.parametrize("data", [b"row", b"", b"ROWS", b"rows and more"])
def test_is_done_with_a_cut_or_changed_output_is_false(store, data):
    write(store)
    store.write_bytes("latents-00003.parquet", data)
    assert not done(store)


def test_is_done_with_an_output_gone_is_false(store):
    write(store)
    store.delete("latents-00003.parquet")
    assert not done(store)


def test_is_done_of_another_config_raises_conflict_that_says_what_to_do(store):
    write(store, config=OTHER_HASH)
    store.delete("latents-00003.parquet")
    with pytest.raises(ConflictError) as caught:
        done(store)
    for part in (store.uri, HASH[:12], OTHER_HASH[:12], "another output folder, or delete this one"):
        assert part in str(caught.value)


def test_is_done_where_the_store_fails_does_not_answer(store, monkeypatch):
    write(store)

    def failing(self, path):
        raise StorageError("the system must let us read it")

    monkeypatch.setattr(Store, "read_bytes", failing)
    with pytest.raises(StorageError, match="must let us read"):
        done(store)


def test_shard_outputs_come_in_the_order_of_shards(store):
    for shard in (100000, 2, 11, 1):
        write(store, shard=shard, files={f"b-{shard}": b"", f"a-{shard}": b""})
    shards = (1, 2, 11, 100000)
    assert shard_outputs(store, "latents") == [f"{letter}-{shard}" for shard in shards for letter in "ab"]


def test_shard_outputs_of_another_stage_are_left_out(store):
    write(store)
    assert shard_outputs(store, "latent") == []


def test_shard_manifest_survives_pickle(store):
    manifest = write(store)
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_config_hash_of_a_known_config_never_changes():
    config = {"psi": 0.7, "prompts": ["a face", "\u00e9"], "seed": None, "on": True}
    assert config_hash(config) == "30d6d2bf13adfd070d4850a690127b75312eced9d6dcee6f83a0bd9760c029db"


@settings(max_examples=25)
@given(st.dictionaries(st.text(), CONFIGS, max_size=5), st.randoms(use_true_random=False))
def test_config_hash_of_reordered_keys_is_the_same(config, random):
    keys = list(config)
    random.shuffle(keys)
    assert config_hash({key: config[key] for key in keys}) == config_hash(config)


def test_config_hash_of_reordered_inner_keys_is_the_same():
    assert config_hash({"a": [{"b": 1, "c": 2}]}) == config_hash({"a": ({"c": 2, "b": 1},)})


def test_config_hash_tells_values_apart():
    configs = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}, {"b": 1}, {}]
    assert len({config_hash(config) for config in configs}) == len(configs)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": {"b": [1, float("nan")]}}, r"config\['a'\]\['b'\]\[1\] must be a finite number; got nan"),
        ({"a": float("inf")}, r"config\['a'\] must be a finite number; got inf"),
        ({"a": {1: 2}}, r"keys of config\['a'\] must be strings .*; got \[1\]"),
        ({"a": {1, 2}}, r"config\['a'\] must be JSON .*; got set"),
        ({"a": np.float32(1)}, r"config\['a'\] must be JSON .*; got float32"),
    ],
)
def test_config_hash_of_what_is_not_json_raises_naming_the_place(config, message):
    with pytest.raises(ValueError, match=message):
        config_hash(config)


def test_read_stage_returns_what_write_stage_wrote(store):
    write_stage(store, "manifest", {"rows": 3, "stages": ("latents",)})
    assert store.list() == ["_manifest.json"]
    assert read_stage(store, "manifest") == {"rows": 3, "stages": ["latents"]}


def test_write_stage_of_reordered_keys_writes_the_same_bytes(store):
    write_stage(store, "a", {"x": 1, "y": 2})
    write_stage(store, "b", {"y": 2, "x": 1})
    assert store.read_bytes("_a.json") == store.read_bytes("_b.json")


def test_write_stage_of_nan_raises(store):
    with pytest.raises(ValueError, match=r"payload\['loss'\] must be a finite number"):
        write_stage(store, "manifest", {"loss": float("nan")})
    assert store.list() == []


def test_read_stage_absent_is_none(store):
    assert read_stage(store, "manifest") is None


def test_read_stage_damaged_raises_corrupt(store):
    store.write_bytes("_manifest.json", b"{")
    with pytest.raises(CorruptError, match=r"_manifest\.json must be JSON"):
        read_stage(store, "manifest")
