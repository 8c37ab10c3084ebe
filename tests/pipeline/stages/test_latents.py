import numpy as np
import pytest
import torch

import storage
from pipeline.config import LatentsConfig
from pipeline.packs.pack import Pack
from pipeline.schemas import shape_of
from pipeline.stages.latents import STAGE, compute_latents, latents_num_shards, run_latents_shard
from storage import ConflictError, Store
from tests.tolerances import BATCH_INDEPENDENT


def run_all(config: LatentsConfig, store: Store, pack: Pack):
    reports = [run_latents_shard(config, store, pack, i) for i in range(latents_num_shards(config))]
    return reports, storage.read_tables(store, storage.shard_outputs(store, STAGE))


@pytest.mark.parametrize("shard_size", [1, 3, 64])
def test_run_latents_any_shard_size_gives_the_same_rows(tiny_pack: Pack, run_store: Store, shard_size: int):
    config = LatentsConfig(num_latents=7, first_seed=40, shard_size=shard_size)
    _, table = run_all(config, run_store, tiny_pack)
    assert table["latent_id"].to_pylist() == [f"seed-{i:08d}" for i in range(40, 47)]
    assert table["status"].to_pylist() == ["ok"] * 7
    w_plus = storage.stack(table["w_plus"]).reshape(-1, *shape_of(table, "w_plus"))
    alone = compute_latents(tiny_pack.generator, [45], psi=config.psi, cutoff=None)[0].numpy()
    np.testing.assert_allclose(w_plus[5], alone, **BATCH_INDEPENDENT)


def test_run_latents_again_does_nothing(tiny_pack: Pack, run_store: Store):
    config = LatentsConfig(num_latents=4, shard_size=2)
    first, _ = run_all(config, run_store, tiny_pack)
    second, _ = run_all(config, run_store, tiny_pack)
    assert [r.skipped for r in first] == [False, False]
    assert [r.skipped for r in second] == [True, True]


def test_run_latents_lost_shard_is_redone_alone_and_identical(tiny_pack: Pack, run_store: Store):
    config = LatentsConfig(num_latents=4, shard_size=2)
    run_all(config, run_store, tiny_pack)
    path = storage.shard_outputs(run_store, STAGE)[1]
    before = run_store.read_bytes(path)
    run_store.delete(path)
    reports, _ = run_all(config, run_store, tiny_pack)
    assert [r.skipped for r in reports] == [True, False]
    assert run_store.read_bytes(path) == before


def test_run_latents_other_settings_in_the_same_run_are_refused(tiny_pack: Pack, run_store: Store):
    run_all(LatentsConfig(num_latents=2), run_store, tiny_pack)
    with pytest.raises(ConflictError, match="config"):
        run_all(LatentsConfig(num_latents=2, psi=0.5), run_store, tiny_pack)


def test_compute_latents_psi_zero_is_the_mean_face(tiny_pack: Pack):
    w_plus = compute_latents(tiny_pack.generator, [1, 2], psi=0.0, cutoff=None)
    expected = tiny_pack.generator.mapping.w_avg.expand_as(w_plus)
    torch.testing.assert_close(w_plus, expected)
