import numpy as np
import pandas as pd
import pytest

from pipeline.config import LatentsConfig, TediganLatentsConfig
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts
from pipeline.runs.shard import close_stage, find_input
from pipeline.stages import latents as latents_stage
from pipeline.stages import tedigan_latents as stage
from storage import Store

CONFIG = TediganLatentsConfig(num_steps=3, image_interval=2, shard_size=4)
ROWS = [
    {"name": "hat", "target": "a face with a hat", "neutral": "a face", "method": "tedigan"},
    {"name": "long", "target": "a face " * 80, "neutral": "a face", "method": "tedigan"},
]


@pytest.fixture
def run(tiny_pack: Pack, run_store: Store) -> Store:
    config = LatentsConfig(num_latents=3, shard_size=3)
    latents_stage.run_latents_shard(config, run_store, tiny_pack, 0)
    known = latents_stage.latents_hash(config, tiny_pack)
    close_stage(run_store, "latents", num_shards=1, config_hash=known, config=config, pack=tiny_pack)
    return run_store


def test_shards_hold_a_row_for_every_pair_and_are_not_made_twice(tiny_pack: Pack, run: Store):
    prompts, latents = check_prompts(ROWS), find_input("latents", run)
    assert stage.tedigan_latents_num_shards(CONFIG, prompts, latents) == 2
    for shard in range(2):
        report = stage.run_tedigan_latents_shard(CONFIG, run, tiny_pack, shard, prompts=prompts, latents=latents)
        assert (report.skipped, report.rows, report.failures) == (False, (4, 2)[shard], (2, 1)[shard])
    again = stage.run_tedigan_latents_shard(CONFIG, run, tiny_pack, 0, prompts=prompts, latents=latents)
    assert again.skipped
    frame = pd.read_parquet(f"{run.uri}/tedigan_latents")
    fine, long = frame[frame.prompt_id == "hat"], frame[frame.prompt_id == "long"]
    assert (fine.status == "ok").all()
    assert long.error.str.contains("must fit into CLIP's").all()
    curves = pd.read_parquet(f"{run.uri}/tedigan_curves")
    assert len(curves) == 3 * 3
    weights = {"clip_loss": 1.0, "pixel_loss": 1.0, "feature_loss": 0.05, "latent_loss": 2.0}
    assert np.allclose(curves.loss, sum(weight * curves[name] for name, weight in weights.items()), atol=1e-5)
    assert sorted(pd.read_parquet(f"{run.uri}/tedigan_images").step.unique()) == [0, 2]
