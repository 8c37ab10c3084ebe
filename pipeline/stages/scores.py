"""Scores of images: how much closer CLIP finds an edit to its prompt, how much of the picture and who it shows changed,
and, where someone can tell, whether the target is reached and the rest is kept. Originals are scored too.

Letters: n image, d CLIP width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor

import storage
from kernels import unit_vectors
from pipeline.config import ScoresConfig
from pipeline.models.clip import Clip
from pipeline.packs.pack import Pack
from pipeline.prompts import ORIGINAL, PHOTO
from pipeline.render_checks import SATURATED_SHARE
from pipeline.rows import ImageRow, PromptRow, rows_of
from pipeline.runs.progress import advance
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER, SCORES, Artifact, scores_artifact
from pipeline.scoring.distances import outside_change, pixel_distance, structural_distance
from pipeline.scoring.judge import find_judge, has_judge, judge_digest
from pipeline.scoring.judgement import judge_edits, label_probabilities, target_scores
from pipeline.scoring.samples import draw_samples
from pipeline.scoring.seen import Seen, see
from pipeline.scoring.targets import PromptEmbedding, Target, load_target
from pipeline.wants import HIDDEN, format_wants
from storage import Store

STAGE = SCORES.name
KEYS = ("image_id", "latent_id", "prompt_id", "strength")
Row = dict[str, Any]


@dataclass(frozen=True)
class ClipScores:
    """Edits in the eyes of one CLIP, one entry per image; see the scores artifact."""

    similarity: Float[Tensor, "n"]
    gain: Float[Tensor, "n"]
    direction: Float[Tensor, "n"]
    share: Float[Tensor, "n"]
    share_before: Float[Tensor, "n"]


def compute_clip_scores(
    original: Float[Tensor, "n d"], edited: Float[Tensor, "n d"], prompt: PromptEmbedding
) -> ClipScores:
    """Scores of edits from unit embeddings.

    similarity = <E(edited), T>; gain = similarity - <E(original), T>; direction = cos(E(edited) - E(original),
    T - N), 0 where the image did not change; share = sigma(100 <E, T - N>), the zero-shot probability that the image
    is the target's rather than the neutral's, after and before, with T - N of length 1.
    """
    similarity = edited @ prompt.target
    return ClipScores(
        similarity=similarity,
        gain=similarity - original @ prompt.target,
        direction=unit_vectors(edited - original) @ prompt.direction,
        share=torch.sigmoid(100 * (edited @ prompt.direction)),
        share_before=torch.sigmoid(100 * (original @ prompt.direction)),
    )


def missing_judges(pack: Pack, config: ScoresConfig) -> list[str]:
    """What the scores of this pack go without, one line each."""
    about, found = pack.description, []
    if about.identity is None:
        found.append(f"pack {about.name!r} has no identity network: no identity_similarity")
    if about.oracle is None:
        found.append(
            f"pack {about.name!r} has no oracle: no kept, outside_change, before_* and after_*; whether the target is "
            f"reached is for {'the judge' if has_judge(config.judge, pack) else 'the guiding CLIP'} to say"
        )
    if not has_judge(config.judge, pack):
        found.append("there is no judge: no judge_* columns, and free prompts are judged by the CLIP that guided them")
    return found


def artifact_of(pack: Pack, config: ScoresConfig) -> Artifact:
    """The scores artifact with the columns that this pack and judge can fill."""
    oracle = pack.description.oracle
    return scores_artifact(
        attributes=() if oracle is None else tuple(oracle.attributes),
        identity=pack.description.identity is not None,
        judge=has_judge(config.judge, pack),
        oracle=oracle is not None,
    )


def scores_hash(config: ScoresConfig, pack: Pack, dataset: Input) -> str:
    """The config hash of the scores."""
    judge = judge_digest(config.judge, device=pack.device)
    inputs = {"dataset": dataset.config_hash} | ({} if judge is None else {"judge": judge})
    return stage_hash(STAGE, config, pack, inputs)


def run_scores_shard(
    config: ScoresConfig, store: Store, pack: Pack, shard: int, *, dataset: Input, edited: Input
) -> ShardReport:
    """Score one shard of the dataset against the prompts that made it."""
    config_hash, contents = scores_hash(config, pack, dataset), dataset.receipt(shard).contents

    def make() -> Made:
        judge = find_judge(config.judge, pack)
        rows = rows_of(ImageRow, dataset.shard_table(shard).filter(pc.field("prompt_id") != PHOTO))
        asked = {row.prompt_id for row in rows}
        targets = {
            row.prompt_id: load_target(row, pack, judge, config)
            for row in rows_of(PromptRow, edited.shard_table(0, folder=EDITS_FOLDER))
            if row.status == "ok" and row.prompt_id in asked
        }
        scored = score_rows(rows, targets, config, pack, judge)
        advance(len(rows))
        artifact = artifact_of(pack, config)
        table = artifact.table({c.name: [row.get(c.name) for row in scored] for c in artifact.columns})
        failures = sum(row["status"] == "failed" for row in scored)
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=len(scored), failures=failures)

    return run_shard(store, STAGE, shard, config_hash=config_hash, contents=contents, pack=pack, make=make)


def score_rows(
    rows: Sequence[ImageRow], targets: dict[str, Target], config: ScoresConfig, pack: Pack, judge: Clip | None
) -> list[Row]:
    """Scores of dataset rows, in their order; each latent's original stands in the same shard.

    What has no image, or no original to be held against, is a failed row without scores.
    """
    originals = {row.latent_id: row for row in rows if row.prompt_id == ORIGINAL}
    scored: list[Row] = []
    for row in rows:
        original = originals[row.latent_id]
        error = row.error if row.status != "ok" else f"the unedited image failed: {original.error}"
        failed = row.image is None or original.image is None
        facts = {"status": "failed", "error": error} if failed else {"status": "ok", "error": None}
        scored.append({key: getattr(row, key) for key in KEYS} | facts)
    drawn = [(i, row, row.image["bytes"]) for i, row in enumerate(rows) if row.image is not None]
    drawn = [(i, row, data) for i, row, data in drawn if scored[i]["status"] == "ok"]
    if not drawn:
        return scored
    images = np.stack([storage.decode_image(data) for _, _, data in drawn])
    seen = see(pack, judge, images, batch_size=config.batch_size)
    original_at = {row.latent_id: at for at, (_, row, _) in enumerate(drawn) if row.prompt_id == ORIGINAL}
    for prompt_id in dict.fromkeys(row.prompt_id for _, row, _ in drawn):
        places = [at for at, (_, row, _) in enumerate(drawn) if row.prompt_id == prompt_id]
        before, after = seen.rows([original_at[drawn[at][1].latent_id] for at in places]), seen.rows(places)
        columns = _picture_scores(before, after, pack)
        columns["saturated"] = [(drawn[at][1].saturation or 0.0) > SATURATED_SHARE for at in places]
        if prompt_id != ORIGINAL:
            columns |= _prompt_scores(before, after, targets[prompt_id], config, pack)
        for k, at in enumerate(places):
            scored[drawn[at][0]] |= {name: _plain(values[k]) for name, values in columns.items()}
    return scored


def _picture_scores(before: Seen, after: Seen, pack: Pack) -> dict[str, Any]:
    """What changed between originals and edits, whatever the prompt."""
    columns: dict[str, Any] = {
        "pixel_distance": [pixel_distance(a, b) for a, b in zip(before.images, after.images, strict=True)],
        "perceptual_distance": structural_distance(before.images, after.images),
    }
    if before.identity is not None and after.identity is not None:
        columns["identity_similarity"] = (before.identity * after.identity).sum(dim=1)
    oracle = pack.description.oracle
    if oracle is not None:
        for when, seen in (("before", before), ("after", after)):
            assert seen.labels is not None
            for i, (attribute, categories) in enumerate(oracle.attributes.items()):
                columns[f"{when}_{attribute}"] = [None if k == HIDDEN else categories[k] for k in seen.labels[:, i]]
        assert after.labels is not None
        assert after.probabilities is not None
        largest = label_probabilities(oracle, after.probabilities, after.labels)
        columns |= {f"after_{attribute}_probability": largest[:, i] for i, attribute in enumerate(oracle.attributes)}
    return columns


def _prompt_scores(before: Seen, after: Seen, target: Target, config: ScoresConfig, pack: Pack) -> dict[str, Any]:
    """How near edits came to the target, and what they left alone."""
    guide = compute_clip_scores(before.clip, after.clip, target.guide)
    columns: dict[str, Any] = {f"clip_{name}": getattr(guide, name) for name in ("similarity", "gain", "direction")}
    eye = guide
    if target.judge is not None and before.judge is not None and after.judge is not None:
        eye = compute_clip_scores(before.judge, after.judge, target.judge)
        columns |= {f"judge_{name}": getattr(eye, name) for name in ("similarity", "gain", "direction")}
    count = len(after.images)
    columns |= {"wants": [format_wants(target.wants) or None] * count, "hit_by": [target.by] * count}
    columns["reachable"] = [target.reachable] * count
    oracle = pack.description.oracle
    if oracle is None or before.labels is None or after.labels is None:
        return columns | _hits(eye.share_before > 0.5, eye.share > 0.5, target, score=eye.share, start=eye.share_before)
    found = judge_edits(target.wants, before.labels, after.labels, oracle)
    columns["kept"] = found.kept
    if not target.wants:
        return columns | _hits(eye.share_before > 0.5, eye.share > 0.5, target, score=eye.share, start=eye.share_before)
    assert before.probabilities is not None
    assert after.probabilities is not None
    if config.num_samples:
        regions = draw_samples(pack, config.num_samples).regions
        assert regions is not None
        columns["outside_change"] = outside_change(
            before.thumbnails, after.thumbnails, target.wants, regions, oracle.attributes
        )
    start = target_scores(target.wants, before.probabilities, oracle)
    score = target_scores(target.wants, after.probabilities, oracle)
    return columns | _hits(found.already, found.hit, target, score=score, start=start, counts=found.counts)


def _hits(already: Any, hit: Any, target: Target, *, score: Any, start: Any, counts: Any = None) -> dict[str, Any]:
    """Columns of the verdict; what a prompt out of reach looks like to a CLIP is no hit."""
    out_of_reach = target.reachable is False
    already = [bool(x) and not out_of_reach for x in already]
    counts = [not x for x in already] if counts is None else [bool(x) for x in counts]
    hit = [bool(x) and not out_of_reach if judged else None for x, judged in zip(hit, counts, strict=True)]
    return {"already": already, "hit": hit, "target_score": score, "target_gain": score - start}


def _plain(value: Any) -> Any:
    """A number, text or truth value for a table; null for NaN."""
    plain = value.item() if isinstance(value, (Tensor, np.generic)) else value
    return None if isinstance(plain, float) and plain != plain else plain
