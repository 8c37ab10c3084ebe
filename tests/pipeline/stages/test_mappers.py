"""Training through its stage: what a kill at any moment leaves, and what a rerun makes of it."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import LatentsConfig, MappersConfig
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts
from pipeline.runs.shard import ShardReport, close_stage, find_input
from pipeline.stages import latents, mappers
from storage import ConflictError, Store
from tests.threads import torch_threads

ROWS = [{"name": "hat", "target": "a face with a hat", "neutral": "a face", "method": "mapper"}]
TRAIN = {"num_steps": 300, "validation_interval": 100, "checkpoint_interval": 5, "kind": "single"}
WEIGHTS = "mapper_weights/hat.safetensors"


def train(pack_uri: str, run: Path | str, **changes: object) -> ShardReport:
    """Train with the process's number of threads; the pack is a fresh one, which remembers no embedded text."""
    pack, store = Pack(Store(pack_uri), device="cpu"), Store(str(run))
    sampled = LatentsConfig(num_latents=8)
    latents.run_latents_shard(sampled, store, pack, 0)
    config_hash = latents.latents_hash(sampled, pack)
    close_stage(store, "latents", num_shards=1, config_hash=config_hash, config=sampled, pack=pack)
    config = MappersConfig.model_validate({**TRAIN, **changes})
    return mappers.run_mappers_shard(
        config, store, pack, 0, prompts=check_prompts(ROWS), latents=find_input("latents", store)
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.mark.usefixtures("one_thread")
def test_run_mappers_killed_and_rerun_gives_the_same_bytes(tiny_pack_uri: str, tmp_path: Path):
    train(tiny_pack_uri, tmp_path / "whole")
    code = (
        "import torch; torch.set_num_threads(1); from tests.pipeline.stages.test_mappers import train; "
        f"train({tiny_pack_uri!r}, {str(tmp_path / 'cut')!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3]) as child:
        checkpoints = tmp_path / "cut" / "_checkpoints"
        while not checkpoints.exists() or not list(checkpoints.iterdir()):
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(random.random() * 0.2)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    report = train(tiny_pack_uri, tmp_path / "cut")
    assert not report.skipped
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert not list(checkpoints.iterdir())


def test_run_mappers_again_does_nothing_and_other_settings_are_refused(tiny_pack_uri: str, tmp_path: Path):
    assert not train(tiny_pack_uri, tmp_path, num_steps=2).skipped
    assert train(tiny_pack_uri, tmp_path, num_steps=2, checkpoint_interval=1).skipped
    with pytest.raises(ConflictError, match="config"):
        train(tiny_pack_uri, tmp_path, num_steps=3)


def test_run_mappers_description_says_what_was_built(tiny_pack_uri: str, tmp_path: Path):
    from pipeline.runs.shard import part_path
    from storage import read_table

    train(tiny_pack_uri, tmp_path, num_steps=2, kind="levels", fine=False, residual_scale=0.2)
    (row,) = read_table(Store(str(tmp_path)), part_path("mappers", 0)).to_pylist()
    described = json.loads(row["description"])
    assert (described["kind"], described["levels"], described["residual_scale"]) == (
        "levels",
        ["coarse", "medium"],
        0.2,
    )
