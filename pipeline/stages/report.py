"""The report of a run: a contact sheet to look at and a summary table per prompt and strength."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from pipeline.runs.shard import Contents, Input, Made, ShardReport, run_shard, stage_hash
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


@dataclass
class _Group:
    """What is summed up of one prompt at one strength, so that no row has to be kept.

    Attributes:
        first: its first row, for what all have in common.
    """

    first: ScoreRow
    images: int = 0
    hits: int = 0
    judged: int = 0
    already: int = 0
    saturated: int = 0
    disputed: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, row: ScoreRow) -> None:
        """Count a row."""
        self.images += 1
        self.hits += bool(row.hit)
        self.judged += row.hit is not None
        self.already += bool(row.already)
        self.saturated += bool(row.saturated)
        if not row.already:
            self.disputed += count_disputed([row.clip_gain], [row.judge_gain])
        for name in MEANS:
            value = getattr(row, name)
            if value is not None:
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def mean(self, name: str) -> float | None:
        """Mean of a column over the rows that have it."""
        return self.sums[name] / self.counts[name] if name in self.counts else None


def compute_summary(
    prompts: pa.Table,
    edits: Iterable[pa.Table],
    scores: Iterable[pa.Table],
    *,
    unknown_words: Mapping[str, Sequence[str]] | None = None,
) -> pa.Table:
    """Means, counts and the verdict per prompt and strength, in list order; failed prompts keep a row with their error.

    Args:
        prompts: the run's edits.
        edits: edit_id, strength, status and error of edited_latents, table by table: a large run's fit no memory.
        scores: of all images, table by table; columns of networks that were not there may be missing.
        unknown_words: prompt_id to the words of its target that CLIP never saw.
    """
    groups: dict[tuple[str, float], _Group] = {}
    failed: Counter[tuple[str, float | None]] = Counter()
    reasons: dict[tuple[str, float | None], str] = {}  # the first of each
    for table in edits:
        _note_errors(failed, reasons, table, "edit_id")
    for table in scores:
        _note_errors(failed, reasons, table, "prompt_id")
        for row in rows_of(ScoreRow, table):
            if row.status == "ok":
                groups.setdefault((row.prompt_id, row.strength), _Group(row)).add(row)
    rows = []
    for prompt in rows_of(PromptRow, prompts):
        words = list((unknown_words or {}).get(prompt.prompt_id, ()))
        for strength in prompt.strengths if prompt.status == "ok" else [None]:
            group = None if strength is None else groups.get((prompt.prompt_id, strength))
            key = (prompt.prompt_id, strength)
            rows.append(
                SummaryRow(
                    prompt=prompt.prompt,
                    method=prompt.method,
                    strength=strength,
                    failed=failed[key],
                    saturated=group.saturated if group else 0,
                    status=prompt.status if group or not failed[key] else "failed",
                    error=prompt.error or reasons.get(key),
                    unknown_words=words,
                    **(_summarise(group, prompt, words) if group else {"images": 0, "verdict": "failed"}),
                )
            )
    return artifact_table(SUMMARY, rows)


def _note_errors(
    failed: "Counter[tuple[str, float | None]]",
    reasons: dict[tuple[str, float | None], str],
    table: pa.Table,
    name: str,
) -> None:
    """Count a table's failed rows; ``name`` is the column that names the prompt."""
    for row in table.filter(pc.field("status") == "failed").select([name, "strength", "error"]).to_pylist():
        failed[row[name], row["strength"]] += 1
        reasons.setdefault((row[name], row["strength"]), row["error"])


def _summarise(group: _Group, prompt: PromptRow, words: Sequence[str]) -> dict[str, Any]:
    """One prompt at one strength."""
    first = group.first
    means = {f"mean_{name}": group.mean(name) for name in MEANS}
    hits = group.hits if first.hit_by is not None else None
    counts = {"images": group.images, "hits": hits, "judged": group.judged, "already": group.already}
    line = verdict(
        **counts,
        kept=means["mean_kept"],
        pixel_distance=means["mean_pixel_distance"],
        method=prompt.method,
        unknown_words=words,
        reachable=first.reachable,
        by=first.hit_by or "oracle",
        disputed=group.disputed,
    )
    facts = {name: getattr(first, name) for name in ("wants", "hit_by", "reachable")}
    facts["disputed"] = None if means["mean_judge_gain"] is None else group.disputed
    return counts | means | facts | {"verdict": line}


def report_hash(config: ReportConfig, pack: Pack, scores: Input) -> str:
    """The config hash of the report."""
    return stage_hash(STAGE, config, pack, {"scores": scores.config_hash})


def report_contents(scores: Input) -> Contents:
    """What the report is made of."""
    return {"scores": scores.state}


def run_report(
    config: ReportConfig, store: Store, pack: Pack, *, dataset: Input, edited: Input, scores: Input
) -> ShardReport:
    """Write the contact sheet and the summary."""
    num_latents = 0

    def counted(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The tables, while their latents are counted: each has one unedited image."""
        nonlocal num_latents
        for table in tables:
            num_latents += table["prompt_id"].to_pylist().count(ORIGINAL)
            yield table

    def make() -> Made:
        prompts = edited.shard_table(0, folder=EDITS_FOLDER)
        lost = {row.prompt_id: lost_words(row.target, pack.clip) for row in rows_of(PromptRow, prompts)}
        failures = edited.shard_tables(["edit_id", "strength", "status", "error"])
        summary = compute_summary(prompts, failures, counted(scores.shard_tables()), unknown_words=lost)
        sheet = _draw_sheet(config, dataset, prompts, num_latents=num_latents)
        files = {SUMMARY_FILE: storage.table_bytes(summary), CONTACT_SHEET: storage.encode_png(sheet)}
        return Made(files, rows=summary.num_rows)

    return run_shard(
        store,
        STAGE,
        0,
        config_hash=report_hash(config, pack, scores),
        contents=report_contents(scores),
        pack=pack,
        make=make,
    )


def _draw_sheet(
    config: ReportConfig, dataset: Input, prompts: pa.Table, *, num_latents: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The first latents with the first prompts, each at its strongest rendered strength."""
    usable = [row for row in rows_of(PromptRow, prompts) if row.status == "ok"][: config.columns]
    wanted: dict[str, dict[str, bytes]] = {}
    strength: dict[tuple[str, str], float] = {}
    for shard in dataset.present:
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
    return compute_contact_sheet(columns, list(wanted), note=_left_out(num_latents, prompts, len(wanted), len(usable)))


def _left_out(all_latents: int, prompts: pa.Table, latents: int, shown: int) -> str:
    """What the sheet leaves out; empty where it shows all."""
    all_prompts = sum(row.status == "ok" for row in rows_of(PromptRow, prompts))
    if latents >= all_latents and shown >= all_prompts:
        return ""
    return f"{latents} of {all_latents} faces, {shown} of {all_prompts} prompts; the gallery has all"
