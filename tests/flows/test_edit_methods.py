"""A prompt list that mixes the three methods."""

from pathlib import Path

import pandas as pd
import pytest

from flows.edit_dataset import edit_dataset
from flows.jobs import Job
from flows.optimize_latents import open_optimized_latents, optimize_latents
from flows.sample_latents import sample_latents
from flows.tedigan_latents import open_tedigan_latents
from pipeline.config import OptimizedLatentsConfig, TediganLatentsConfig
from pipeline.errors import MissingInputError, PromptError
from pipeline.prompts import check_prompts

ROWS = [
    {"name": "hat", "target": "a face with a hat"},
    {"name": "red hat", "target": "a face with a red hat", "method": "optimize", "identity_weight": 0.1},
    {"name": "red", "target": "a red face", "method": "mapper", "strengths": [0.5, 1]},
]


def test_edit_dataset_mixes_methods_in_one_run_and_again_does_nothing(complete_pack_uri: str, tmp_path: Path):
    values = {
        "run": str(tmp_path),
        "pack": complete_pack_uri,
        "num_latents": 2,
        "mapper_latents": 4,
        "mapper_steps": 2,
        "optimization_steps": 3,
        "templates": "none",
        "device": "cpu",
    }
    first = edit_dataset(ROWS, **values)
    assert (first["edits"], first["failed_prompts"]) == (2 * 4, 0)
    frame = pd.read_parquet(tmp_path / "dataset")
    assert frame.groupby("prompt_id").size().to_dict() == {"hat": 2, "original": 2, "red": 4, "red-hat": 2}
    methods = frame.dropna(subset="method").drop_duplicates("prompt_id").set_index("prompt_id").method
    assert methods.to_dict() == {"hat": "global", "red-hat": "optimize", "red": "mapper"}
    edited = pd.read_parquet(tmp_path / "edited_latents")
    assert set(edited.loc[edited.edit_id == "red", "strength"]) == {0.5, 1.0}
    assert pd.read_parquet(tmp_path / "summary.parquet")["prompt"].tolist() == ["hat", "red hat", "red", "red"]
    assert len(pd.read_parquet(tmp_path / "mapper_training" / "latents")) == 4
    second = edit_dataset(ROWS, **values)
    assert second["shards_skipped"] == second["shards"]


def test_edit_dataset_unknown_method_stops_before_anything_is_written(complete_pack_uri: str, tmp_path: Path):
    with pytest.raises(
        PromptError, match="row 1: `method` must be one of global, mapper, optimize, tedigan; got 'magic'"
    ):
        edit_dataset([{**ROWS[0], "method": "magic"}], run=str(tmp_path / "run"), pack=complete_pack_uri, device="cpu")
    assert not (tmp_path / "run").exists()


def test_optimize_latents_without_latents_or_prompts_of_its_method_says_so(tiny_pack_uri: str, tmp_path: Path):
    shared = {"run": str(tmp_path), "pack": tiny_pack_uri, "device": "cpu"}
    with pytest.raises(MissingInputError, match="Run `styleclip sample-latents`"):
        optimize_latents(ROWS, **shared)
    sample_latents(**shared, num_latents=1)
    with pytest.raises(PromptError, match="at least one prompt with method 'optimize'"):
        optimize_latents(ROWS[:1], **shared)
    with pytest.raises(Exception, match="greater than 0"):
        optimize_latents(ROWS, **shared, learning_rate=0.0)
    assert not (tmp_path / "optimized_latents").exists()


@pytest.mark.parametrize(
    ("opener", "config"),
    [
        (open_optimized_latents, OptimizedLatentsConfig(num_steps=7, shard_size=4)),
        (open_tedigan_latents, TediganLatentsConfig(num_steps=7, shard_size=4)),
    ],
)
def test_searches_count_their_steps_and_cut_pairs_into_shards(opener, config, tiny_pack_uri: str, tmp_path: Path):
    where = {"run": str(tmp_path), "pack": tiny_pack_uri, "device": "cpu"}
    sample_latents(**where, num_latents=3)
    work = opener(
        Job(**where, config=config, prompts=tuple(check_prompts([{**row, "neutral": "a face"} for row in ROWS])))
    )
    assert (work.total, work.unit) == (3 * 3 * 7, "steps")
    assert [work.rows_in(shard) for shard in range(work.num_shards)] == [4, 4, 1]
