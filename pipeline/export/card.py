"""The dataset card: README.md with Hugging Face's front matter, from what was counted and from the run's receipts."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.config import ExportedDatasetConfig, InvertedLatentsConfig
from pipeline.export.columns import ExportColumn
from pipeline.export.counts import Counts
from pipeline.export.formats import data_files, image_columns, loaded_columns
from pipeline.export.rows import REJECTED
from pipeline.export.splits import SPLITS

PHOTOS = "PHOTOS"  # where they are is nobody's business who reads the card
SHARDING = ("shard_size",)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
HOW_TO_LOAD = {
    "parquet": """    from datasets import load_dataset
    dataset = load_dataset("FOLDER")                      # images and typed labels

    import pandas, polars, duckdb
    frame = pandas.read_parquet("FOLDER/data")            # image bytes in image["bytes"]
    frame = polars.read_parquet("FOLDER/data/train-*.parquet")
    duckdb.sql("select prompt, count(*) from 'FOLDER/data/train-*.parquet' group by prompt")

Labels are numbers in the Parquet files; `labels.json` has their names.""",
    "imagefolder": """    from datasets import load_dataset
    dataset = load_dataset("FOLDER")                      # images and typed labels

    import pandas
    frame = pandas.read_parquet("FOLDER/data/train/00000/metadata.parquet")

Labels are numbers in `metadata.parquet`, as `datasets` wants them; `labels.json` has their names.""",
    "webdataset": """    import webdataset
    samples = webdataset.WebDataset("FOLDER/data/train-{00000..LAST}-of-COUNT.tar", shardshuffle=False)
    samples = samples.decode("pil").to_tuple("EXTENSION", "json")

    from datasets import load_dataset
    stream = load_dataset("FOLDER", split="train", streaming=True)   # labels are in the field "json\"""",
    "csv": """    import pandas
    frame = pandas.read_csv("FOLDER/train.csv")           # paths in the first column, below FOLDER""",
}


@dataclass(frozen=True)
class Origin:
    """Where a dataset comes from.

    Attributes:
        run: URI of the run.
        to: URI of the export.
        pack: name, version, domain and licence of the pack, and its digest.
        receipts: what the run's stages wrote when they were closed, by stage.
        prompts: rows of the run's edits.
        versions: of what made it, by package.
        sizes: bytes of every subset's files.
        made_by: the one command that makes it all; None: edit-dataset, then export-dataset.
    """

    run: str
    to: str
    pack: Mapping[str, str]
    receipts: Mapping[str, Mapping[str, Any]]
    prompts: Sequence[Mapping[str, Any]]
    versions: Mapping[str, str]
    sizes: Mapping[str, int]
    made_by: str | None = None


def compute_card(config: ExportedDatasetConfig, columns: Sequence[ExportColumn], counts: Counts, origin: Origin) -> str:
    """The whole README.md."""
    sections = [
        f"---\n{_front_matter(config, columns, counts, origin)}---",
        f"# {_title(origin)}",
        _made(config, counts, origin),
        f"## How to load\n\n{_how_to_load(config, counts)}",
        f"## Prompts\n\n{_prompts(counts, origin)}",
        *([f"## Attributes\n\n{_attributes(counts)}"] if counts.categories else []),
        f"## Columns\n\n{_columns(config, columns)}",
        f"## What is accepted\n\n{_accepted(config, counts)}",
        f"## Known limits\n\n{_limits(config, columns, origin)}",
        f"## How to make it again\n\n{_again(config, origin)}",
    ]
    return "\n\n".join(sections) + "\n"


def _title(origin: Origin) -> str:
    return f"Edits of {origin.pack['domain']}"


def _front_matter(config: Any, columns: Any, counts: Counts, origin: Origin) -> str:
    total = sum(counts.rows.values())
    matter: dict[str, Any] = {
        "pretty_name": _title(origin),
        "license": "cc0-1.0" if "CC0" in origin.pack["licence"].split("Trained")[0] else "other",
        "task_categories": ["image-classification", "image-to-image"],
        "tags": ["synthetic", "counterfactual", "stylegan", "styleclip"],
        "size_categories": [next((name for limit, name in SIZES if total < limit), "n>1M")],
    }
    if config.format != "csv":
        matter |= {"configs": [], "dataset_info": []}
        for name, subsets in (("default", SPLITS), (REJECTED, (REJECTED,))):
            there = [subset for subset in subsets if counts.rows.get(subset)]
            if there and (name != REJECTED or config.keep_rejected):
                files = [{"split": subset, "path": data_files(config, subset)} for subset in there]
                splits = [
                    {"name": subset, "num_bytes": origin.sizes[subset], "num_examples": counts.rows[subset]}
                    for subset in there
                ]
                chosen = {"config_name": name, **({"default": True} if name == "default" else {})}
                matter["configs"].append({**chosen, "data_files": files})
                features = loaded_columns(config, columns)
                matter["dataset_info"].append({"config_name": name, "features": features, "splits": splits})
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)


def _made(config: ExportedDatasetConfig, counts: Counts, origin: Origin) -> str:
    rows = ", ".join(f"{counts.rows[s]:,} {s}" for s in (*SPLITS, REJECTED) if counts.rows.get(s))
    kinds = "one row per image, originals included" if config.layout == "images" else "one row per pair of images"
    lossy = f" of quality {config.quality}" if config.image_format == "jpeg" else ", every bit kept"
    methods = sorted({row["method"] for row in origin.prompts if row["status"] == "ok"})
    return (
        f"Images of a generator ({origin.pack['domain']}), edited by text: {counts.latents:,} faces, "
        f"{len(counts.prompts)} prompts, methods {', '.join(methods)}; {kinds}. Rows: {rows}. "
        f"Images are {config.image_format.upper()}{lossy}.\n\n"
        f"{_drawn(origin)} Splits are by face (and by photo, where the faces come from photos), never by "
        f"image: no face is in two of them. `pair_id` links an original and all its edits.\n\n"
        f"Pack: {origin.pack['name']} version {origin.pack['version']}. Licence: {origin.pack['licence']}"
    )


def _drawn(origin: Origin) -> str:
    if _photo_settings(origin) is None:
        return "Every image is synthetic."
    return (
        "Every image was drawn by the generator; the faces are reconstructions of photos, and can show who is on them."
    )


def _photo_settings(origin: Origin) -> dict[str, Any] | None:
    """How the photos were inverted, where that is not the default; None for a run without photos."""
    found = origin.receipts.get("latents", {}).get("config", {})
    fields = InvertedLatentsConfig.model_fields
    if not found.keys() >= {"align", "refine"}:  # of no other kind of latents
        return None
    return {n: v for n, v in found.items() if n in fields and n not in SHARDING and v != fields[n].default}


def _how_to_load(config: ExportedDatasetConfig, counts: Counts) -> str:
    from storage import EXTENSIONS

    shards = -(-counts.rows.get("train", 0) // config.images_per_shard)
    text = HOW_TO_LOAD[config.format]
    text = text.replace("LAST", f"{max(shards - 1, 0):05d}").replace("COUNT", f"{shards:05d}")
    extension = EXTENSIONS[config.image_format]
    return text.replace("EXTENSION", extension if config.layout == "images" else f"after.{extension}")


def _prompts(counts: Counts, origin: Origin) -> str:
    lines = [
        "| prompt | wanted text | method | strengths | edits | accepted | hit | kept | identity | CLIP gain |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in origin.prompts:
        if row["status"] != "ok":
            lines.append(f"| {_cell(row['prompt'])} | {_cell(row['target'])} | {row['method']} | | failed | | | | | |")
            continue
        strengths = " ".join(f"{s:g}" for s in row["strengths"])
        of = counts.prompts.get(row["prompt_id"])
        if of is None:
            continue
        means = [
            _share(of.mean("hit")),
            _share(of.mean("kept")),
            *(
                "-" if of.mean(name) is None else f"{of.mean(name):.3f}"
                for name in ("identity_similarity", "clip_gain")
            ),
        ]
        cells = [_cell(row["prompt"]), _cell(row["target"]), row["method"], strengths, f"{of.edits}", f"{of.accepted}"]
        lines.append(f"| {' | '.join([*cells, *means])} |")
    return "\n".join(lines) + (
        "\n\nhit: share of the edits in which the judge sees what was asked, of faces that did not show it before; "
        "kept: mean share of the other attributes that stayed."
    )


def _attributes(counts: Counts) -> str:
    lines = ["What the judge sees, in images.", "", "| attribute | category | train | validation | test | rejected |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for (attribute, category), of in counts.categories.items():
        cells = [str(of.get(subset, 0)) for subset in (*SPLITS, REJECTED)]
        lines.append(f"| {attribute} | {category} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _columns(config: ExportedDatasetConfig, columns: Sequence[ExportColumn]) -> str:
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for column in [*image_columns(config), *columns]:
        lines.append(f"| `{column.name}` | {column.kind} | {_cell(column.doc)} |")
    return "\n".join(lines)


def _accepted(config: ExportedDatasetConfig, counts: Counts) -> str:
    rules = {name: getattr(config, name) for name in sorted(type(config).__mro__[1].model_fields)}
    given = [f"`{name}` {value}" for name, value in rules.items() if value not in (None, False)]
    stated = f"Rules: {', '.join(given)}." if given else "No rule was set: every edit is accepted."
    kept = "" if config.keep_rejected else " Rejected images are not part of this export."
    reasons = "".join(f"\n- {count:,}: {reason}" for reason, count in counts.reasons.most_common(10))
    return f"{stated} A rule on a score that is missing does not apply.{kept}" + (f"\n{reasons}" if reasons else "")


def _limits(config: ExportedDatasetConfig, columns: Sequence[ExportColumn], origin: Origin) -> str:
    judged = any(column.name.startswith("judged_") for column in columns)
    limits = [
        "The generator draws what its training images show, and shares what they leave out and how often.",
        "An edit can move more than was asked; `kept` and `identity_similarity` say how much, `before_*` from what.",
        "The judge is a network and errs; its probabilities are beside its answers. Labels are its reading, not truth."
        if judged
        else "The pack has no judge: there are no attribute labels, and captions repeat the prompts.",
        "Prompts that no judge can read have null in `hit`, `kept` and `judged_*`.",
        "Shares of the splits hold up to chance, as a face keeps its split when others are added.",
    ]
    if config.image_format == "jpeg":
        limits.append("JPEG changes pixels; scores and labels were taken before.")
    return "\n".join(f"- {limit}" for limit in limits)


def _again(config: ExportedDatasetConfig, origin: Origin) -> str:
    commands = [_edit_command(origin), _export_command(config, origin)]
    if origin.made_by is not None:
        commands = [origin.made_by]
    versions = "\n".join(f"| {name} | {version} |" for name, version in origin.versions.items())
    digests = "\n".join(f"| {stage} | {of['config_hash'][:16]} |" for stage, of in origin.receipts.items())
    settings = json.dumps({stage: of["config"] for stage, of in origin.receipts.items()}, indent=1, sort_keys=True)
    return (
        f"With `prompts.csv` of this folder{'' if _photo_settings(origin) is None else ' and the photos'}:\n\n"
        + "\n".join(f"    {command}" for command in commands)
        + f"\n\n| version of | |\n|---|---|\n{versions}\n\n| hash of | |\n|---|---|\n"
        + f"| pack | {origin.pack['digest'][:16]} |\n{digests}\n\nSettings of every stage:\n\n```json\n{settings}\n```"
    )


def _edit_command(origin: Origin) -> str:
    latents = origin.receipts.get("latents", {}).get("config", {})
    options = [("prompts", "prompts.csv"), ("run", origin.run), ("pack", origin.pack["uri"])]
    options += [(name, latents[name]) for name in ("num_latents", "first_seed", "psi") if name in latents]
    photos = _photo_settings(origin)
    options += [] if photos is None else [("images", PHOTOS), *photos.items()]
    templates = origin.receipts.get("scores", {}).get("config", {}).get("templates")
    options += [("templates", templates)] if templates else []
    return _command("edit-dataset", options)


def _export_command(config: ExportedDatasetConfig, origin: Origin) -> str:
    fields = type(config).model_fields
    changed = [
        (name, value)
        for name, value in config.model_dump(mode="json").items()
        if value != fields[name].get_default(call_default_factory=True) and name not in config.performance_only
    ]
    return _command("export-dataset", [("run", origin.run), ("to", origin.to), *changed])


def _command(name: str, options: Sequence[tuple[str, Any]]) -> str:
    words = ["styleclip", name]
    for option, value in options:
        flag = option.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return shlex.join(words)


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
