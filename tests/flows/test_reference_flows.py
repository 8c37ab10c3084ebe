"""``reference`` from the flows' parameter to the stages' records and the images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import storage
from flows.channel_directions import channel_directions
from flows.edit_dataset import edit_dataset
from flows.global_directions import global_directions
from flows.style_statistics import style_statistics
from flows.train_mappers import train_mappers
from pipeline.errors import MissingInputError, PipelineError
from storage import Store

ROWS = [
    {"name": "hat", "target": "a face with a hat", "relevance_threshold": 0.05},
    {"name": "none", "target": "a hat", "relevance_threshold": 1.0},
]


def recorded(run: Path, stage: str) -> dict:
    found = storage.read_stage(Store(str(run)), stage)
    assert found is not None
    return found["config"]


def test_official_reference_reaches_every_stage_and_is_recorded(tiny_pack_uri: str, tmp_path: Path):
    shared = {"run": str(tmp_path), "pack": tiny_pack_uri, "device": "cpu", "reference": "official"}
    style_statistics(**shared, num_samples=60, ddof=1)
    channel_directions(**shared, num_images=2, channels_per_shard=40)
    result = edit_dataset(ROWS, **shared, num_latents=2, templates="none")
    assert recorded(tmp_path, "style_statistics")["ddof"] == 0  # the reference wins
    measured = recorded(tmp_path, "channel_directions")
    assert (measured["relevance_base"], measured["relevance_cumulative_bug"]) == ("mean_anchored", True)
    assert (measured["relevance_layers"], measured["uint8"]) == ("res<=128", "+128")
    directions = recorded(tmp_path, "style_directions")
    assert (directions["guard"], directions["templates"]) == ("zeros", "imagenet_79")
    assert recorded(tmp_path, "dataset")["uint8"] == "+128"
    assert recorded(tmp_path, "scores")["templates"] == "imagenet_79"
    # without a channel above its threshold a prompt moves nothing, and is no failure
    assert result["failed_prompts"] == 0
    frame = pd.read_parquet(tmp_path / "dataset").set_index(["latent_id", "prompt_id"]).sort_index()
    for latent in ("seed-00000000", "seed-00000001"):
        original = frame.loc[(latent, "original"), "image"]["bytes"]
        assert frame.loc[(latent, "none"), "image"]["bytes"] == original
        assert frame.loc[(latent, "hat"), "image"]["bytes"] != original
    scores = pd.read_parquet(tmp_path / "scores").query("prompt_id != 'original'")
    assert np.isfinite(scores[["clip_similarity", "clip_gain", "clip_direction", "pixel_distance"]].to_numpy()).all()


def test_no_reference_records_no_switch(measured_run: str):
    assert "relevance_base" not in recorded(Path(measured_run), "channel_directions")
    assert "torgb_style" not in recorded(Path(measured_run), "style_statistics")


def test_reference_without_its_table_stops_before_anything_is_written(
    tiny_pack_uri: str, complete_pack_uri: str, tmp_path: Path
):
    shared = {"run": str(tmp_path / "run"), "device": "cpu", "reference": "official"}
    with pytest.raises(MissingInputError, match="needs that table"):
        edit_dataset(ROWS, **shared, pack=tiny_pack_uri)
    with pytest.raises(PipelineError, match="measured with relevance_base=mean_anchored; those of pack 'tiny' have"):
        edit_dataset(ROWS, **shared, pack=complete_pack_uri)
    with pytest.raises(MissingInputError, match="take mode exact"):
        global_directions(ROWS, **shared, pack=complete_pack_uri, mode="gradient")
    with pytest.raises(PipelineError, match="must be 'official', or switches"):
        edit_dataset(ROWS, **{**shared, "reference": "tf"}, pack=complete_pack_uri)
    assert not (tmp_path / "run").exists()


def test_mappers_normalise_over_layers_by_their_switch(tiny_pack_uri: str, tmp_path: Path):
    from flows.sample_latents import sample_latents

    rows = [{"name": "red", "target": "a red face", "method": "mapper"}]
    shared = {"run": str(tmp_path), "pack": tiny_pack_uri, "device": "cpu"}
    sample_latents(**shared, num_latents=4)
    train_mappers(rows, **shared, num_steps=1, reference="mapper_pixelnorm_axis=layer,l2_reduction=sum")
    assert recorded(tmp_path, "mappers")["norm_axis"] == "layer"
    assert recorded(tmp_path, "mappers")["l2_reduction"] == "sum"
    assert '"norm_axis":"layer"' in pd.read_parquet(tmp_path / "mappers")["description"][0]
