import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import storage
from pipeline.config import DatasetConfig, InvertedLatentsConfig, ScoresConfig
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays
from pipeline.runs.shard import Input, close_stage
from pipeline.schemas import DIRECTIONS_HASH, EDITED_LATENTS, EDITS_FOLDER, PROMPTS
from pipeline.stages import dataset, photo_scores, scores
from pipeline.stages.image_listing import run_image_listing
from pipeline.stages.inverted_latents import inverted_latents_hash, run_inverted_latents_shard
from storage import Store
from tests.pipeline.inversion.pictures import saved, smooth_picture

PROMPT = {
    "prompt_id": "hat",
    "prompt": "hat",
    "target": "a face with a hat",
    "neutral": "a face",
    "method": "optimize",
    "strengths": [1.0],
    "status": "ok",
}


def write_run(folder: Path, pack: Pack, files: dict[str, bytes], **settings: Any) -> tuple[Store, Input, Input]:
    """Inverted photos, each with one edit at strength 1: its latent moved by a tenth."""
    for name, data in files.items():
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(data)
    store, config = Store(str(folder / "run")), InvertedLatentsConfig(min_side=8, **settings)
    listing = run_image_listing(str(folder / "in"), store, pack)
    run_inverted_latents_shard(config, store, pack, 0, listing=listing)
    config_hash = inverted_latents_hash(config, pack, listing)
    close_stage(store, "latents", num_shards=1, config_hash=config_hash, config=config, pack=pack)
    latents = Input(store, "latents", 1, len(files), config_hash)
    return store, latents, write_edits(store, latents)


def write_edits(store: Store, latents: Input) -> Input:
    rows = []
    for row in latents.table().to_pylist():
        good = row["status"] == "ok"
        vector = np.array(row["w_plus"], np.float32) + 0.1 if good else None
        rows.append(
            {
                "latent_id": row["latent_id"],
                "edit_id": "hat",
                "strength": 1.0,
                "space": "w_plus",
                "vector": vector,
                "direction": None,
                "status": row["status"],
                "error": row["error"],
            }
        )
    columns = {column.name: [row[column.name] for row in rows] for column in EDITED_LATENTS.columns}
    table = EDITED_LATENTS.table(columns, metadata={DIRECTIONS_HASH: None})
    listed = {c.name: [PROMPT.get(c.name)] for c in PROMPTS.columns} | {"text_direction": [[0.0] * 16]}
    files = {
        "edited_latents/part-00000.parquet": storage.table_bytes(table),
        f"{EDITS_FOLDER}/part-00000.parquet": storage.table_bytes(PROMPTS.table(listed, widths={"text_direction": 16})),
    }
    storage.write_shard(
        store,
        stage="edited_latents",
        shard=0,
        config_hash="e",
        pack_digest="",
        code_version="",
        rows=len(rows),
        failures=0,
        files=files,
    )
    return Input(store, "edited_latents", 1, len(rows), "e")


def rendered(
    store: Store, pack: Pack, latents: Input, edited: Input, **settings: Any
) -> tuple[dict[str, dict], list[dict]]:
    config = DatasetConfig(**settings)
    dataset.run_dataset_shard(config, store, pack, 0, latents=latents, edited=edited, directions=None)
    rows = storage.read_table(store, "dataset/part-00000.parquet").to_pylist()
    pasted = []
    if settings.get("paste_back"):
        pasted = storage.read_table(store, "pasted_photos/part-00000.parquet").to_pylist()
    return {row["image_id"]: row for row in rows}, pasted


FILES = {
    "x.png": saved(smooth_picture(40, 60), "PNG"),
    "a/x.png": saved(smooth_picture(16, 16), "PNG"),
    "bad.png": b"no image",
}


def test_dataset_of_photos_has_photo_reconstruction_and_edits(tmp_path: Path, tiny_pack: Pack):
    store, latents, edited = write_run(tmp_path, tiny_pack, FILES)
    rows, _ = rendered(store, tiny_pack, latents, edited)
    assert list(rows) == ["a-x__photo", "a-x__original", "a-x__hat__1", "x__photo", "x__original", "x__hat__1"]
    np.testing.assert_array_equal(storage.decode_image(rows["a-x__photo"]["image"]["bytes"]), smooth_picture(16, 16))
    inverted = latents.table(folder="inverted_images").to_pylist()[0]
    assert rows["a-x__original"]["image"]["bytes"] == inverted["reconstruction"]["bytes"]
    assert {row["source_path"] for row in rows.values()} == {"a/x.png", "x.png"}
    assert rows["x__photo"]["prompt"] is None


def test_scores_of_photos_are_against_photo_and_reconstruction(tmp_path: Path, tiny_pack: Pack):
    store, latents, edited = write_run(tmp_path, tiny_pack, FILES)
    rows, _ = rendered(store, tiny_pack, latents, edited)
    source = Input(store, "dataset", 1, len(rows), "d")
    config = ScoresConfig(templates="none")
    scores.run_scores_shard(config, store, tiny_pack, 0, dataset=source, edited=edited)
    photo_scores.run_photo_scores_shard(config, store, tiny_pack, 0, dataset=source)
    pictures = {key: storage.decode_image(row["image"]["bytes"]) for key, row in rows.items()}
    against_drawn = {r["image_id"]: r for r in storage.read_table(store, "scores/part-00000.parquet").to_pylist()}
    against_photo = {r["image_id"]: r for r in storage.read_table(store, "photo_scores/part-00000.parquet").to_pylist()}
    assert not any(key.endswith("__photo") for key in (*against_drawn, *against_photo))
    assert set(against_photo) == {"a-x__original", "a-x__hat__1", "x__original", "x__hat__1"}

    def distance(a: str, b: str) -> float:
        return float(np.abs(pictures[a].astype(float) - pictures[b]).mean() / 255)

    assert against_photo["x__hat__1"]["photo_pixel_distance"] == pytest.approx(distance("x__hat__1", "x__photo"))
    assert against_photo["x__original"]["photo_pixel_distance"] == pytest.approx(distance("x__original", "x__photo"))
    assert against_drawn["x__hat__1"]["pixel_distance"] == pytest.approx(distance("x__hat__1", "x__original"))
    with torch.no_grad():
        a, b = (tiny_pack.identity.embed(from_rgb_arrays(pictures[key][None]))[0] for key in ("x__hat__1", "x__photo"))
    assert against_photo["x__hat__1"]["photo_identity_similarity"] == pytest.approx(float(a @ b), abs=1e-5)
    assert against_photo["x__original"]["photo_clip_gain"] is None
    assert against_photo["x__hat__1"]["photo_clip_gain"] is not None


def test_paste_back_puts_edits_into_whole_photos(tmp_path: Path, tiny_pack: Pack):
    store, latents, edited = write_run(tmp_path, tiny_pack, FILES, align="center-crop")
    rows, pasted = rendered(store, tiny_pack, latents, edited, paste_back=True, feather=0.2)
    assert [row["image_id"] for row in pasted] == ["a-x__hat__1", "x__hat__1"]
    whole = storage.decode_image(pasted[1]["image"]["bytes"])
    photo = smooth_picture(40, 60)
    assert whole.shape == photo.shape
    np.testing.assert_array_equal(whole[:, :10], photo[:, :10])  # the crop is columns 10 to 50
    np.testing.assert_array_equal(whole[:, 50:], photo[:, 50:])
    edit = storage.decode_image(rows["x__hat__1"]["image"]["bytes"]).astype(float)
    assert np.abs(whole[18:22, 28:32].mean(axis=(0, 1)) - edit[7:9, 7:9].mean(axis=(0, 1))).max() < 12


def test_paste_back_of_a_photo_that_changed_or_went_is_a_failed_row(tmp_path: Path, tiny_pack: Pack):
    store, latents, edited = write_run(tmp_path, tiny_pack, FILES)
    (tmp_path / "in/x.png").write_bytes(saved(smooth_picture(41, 60), "PNG"))
    (tmp_path / "in/a/x.png").unlink()
    _, pasted = rendered(store, tiny_pack, latents, edited, paste_back=True)
    assert [(row["status"], row["image"]) for row in pasted] == [("failed", None)] * 2
    assert "must be there" in pasted[0]["error"]
    assert "changed since" in pasted[1]["error"]


@pytest.mark.parametrize("keep", [False, True])
def test_paste_back_writes_exif_only_where_asked(tmp_path: Path, tiny_pack: Pack, keep: bool):
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "secret camera", 6
    files = {"x.jpg": saved(smooth_picture(16, 24), "JPEG", exif=exif)}
    store, latents, edited = write_run(tmp_path, tiny_pack, files, keep_exif=keep)
    _, (row,) = rendered(store, tiny_pack, latents, edited, paste_back=True)
    import io

    with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
        assert image.size == (16, 24)  # upright
        assert dict(image.getexif()).get(0x010F) == ("secret camera" if keep else None)
        assert image.getexif().get(0x0112, 1) == 1


def test_dataset_config_of_paste_back_leaves_earlier_hashes_alone():
    assert "paste_back" not in json.dumps(DatasetConfig().identity())
    assert "paste_back" in json.dumps(DatasetConfig(paste_back=True).identity())
