"""The report of a run: a contact sheet to look at and a summary table per prompt and strength."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

import storage
from pipeline.config import ReportConfig
from pipeline.packs.pack import Pack
from pipeline.prompts import ORIGINAL, PHOTO
from pipeline.rows import ImageRow, PromptRow, SummaryRow, artifact_table, rows_of
from pipeline.runs.shard import Input, Made, ShardReport, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER, SUMMARY
from storage import Store

STAGE = "report"
CONTACT_SHEET = "contact_sheet.png"
SUMMARY_FILE = "summary.parquet"
_LABEL_HEIGHT = 34
_GAP = 4


@dataclass(frozen=True)
class Cell:
    """One column head or picture of the contact sheet."""

    label: str
    images: Sequence[UInt8[np.ndarray, "r r 3"] | None]


def compute_contact_sheet(columns: Sequence[Cell], row_labels: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """A grid of pictures: one row per latent, one column per edit, labels on top and under each row's first picture."""
    size = max((image.shape[0] for column in columns for image in column.images if image is not None), default=128)
    height = _LABEL_HEIGHT + len(row_labels) * (size + _GAP)
    sheet = Image.new("RGB", (len(columns) * (size + _GAP) + _GAP, height), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(11, size // 11))
    for x, column in enumerate(columns):
        left = _GAP + x * (size + _GAP)
        pen.multiline_text((left + 2, 2), _wrap(column.label, size, font), fill="black", font=font, spacing=1)
        for y, image in enumerate(column.images):
            top = _LABEL_HEIGHT + y * (size + _GAP)
            if image is not None:
                sheet.paste(Image.fromarray(image), (left, top))
            else:
                pen.text((left + 2, top + size // 2), "no image", fill="firebrick", font=font)
    small = ImageFont.load_default(size=10)
    for y, label in enumerate(row_labels):
        top = _LABEL_HEIGHT + y * (size + _GAP) + size - 13
        pen.text((_GAP + 2, top), label, fill="black", font=small, stroke_width=2, stroke_fill="white")
    return np.asarray(sheet)


def compute_summary(prompts: pa.Table, edits: pa.Table, scores: pa.Table) -> pa.Table:
    """Means of the scores per prompt and strength, in list order; what failed keeps a row with its error.

    Args:
        prompts: the run's edits.
        edits: edit_id, strength, status and error of edited_latents.
        scores: the scores.
    """
    means = scores.group_by(["prompt_id", "strength"], use_threads=False).aggregate(
        [
            ("saturated", "sum"),
            ("clip_similarity", "count"),  # of images: nulls are not counted
            ("clip_gain", "mean"),
            ("clip_direction", "mean"),
            ("pixel_distance", "mean"),
            ("identity_similarity", "mean"),
        ]
    )
    of_edit = {(row["prompt_id"], row["strength"]): row for row in means.to_pylist()}
    errors: dict[tuple[str, float | None], list[str]] = {}
    for table, name in ((edits, "edit_id"), (scores, "prompt_id")):
        for row in table.filter(pc.field("status") == "failed").select([name, "strength", "error"]).to_pylist():
            errors.setdefault((row[name], row["strength"]), []).append(row["error"])
    rows = []
    for prompt in rows_of(PromptRow, prompts):
        for strength in prompt.strengths if prompt.status == "ok" else [None]:
            found = of_edit.get((prompt.prompt_id, strength), {})
            failed = errors.get((prompt.prompt_id, strength), [])
            images = found.get("clip_similarity_count", 0)
            rows.append(
                SummaryRow(
                    prompt=prompt.prompt,
                    strength=strength,
                    images=images,
                    failed=len(failed),
                    saturated=found.get("saturated_sum") or 0,
                    mean_clip_gain=found.get("clip_gain_mean"),
                    mean_clip_direction=found.get("clip_direction_mean"),
                    mean_pixel_distance=found.get("pixel_distance_mean"),
                    mean_identity_similarity=found.get("identity_similarity_mean"),
                    status=prompt.status if images or not failed else "failed",
                    error=prompt.error or (failed[0] if failed else None),
                )
            )
    return artifact_table(SUMMARY, rows)


def report_hash(config: ReportConfig, pack: Pack, scores: Input) -> str:
    """What the report of this config is known by."""
    return stage_hash(STAGE, config, pack, {"scores": scores.config_hash})


def run_report(
    config: ReportConfig, store: Store, pack: Pack, *, dataset: Input, edited: Input, scores: Input
) -> ShardReport:
    """Write the contact sheet and the summary."""

    def make() -> Made:
        prompts = edited.shard_table(0, folder=EDITS_FOLDER)
        summary = compute_summary(prompts, edited.table(["edit_id", "strength", "status", "error"]), scores.table())
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
    return compute_contact_sheet(columns, list(wanted))


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """At most two lines of at most ``width`` pixels; what does not fit ends in dots."""
    lines: list[str] = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < 2:
            lines.append(word)
        else:
            lines[-1] += "..."
            break
    return "\n".join(lines)
