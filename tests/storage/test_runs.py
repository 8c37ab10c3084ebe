"""What a run holds by its receipts, on every backend: states, damage, waste, and taking a stage out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import storage
from storage import Store, delete_stage, delete_waste, find_damage, find_runs, find_waste, read_states

NOW = datetime.now(UTC) + timedelta(hours=1)  # so that what a test writes is old enough to be waste


def write(
    store: Store, stage: str = "edits", *, shards: int = 2, close: bool = True, folder: str | None = None
) -> None:
    for shard in range(shards):
        storage.write_shard(
            store,
            stage=stage,
            shard=shard,
            config_hash="a" * 64,
            pack_digest="b" * 64,
            code_version="1",
            rows=3,
            failures=shard,
            files={f"{folder or stage}/part-{shard:05d}.parquet": b"x" * 10},
        )
    if close:
        payload: dict[str, Any] = {
            "stage": stage,
            "shards": shards,
            "rows": 3 * shards,
            "failures": 1,
            "config": {"seed": 0},
            "config_hash": "a" * 64,
            "pack": "peeps",
            "code_version": "1",
        }
        storage.write_stage(store, stage, payload)


def test_states_count_rows_failures_bytes_and_files(store: Store):
    write(store)
    (state,) = read_states(store)
    assert (state.stage, state.whole, state.shards, state.of_shards) == ("edits", True, 2, 2)
    assert (state.rows, state.failures, state.bytes, state.files) == (6, 1, 20, 2)
    assert state.config == {"seed": 0}
    assert state.pack == "peeps"
    assert state.first is not None
    assert state.last is not None
    assert state.first <= state.last


def test_a_stage_that_was_not_closed_is_not_whole(store: Store):
    write(store, close=False)
    (state,) = read_states(store)
    assert state.whole is False
    assert state.of_shards is None
    assert [damage.shard for damage in find_damage(store)] == [None]


def test_working_files_of_a_later_stage_are_neither_whole_nor_damaged(store: Store):
    write(store, "sums", close=False, folder="_sums")
    assert [state.whole for state in read_states(store)] == [None]
    assert list(find_damage(store)) == []


def test_a_whole_run_has_no_damage_and_no_waste(store: Store):
    write(store)
    assert list(find_damage(store)) == []
    assert list(find_waste(store, now=NOW)) == []


@pytest.mark.parametrize(
    ("path", "data", "shard", "reason"),
    [
        ("edits/part-00001.parquet", b"y" * 10, 1, "edits/part-00001.parquet is damaged"),
        ("edits/part-00001.parquet", b"", 1, "edits/part-00001.parquet is damaged"),
        ("edits/part-00000.parquet", None, 0, "edits/part-00000.parquet is missing"),
        ("_shards/edits/00001.json", None, 1, "its receipt is missing"),
        ("_shards/edits/00000.json", b"{", 0, "must be JSON"),
        ("_edits.json", b"[]", None, "must be a JSON object"),
    ],
)
def test_damage_is_named(store: Store, path: str, data: bytes | None, shard: int | None, reason: str):
    write(store)
    if data is None:
        store.delete(path)
    else:
        store.write_bytes(path, data)
    found = list(find_damage(store))
    assert (found[0].stage, found[0].shard) == ("edits", shard)
    assert reason in found[0].reason


def test_a_stage_that_lost_all_receipts_is_damage(store: Store):
    write(store)
    for shard in range(2):
        storage.delete_shard(store, "edits", shard)
    assert [damage.shard for damage in find_damage(store)] == [0, 1]


def test_a_closing_that_counts_other_rows_is_damage(store: Store):
    write(store)
    closed = storage.read_stage(store, "edits")
    assert closed is not None
    storage.write_stage(store, "edits", closed | {"rows": 7})
    assert [damage.reason for damage in find_damage(store)] == ["_edits.json does not agree with the receipts"]
    assert [state.whole for state in read_states(store)] == [False]


def test_a_closing_of_other_settings_is_damage(store: Store):
    write(store)
    closed = storage.read_stage(store, "edits")
    assert closed is not None
    storage.write_stage(store, "edits", closed | {"config_hash": "c" * 64})
    assert [damage.reason for damage in find_damage(store)] == ["_edits.json does not agree with the receipts"]


def test_a_file_that_no_receipt_names_is_waste_once_it_is_old(store: Store):
    write(store)
    store.write_bytes("edits/part-00002.parquet", b"half")
    store.write_bytes("notes.txt", b"the user's own")
    assert list(find_waste(store, now=datetime.now(UTC))) == []
    (waste,) = find_waste(store, now=NOW)
    assert (waste.path, waste.bytes, waste.reason) == ("edits/part-00002.parquet", 4, "no receipt names it")
    delete_waste(store, waste)
    assert list(find_waste(store, now=NOW)) == []
    assert store.exists("notes.txt")
    assert list(find_damage(store)) == []


def test_temporary_files_of_a_crash_are_waste(local_store: Store, tmp_path):
    write(local_store)
    name = f".{'0' * 32}.tmp"
    (tmp_path / "store" / "edits" / name).write_bytes(b"half")
    (tmp_path / "store" / ".keep").write_bytes(b"the user's own")
    (waste,) = find_waste(local_store, now=NOW)
    assert waste.path == f"edits/{name}"
    delete_waste(local_store, waste)
    assert not (tmp_path / "store" / "edits" / name).exists()
    assert (tmp_path / "store" / ".keep").exists()
    with pytest.raises(ValueError, match="temporary file"):
        local_store.delete_leftover("", ".keep")


def test_a_stage_is_taken_out_with_its_files_and_no_other(store: Store):
    write(store)
    write(store, "scores")
    assert delete_stage(store, "scores") == 2
    assert [state.stage for state in read_states(store)] == ["edits"]
    assert not any(path.startswith(("scores", "_scores", "_shards/scores")) for path in store.list())
    assert list(find_damage(store)) == []


def test_runs_are_found_in_folders_and_inside_of_runs(store: Store):
    for place in ("one", "nights/monday", "one/gallery", "one/_work"):
        write(store.child(place))
    store.write_bytes("nights/notes.txt", b"")
    found = [run.uri.removeprefix(f"{store.uri}/") for run in find_runs(store)]
    assert sorted(found) == ["nights/monday", "one"]
    inner = [run.uri.removeprefix(f"{store.uri}/") for run in find_runs(store.child("one"), inner=True)]
    assert inner == ["one", "one/_work", "one/gallery"]


def test_no_runs_where_there_is_nothing(store: Store):
    assert list(find_runs(store)) == []
    assert read_states(store) == []
