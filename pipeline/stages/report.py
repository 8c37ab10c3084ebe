"""The report of a run: a contact sheet to look at and a summary table per prompt and strength."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

import storage
from pipeline.config import ReportConfig
from pipeline.contact_sheet import Cell, compute_contact_sheet
from pipeline.packs.pack import Pack
from pipeline.prompts import ORIGINAL, PHOTO
from pipeline.rows import ImageRow, PromptRow, ScoreRow, SummaryRow, artifact_table, rows_of
from pipeline.runs.shard import Input, Made, ShardReport, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER, SUMMARY
from pipeline.scoring.reachability import lost_words
from pipeline.scoring.verdict import count_disputed, verdict
from storage import Store

STAGE = "report"
CONTACT_SHEET = "contact_sheet.png"
SUMMARY_FILE = "summary.parquet"
MEANS = (
    *("clip_gain", "clip_direction", "pixel_distance", "perceptual_distance"),
    *("identity_similarity", "kept", "outside_change", "judge_gain"),
)


def compute_summary(
    prompts: pa.Table, edits: pa.Table, scores: pa.Table, *, unknown_words: Mapping[str, Sequence[str]] | None = None
) -> pa.Table:
    """Means, counts and the verdict per prompt and strength, in list order; failed prompts keep a row with their error.

    Args:
        prompts: the run's edits.
        edits: edit_id, strength, status and error of edited_latents.
        scores: of all images; columns of networks that were not there may be missing.
        unknown_words: prompt_id to the words of its target that CLIP never saw.
    """
    groups: dict[tuple[str, float], list[ScoreRow]] = {}
    for row in rows_of(ScoreRow, scores):
        if row.status == "ok":
            groups.setdefault((row.prompt_id, row.strength), []).append(row)
    errors: dict[tuple[str, float | None], list[str]] = {}
    for table, name in ((edits, "edit_id"), (scores, "prompt_id")):
        for row in table.filter(pc.field("status") == "failed").select([name, "strength", "error"]).to_pylist():
            errors.setdefault((row[name], row["strength"]), []).append(row["error"])
    rows = []
    for prompt in rows_of(PromptRow, prompts):
        words = list((unknown_words or {}).get(prompt.prompt_id, ()))
        for strength in prompt.strengths if prompt.status == "ok" else [None]:
            group = [] if strength is None else groups.get((prompt.prompt_id, strength), [])
            failed = errors.get((prompt.prompt_id, strength), [])
            rows.append(
                SummaryRow(
                    prompt=prompt.prompt,
                    method=prompt.method,
                    strength=strength,
                    failed=len(failed),
                    saturated=sum(bool(row.saturated) for row in group),
                    status=prompt.status if group or not failed else "failed",
                    error=prompt.error or (failed[0] if failed else None),
                    unknown_words=words,
                    **(_summarise(group, prompt, words) if group else {"images": 0, "verdict": "failed"}),
                )
            )
    return artifact_table(SUMMARY, rows)


def _summarise(group: Sequence[ScoreRow], prompt: PromptRow, words: Sequence[str]) -> dict[str, Any]:
    """One prompt at one strength."""
    first = group[0]
    judged = [row.hit for row in group if row.hit is not None]
    already = sum(bool(row.already) for row in group)
    means = {f"mean_{name}": _mean([getattr(row, name) for row in group]) for name in MEANS}
    told = first.hit_by is not None
    counts = {"images": len(group), "hits": sum(judged) if told else None, "judged": len(judged), "already": already}
    asked = [row for row in group if not row.already]
    disputed = count_disputed([row.clip_gain for row in asked], [row.judge_gain for row in asked])
    line = verdict(
        **counts,
        kept=means["mean_kept"],
        pixel_distance=means["mean_pixel_distance"],
        method=prompt.method,
        unknown_words=words,
        reachable=first.reachable,
        by=first.hit_by or "oracle",
        disputed=disputed,
    )
    facts = {name: getattr(first, name) for name in ("wants", "hit_by", "reachable")}
    facts["disputed"] = None if means["mean_judge_gain"] is None else disputed
    return counts | means | facts | {"verdict": line}


def _mean(values: Sequence[float | None]) -> float | None:
    seen = [value for value in values if value is not None]
    return float(np.mean(seen)) if seen else None


def report_hash(config: ReportConfig, pack: Pack, scores: Input) -> str:
    """The config hash of the report."""
    return stage_hash(STAGE, config, pack, {"scores": scores.config_hash})


def run_report(
    config: ReportConfig, store: Store, pack: Pack, *, dataset: Input, edited: Input, scores: Input
) -> ShardReport:
    """Write the contact sheet and the summary."""

    def make() -> Made:
        prompts = edited.shard_table(0, folder=EDITS_FOLDER)
        lost = {row.prompt_id: lost_words(row.target, pack.clip) for row in rows_of(PromptRow, prompts)}
        failures = edited.table(["edit_id", "strength", "status", "error"])
        summary = compute_summary(prompts, failures, scores.table(), unknown_words=lost)
        sheet = _draw_sheet(config, dataset, prompts)
        files = {SUMMARY_FILE: storage.table_bytes(summary), CONTACT_SHEET: storage.encode_png(sheet)}
        return Made(files, rows=summary.num_rows)

    return run_shard(store, STAGE, 0, config_hash=report_hash(config, pack, scores), pack=pack, make=make)


def _draw_sheet(config: ReportConfig, dataset: Input, prompts: pa.Table) -> UInt8[np.ndarray, "h w 3"]:
    """The first latents with the first prompts, each at its strongest rendered strength."""
    usable = [row for row in rows_of(PromptRow, prompts) if row.status == "ok"][: config.columns]
    wanted: dict[str, dict[str, bytes]] = {}
    strength: dict[tuple[str, str], float] = {}
    for shard in range(dataset.num_shards):
        for row in rows_of(ImageRow, dataset.shard_table(shard)):
            if row.image is None or (row.latent_id not in wanted and len(wanted) == config.rows):
                continue
            key = (row.latent_id, row.prompt_id)
            if abs(row.strength) >= strength.get(key, 0.0):
                strength[key] = abs(row.strength)
                wanted.setdefault(row.latent_id, {})[row.prompt_id] = row.image["bytes"]
        if len(wanted) == config.rows:
            break
    photo = [(PHOTO, PHOTO)] if any(PHOTO in of for of in wanted.values()) else []
    original = (ORIGINAL, "reconstruction" if photo else ORIGINAL)
    heads = [*photo, original, *((row.prompt_id, row.prompt) for row in usable)]
    columns = [
        Cell(label, [storage.decode_image(of[key]) if key in of else None for of in wanted.values()])
        for key, label in heads
    ]
    return compute_contact_sheet(columns, list(wanted), note=_left_out(dataset, prompts, len(wanted), len(usable)))


def _left_out(dataset: Input, prompts: pa.Table, latents: int, shown: int) -> str:
    """What the sheet leaves out; empty where it shows all."""
    all_latents = dataset.table(["prompt_id"])["prompt_id"].to_pylist().count(ORIGINAL)
    all_prompts = sum(row.status == "ok" for row in rows_of(PromptRow, prompts))
    if latents >= all_latents and shown >= all_prompts:
        return ""
    return f"{latents} of {all_latents} faces, {shown} of {all_prompts} prompts; the gallery has all"
