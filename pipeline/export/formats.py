"""The files of each export format, from the same rows, one part at a time.

    parquet      data/train-00000-of-00003.parquet, images inside
    imagefolder  data/train/00000/NAME.png and metadata.parquet beside them
    webdataset   data/train-00000-of-00003.tar, per sample NAME.png and NAME.json
    csv          images/train/00000/NAME.png, and train.csv with their paths

A row of layout ``images`` has one image, of layout ``pairs`` two: ``before`` and ``after``.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import storage
from pipeline.config import ExportedDatasetConfig
from pipeline.export.columns import ExportColumn, export_table

LISTS_IN_CSV = " | "  # between the entries of a list in a CSV cell


@dataclass(frozen=True)
class Part:
    """One piece of an export: up to ``images_per_shard`` rows of one subset.

    Attributes:
        subset: train, validation, test or rejected.
        index: its number, from 0.
        count: parts of the subset.
        first: number of its first row in the subset.
        rows: its rows.
    """

    subset: str
    index: int
    count: int
    first: int
    rows: int

    @property
    def stem(self) -> str:
        """Name of its file: ``train-00000-of-00003``."""
        return f"{self.subset}-{self.index:05d}-of-{self.count:05d}"


def image_columns(config: ExportedDatasetConfig) -> list[ExportColumn]:
    """The columns that hold pixels."""
    if config.layout == "images":
        return [ExportColumn("image", "image", "The image.")]
    return [
        ExportColumn("before", "image", "The original."),
        ExportColumn("after", "image", "The edited image."),
    ]


def data_files(config: ExportedDatasetConfig, subset: str) -> str:
    """Pattern of a subset's files, for the dataset card."""
    return {
        "parquet": f"data/{subset}-*.parquet",
        "imagefolder": f"data/{subset}/**",
        "webdataset": f"data/{subset}-*.tar",
        "csv": f"{subset}.csv",
    }[config.format]


def loaded_columns(config: ExportedDatasetConfig, columns: Sequence[ExportColumn]) -> list[dict[str, Any]]:
    """The columns that ``datasets.load_dataset`` gives, in the card's words: of tar shards the labels are a struct."""
    pixels = image_columns(config)
    if config.format != "webdataset":
        return [c.front_matter() for c in [*pixels, *columns]]
    extension = storage.EXTENSIONS[config.image_format]
    names = [extension] if config.layout == "images" else [f"{c.name}.{extension}" for c in pixels]
    return [
        *({"name": name, "dtype": "image"} for name in names),
        {"name": "json", "struct": [c.front_matter() for c in columns]},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def part_files(
    config: ExportedDatasetConfig,
    part: Part,
    columns: Sequence[ExportColumn],
    rows: Sequence[Mapping[str, Any]],
    images: Mapping[str, bytes],
) -> dict[str, bytes]:
    """The files of one part, by path.

    Args:
        config: format and layout.
        part: which piece.
        columns: the labels' columns.
        rows: a value for each of them.
        images: encoded images by image_id, those of the rows and, in layout pairs, their originals.
    """
    write = {"parquet": _parquet, "imagefolder": _imagefolder, "webdataset": _webdataset, "csv": _csv}[config.format]
    return write(config, part, columns, rows, images)


def _image_ids(config: ExportedDatasetConfig, row: Mapping[str, Any]) -> dict[str, str]:
    """Image column to the image_id that it shows."""
    if config.layout == "images":
        return {"image": row["image_id"]}
    return {"before": row["original_id"], "after": row["image_id"]}


def _file_name(config: ExportedDatasetConfig, image_id: str) -> str:
    return f"{storage.sample_name(image_id)}.{storage.EXTENSIONS[config.image_format]}"


def _parquet(config: Any, part: Part, columns: Any, rows: Any, images: Any) -> dict[str, bytes]:
    full = [
        {
            **row,
            **{
                column: storage.image_struct(images[name], _file_name(config, name))
                for column, name in _image_ids(config, row).items()
            },
        }
        for row in rows
    ]
    table = export_table([*image_columns(config), *columns], full)
    return {f"data/{part.stem}.parquet": storage.table_bytes(table)}


def _imagefolder(config: Any, part: Part, columns: Any, rows: Any, images: Any) -> dict[str, bytes]:
    folder = f"data/{part.subset}/{part.index:05d}"
    files = {f"{folder}/{_file_name(config, name)}": data for name, data in images.items()}
    keys = {c.name: "file_name" if config.layout == "images" else f"{c.name}_file_name" for c in image_columns(config)}
    full = [
        {**row, **{keys[column]: _file_name(config, name) for column, name in _image_ids(config, row).items()}}
        for row in rows
    ]
    paths = [ExportColumn(key, "string", "The image's file, in this folder.") for key in keys.values()]
    return files | {f"{folder}/metadata.parquet": storage.table_bytes(export_table([*paths, *columns], full))}


def _webdataset(config: Any, part: Part, columns: Any, rows: Any, images: Any) -> dict[str, bytes]:
    files: list[tuple[str, bytes]] = []
    extension = storage.EXTENSIONS[config.image_format]
    for row in rows:
        key = storage.sample_name(row["image_id"])
        for column, name in _image_ids(config, row).items():
            suffix = extension if column == "image" else f"{column}.{extension}"
            files.append((f"{key}.{suffix}", images[name]))
        files.append((f"{key}.json", _json({c.name: row[c.name] for c in columns})))
    return {f"data/{part.stem}.tar": storage.tar_bytes(files)}


def _csv(config: Any, part: Part, columns: Any, rows: Any, images: Any) -> dict[str, bytes]:
    folder = f"images/{part.subset}/{part.index:05d}"
    files = {f"{folder}/{_file_name(config, name)}": data for name, data in images.items()}
    text = io.StringIO()
    pixels = [c.name for c in image_columns(config)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*pixels, *(c.name for c in columns)])
    for row in rows:
        named = _image_ids(config, row)
        paths = [f"{folder}/{_file_name(config, named[c])}" for c in pixels]
        writer.writerow([*paths, *(_cell(row[c.name]) for c in columns)])
    return files | {part_labels(part): text.getvalue().encode()}


def part_labels(part: Part) -> str:
    """Where the lines of a part of a CSV export wait until all are there."""
    return f"_parts/{part.stem}.csv"


def joined_csv(parts: Sequence[bytes]) -> bytes:
    """The lines of all parts under one header."""
    return parts[0] + b"".join(part.split(b"\n", 1)[1] for part in parts[1:])


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return LISTS_IN_CSV.join(value)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
