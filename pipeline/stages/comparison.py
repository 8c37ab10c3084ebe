"""The comparison of methods: tables, text, plots and a picture grid from the methods' datasets and scores.

Letters: n latent, d CLIP width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

import storage
from pipeline.config import ComparisonConfig
from pipeline.contact_sheet import Cell, compute_contact_sheet
from pipeline.packs.pack import Pack
from pipeline.prompts import ORIGINAL, Method, Prompt
from pipeline.rows import ImageRow, rows_of
from pipeline.runs.contents import digest, keys_of
from pipeline.runs.shard import Contents, Input, Made, ShardReport, find_optional_input, run_shard, stage_hash
from pipeline.schemas import COMPARISON, Artifact, comparison_artifacts
from pipeline.scoring import plots
from pipeline.scoring.comparison import Dose, class_rows, dose_row, method_rows
from pipeline.scoring.comparison_text import comparison_text
from pipeline.scoring.networks import compute_embeddings
from pipeline.scoring.statistics import over_latents
from storage import Store

STAGE = COMPARISON.name
TABLE, CLASSES, CURVES = "comparison.parquet", "comparison_classes.parquet", "comparison_curves.parquet"
TEXT, PICTURES = "comparison.md", "comparison_pictures.png"
HIT_KEPT, DOSES, COST = "comparison_hit_kept.png", "comparison_doses.png", "comparison_cost.png"
Row = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """What a method made of the same prompts and latents."""

    method: Method
    dataset: Input
    scores: Input


def comparison_hash(config: ComparisonConfig, pack: Pack, methods: Sequence[Compared]) -> str:
    """The config hash of the comparison of these methods, on whatever prompts."""
    inputs = {m.method: [m.dataset.config_hash, m.scores.config_hash] for m in methods}
    return stage_hash(STAGE, config, pack, inputs)


def comparison_contents(prompts: Sequence[Prompt], methods: Sequence[Compared]) -> Contents:
    """What the comparison is made of."""
    states = {m.method: digest([m.dataset.state, m.scores.state]) for m in methods}
    return {
        "prompts": keys_of((p.prompt_id, p.model_dump(mode="json")) for p in prompts),
        "methods": list(states.items()),
    }


def run_comparison(
    config: ComparisonConfig, store: Store, pack: Pack, *, prompts: Sequence[Prompt], methods: Sequence[Compared]
) -> ShardReport:
    """Compare the methods; plots are left out where matplotlib is not installed."""

    def make() -> Made:
        doses, unedited, grids = load_doses(config, pack, prompts, methods)
        curves = [dose_row(dose, unedited) for dose in doses]
        table = method_rows(doses, kept=config.kept)
        classes = class_rows(doses, kept=config.kept)
        renders = {m.method: count_renders(m, len(prompts)) for m in methods}
        for row in (*table, *classes):
            row["renders"] = renders[row["method"]]
        oracle = pack.description.oracle
        attributes = () if oracle is None else tuple(oracle.attributes)
        artifacts = comparison_artifacts(scored_columns(methods), attributes)
        columns = {column.name for artifact in artifacts for column in artifact.columns}
        text = comparison_text(
            table, classes, kept=config.kept, columns=columns, missing=missing_columns(pack, methods)
        )
        tables = zip((TABLE, CLASSES, CURVES), artifacts, (table, classes, curves), strict=True)
        files = {
            **{name: _parquet(artifact, rows) for name, artifact, rows in tables},
            TEXT: text.encode(),
            PICTURES: storage.encode_png(draw_pictures(config, prompts, table, grids)),
        }
        if plots.can_plot():
            if "kept" in columns:
                files[HIT_KEPT] = plots.plot_hit_against_kept(table, kept=config.kept)
            files[DOSES] = plots.plot_dose_response(curves)
            files[COST] = plots.plot_cost_against_quality(table)
        return Made(files, rows=len(table))

    config_hash, contents = comparison_hash(config, pack, methods), comparison_contents(prompts, methods)
    return run_shard(store, STAGE, 0, config_hash=config_hash, contents=contents, pack=pack, make=make)


def scored_columns(methods: Sequence[Compared]) -> set[str]:
    """Columns that the scores of every method have."""
    return set.intersection(*(set(m.scores.table().column_names) for m in methods))


def missing_columns(pack: Pack, methods: Sequence[Compared]) -> list[str]:
    """Which networks the comparison goes without, and which columns with them, one line each."""
    about, columns = pack.description, scored_columns(methods)
    found = []
    if "identity_similarity" not in columns:
        found.append(f"identity, because pack {about.name!r} has no identity network")
    if "kept" not in columns:
        found.append(
            f"what is kept and what changed outside the target, because pack {about.name!r} has no oracle; whether a "
            "target is reached says the judge or, without one, the CLIP that guided"
        )
    if "judge_gain" not in columns:
        found.append("the judge's gain, because no judge was named (--judge)")
    return found


def _parquet(artifact: Artifact, rows: Sequence[Row]) -> bytes:
    return storage.table_bytes(artifact.table({c.name: [row.get(c.name) for row in rows] for c in artifact.columns}))


def load_doses(
    config: ComparisonConfig, pack: Pack, prompts: Sequence[Prompt], methods: Sequence[Compared]
) -> tuple[list[Dose], Float[np.ndarray, "n d"], dict[tuple[str, str, float, str], bytes]]:
    """Doses of all methods, features of the unedited images, and PNGs by method, prompt, strength and latent."""
    doses: list[Dose] = []
    pictures: dict[tuple[str, str, float, str], bytes] = {}
    unedited: dict[str, np.ndarray] = {}
    for compared in methods:
        scores = {row["image_id"]: row for row in compared.scores.table().to_pylist()}
        groups: dict[tuple[str, float], list[tuple[Row, np.ndarray]]] = {}
        for shard in compared.scores.present:
            every = rows_of(ImageRow, compared.dataset.shard_table(shard))
            rows = [(row, row.image["bytes"]) for row in every if row.image is not None]
            if not rows:
                continue
            images = np.stack([storage.decode_image(data) for _, data in rows])
            features = compute_embeddings(
                pack.clip.encode_images, images, batch_size=config.batch_size, device=pack.device
            ).numpy()
            for (row, data), feature in zip(rows, features, strict=True):
                if row.prompt_id == ORIGINAL:
                    unedited.setdefault(row.latent_id, feature)
                key = (row.prompt_id, row.strength)
                groups.setdefault(key, []).append((scores[row.image_id], feature))
                pictures[compared.method, *key, row.latent_id] = data
        for prompt in prompts:
            for (prompt_id, strength), found in groups.items():
                if prompt_id == prompt.prompt_id:
                    doses.append(_dose(prompt, compared.method, strength, found))
    return doses, np.stack(list(unedited.values())), pictures


def _dose(prompt: Prompt, method: Method, strength: float, found: Sequence[tuple[Row, np.ndarray]]) -> Dose:
    rows = [row for row, _ in found]

    def column(name: str) -> np.ndarray:
        return over_latents([row.get(name) for row in rows])

    attributes = [name.removeprefix("before_") for name in rows[0] if name.startswith("before_")]
    return Dose(
        prompt=prompt.name,
        kind=prompt.kind,
        method=method,
        strength=strength,
        hit=column("hit"),
        kept=column("kept"),
        change=column("target_gain"),
        identity=column("identity_similarity"),
        clip_gain=column("clip_gain"),
        judge_gain=column("judge_gain"),
        outside=column("outside_change"),
        changed={name: over_latents([_differs(row, name) for row in rows]) for name in attributes},
        features=np.stack([feature for _, feature in found]),
    )


def _differs(row: Row, attribute: str) -> float | None:
    before, after = row[f"before_{attribute}"], row[f"after_{attribute}"]
    return None if before is None or after is None else float(before != after)


def count_renders(compared: Compared, num_prompts: int) -> float | None:
    """Renders per prompt that a method takes for all latents before it draws its edits; None where nobody kept count.

    A search's are its steps, a mapper's the latents of its training, a screened direction's the images of its
    channels, plus and minus. A direction from a pack's table costs nothing more.
    """
    store = compared.dataset.store
    if compared.method in ("optimize", "tedigan"):
        latents = find_optional_input(
            "optimized_latents" if compared.method == "optimize" else "tedigan_latents", store
        )
        return None if latents is None else sum(latents.table(["steps"])["steps"].to_pylist()) / num_prompts
    if compared.method == "mapper":
        settings = (storage.read_stage(store, "mappers") or {}).get("config")
        return None if settings is None else float(settings["num_steps"] * settings["batch_size"])
    screened = find_optional_input("screened_directions", store)
    if screened is None:
        return 0.0
    return 2.0 * sum(screened.table(["count"])["count"].to_pylist()) / num_prompts


def draw_pictures(
    config: ComparisonConfig,
    prompts: Sequence[Prompt],
    table: Sequence[Mapping[str, Any]],
    pictures: Mapping[tuple[str, str, float, str], bytes],
) -> np.ndarray:
    """The first prompt of every class: originals, then every method at its best strength, one row per latent."""
    latents = list(dict.fromkeys(latent for _, _, _, latent in pictures))[: config.rows]
    some = next(iter(pictures))[0]
    columns = [Cell(ORIGINAL, [_decode(pictures.get((some, ORIGINAL, 0.0, latent))) for latent in latents])]
    shown = {kind: next(p for p in prompts if p.kind == kind) for kind in dict.fromkeys(p.kind for p in prompts)}
    for prompt in shown.values():
        for row in (r for r in table if r["prompt"] == prompt.name):
            known = sorted({s for m, p, s, _ in pictures if m == row["method"] and p == prompt.prompt_id}, key=abs)
            strength = known[-1] if row["strength"] is None else row["strength"]
            found = [pictures.get((row["method"], prompt.prompt_id, strength, latent)) for latent in latents]
            columns.append(Cell(f"{prompt.name} {row['method']}", [_decode(png) for png in found]))
    return compute_contact_sheet(columns, latents)


def _decode(png: bytes | None) -> np.ndarray | None:
    return None if png is None else storage.decode_image(png)
