import io
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from storage import (
    IMAGE_TYPE,
    CorruptError,
    MissingError,
    Store,
    read_metadata,
    read_table,
    read_tables,
    stack,
    table_bytes,
    vectors,
)


def example(num_rows=3, first=0, shape=b"[2, 4]"):
    rng = np.random.default_rng(first)
    ids = [f"seed-{first + i:08d}" for i in range(num_rows)]
    columns = {
        "latent_id": pa.array(ids, pa.string()),
        "seed": pa.array(range(first, first + num_rows), pa.int64()),
        "psi": pa.array(rng.normal(size=num_rows), pa.float64()),
        "w_plus": vectors(rng.normal(size=(num_rows, 2, 4))),
        "image": pa.array([{"bytes": b"png", "path": f"{name}.png"} for name in ids], IMAGE_TYPE),
        "error": pa.array([None] * num_rows, pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({b"w_plus_shape": shape})


def encodings(data):
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return {column.path_in_schema: (column.compression, set(column.encodings)) for column in columns}


def test_read_table_returns_what_table_bytes_wrote(store):
    table = example()
    store.write_bytes("a.parquet", table_bytes(table))
    found = read_table(store, "a.parquet")
    assert found.equals(table)
    assert found.schema.metadata == table.schema.metadata


def test_read_table_of_no_rows_keeps_the_schema(store):
    table = example(num_rows=0)
    store.write_bytes("a.parquet", table_bytes(table))
    found = read_table(store, "a.parquet")
    assert found.equals(table)
    assert found.schema.metadata == table.schema.metadata


def test_read_table_columns_come_in_the_order_asked(store):
    store.write_bytes("a.parquet", table_bytes(example()))
    assert read_table(store, "a.parquet", ["w_plus", "latent_id"]).column_names == ["w_plus", "latent_id"]


def test_read_table_absent_column_raises_missing(store):
    store.write_bytes("a.parquet", table_bytes(example()))
    with pytest.raises(MissingError, match=r"a\.parquet must have the columns \['score'\]; it has \['latent_id'"):
        read_table(store, "a.parquet", ["score"])


def test_read_table_absent_raises_missing(store):
    with pytest.raises(MissingError, match=r"a\.parquet must be there"):
        read_table(store, "a.parquet")


@pytest.mark.parametrize("damage", ["no parquet", "cut", "flipped", "empty"])
def test_read_table_damaged_raises_corrupt(store, damage):
    data = table_bytes(example(num_rows=100))
    flipped = data[:60] + bytes([data[60] ^ 0xFF]) + data[61:]
    damaged = {"no parquet": b"hello, hello, hello", "cut": data[:-50], "flipped": flipped, "empty": b""}
    store.write_bytes("a.parquet", damaged[damage])
    with pytest.raises(CorruptError, match=r"a\.parquet must be a readable Parquet file; got .* run its stage again"):
        read_table(store, "a.parquet")


@pytest.mark.parametrize("length", [10, 200_000])
def test_read_metadata_is_the_schemas_from_the_end_of_the_file(store, length, monkeypatch):
    table = pa.table({"x": np.random.default_rng(0).random(100_000)}).replace_schema_metadata({"key": "v" * length})
    data = table_bytes(table)
    store.write_bytes("x.parquet", data)
    ends, read_end = [], Store.read_end
    monkeypatch.setattr(Store, "read_end", lambda *args: ends.append(read_end(*args)) or ends[-1])
    monkeypatch.setattr(Store, "read_bytes", None)
    assert read_metadata(store, "x.parquet")[b"key"] == b"v" * length
    assert max(map(len, ends)) < len(data)
    assert len(ends) == (1 if length == 10 else 2)


def test_read_metadata_of_a_file_without_any_is_empty(store):
    store.write_bytes("x.parquet", table_bytes(pa.table({"x": [1]})))
    assert read_metadata(store, "x.parquet") == {}


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table, but bytes"])
def test_read_metadata_of_another_file_raises_corrupt(store, data):
    store.write_bytes("x.parquet", data)
    with pytest.raises(CorruptError, match=r"x\.parquet must be a Parquet file; got"):
        read_metadata(store, "x.parquet")


def test_read_metadata_absent_raises_missing(store):
    with pytest.raises(MissingError, match=r"x\.parquet"):
        read_metadata(store, "x.parquet")


def test_read_tables_joins_in_the_order_given(store):
    store.write_bytes("a.parquet", table_bytes(example(first=0)))
    store.write_bytes("b.parquet", table_bytes(example(first=7)))
    joined = read_tables(store, ["b.parquet", "a.parquet"])
    assert joined["seed"].to_pylist() == [7, 8, 9, 0, 1, 2]
    assert joined.schema.metadata == {b"w_plus_shape": b"[2, 4]"}


def test_read_tables_columns_reads_only_those(store):
    store.write_bytes("a.parquet", table_bytes(example()))
    assert read_tables(store, ["a.parquet", "a.parquet"], ["seed"]).shape == (6, 1)


def test_read_tables_of_another_type_raises_corrupt_naming_the_file(store):
    store.write_bytes("a.parquet", table_bytes(pa.table({"x": pa.array([1], pa.int32())})))
    store.write_bytes("b.parquet", table_bytes(pa.table({"x": pa.array([1], pa.int64())})))
    with pytest.raises(CorruptError, match=r"b\.parquet must have the schema of the first table"):
        read_tables(store, ["a.parquet", "b.parquet"])


def test_read_tables_of_another_shape_in_the_metadata_raises_corrupt(store):
    store.write_bytes("a.parquet", table_bytes(example(shape=b"[2, 4]")))
    store.write_bytes("b.parquet", table_bytes(example(shape=b"[4, 2]")))
    with pytest.raises(CorruptError, match=r"b\.parquet must have the schema"):
        read_tables(store, ["a.parquet", "b.parquet"])


def test_read_tables_ignores_pandas_metadata(store):
    for name, num_rows in (("a.parquet", 1), ("b.parquet", 2)):
        frame = pa.table({"x": range(num_rows)}).to_pandas()
        store.write_bytes(name, table_bytes(pa.Table.from_pandas(frame)))
    assert read_tables(store, ["a.parquet", "b.parquet"])["x"].to_pylist() == [0, 0, 1]


def test_read_tables_of_none_raises_missing(store):
    with pytest.raises(MissingError, match="at least one table must be named"):
        read_tables(store, [])


def test_table_bytes_of_other_chunks_are_the_same():
    whole = example(num_rows=1000)
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 700), whole.slice(701)])
    assert table_bytes(chunked) == table_bytes(whole) == table_bytes(whole)


def test_table_bytes_encode_text_by_dictionary_and_floats_by_byte_stream_split():
    found = encodings(table_bytes(example()))
    text = {name for name, (_, kinds) in found.items() if "RLE_DICTIONARY" in kinds}
    floats = {name for name, (_, kinds) in found.items() if "BYTE_STREAM_SPLIT" in kinds}
    assert text == {"latent_id", "image.path", "error"}
    assert floats == {"psi", "w_plus.list.element"}
    assert {compression for compression, _ in found.values()} == {"ZSTD"}


def test_table_bytes_puts_512_rows_in_a_group():
    metadata = pq.ParquetFile(io.BytesIO(table_bytes(example(num_rows=1100)))).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [512, 512, 76]


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(width=32)))
def test_stack_of_vectors_returns_the_rows(array):
    rows = stack(pa.chunked_array([vectors(array)]))
    np.testing.assert_array_equal(rows, array.reshape(len(array), -1))
    assert rows.dtype == np.float32


@given(arrays(np.float32, (6, 3), elements=st.floats(width=32)), st.lists(st.integers(0, 6), max_size=4))
def test_stack_of_any_chunks_returns_the_same(array, cuts):
    whole = vectors(array)
    edges = [0, *sorted(cuts), 6]
    chunks = [whole.slice(start, stop - start) for start, stop in pairwise(edges)]
    np.testing.assert_array_equal(stack(pa.chunked_array(chunks)), array)


@given(st.lists(st.none() | st.lists(st.none() | st.floats(width=32), min_size=2, max_size=2)))
def test_stack_of_nulls_gives_nan(rows):
    column = pa.chunked_array([pa.array(rows, pa.list_(pa.float32(), 2))])
    expected = [[np.nan if x is None else x for x in (row or [None, None])] for row in rows]
    np.testing.assert_array_equal(stack(column), np.array(expected, np.float32).reshape(-1, 2))


def test_stack_of_null_rows_survives_parquet(store):
    table = pa.table({"w": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))})
    store.write_bytes("a.parquet", table_bytes(table))
    np.testing.assert_array_equal(stack(read_table(store, "a.parquet")["w"]), [[1, 2], [np.nan] * 2, [3, 4]])


def test_stack_of_one_chunk_shares_its_memory():
    column = vectors(np.ones((3, 4), np.float32))
    values = np.frombuffer(column.values.buffers()[1], np.float32)
    assert np.shares_memory(stack(pa.chunked_array([column])), values)


def test_stack_of_no_chunks_has_no_rows():
    rows = stack(pa.chunked_array([], pa.list_(pa.float32(), 4)))
    assert (rows.shape, rows.dtype) == ((0, 4), np.float32)


def test_stack_of_other_type_raises():
    with pytest.raises(ValueError, match=r"must be fixed_size_list<number>; got list<item: double>"):
        stack(pa.chunked_array([[[1.0]]]))


def test_vectors_of_no_rows_keep_their_width():
    assert vectors(np.empty((0, 18, 512))).type == pa.list_(pa.float32(), 9216)


def test_vectors_of_other_memory_order_are_flattened_in_c_order():
    array = np.asfortranarray(np.arange(12, dtype=np.float64).reshape(2, 2, 3))
    assert vectors(array).to_pylist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


@pytest.mark.parametrize("shape", [(), (3,), (3, 0)])
def test_vectors_without_width_raises(shape):
    with pytest.raises(ValueError, match="at least two axes"):
        vectors(np.zeros(shape))
