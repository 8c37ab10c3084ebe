"""Tables that name images or hold them: Parquet, CSV and JSON lines, row by row."""

import datetime
import decimal
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.inversion.delimited import iter_delimited
from pipeline.prompt_files import column_name
from storage import StorageError, join_uri

TABLE_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
GUESSES = (
    *("image", "photo", "uri", "url", "image_uri", "image_url", "image_path", "image_file", "path"),
    *("file", "file_name", "filename", "file_path", "filepath"),
)
ROWS_AT_A_TIME = 1_024
IMAGES_AT_A_TIME = 8  # a photo has some 5 MB


@dataclass(frozen=True)
class TableRow:
    """One row of a table of images.

    Attributes:
        number: its place in the table, from 0.
        path: the image's path as the table spells it; empty where it gives none.
        uri: where that is; empty where it gives none.
        embedded: whether the image's bytes stand in the row.
        labels: the other columns as text, nulls left out.
    """

    number: int
    path: str
    uri: str
    embedded: bool
    labels: list[tuple[str, str]]


def iter_table(uri: str, column: str | None) -> Iterator[TableRow]:
    """Rows of a table; a relative path in it is below the table's folder. No image is read.

    Args:
        uri: the table.
        column: its column of URIs, of ``struct<bytes, path>`` or of bytes; None guesses by name.
    Raises:
        PipelineError: if the column is not there or of another type, or a line cannot be read.
        StorageError: if the table cannot be read.
    """
    suffix = posixpath.splitext(uri)[1].lower()
    if suffix == ".parquet":
        yield from _iter_parquet(uri, column)
        return
    rows = _iter_jsonl(uri) if suffix in (".jsonl", ".ndjson") else _iter_csv(uri, column)
    wanted = column
    for number, row in enumerate(rows):
        if wanted is None:
            wanted = _guess(list(row), uri)
        elif wanted not in row and number == 0:
            raise _no_column(wanted, list(row), uri)
        value = row.get(wanted)
        labels = [(key, _text(item)) for key, item in row.items() if key != wanted and item not in (None, "")]
        path = value if isinstance(value, str) else ""
        yield TableRow(number, path, _place(uri, path), False, labels)


def read_embedded(uri: str, column: str | None, rows: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
    """Bytes of images that stand in a Parquet table, in the order of ``rows``, which must rise.

    Only the row groups that hold them are read, a few rows at a time.
    """
    with _opened(uri, "rb") as file, _parquet_errors(uri):
        table = pq.ParquetFile(file)
        name = column or _guess(table.schema_arrow.names, uri)
        nested = pa.types.is_struct(table.schema_arrow.field(name).type)
        wanted, first = set(rows), 0
        for group in range(table.num_row_groups):
            length = table.metadata.row_group(group).num_rows
            if not wanted.isdisjoint(range(first, first + length)):
                number = first
                for batch in table.iter_batches(IMAGES_AT_A_TIME, row_groups=[group], columns=[name]):
                    for cell in batch.column(0):
                        if number in wanted:
                            value = cell.as_py()
                            yield number, value and value.get("bytes") if nested else value
                        number += 1
            first += length


def _iter_parquet(uri: str, column: str | None) -> Iterator[TableRow]:
    with _opened(uri, "rb") as file, _parquet_errors(uri):
        table = pq.ParquetFile(file)
        schema = table.schema_arrow
        name = column or _guess(schema.names, uri)
        if name not in schema.names:
            raise _no_column(name, schema.names, uri)
        kind, nested = _kind(schema.field(name).type, name, uri)
        labels = [f.name for f in schema if f.name != name and not _is_bulky(f.type)]
        paths = [] if kind == "bytes" else [f"{name}.path" if nested else name]
        number = 0
        for batch in table.iter_batches(ROWS_AT_A_TIME, columns=[*paths, *labels]):
            cells = batch.column(name).to_pylist() if paths else [None] * batch.num_rows
            others = batch.select(labels).to_pylist() if labels else [{}] * batch.num_rows
            for cell, other in zip(cells, others, strict=True):
                path = (cell or {}).get("path") or "" if nested else cell or ""
                kept = [(key, _text(value)) for key, value in other.items() if value is not None]
                yield TableRow(number, path, "" if kind != "uri" else _place(uri, path), kind != "uri", kept)
                number += 1


def _kind(kind: pa.DataType, name: str, uri: str) -> tuple[str, bool]:
    """uri, struct or bytes, and whether it is a struct."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "uri", False
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes", False
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
        return "struct", True
    raise PipelineError(
        f"{uri}: column {name!r} must hold URIs, bytes or struct<bytes, path>; it is {kind}. Name another with "
        f"`image_column`."
    )


def _is_bulky(kind: pa.DataType) -> bool:
    """Bytes and nested values are no labels."""
    return pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _guess(names: Sequence[str], uri: str) -> str:
    for guess in GUESSES:
        for name in names:
            if column_name(name) == guess:
                return name
    raise PipelineError(
        f"{uri}: a table must have a column of images, called {', '.join(GUESSES[:4])} or so; it has "
        f"{', '.join(names) or 'none'}. Name it with `image_column`."
    )


def _no_column(name: str, names: Sequence[str], uri: str) -> PipelineError:
    return PipelineError(f"{uri}: `image_column` must be one of {', '.join(names)}; got {name!r}.")


def _place(table: str, path: str) -> str:
    return join_uri(posixpath.dirname(table), path) if path else ""


def _text(value: Any) -> str:
    """A label as text: what has a spelling of its own as that, anything else as JSON."""
    if isinstance(value, str | decimal.Decimal | datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    return json.dumps(value, default=str, ensure_ascii=False)


def _iter_csv(uri: str, column: str | None) -> Iterator[Mapping[str, Any]]:
    def is_wanted(name: str) -> bool:
        return column_name(name) in GUESSES if column is None else name == column

    with _read_errors(uri):
        yield from iter_delimited(uri, is_wanted)


def _iter_jsonl(uri: str) -> Iterator[Mapping[str, Any]]:
    number = 0
    with _opened(uri, "r") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise PipelineError(f"{uri}, line {number}: must be a JSON object; got {line[:40]!r}.")
                    yield row
        except json.JSONDecodeError as error:
            what = f"{error.msg} at column {error.colno}"
            raise PipelineError(f"{uri}, line {number}: must be one JSON object; {what}. Mend the line.") from error
        except (ValueError, RecursionError) as error:
            raise PipelineError(f"{uri}, after line {number}: must be JSON in UTF-8; {error}. Save it so.") from error


@contextmanager
def _opened(uri: str, mode: str) -> Iterator[Any]:
    """A table as a file; text is UTF-8, with or without a mark at its beginning."""
    with _read_errors(uri), fsspec.open(uri, "rb") as binary:
        yield binary if mode == "rb" else io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")  # pyright: ignore[reportArgumentType]


@contextmanager
def _read_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"the system must let us read {uri}; got: {error}. Check the URI.") from error


@contextmanager
def _parquet_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise PipelineError(f"{uri} must be a readable Parquet file; got: {error}. Write it again.") from error
