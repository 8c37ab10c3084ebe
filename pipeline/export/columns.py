"""Columns of an exported dataset, and the same columns as Arrow, Hugging Face's and YAML's words for them.

A label is a category by name in a row; Parquet holds its number, which is what ``ClassLabel`` reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from storage import IMAGE_TYPE

Kind = Literal["string", "strings", "float32", "float64", "bool", "label", "image"]
ARROW: dict[Kind, pa.DataType] = {
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "label": pa.int64(),
    "image": IMAGE_TYPE,
}


@dataclass(frozen=True)
class ExportColumn:
    """One column of an export.

    Attributes:
        name: its name.
        kind: what a cell is; any cell but an image may be null.
        doc: what it means, and its unit.
        categories: of a label, in the order of their numbers.
    """

    name: str
    kind: Kind
    doc: str
    categories: tuple[str, ...] = ()

    def feature(self) -> dict[str, Any]:
        """The column in Hugging Face's JSON."""
        if self.kind == "image":
            return {"_type": "Image"}
        if self.kind == "label":
            return {"names": list(self.categories), "_type": "ClassLabel"}
        if self.kind == "strings":
            return {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
        return {"dtype": self.kind, "_type": "Value"}

    def front_matter(self) -> dict[str, Any]:
        """The column in the front matter of a dataset card."""
        if self.kind == "label":
            numbered = {str(number): name for number, name in enumerate(self.categories)}
            return {"name": self.name, "dtype": {"class_label": {"names": numbered}}}
        if self.kind == "strings":
            return {"name": self.name, "list": "string"}
        return {"name": self.name, "dtype": self.kind}


def features_metadata(columns: Sequence[ExportColumn]) -> dict[str, str]:
    """Schema metadata by which ``datasets`` shows images as images and labels as labels."""
    return {"huggingface": json.dumps({"info": {"features": {c.name: c.feature() for c in columns}}})}


def export_table(columns: Sequence[ExportColumn], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a Parquet-ready table, with each column's meaning and ``datasets``' features in its schema.

    Args:
        columns: in the order wanted.
        rows: a value for every column: labels by name, images as ``storage.image_struct``.
    """
    fields = [pa.field(c.name, ARROW[c.kind], metadata={"doc": c.doc}) for c in columns]
    schema = pa.schema(fields, metadata=features_metadata(columns))
    arrays = [pa.array(_cells(column, rows), ARROW[column.kind]) for column in columns]
    return pa.Table.from_arrays(arrays, schema=schema)


def _cells(column: ExportColumn, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    cells = [row[column.name] for row in rows]
    if column.kind != "label":
        return cells
    numbers = {name: number for number, name in enumerate(column.categories)}
    return [None if cell is None else numbers[cell] for cell in cells]
