"""What an artifact is: named, typed columns; and the values of its rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage import IMAGE_TYPE

STRING, INT32, INT64, FLOAT = pa.string(), pa.int32(), pa.int64(), pa.float32()

EDITS_FOLDER = "edits"  # the prompts of edited_latents, in the columns of PROMPTS

DIRECTIONS_HASH = "style_directions_hash"  # metadata of edited_latents: which directions it refers to

VECTOR = pa.list_(FLOAT)  # for a column that holds vectors of two spaces, and so of two lengths

LABELS_TYPE = pa.list_(pa.struct([("name", STRING), ("value", STRING)]))


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type (None for a vector whose length the model decides), meaning and unit."""

    name: str
    type: pa.DataType | None
    doc: str
    element: pa.DataType = FLOAT


@dataclass(frozen=True)
class Artifact:
    """One artifact: a folder name and its columns."""

    name: str
    columns: tuple[Column, ...]

    def schema(
        self, *, widths: Mapping[str, int] | None = None, metadata: Mapping[str, object] | None = None
    ) -> pa.Schema:
        """Arrow schema; ``widths`` gives the length of each vector column, ``metadata`` is stored as JSON.

        Columns of images are named in the key ``huggingface``, by which the library ``datasets`` opens them as such.
        """
        fields = [
            pa.field(
                column.name,
                column.type if column.type is not None else pa.list_(column.element, (widths or {})[column.name]),
                metadata={"doc": column.doc},
            )
            for column in self.columns
        ]
        images = {column.name: {"_type": "Image"} for column in self.columns if column.type == IMAGE_TYPE}
        features = {"huggingface": {"info": {"features": images}}} if images else {}
        return pa.schema(fields, metadata={k: json.dumps(v) for k, v in {**features, **(metadata or {})}.items()})

    def table(
        self,
        values: Mapping[str, Sequence[object] | np.ndarray | pa.Array],
        *,
        widths: Mapping[str, int] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> pa.Table:
        """A table with exactly this artifact's columns."""
        schema = self.schema(widths=widths, metadata=metadata)
        assert set(values) == set(schema.names), f"{self.name}: {set(values) ^ set(schema.names)}"
        arrays = [_column(values[field.name], field.type) for field in schema]
        return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, type=kind)


def shape_of(table: pa.Table, column: str) -> tuple[int, ...]:
    """The matrix shape of a flattened vector column, from the schema's metadata."""
    metadata = table.schema.metadata or {}
    return tuple(json.loads(metadata[f"{column}_shape".encode()]))


def vectors_of(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """A ``VECTOR`` column as one float32 array per row, None where null; shares the column's memory."""
    found: list[np.ndarray | None] = []
    for chunk in column.chunks:
        values, offsets = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        found += [values[a:b] if ok else None for a, b, ok in zip(offsets[:-1], offsets[1:], valid, strict=True)]
    return found
