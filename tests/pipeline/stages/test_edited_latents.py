from typing import Any

import numpy as np
import pytest
import torch

import storage
from pipeline.config import (
    DatasetConfig,
    EditedLatentsConfig,
    LatentsConfig,
    MappersConfig,
    OptimizedLatentsConfig,
    StageConfig,
    StyleDirectionsConfig,
)
from pipeline.errors import MissingInputError, PipelineError, PromptError
from pipeline.models.mapper import load_mapper, moved_latents
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt, check_prompts, of_method
from pipeline.runs.edits import SOURCES, load_edits
from pipeline.runs.shard import Input, ShardReport, close_stage, find_input, part_path
from pipeline.schemas import LATENTS, vectors_of
from pipeline.stages import dataset, edited_latents, latents, mappers, optimized_latents, style_directions
from storage import Store
from tests.pipeline.stages.test_style_directions import hand_table

FACE = {"neutral": "a face"}
ROWS = [
    {"name": "hat", "target": "a face with a hat", "strengths": [2.0, 6.0], **FACE},
    {"name": "red", "target": "a red face", "method": "mapper", "strengths": [1.0, -2.0], **FACE},
    {"name": "all", "target": "a red face with a hat", "method": "optimize", "identity_weight": 0.1, **FACE},
    {"name": "long", "target": "a face " * 250, "method": "optimize", **FACE},
    {"name": "zero", "target": "a hat", "method": "mapper", "clip_weight": 0, **FACE},
]
OPTIMIZE = OptimizedLatentsConfig(num_steps=4, image_interval=2, shard_size=3, space="styles")
TRAIN = MappersConfig(num_steps=4, validation_share=0.3, validation_interval=2, log_interval=1)
EDIT = EditedLatentsConfig(templates="none", shard_size=2)


def write_latents(store: Store, pack: Pack) -> Input:
    """Four latents from seeds, the third of them NaN."""
    config = LatentsConfig(num_latents=4)
    reports = [latents.run_latents_shard(config, store, pack, 0)]
    close(store, pack, config, reports, latents.latents_hash(config, pack))
    table = storage.read_table(store, part_path("latents", 0))
    w_plus = storage.stack(table["w_plus"]).copy()
    w_plus[2] = np.nan
    columns: dict[str, Any] = {c.name: table[c.name].combine_chunks() for c in LATENTS.columns}
    columns["w_plus"] = storage.vectors(w_plus)
    shape = {"w_plus_shape": (pack.generator.space.num_ws, pack.generator.config.w_dim)}
    broken = LATENTS.table(columns, widths={"w_plus": w_plus.shape[1]}, metadata=shape)
    store.write_bytes(part_path("latents", 0), storage.table_bytes(broken))
    return find_input("latents", store)


def close(store: Store, pack: Pack, config: StageConfig, reports: list[ShardReport], config_hash: str) -> None:
    close_stage(store, reports[0].stage, num_shards=len(reports), config_hash=config_hash, config=config, pack=pack)


@pytest.fixture(scope="module")
def run(tiny_pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Prompt]]:
    """A run with all three methods, up to the edited latents."""
    store, prompts = Store(str(tmp_path_factory.mktemp("run"))), check_prompts(ROWS)
    source = write_latents(store, tiny_pack)
    directions = StyleDirectionsConfig(templates="none", num_channels=2)
    chosen, table = of_method(prompts, "global"), hand_table()
    reports = [
        style_directions.run_style_directions_shard(directions, store, tiny_pack, 0, prompts=chosen, channels=table)
    ]
    config_hash = style_directions.style_directions_hash(directions, tiny_pack, table)
    close(store, tiny_pack, directions, reports, config_hash)
    chosen = of_method(prompts, "mapper")
    reports = [mappers.run_mappers_shard(TRAIN, store, tiny_pack, 0, prompts=chosen, latents=source)]
    close(store, tiny_pack, TRAIN, reports, mappers.mappers_hash(TRAIN, tiny_pack))
    chosen = of_method(prompts, "optimize")
    reports = [
        optimized_latents.run_optimized_latents_shard(OPTIMIZE, store, tiny_pack, i, prompts=chosen, latents=source)
        for i in range(optimized_latents.optimized_latents_num_shards(OPTIMIZE, chosen, source))
    ]
    config_hash = optimized_latents.optimized_latents_hash(OPTIMIZE, tiny_pack, source)
    close(store, tiny_pack, OPTIMIZE, reports, config_hash)
    methods = {prompt.method for prompt in prompts}
    sources = {method: find_input(stage, store) for method, stage in SOURCES.items() if method in methods}
    edits = load_edits(EDIT, tiny_pack, prompts, sources)
    reports = [
        edited_latents.run_edited_latents_shard(EDIT, store, tiny_pack, i, latents=source, edits=edits)
        for i in range(edited_latents.edited_latents_num_shards(EDIT, source))
    ]
    config_hash = edited_latents.edited_latents_hash(EDIT, tiny_pack, source)
    close(store, tiny_pack, EDIT, reports, config_hash)
    return store, prompts


def edited_rows(store: Store) -> dict[tuple[str, str, float], dict[str, Any]]:
    table = find_input("edited_latents", store).table()
    rows = table.drop_columns("vector").to_pylist()
    for row, vector in zip(rows, vectors_of(table["vector"]), strict=True):
        row["vector"] = vector
    return {(row["latent_id"], row["edit_id"], row["strength"]): row for row in rows}


def w_plus_of(store: Store, pack: Pack) -> torch.Tensor:
    w_plus = storage.stack(find_input("latents", store).table()["w_plus"]).copy()
    return torch.from_numpy(w_plus).view(-1, pack.generator.space.num_ws, 8)


def test_edited_latents_every_usable_edit_of_every_latent_in_list_order(run):
    rows = edited_rows(run[0])
    edits = [("hat", 2.0), ("hat", 6.0), ("red", 1.0), ("red", -2.0), ("all", 1.0)]
    assert list(rows) == [(f"seed-{i:08d}", *edit) for i in range(4) for edit in edits]
    assert [rows["seed-00000000", *edit]["space"] for edit in edits] == ["styles"] * 2 + ["w_plus"] * 2 + ["styles"]
    assert rows["seed-00000000", "hat", 2.0]["direction"] == "hat"
    assert rows["seed-00000000", "hat", 2.0]["vector"] is None


def test_edited_latents_of_mappers_are_the_scaled_moves(run, tiny_pack: Pack):
    store, _ = run
    (row, _) = find_input("mappers", store).table().to_pylist()
    mapper = load_mapper(
        store.read_bytes(row["weights_file"]), row["description"], tiny_pack.generator.config, device="cpu"
    )
    w = w_plus_of(store, tiny_pack)[:1]
    for strength in (1.0, -2.0):
        expected = moved_latents(mapper, tiny_pack.generator, w, strength=strength).flatten().numpy()
        found = edited_rows(store)["seed-00000000", "red", strength]["vector"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_edited_latents_of_optimisation_are_the_found_vectors(run):
    store, _ = run
    table = find_input("optimized_latents", store).table()
    found = dict(
        zip(
            zip(table["latent_id"].to_pylist(), table["prompt_id"].to_pylist(), strict=True),
            vectors_of(table["vector"]),
            strict=True,
        )
    )
    rows = edited_rows(store)
    for i in (0, 1, 3):
        latent_id = f"seed-{i:08d}"
        np.testing.assert_array_equal(rows[latent_id, "all", 1.0]["vector"], found[latent_id, "all"])


def test_nan_latent_fails_alone_in_every_method(run):
    store, _ = run
    failed = {key[:2] for key, row in edited_rows(store).items() if row["status"] == "failed"}
    assert failed == {("seed-00000002", name) for name in ("hat", "red", "all")}
    errors = [row["error"] for row in edited_rows(store).values() if row["status"] == "failed"]
    assert all("must be finite; it holds NaN" in error for error in errors)


def test_bad_prompts_are_rows_with_words_and_lose_nothing(run):
    store, _ = run
    edits = {row["prompt_id"]: row for row in find_input("edited_latents", store).table(folder="edits").to_pylist()}
    assert [row["status"] for row in edits.values()] == ["ok", "ok", "ok", "failed", "failed"]
    assert "prompt 'long': a text must fit into CLIP's 64 tokens" in edits["long"]["error"]
    assert "prompt 'zero': `clip_weight` or `direction_weight` must be above 0" in edits["zero"]["error"]
    assert [row["method"] for row in edits.values()] == ["global", "mapper", "optimize", "optimize", "mapper"]


def test_optimisation_keeps_curves_and_images_of_every_pair(run):
    optimized = find_input("optimized_latents", run[0])
    results = optimized.table().to_pylist()
    assert [(r["latent_id"], r["prompt_id"]) for r in results] == [
        (f"seed-{i:08d}", name) for i in range(4) for name in ("all", "long")
    ]
    curves = optimized.table(folder="optimization_curves").to_pylist()
    assert {(r["latent_id"], r["prompt_id"]) for r in curves} == {(f"seed-{i:08d}", "all") for i in (0, 1, 3)}
    first = [r for r in curves if r["latent_id"] == "seed-00000000"]
    assert [r["step"] for r in first] == [0, 1, 2, 3]
    assert results[0]["loss"] == min(r["loss"] for r in first)
    images = optimized.table(folder="optimization_images").to_pylist()
    assert [r["step"] for r in images if r["latent_id"] == "seed-00000000"] == [0, 2]
    assert storage.decode_image(images[0]["image"]["bytes"]).shape == (16, 16, 3)


def test_mappers_keep_curves_similarity_and_nothing_but_the_mapper(run):
    store, _ = run
    good, bad = find_input("mappers", store).table().to_pylist()
    assert (good["status"], bad["status"], bad["weights_file"]) == ("ok", "failed", None)
    assert '"residual_scale":0.1' in good["description"]
    assert good["similarity_mean"] is not None
    curve = find_input("mappers", store).table(folder="mapper_curves").to_pylist()
    assert [r["step"] for r in curve if r["split"] == "validation"] == [0, 2, 4]
    assert not any(path.startswith("_checkpoints") for path in store.list("_checkpoints"))


def test_dataset_renders_all_three_methods_from_edited_latents(run, tiny_pack: Pack):
    store, _ = run
    source, edited = find_input("latents", store), find_input("edited_latents", store)
    directions = find_input("style_directions", store)
    config = DatasetConfig(images_per_shard=12)
    assert dataset.dataset_num_shards(config, source, edited) == 2
    report = dataset.run_dataset_shard(
        config, store, tiny_pack, 0, latents=source, edited=edited, directions=directions
    )
    assert (report.rows, report.failures) == (12, 0)
    rows = {row["image_id"]: row for row in storage.read_table(store, part_path("dataset", 0)).to_pylist()}
    assert rows["seed-00000001__all__1"]["method"] == "optimize"
    optimized = find_input("optimized_latents", store).table()
    styles = torch.from_numpy(vectors_of(optimized["vector"])[2].copy())[None]
    with torch.no_grad():
        expected = ((tiny_pack.generator.render(styles) + 1) * 127.5).round().clamp(0, 255)[0].permute(1, 2, 0)
    found = storage.decode_image(rows["seed-00000001__all__1"]["image"]["bytes"]).astype(int)
    assert np.abs(found - expected.numpy()).max() <= 1
    report = dataset.run_dataset_shard(
        DatasetConfig(images_per_shard=7), store, tiny_pack, 2, latents=source, edited=edited, directions=directions
    )
    assert (report.rows, report.failures) == (0, 1 + 5)  # the latent with NaN: no original and no edit
    with pytest.raises(MissingInputError, match="edited_latents refer to style_directions"):
        dataset.run_dataset_shard(config, store, tiny_pack, 1, latents=source, edited=edited, directions=None)


def test_load_edits_with_a_prompt_no_step_has_seen_names_it(run, tiny_pack: Pack):
    store, prompts = run
    sources = {"global": find_input("style_directions", store)}
    other = check_prompts([{"name": "new", "target": "a hat", **FACE}])
    with pytest.raises(PromptError, match=r"prompt 'new' \(method 'global'\) must be in style_directions"):
        load_edits(EDIT, tiny_pack, [*of_method(prompts, "global"), *other], sources)


def test_load_edits_without_a_usable_prompt_gives_the_first_error(run, tiny_pack: Pack):
    store, prompts = run
    sources = {"optimize": find_input("optimized_latents", store)}
    with pytest.raises(PipelineError, match="all 1 failed, the first: prompt 'long'"):
        load_edits(EDIT, tiny_pack, [prompts[3]], sources)


def test_edited_latents_beyond_float32_are_failed_rows_with_the_reason(run, tiny_pack: Pack, tmp_path):
    store, _ = run
    source = find_input("latents", store)
    far = [{**row, "strengths": [1.0, 1e39, -1e39]} for row in ROWS[:3]]
    prompts, target = check_prompts(far), Store(str(tmp_path))
    sources = {
        method: find_input(stage, store) for method, stage in SOURCES.items() if method in {p.method for p in prompts}
    }
    edits = load_edits(EDIT, tiny_pack, prompts, sources)
    report = edited_latents.run_edited_latents_shard(EDIT, target, tiny_pack, 0, latents=source, edits=edits)
    table = storage.read_table(target, part_path("edited_latents", 0))
    for row in table.to_pylist():
        if row["edit_id"] == "hat":  # a direction, whose move the renderer makes
            assert row["status"] == "ok"
        elif row["strength"] == 1.0:
            assert np.isfinite(row["vector"]).all()
        else:
            assert (row["status"], row["vector"]) == ("failed", None)
            assert "lower the strength" in row["error"]
    assert report.failures == 2 * 2 * 2  # latents, methods, strengths
