import io
from pathlib import Path

import numpy as np
import pytest
import torch

import storage
from pipeline.errors import CheckpointError
from pipeline.packs.pack import Pack
from pipeline.runs.shard import part_path
from pipeline.stages import imported_latents as stage
from storage import MissingError, Store


def latents_of(pack: Pack) -> np.ndarray:
    shape = (5, pack.generator.space.num_ws, pack.generator.config.w_dim)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def saved(latents: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, latents)
    else:
        torch.save(torch.from_numpy(latents), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["npy", "pt"])
@pytest.mark.parametrize("place", ["path", "file", "memory", "s3"])
def test_latents_are_imported_from_any_place(
    place: str, kind: str, tiny_pack: Pack, tmp_path: Path, request: pytest.FixtureRequest
):
    folder = {"path": f"{tmp_path}", "file": f"file://{tmp_path}", "memory": f"memory://{tmp_path.name}"}.get(place)
    folder = folder or f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}-{kind}"
    latents = latents_of(tiny_pack)
    Store(folder).write_bytes(f"w.{kind}", saved(latents, kind))
    file, run = f"{folder}/w.{kind}", Store(str(tmp_path / "run"))
    config, count = stage.describe_latents(file, tiny_pack, shard_size=2)
    assert (config.name, count) == (f"w.{kind}", 5)
    for shard in range(3):
        stage.run_imported_latents_shard(config, run, tiny_pack, shard, file=file)
    tables = [storage.read_table(run, part_path("latents", shard)) for shard in range(3)]
    assert np.array_equal(np.concatenate([storage.stack(t["w_plus"]) for t in tables]), latents.reshape(5, -1))


def test_file_elsewhere_that_changes_while_it_is_imported_is_refused(tiny_pack: Pack, tmp_path: Path):
    store, run = Store(f"memory://{tmp_path.name}"), Store(str(tmp_path / "run"))
    store.write_bytes("w.npy", saved(latents_of(tiny_pack), "npy"))
    config, _ = stage.describe_latents(f"{store.uri}/w.npy", tiny_pack, shard_size=2)
    store.write_bytes("w.npy", saved(latents_of(tiny_pack) + 1, "npy"))
    with pytest.raises(CheckpointError, match="must stay as it is while it is imported"):
        stage.run_imported_latents_shard(config, run, tiny_pack, 0, file=f"{store.uri}/w.npy")


def test_file_elsewhere_that_is_missing_is_named(tiny_pack: Pack):
    with pytest.raises(MissingError, match=r"memory://nowhere/w.npy"):
        stage.describe_latents("memory://nowhere/w.npy", tiny_pack, shard_size=2)
