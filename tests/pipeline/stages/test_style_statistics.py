import numpy as np
import pytest

import storage
from pipeline.config import StyleStatisticsConfig
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack
from pipeline.stages.style_statistics import (
    STAGE,
    run_style_moments_shard,
    run_style_statistics,
    style_statistics_num_shards,
)
from storage import Store
from tests.tolerances import FLOAT32_STORED


@pytest.mark.parametrize("shard_size", [7, 40, 100])
def test_run_style_statistics_equals_numpy_over_all_samples(tiny_pack: Pack, run_store: Store, shard_size: int):
    config = StyleStatisticsConfig(num_samples=100, first_seed=5, psi=0.8, shard_size=shard_size)
    for shard in range(style_statistics_num_shards(config)):
        run_style_moments_shard(config, run_store, tiny_pack, shard)
    run_style_statistics(config, run_store, tiny_pack)
    table = storage.read_tables(run_store, storage.shard_outputs(run_store, STAGE))
    generator = tiny_pack.generator
    styles = generator.styles(sample_w_plus(generator, range(5, 105), psi=0.8)).double().numpy()
    np.testing.assert_allclose(table["mean"].to_numpy(), styles.mean(axis=0), **FLOAT32_STORED)
    np.testing.assert_allclose(table["std"].to_numpy(), styles.std(axis=0), **FLOAT32_STORED)
    assert table["count"].to_pylist() == [100] * generator.space.num_channels
    assert list(zip(table["layer"].to_pylist(), table["channel"].to_pylist(), strict=True)) == [
        generator.space.locate(i) for i in range(generator.space.num_channels)
    ]


def test_run_style_statistics_cutoff_and_ddof_are_followed(tiny_pack: Pack, run_store: Store):
    config = StyleStatisticsConfig(num_samples=20, first_seed=5, psi=0.5, cutoff=1, ddof=1)
    run_style_moments_shard(config, run_store, tiny_pack, 0)
    run_style_statistics(config, run_store, tiny_pack)
    table = storage.read_tables(run_store, storage.shard_outputs(run_store, STAGE))
    generator = tiny_pack.generator
    styles = generator.styles(sample_w_plus(generator, range(5, 25), psi=0.5, cutoff=1)).double().numpy()
    np.testing.assert_allclose(table["std"].to_numpy(), styles.std(axis=0, ddof=1), **FLOAT32_STORED)
