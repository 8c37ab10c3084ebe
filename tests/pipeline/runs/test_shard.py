import json
from pathlib import Path

import pyarrow as pa
import pytest

import storage
from pipeline.config import LatentsConfig
from pipeline.errors import MissingInputError
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Made, close_stage, find_input, part_path, run_shard
from storage import Store
from tests.counting_store import CountingStore

STAGE = "latents"
ROWS = (3, 0, 2, 4)


def make_run(store: Store, pack: Pack, shard_rows: tuple[int, ...]) -> None:
    """A closed stage of shards with so many rows, numbered through."""
    first = 0
    for shard, rows in enumerate(shard_rows):
        numbers = pa.table({"number": pa.array(range(first, first + rows), pa.int64())})
        made = Made({part_path(STAGE, shard): storage.table_bytes(numbers)}, rows=rows)
        run_shard(store, STAGE, shard, config_hash="h", pack=pack, make=lambda made=made: made)
        first += rows
    close_stage(store, STAGE, num_shards=len(shard_rows), config_hash="h", config=LatentsConfig(), pack=pack)


def forget_shard_rows(store: Store) -> None:
    """Make the run one of before the record of rows."""
    payload = storage.read_stage(store, STAGE)
    assert payload is not None
    del payload["shard_rows"]
    storage.write_stage(store, STAGE, payload)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(0, 9), (0, 3), (2, 4), (3, 5), (4, 6), (8, 9)])
def test_slice_table_is_the_rows_asked_for(start: int, stop: int, old: bool, tiny_pack: Pack, run_store: Store):
    make_run(run_store, tiny_pack, ROWS)
    if old:
        forget_shard_rows(run_store)
    found = find_input(STAGE, run_store).slice_table(start, stop)
    assert found["number"].to_pylist() == list(range(start, stop))


def test_close_stage_records_the_rows_of_every_shard(tiny_pack: Pack, run_store: Store):
    make_run(run_store, tiny_pack, ROWS)
    payload = json.loads(run_store.read_bytes(f"_{STAGE}.json"))
    assert (payload["shard_rows"], payload["rows"]) == ([3, 0, 2, 4], 9)


def reads_of_a_pass(store: Store) -> int:
    """Reads of a pass that takes up the stage anew for every shard, as tasks do."""
    CountingStore.reads.clear()
    for shard in range(find_input(STAGE, store).num_shards):
        find_input(STAGE, CountingStore(store.uri)).slice_table(2 * shard, 2 * shard + 2)
    return CountingStore.reads.total()


@pytest.mark.parametrize(("old", "each"), [(False, 3), (True, 4)])
def test_pass_over_n_shards_reads_each_a_few_times(old: bool, each: int, tiny_pack: Pack, tmp_path: Path):
    for num_shards in (20, 60):
        store = Store(str(tmp_path / str(num_shards)))
        make_run(store, tiny_pack, (2,) * num_shards)
        if old:
            forget_shard_rows(store)
        assert reads_of_a_pass(store) == each * num_shards


def test_slice_table_of_a_lost_receipt_names_the_remedy(tiny_pack: Pack, run_store: Store):
    make_run(run_store, tiny_pack, ROWS)
    run_store.delete(f"_shards/{STAGE}/00002.json")
    with pytest.raises(MissingInputError, match=r"must have the receipt of shard 2; it is lost\. Run `styleclip"):
        find_input(STAGE, run_store).slice_table(0, 9)
