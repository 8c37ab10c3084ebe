from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

import storage
from pipeline.config import InvertedLatentsConfig
from pipeline.errors import PackError, PipelineError
from pipeline.inversion.alignment import load_aligner
from pipeline.models.generator_delta import delta_bytes
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays, to_rgb_arrays
from pipeline.runs.shard import Input, close_stage
from pipeline.runs.tuned_packs import delta_paths, tuned_pack
from pipeline.schemas import shape_of
from pipeline.stages import image_listing, inverted_latents
from pipeline.stages.image_listing import run_image_listing
from pipeline.stages.inverted_latents import (
    check_delta_budget,
    check_inversion,
    compute_inverted_latents,
    inverted_latents_hash,
    inverted_latents_num_shards,
    run_inverted_latents_shard,
)
from storage import Store
from tests.mortal_store import Killed, MortalStore
from tests.pipeline.inversion.pictures import saved, smooth_picture
from tests.tolerances import BATCH_INDEPENDENT

CONFIG = InvertedLatentsConfig(min_side=8, shard_size=3)


def fill(folder: Path) -> str:
    """Five pictures of several kinds, and three files that are none."""
    files = {
        "a.png": saved(smooth_picture(16, 16), "PNG"),
        "b/a.png": saved(smooth_picture(30, 20), "PNG"),
        "b/photo.jpg": saved(smooth_picture(64, 48), "JPEG"),
        "c.webp": saved(smooth_picture(40, 40), "WEBP"),
        "d.tif": saved(smooth_picture(16, 24), "TIFF"),
        "broken.jpg": saved(smooth_picture(64, 64), "JPEG")[:300],
        "empty.png": b"",
        "notes.txt": b"not an image",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


def run_all(images: str, store: Store, pack: Pack, config: InvertedLatentsConfig = CONFIG) -> Input:
    listing = run_image_listing(images, store, pack, column=config.image_column)
    shards = inverted_latents_num_shards(config, listing)
    for shard in range(shards):
        run_inverted_latents_shard(config, store, pack, shard, listing=listing)
    config_hash = inverted_latents_hash(config, pack, listing)
    closed = close_stage(store, "latents", num_shards=shards, config_hash=config_hash, config=config, pack=pack)
    return Input(store, "latents", closed["shards"], closed["rows"], config_hash)


def as_kept(images: Tensor) -> Tensor:
    """Rounded to 8 bits."""
    return from_rgb_arrays(to_rgb_arrays(images))


def rows_of(latents: Input) -> dict[str, dict]:
    table = latents.table(folder="inverted_images")
    return {row["relative_path"]: row for row in table.to_pylist()}


def test_run_inverted_latents_makes_every_file_a_latent_or_a_row_with_its_reason(
    tmp_path: Path, run_store: Store, tiny_pack: Pack
):
    latents = run_all(fill(tmp_path / "in"), run_store, tiny_pack)
    rows = rows_of(latents)
    assert {path: row["reason"] for path, row in rows.items()} == {
        "a.png": None,
        "b/a.png": None,
        "b/photo.jpg": None,
        "c.webp": None,
        "d.tif": None,
        "broken.jpg": "truncated",
        "empty.png": "empty",
        "notes.txt": "not_an_image",
    }
    table = latents.table()
    assert table["latent_id"].to_pylist() == ["a", "b-a", "b-photo", "broken", "c", "d", "empty", "notes"]
    assert table["source"].to_pylist() == ["image"] * 8
    finite = np.isfinite(storage.stack(table["w_plus"])).all(axis=1)
    assert finite.tolist() == [status == "ok" for status in table["status"].to_pylist()]
    assert all(error.startswith(path) for path, error in ((p, r["error"]) for p, r in rows.items()) if error)


def test_run_inverted_latents_are_the_inverters_of_the_framed_picture(
    tmp_path: Path, run_store: Store, tiny_pack: Pack
):
    latents = run_all(fill(tmp_path / "in"), run_store, tiny_pack)
    row, table = rows_of(latents)["b/a.png"], latents.table()
    picture = storage.decode_image(row["aligned"]["bytes"])
    np.testing.assert_array_equal(picture, load_aligner(tiny_pack)(smooth_picture(30, 20)).picture)
    with torch.no_grad():
        wanted = tiny_pack.inverter.invert(from_rgb_arrays(picture[None]))
        drawn = as_kept(tiny_pack.generator(wanted))
    found = storage.stack(table["w_plus"])[1].reshape(shape_of(table, "w_plus"))
    np.testing.assert_allclose(found, wanted[0].numpy(), **BATCH_INDEPENDENT)
    error = float((drawn - from_rgb_arrays(picture[None])).abs().mean())
    assert row["inversion_error"] == pytest.approx(error, rel=1e-4)
    assert row["quality"] == pytest.approx(1 - error / 2, rel=1e-4)
    assert (row["width"], row["height"], row["frame"]) == (20, 30, [-5.0, 0.0, 30.0, 0.0, 0.0, 30.0])


def test_run_inverted_latents_do_not_depend_on_shards_or_batches(tmp_path: Path, tiny_pack: Pack):
    images = fill(tmp_path / "in")
    tables = [
        run_all(
            images,
            Store(str(tmp_path / f"run-{shard_size}")),
            tiny_pack,
            CONFIG.model_copy(update={"shard_size": shard_size, "batch_size": batch_size}),
        ).table()
        for shard_size, batch_size in ((1, 1), (8, 3))
    ]
    np.testing.assert_allclose(*(storage.stack(table["w_plus"]) for table in tables), **BATCH_INDEPENDENT)


def test_run_inverted_latents_refined_are_nearer(tmp_path: Path, tiny_pack: Pack):
    config = CONFIG.model_copy(update={"refine": 30, "learning_rate": 0.1, "patience": 0})
    rows = rows_of(run_all(fill(tmp_path / "in"), Store(str(tmp_path / "run")), tiny_pack, config))
    good = [row for row in rows.values() if row["status"] == "ok"]
    assert len(good) == 5
    assert all(row["inversion_error"] < 0.9 * row["encoder_error"] for row in good)
    assert {row["refine_steps"] for row in good} == {30}
    assert {row["refine_stop"] for row in good} == {"steps"}


def test_run_inverted_latents_of_a_table_keep_names_and_labels(tmp_path: Path, run_store: Store, tiny_pack: Pack):
    fill(tmp_path)
    (tmp_path / "list.csv").write_text("image,mood\na.png,glad\nb/a.png,sad\nabsent.png,\n")
    rows = rows_of(run_all(str(tmp_path / "list.csv"), run_store, tiny_pack))
    assert rows["a.png"]["labels"] == [{"name": "mood", "value": "glad"}]
    assert rows["b/a.png"]["name"] == "a.png"
    assert (rows["absent.png"]["status"], rows["absent.png"]["reason"]) == ("failed", "unreadable")


def test_run_inverted_latents_of_an_image_column(tmp_path: Path, run_store: Store, tiny_pack: Pack):
    cells = [{"bytes": saved(smooth_picture(16, 16), "PNG"), "path": "x.png"}, {"bytes": b"no", "path": "y.png"}, None]
    table = pa.table({"image": pa.array(cells, storage.IMAGE_TYPE), "mood": ["glad", "sad", None]})
    pq.write_table(table, tmp_path / "in.parquet")
    rows = run_all(str(tmp_path / "in.parquet"), run_store, tiny_pack).table(folder="inverted_images").to_pylist()
    assert [(row["latent_id"], row["reason"]) for row in rows] == [
        ("x", None),
        ("y", "not_an_image"),
        ("row-00000002", "empty"),
    ]
    assert rows[0]["labels"] == [{"name": "mood", "value": "glad"}]


@pytest.mark.parametrize(("keep", "wanted"), [(False, False), (True, True)])
def test_run_inverted_latents_drop_exif_unless_asked(
    tmp_path: Path, run_store: Store, tiny_pack: Pack, keep: bool, wanted: bool
):
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "secret camera"
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.jpg").write_bytes(saved(smooth_picture(16, 16), "JPEG", exif=exif))
    run_all(str(tmp_path / "in"), run_store, tiny_pack, CONFIG.model_copy(update={"keep_exif": keep}))
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    row = storage.read_table(run_store, "inverted_images/part-00000.parquet").to_pylist()[0]
    assert (row["exif"] is not None and b"secret camera" in row["exif"]) == wanted
    assert wanted or b"secret camera" not in written


@pytest.mark.parametrize(("what", "status"), [("flag", "ok"), ("drop", "failed")])
def test_run_inverted_latents_below_the_quality_are_flagged_or_dropped(
    tmp_path: Path, run_store: Store, tiny_pack: Pack, what: str, status: str
):
    config = CONFIG.model_copy(update={"min_quality": 1.0, "below_quality": what})
    latents = run_all(fill(tmp_path / "in"), run_store, tiny_pack, config)
    row = rows_of(latents)["a.png"]
    assert (row["is_good"], row["status"]) == (False, status)
    first = latents.table().to_pylist()[0]
    assert (first["latent_id"], first["status"]) == ("a", status)
    assert np.isfinite(np.array(first["w_plus"] or [np.nan])).all() == (status == "ok")


def test_run_inverted_latents_draw_a_sheet(tmp_path: Path, run_store: Store, tiny_pack: Pack):
    run_all(fill(tmp_path / "in"), run_store, tiny_pack, CONFIG.model_copy(update={"shard_size": 8}))
    sheet = storage.decode_image(run_store.read_bytes("inversion_sheets/sheet-00000.png"))
    aligned = load_aligner(tiny_pack)(smooth_picture(16, 16)).picture
    left = 4 + 64 + 4 + (64 - 16) // 2
    np.testing.assert_array_equal(sheet[20 + 24 : 20 + 40, left : left + 16], aligned)


@pytest.mark.parametrize("after", [False, True])
def test_run_inverted_latents_killed_at_any_write_ends_in_the_same_bytes(
    tmp_path: Path, tiny_pack: Pack, after: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inverted_latents, "perf_counter", lambda: 0.0)  # seconds are no two times the same
    images = fill(tmp_path / "in")
    run_all(images, Store(str(tmp_path / "whole")), tiny_pack)
    wanted = {p: Store(str(tmp_path / "whole")).read_bytes(p) for p in Store(str(tmp_path / "whole")).list()}
    kills = 0
    for writes in range(len(wanted) + 5):
        store = MortalStore(str(tmp_path / f"killed-{writes}"))
        MortalStore.writes_left, MortalStore.after = writes, after
        try:
            run_all(images, store, tiny_pack)
        except Killed:
            kills += 1
        MortalStore.writes_left = 10_000
        run_all(images, store, tiny_pack)
        assert {path: store.read_bytes(path) for path in store.list()} == wanted
    assert kills == len(wanted)


def test_run_image_listing_of_changed_images_is_refused(tmp_path: Path, run_store: Store, tiny_pack: Pack):
    images = fill(tmp_path / "in")
    run_image_listing(images, run_store, tiny_pack)
    run_image_listing(images, run_store, tiny_pack)
    (tmp_path / "in/new.png").write_bytes(b"1")
    with pytest.raises(PipelineError, match=r"8 of .* now there are 9 of .* Name a new run"):
        run_image_listing(images, run_store, tiny_pack)


def test_run_image_listing_writes_pieces_in_order(
    tmp_path: Path, run_store: Store, tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(image_listing, "ROWS_PER_SHARD", 3)
    listing = run_image_listing(fill(tmp_path / "in"), run_store, tiny_pack)
    assert (listing.num_shards, listing.rows) == (3, 8)
    paths = listing.table()["relative_path"].to_pylist()
    assert paths == sorted(paths)
    assert inverted_latents_num_shards(CONFIG, listing) == 3


def test_compute_inverted_latents_from_the_mean_needs_no_inverter(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    bare = Pack(tiny_pack.store, device="cpu")
    monkeypatch.setattr(bare, "description", tiny_pack.description.model_copy(update={"inverter": None}))
    config = CONFIG.model_copy(update={"start": "mean", "refine": 5})
    pictures = np.stack([smooth_picture(16, 16)] * 2)
    found = compute_inverted_latents(bare, pictures, config, check_inversion(config, bare))
    start = float(
        (as_kept(bare.generator(bare.generator.mapping.w_avg[None])) - from_rgb_arrays(pictures[:1])).abs().mean()
    )
    assert found[0].encoder_error == pytest.approx(start, rel=1e-4)
    assert found[0].found.error < start
    with pytest.raises(PackError, match="inverter"):
        check_inversion(CONFIG, bare)


def test_check_inversion_refuses_steps_of_a_one_pass_encoder(tiny_pack: Pack):
    with pytest.raises(PipelineError, match="encoder_steps"):
        check_inversion(CONFIG.model_copy(update={"encoder_steps": 3}), tiny_pack)


@pytest.mark.parametrize("settings", [{"refine": 1}, {"start": "mean"}, {"encoder_steps": 0}, {"min_quality": 2}])
def test_inverted_latents_config_refuses_what_cannot_work(settings: dict):
    with pytest.raises(ValueError, match="validation error"):
        InvertedLatentsConfig(**settings)


TUNED = CONFIG.model_copy(update={"pivotal_tuning": 20, "tuning_rate": 0.02, "tuning_rank": 2})


def test_run_inverted_latents_tuned_are_nearer_with_the_change_that_is_stored(
    tmp_path: Path, run_store: Store, tiny_pack: Pack
):
    latents = run_all(fill(tmp_path / "in"), run_store, tiny_pack, TUNED)
    table, rows = latents.table(), rows_of(latents)
    good = [row for row in rows.values() if row["status"] == "ok"]
    assert len(good) == 5
    assert all(row["inversion_error"] < 0.9 * row["pivot_error"] for row in good)
    assert {(row["tuning_steps"], row["tuning_stop"]) for row in good} == {(20, "steps")}
    paths = dict(zip(table["latent_id"].to_pylist(), delta_paths(table), strict=True))
    assert [name for name, path in paths.items() if path is None] == ["broken", "empty", "notes"]
    row, w_plus = rows["c.webp"], storage.stack(table["w_plus"])[4].reshape(shape_of(table, "w_plus"))
    assert row["delta_bytes"] == len(run_store.read_bytes(paths["c"] or ""))
    with torch.no_grad():
        drawn = tuned_pack(tiny_pack, run_store, paths["c"]).generator(torch.from_numpy(w_plus.copy())[None])
    wanted = storage.decode_image(row["reconstruction"]["bytes"])
    np.testing.assert_array_equal(to_rgb_arrays(drawn.clamp(-1, 1))[0], wanted)


def test_run_inverted_latents_without_tuning_leave_no_changes(tmp_path: Path, run_store: Store, tiny_pack: Pack):
    latents = run_all(fill(tmp_path / "in"), run_store, tiny_pack)
    assert set(latents.table()["generator_delta"].to_pylist()) == {None}
    assert not [path for path in run_store.list() if path.startswith("generator_deltas/")]
    assert all(row["seconds"] > 0 for row in rows_of(latents).values() if row["status"] == "ok")


def test_check_delta_budget_refuses_more_than_the_limit_and_says_how_much(tiny_pack: Pack):
    each = delta_bytes(tiny_pack.generator, 2)
    limited = TUNED.model_copy(update={"max_delta_bytes": 10 * each})
    check_delta_budget(limited, tiny_pack, 10)
    with pytest.raises(PipelineError, match=f"11 images of {each:,} bytes each would take {11 * each:,}"):
        check_delta_budget(limited, tiny_pack, 11)
    check_delta_budget(limited.model_copy(update={"pivotal_tuning": 0}), tiny_pack, 11)


def test_run_inverted_latents_of_an_encoder_gone_wrong_fail_one_by_one(
    tmp_path: Path, run_store: Store, tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch
):
    sound = tiny_pack.inverter.invert

    def broken(images: Tensor) -> Tensor:
        codes = sound(images)
        codes[0] = float("nan")  # the first of every batch
        return codes

    monkeypatch.setattr(tiny_pack.inverter, "invert", broken)
    config = CONFIG.model_copy(update={"refine": 3, "pivotal_tuning": 3, "shard_size": 8})
    rows = rows_of(run_all(fill(tmp_path / "in"), run_store, tiny_pack, config))
    assert rows["a.png"]["reason"] == "not_finite"
    assert rows["a.png"]["delta_bytes"] is None
    assert rows["d.tif"]["status"] == "ok"
