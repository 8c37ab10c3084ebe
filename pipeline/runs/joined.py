"""Several runs read as one: the same artifact of each, shard after shard."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

import storage
from pipeline.runs.shard import Input


@dataclass(frozen=True)
class JoinedInput(Input):
    """An artifact of several runs, in the order of the runs; ``store`` is the first one's.

    Attributes:
        parts: the artifact in each run.
    """

    parts: tuple[Input, ...] = ()

    def table(self, columns: list[str] | None = None, *, folder: str | None = None) -> pa.Table:
        """All shards of all runs."""
        return pa.concat_tables(part.table(columns, folder=folder) for part in self.parts)

    def shard_table(self, shard: int, *, folder: str | None = None, columns: list[str] | None = None) -> pa.Table:
        """One shard, counted through the runs."""
        part, own = self._placed(shard)
        return part.shard_table(own, folder=folder, columns=columns)

    def receipt(self, shard: int) -> storage.ShardManifest:
        """What one shard wrote, counted through the runs."""
        part, own = self._placed(shard)
        return part.receipt(own)

    def _placed(self, shard: int) -> tuple[Input, int]:
        for part in self.parts:
            if shard < part.num_shards:
                return part, shard
            shard -= part.num_shards
        raise IndexError(f"{self.stage} has {self.num_shards} shards; got {shard + self.num_shards}.")


def join_inputs(parts: Sequence[Input]) -> Input:
    """The same artifact of several runs as one; of one run, itself."""
    if len(parts) == 1:
        return parts[0]
    return JoinedInput(
        store=parts[0].store,
        stage=parts[0].stage,
        num_shards=sum(part.num_shards for part in parts),
        rows=sum(part.rows for part in parts),
        config_hash=storage.config_hash({"joined": [part.config_hash for part in parts]}),
        state=storage.config_hash({"joined": [part.state for part in parts]}),
        shard_rows=tuple(part.receipt(shard).rows for part in parts for shard in range(part.num_shards)),
        parts=tuple(parts),
    )
