"""What every stage shares: a shard is skipped when its receipt agrees, a stage is closed when all shards have one.

A receipt agrees in two things. Its config hash names the settings, of this stage and of those before it, and may never
change in a folder. Its contents say which latents and prompts the shard was made of, and may: a run grows by them
(``pipeline/runs/growth.py``).
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa
import torch

import storage
from pipeline import __version__
from pipeline.config import Precision, StageConfig
from pipeline.errors import MissingInputError, SetAsideError
from pipeline.machine.precision import held_precision
from pipeline.packs.pack import Pack
from storage import Store

READERS = 8  # tables read at a time where all are read one after the other
READ_AHEAD = 64

# which command makes an artifact, for messages
MADE_BY = {
    "latents": "sample-latents",
    "image_listing": "invert-images",
    "style_statistics": "style-statistics",
    "channel_directions": "channel-directions",
    "screened_directions": "global-directions",
    "prompts": "global-directions",
    "style_directions": "global-directions",
    "chosen_settings": "global-directions",
    "recommended_settings": "recommend-settings",
    "optimized_latents": "optimize-latents",
    "tedigan_latents": "tedigan-latents",
    "mappers": "train-mappers",
    "edited_latents": "edit-latents",
    "dataset": "render-dataset",
    "scores": "score-edits",
    "photo_scores": "score-edits",
    "labels": "export-dataset",
    "balanced_labels": "export-dataset",
    "surveyed_labels": "balance-dataset",
    "edit_plan": "balance-dataset",
    "exported_dataset": "export-dataset",
}


Contents = Mapping[str, Any]  # JSON; see the module's first lines


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard: JSON-sized, so that it may cross a task boundary.

    Attributes:
        stage: name of the stage.
        shard: number of the shard.
        rows: rows written, now or earlier.
        failures: rows whose input was bad.
        skipped: True where an earlier run had already made the shard.
    """

    stage: str
    shard: int
    rows: int
    failures: int
    skipped: bool


@dataclass(frozen=True)
class Made:
    """What a shard's computation hands to ``run_shard``: files to write, row and failure counts, files at a time."""

    files: dict[str, bytes]
    rows: int
    failures: int = 0
    writers: int = 1


def stage_hash(stage: str, config: StageConfig, pack: Pack, inputs: Mapping[str, Any] | None = None) -> str:
    """Hash of everything a stage's rows depend on: settings, pack, code version and the hashes of its inputs.

    How many rows there are is no part of it, see ``StageConfig.grows``: latents and prompts stand in the contents.
    """
    settings = {name: value for name, value in config.identity().items() if name not in config.grows}
    return storage.config_hash(
        {
            "stage": stage,
            "config": settings,
            "pack": pack.digest,
            "code": __version__,
            "inputs": dict(inputs or {}),
        }
    )


def run_shard(
    store: Store,
    stage: str,
    shard: int,
    *,
    config_hash: str,
    pack: Pack,
    make: Callable[[], Made],
    contents: Contents | None = None,
    precision: Precision = "full",
) -> ShardReport:
    """Make a shard unless its receipt is there and agrees; ``make`` runs in the precision named.

    Args:
        store: the run's folder.
        stage: name of the stage.
        shard: number of the shard.
        config_hash: of the settings; must be that of whatever the folder holds of this stage.
        pack: its pack.
        make: computes the shard.
        contents: which part of the inputs the shard is made of; a receipt of others is not this shard's.
        precision: of the arithmetic.
    Raises:
        PipelineError: if the pack's device does not have the precision.
        storage.ConflictError: if the folder holds this shard made with other settings.
    """
    if storage.is_done(store, stage, shard, config_hash=config_hash, contents=contents):
        done = storage.read_shard(store, stage, shard)
        assert done is not None
        return ShardReport(stage, shard, done.rows, done.failures, skipped=True)
    with held_precision(precision, torch.device(pack.device)):
        made = make()
    storage.write_shard(
        store,
        stage=stage,
        shard=shard,
        config_hash=config_hash,
        pack_digest=pack.digest,
        code_version=__version__,
        rows=made.rows,
        failures=made.failures,
        files=made.files,
        contents=contents,
        writers=made.writers,
    )
    return ShardReport(stage, shard, made.rows, made.failures, skipped=False)


def close_stage(
    store: Store,
    stage: str,
    *,
    num_shards: int,
    config_hash: str,
    config: StageConfig,
    pack: Pack,
    facts: Mapping[str, Any] | None = None,
    set_aside: Mapping[int, str] | None = None,
    rows_in: Callable[[int], int] | None = None,
    provisional: bool = False,
    contents: Contents | None = None,
) -> dict[str, Any]:
    """Write ``_<stage>.json``, the sign that a stage can be read, from the receipts of all its shards.

    A shard set aside keeps its place: the rows that it was to make are counted, so that every other row stays where it
    is, and whoever asks for them is told why they are not there (``Input.receipt``).

    Args:
        store: the run's folder.
        stage: name of the stage.
        num_shards: its shards.
        config_hash: what it was made from.
        config: its settings.
        pack: its pack.
        facts: what else it depends on, recorded so that a later conflict can be named.
        set_aside: reasons of the shards that failed, by number.
        rows_in: rows that a shard set aside was to make.
        provisional: what failed further up is missing here.
        contents: what the whole stage was made of, recorded so that it is known how far it may grow.
    Raises:
        MissingInputError: if a shard is neither done nor set aside.
    """
    shard_rows: list[int] = []
    made_of: list[Contents] = []
    failures = 0
    set_aside = dict(set_aside or {})
    for shard, done in enumerate(storage.read_shards(store, stage, range(num_shards))):
        if shard in set_aside and rows_in is not None:
            shard_rows.append(rows_in(shard))
            made_of.append({"set_aside": True})
            continue
        if done is None or done.config_hash != config_hash:
            raise MissingInputError(
                f"{stage} must have all {num_shards} shards before it is closed; shard {shard} is not done."
            )
        shard_rows.append(done.rows)
        made_of.append(done.contents)
        failures += done.failures
    payload = {
        "stage": stage,
        "shards": num_shards,
        "rows": sum(shard_rows),
        "shard_rows": shard_rows,
        "failures": failures,
        "config": config.identity(),
        "config_hash": config_hash,
        "pack": pack.description.name,
        "pack_digest": pack.digest,
        "code_version": __version__,
        "facts": dict(facts or {}),
        "contents": dict(contents or {}),
        "state": storage.config_hash({"config_hash": config_hash, "shards": made_of}),
    }
    if set_aside:
        payload["set_aside"] = {str(shard): reason for shard, reason in sorted(set_aside.items())}
    if provisional:
        payload["provisional"] = True
    if storage.read_stage(store, stage) != payload:
        storage.write_stage(store, stage, payload)
    return payload


@dataclass(frozen=True)
class Input:
    """A closed artifact to read from.

    Attributes:
        store: the run's folder.
        stage: name of the artifact.
        num_shards: its shards.
        rows: its rows.
        config_hash: the settings it was made with.
        shard_rows: rows of each shard; None where the run is older than that record.
        set_aside: shards that failed, and why; their rows are counted and cannot be read.
        provisional: whether something that failed further up is missing from all of it.
        state: changes with the settings and with every latent and prompt that is added.
        contents: what the whole stage was made of.
    """

    store: Store
    stage: str
    num_shards: int
    rows: int
    config_hash: str
    shard_rows: tuple[int, ...] | None = None
    set_aside: tuple[tuple[int, str], ...] = ()
    provisional: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether more may be read of it after a rerun."""
        return self.provisional or bool(self.set_aside)

    @property
    def present(self) -> list[int]:
        """The shards that can be read."""
        absent = {shard for shard, _ in self.set_aside}
        return [shard for shard in range(self.num_shards) if shard not in absent]

    state: str = ""
    contents: Contents = field(default_factory=dict, compare=False)

    def table(self, columns: list[str] | None = None, *, folder: str | None = None) -> pa.Table:
        """All shards as one table; ``folder`` picks among the tables of a stage that writes several."""
        paths = [path for shard in self.present for path in sorted(self.receipt(shard).outputs)]
        return storage.read_tables(self.store, _in_folder(paths, folder or self.stage), columns=columns)

    def shard_table(self, shard: int, *, folder: str | None = None, columns: list[str] | None = None) -> pa.Table:
        """One shard's table, of ``folder`` where a stage writes several."""
        paths = list(self.receipt(shard).outputs)
        return storage.read_tables(self.store, _in_folder(paths, folder or self.stage), columns=columns)

    def shard_tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Table after table, for what is summed up: a large run's rows fit no memory. A few are read ahead."""
        shards = self.present
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(shards), READ_AHEAD):
                yield from pool.map(partial(self.shard_table, columns=columns), shards[start : start + READ_AHEAD])

    def has(self, folder: str) -> bool:
        """Whether the stage wrote a table of that name too."""
        return any(_in_folder(list(self.receipt(shard).outputs), folder) for shard in self.present[:1])

    def slice_table(self, start: int, stop: int, *, folder: str | None = None) -> pa.Table:
        """Rows ``start`` up to, not including, ``stop``, reading only the shards that hold them.

        ``folder`` as in ``table``; its rows must be one for one those of the stage.
        """
        parts = []
        shard_rows = _counted_rows(self) if self.shard_rows is None else self.shard_rows
        for shard, (first, end) in enumerate(pairwise(accumulate(shard_rows, initial=0))):
            low, high = max(start, first), min(stop, end)
            if low < high:
                parts.append(self.shard_table(shard, folder=folder).slice(low - first, high - low))
        assert parts, f"{self.stage}: no rows in [{start}, {stop})"
        return pa.concat_tables(parts)

    def check_whole(self) -> None:
        """Nothing, if every shard can be read.

        Raises:
            SetAsideError: naming the first that failed.
        """
        for shard, _ in self.set_aside:
            self.receipt(shard)

    def receipt(self, shard: int) -> storage.ShardManifest:
        """What one shard wrote.

        Raises:
            SetAsideError: if the shard failed and was set aside.
            MissingInputError: if its receipt is lost.
        """
        reason = dict(self.set_aside).get(shard)
        if reason is not None:
            raise SetAsideError(f"needs {self.stage} shard {shard}, which failed ({reason})")
        done = storage.read_shard(self.store, self.stage, shard)
        if done is None:
            raise MissingInputError(
                f"{self.stage} at {self.store.uri} must have the receipt of shard {shard}; it is lost. "
                f"{_remedy(self.stage)}"
            )
        return done


@lru_cache(maxsize=16)
def _counted_rows(source: Input) -> tuple[int, ...]:
    """Rows of each shard by the receipts; the state of ``source`` fixes them, so they are counted once."""
    return tuple(source.receipt(shard).rows for shard in range(source.num_shards))


def _in_folder(paths: list[str], folder: str) -> list[str]:
    return [path for path in paths if path.startswith(f"{folder}/")]


def find_input(stage: str, *stores: Store | None) -> Input:
    """The first of the runs that holds a closed artifact.

    Raises:
        MissingInputError: if none does; names the command that makes it.
    """
    found = find_optional_input(stage, *stores)
    if found is None:
        places = ", ".join(store.uri for store in stores if store is not None)
        raise MissingInputError(f"{stage} must be made first; there are none at {places}. {_remedy(stage)}")
    return found


def find_optional_input(stage: str, *stores: Store | None) -> Input | None:
    """As ``find_input``, but None where there is none."""
    for store in stores:
        run = None if store is None else storage.read_stage(store, stage)
        if store is not None and run is not None:
            counts = run.get("shard_rows")
            shard_rows = None if counts is None else tuple(counts)
            set_aside = tuple((int(shard), reason) for shard, reason in run.get("set_aside", {}).items())
            provisional = run.get("provisional", False)
            return Input(
                store,
                stage,
                run["shards"],
                run["rows"],
                run["config_hash"],
                shard_rows,
                set_aside,
                provisional,
                state=run.get("state", run["config_hash"]),
                contents=run.get("contents", {}),
            )
    return None


def _remedy(stage: str) -> str:
    return f"Run `styleclip {MADE_BY[stage]}` on this run, or name the run that has them with --inputs."


def shard_bounds(total: int, shard_size: int, shard: int) -> range:
    """Items of a shard when ``total`` items are cut into pieces of ``shard_size``."""
    return range(shard * shard_size, min((shard + 1) * shard_size, total))


def count_shards(total: int, shard_size: int) -> int:
    """How many shards ``total`` items make."""
    return -(-total // shard_size)


def part_path(stage: str, shard: int) -> str:
    """Path of a shard's Parquet file inside the run."""
    return f"{stage}/part-{shard:05d}.parquet"
