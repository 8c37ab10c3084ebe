"""The dataset card of an export and the small files beside it: label names, the prompt list, whole CSV tables."""

import csv
import io
import json
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import storage
from pipeline import __version__
from pipeline.config import ExportedDatasetConfig
from pipeline.errors import MissingInputError
from pipeline.export.card import Origin, compute_card
from pipeline.export.columns import ExportColumn
from pipeline.export.counts import count_labels
from pipeline.export.formats import Part, joined_csv, part_labels
from pipeline.export.rows import RunFacts
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Input, Made, ShardReport, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER
from storage import Store

STAGE = "dataset_card"
EXPORTED = "exported_dataset"  # the stage that wrote the parts
CARD, NAMES, PROMPT_LIST = "README.md", "labels.json", "prompts.csv"
PACKAGES = ("torch", "open_clip_torch", "numpy", "pyarrow", "pillow")
RECEIPTS = (
    *("latents", "style_directions", "screened_directions", "mappers", "optimized_latents", "edited_latents"),
    *("dataset", "scores"),
)


def dataset_card_hash(config: ExportedDatasetConfig, pack: Pack, labels: Input) -> str:
    """The config hash of the card of these settings."""
    return stage_hash(STAGE, config, pack, {"labels": labels.config_hash})


def run_dataset_card(
    config: ExportedDatasetConfig,
    store: Store,
    pack: Pack,
    *,
    pack_uri: str,
    made_by: str | None = None,
    columns: Sequence[ExportColumn],
    parts: Sequence[Part],
    facts: RunFacts,
    labels: Input,
    dataset: Input,
    edited: Input,
) -> ShardReport:
    """Write the card and what stands beside it, once all parts are there.

    Args:
        config: settings of the export.
        store: the export's folder.
        pack: whose run it is.
        pack_uri: what the pack was asked for by.
        made_by: the one command that makes run and export; None: edit-dataset, then export-dataset.
        columns: of the labels.
        parts: of the export.
        facts: what the run's rows share.
        labels: the run's labels.
        dataset: the run's images.
        edited: for the prompts.
    """

    def make() -> Made:
        counts = count_labels((labels.shard_table(i) for i in range(labels.num_shards)), list(facts.attributes))
        prompts = edited.shard_table(0, folder=EDITS_FOLDER).drop_columns("text_direction").to_pylist()
        receipts = {stage: storage.read_stage(dataset.store, stage) for stage in RECEIPTS}
        about = pack.description
        origin = Origin(
            run=dataset.store.uri,
            to=store.uri,
            pack={
                "name": about.name,
                "uri": pack_uri,
                "version": str(about.version),
                "domain": about.domain,
                "licence": about.licence,
                "digest": pack.digest,
            },
            receipts={stage: found for stage, found in receipts.items() if found is not None},
            prompts=prompts,
            versions={"styleclip-pipeline": __version__, "python": platform.python_version(), **_versions()},
            sizes=_sizes(store, parts),
            made_by=made_by,
        )
        names = {c.name: list(c.categories) for c in columns if c.kind == "label"}
        files = {
            CARD: compute_card(config, columns, counts, origin).encode(),
            NAMES: (json.dumps(names, indent=1, ensure_ascii=False) + "\n").encode(),
            PROMPT_LIST: _prompt_list(prompts),
        }
        if config.format == "csv":
            for subset in dict.fromkeys(part.subset for part in parts):
                lines = [store.read_bytes(part_labels(part)) for part in parts if part.subset == subset]
                files[f"{subset}.csv"] = joined_csv(lines)
        return Made(files, rows=sum(counts.rows.values()))

    config_hash = dataset_card_hash(config, pack, labels)
    return run_shard(store, STAGE, 0, config_hash=config_hash, contents={"labels": labels.state}, pack=pack, make=make)


def _sizes(store: Store, parts: Sequence[Part]) -> Counter[str]:
    """Bytes of every subset's files, from the receipts of its parts."""
    sizes: Counter[str] = Counter()
    for shard, part in enumerate(parts):
        done = storage.read_shard(store, EXPORTED, shard)
        if done is None:
            raise MissingInputError(f"the card must come after all {len(parts)} parts; part {shard} is not done.")
        sizes[part.subset] += sum(record["bytes"] for record in done.outputs.values())
    return sizes


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _prompt_list(prompts: Sequence[dict]) -> bytes:
    """The run's prompts as a list that makes it again, strengths and channels filled in."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "target", "neutral", "strengths", "num_channels", "method"])
    for row in prompts:
        strengths = " ".join(f"{s:g}" for s in row["strengths"] or ())
        channels = row["num_channels"] if row["method"] == "global" else None
        writer.writerow([row["prompt"], row["target"], row["neutral"], strengths, channels, row["method"]])
    return text.getvalue().encode()
