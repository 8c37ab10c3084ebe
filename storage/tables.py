"""Parquet tables. Letters: n row, d width of a vector."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import CorruptError, MissingError
from storage.store import Store

ROW_GROUP_ROWS = 512  # a W+ row is 36 KiB: about 18 MiB a group, the least that a reader must hold
FOOTER_BYTES = 2**16  # read at first of a file's end; most footers are shorter
PANDAS_METADATA = b"pandas"  # differs with the number of rows, says nothing about the columns


def table_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file; the same rows and schema give the same bytes, however the table is chunked.

    zstd; a dictionary for string columns only (it makes vectors larger than raw); byte-stream split for floats, also
    those in lists (measured on W+: 22 % below plain zstd); groups of 512 rows; a checksum on every page.

    Args:
        table: any Arrow table; the schema's metadata is kept.
    """
    leaves = [leaf for field in table.schema for leaf in _leaves(field.name, field.type)]
    text: Any = [name for name, kind in leaves if _is_text(kind)]  # Any: pyarrow's stubs know only the booleans
    floats: Any = [name for name, kind in leaves if pa.types.is_floating(kind)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        use_dictionary=text,
        use_byte_stream_split=floats,
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def read_metadata(store: Store, path: str) -> dict[bytes, bytes]:
    """The metadata of a Parquet file's schema, from its footer alone; empty if there is none.

    Raises:
        MissingError: if the file is not there.
        CorruptError: if it is not Parquet.
    """
    end = store.read_end(path, FOOTER_BYTES)
    needed = int.from_bytes(end[-8:-4], "little") + 8  # the footer, its own length and the magic number
    if needed > len(end):
        end = store.read_end(path, needed)
    try:
        return pq.read_schema(pa.BufferReader(end)).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(
            f"{store.uri}/{path} must be a Parquet file; got: {error}. Delete it and run again."
        ) from error


def read_table(store: Store, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file, its schema with metadata included.

    Parquet names the elements of a list ``element``, Arrow ``item``: compare schemas without ``check_metadata``, or
    their metadata on its own.

    Args:
        store: where the file is.
        path: the file, relative to the store.
        columns: top-level columns to read, in the order wanted; None reads all.
    Raises:
        MissingError: if the file or a column is not there.
        CorruptError: if the file is not Parquet, is cut, or fails a page's checksum.
    """
    data = store.read_bytes(path)
    uri = f"{store.uri}/{path}"
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        _check_columns(uri, file.schema_arrow.names, columns)
        table = file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(
            f"{uri} must be a readable Parquet file; got {len(data)} bytes: {error}. Delete it and run its stage again."
        ) from error
    return table if columns is None else table.select(list(columns))


def read_tables(store: Store, paths: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    """Read Parquet files of one schema and join their rows, in the order of ``paths``.

    Args:
        store: where the files are.
        paths: the files, relative to the store; at least one.
        columns: as in ``read_table``.
    Raises:
        MissingError: if ``paths`` is empty, or a file or column is not there.
        CorruptError: if a file cannot be read, or its schema (metadata included) is not that of the first.
    """
    if not paths:
        raise MissingError(f"at least one table must be named to read from {store.uri}; got none. Run its stage first.")
    tables = [read_table(store, path, columns) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        _check_schema(f"{store.uri}/{path}", table.schema, tables[0].schema)
    return pa.concat_tables(table.replace_schema_metadata(tables[0].schema.metadata) for table in tables)


def vectors(array: np.ndarray) -> pa.FixedSizeListArray:
    """Rows of an array as an Arrow column of float32 vectors, each row flattened in C order.

    Args:
        array: [n, ...], at least two axes, numbers; n may be 0, the other axes may not.
    Returns:
        n vectors of type ``fixed_size_list<float>``; the shape of a row is for the schema's metadata to keep. Shares
        memory with ``array`` where that is contiguous float32.
    Raises:
        ValueError: if an axis is missing or empty.
    """
    width = math.prod(array.shape[1:])
    if array.ndim < 2 or width == 0:
        raise ValueError(
            f"vectors must have at least two axes, [n, ...], and none empty but n; got shape {array.shape}."
        )
    flat = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), width)


def stack(column: pa.ChunkedArray) -> np.ndarray:
    """A column of vectors as one array, the inverse of ``vectors``.

    Args:
        column: ``fixed_size_list<number>[d]``, n rows in any number of chunks.
    Returns:
        [n, d] of the column's number type; null rows and null elements are NaN. A column in one chunk without nulls
        is not copied: then the array is read-only (copy it before ``torch.from_numpy``).
    Raises:
        ValueError: if the column holds no vectors of a fixed size.
    """
    kind = column.type
    if not pa.types.is_fixed_size_list(kind):
        raise ValueError(f"a column to stack must be fixed_size_list<number>; got {kind}. Build it with `vectors`.")
    parts = [_stack_chunk(chunk, kind.list_size) for chunk in column.chunks]
    if not parts:
        return np.empty((0, kind.list_size), kind.value_type.to_pandas_dtype())
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _stack_chunk(chunk: Any, width: int) -> np.ndarray:
    """[n, d] of one chunk; ``flatten`` keeps to the chunk's slice and leaves null rows out."""
    valid = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    if chunk.null_count == 0:
        return valid
    rows = np.full((len(chunk), width), np.nan, np.result_type(valid.dtype, np.float16))
    rows[chunk.is_valid().to_numpy(zero_copy_only=False)] = valid
    return rows


def _leaves(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Parquet's name and the type of every leaf below a column: ``w.list.element``, ``image.path``."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{name}.{field.name}", field.type)
    else:
        yield name, kind


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _check_columns(uri: str, present: Sequence[str], wanted: Sequence[str] | None) -> None:
    absent = sorted(set(wanted or ()) - set(present))
    if absent:
        raise MissingError(
            f"{uri} must have the columns {absent}; it has {list(present)}. Check the names or run its stage again."
        )


def _check_schema(uri: str, schema: pa.Schema, first: pa.Schema) -> None:
    if not _comparable(schema).equals(_comparable(first), check_metadata=True):
        raise CorruptError(
            f"{uri} must have the schema of the first table,\n{first}\n; got\n{schema}\n"
            f"Was it written by another version? Delete it and run its stage again."
        )


def _comparable(schema: pa.Schema) -> pa.Schema:
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key != PANDAS_METADATA}
    return schema.with_metadata(metadata or None)
