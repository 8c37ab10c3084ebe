"""Balanced labels: the rows of the labels that a balanced request takes, and the rejected ones."""

from functools import lru_cache

import pyarrow as pa

import storage
from pipeline.config import BalanceConfig, ExportedDatasetConfig
from pipeline.errors import PipelineError
from pipeline.export.balance import choose_balanced, wanted_shares
from pipeline.export.candidates import load_options
from pipeline.export.rows import REJECTED, SUBSET, RunFacts
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from storage import Store

STAGE = "balanced_labels"


def balanced_labels_hash(config: ExportedDatasetConfig, pack: Pack, labels: Input) -> str:
    """The config hash of the balanced labels of these settings."""
    assert config.balance is not None
    return stage_hash(STAGE, config.balance, pack, {"labels": labels.config_hash})


def run_balanced_labels_shard(
    config: ExportedDatasetConfig, store: Store, pack: Pack, shard: int, *, facts: RunFacts, labels: Input
) -> ShardReport:
    """Write the chosen rows of one shard of the labels.

    Raises:
        PipelineError: if the run's accepted images cannot meet the request, with the numbers.
    """

    def make() -> Made:
        attributes = tuple((name, categories) for name, categories in facts.attributes.items())
        chosen = _chosen(config.balance.model_dump_json() if config.balance else "", attributes, labels)
        table = labels.shard_table(shard)
        kept = [
            subset == REJECTED or name in chosen
            for name, subset in zip(table["image_id"].to_pylist(), table[SUBSET].to_pylist(), strict=True)
        ]
        taken = table.filter(pa.array(kept))
        return Made({part_path(STAGE, shard): storage.table_bytes(taken)}, rows=taken.num_rows)

    config_hash = balanced_labels_hash(config, pack, labels)
    return run_shard(
        store, STAGE, shard, config_hash=config_hash, contents={"labels": labels.state}, pack=pack, make=make
    )


@lru_cache(maxsize=4)
def _chosen(request: str, attributes: tuple[tuple[str, tuple[str, ...]], ...], labels: Input) -> frozenset[str]:
    """The images to take; worked out once per process, for all shards."""
    balance = BalanceConfig.model_validate_json(request)
    shares = wanted_shares(balance, dict(attributes))
    options = load_options(balance, shares, [labels])
    choice = choose_balanced(balance, shares, options)
    if choice.missing:
        there = len({name for option in options for name in option.images})
        raise PipelineError(
            f"{balance.total} balanced images must have shares within {balance.tolerance:g} of those asked for; the "
            f"run has {there} that may be taken, and cannot give: {'; '.join(choice.missing)}. `styleclip "
            f"balance-dataset` renders what such a request needs; or ask for fewer images, or a wider tolerance."
        )
    return choice.images
