"""What comes out, opened by the library that people open it with."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import storage
from pipeline.schemas import DATASET, LATENTS, OPTIMIZATION_IMAGES
from storage import Store

PIXELS = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)


def write_dataset(folder: Path) -> None:
    """Two rows, of which the second failed."""
    image = storage.image_struct(storage.encode_png(PIXELS), "a.png")
    values = {column.name: ["a", "b"] for column in DATASET.columns}
    values |= {"image": [image, None], "strength": [0.0, 1.0], "saturation": [0.0, None], "num_channels": [None, 2]}
    values |= {"labels": [None, [("age", "30")]]}
    Store(str(folder)).write_bytes("part-00000.parquet", storage.table_bytes(DATASET.table(values)))


@pytest.mark.filterwarnings("ignore")  # of the library itself
def test_dataset_opens_in_hugging_face_datasets_with_images_as_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(os.environ, "HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    write_dataset(tmp_path / "dataset")
    found = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "dataset" / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(found.features["image"], datasets.Image)
    assert isinstance(found[0]["image"], Image.Image)
    assert np.array_equal(np.asarray(found[0]["image"]), PIXELS)
    assert found[1]["image"] is None
    assert found[0]["strength"] == 0.0


def test_only_artifacts_with_images_name_them():
    assert b'"image": {"_type": "Image"}' in DATASET.schema().metadata[b"huggingface"]
    assert b"huggingface" in OPTIMIZATION_IMAGES.schema().metadata
    assert b"huggingface" not in LATENTS.schema(widths={"w_plus": 4}).metadata
