"""A prompt as the scores need it: its place in CLIP space, what it wants of the oracle's attributes, and who judges.

Letters: d CLIP width.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kernels import unit_vectors
from pipeline.config import ScoresConfig
from pipeline.models.clip import Clip
from pipeline.packs.pack import Pack
from pipeline.prompts import templates
from pipeline.rows import PromptRow
from pipeline.scoring.reachability import null_threshold, score_text
from pipeline.scoring.reading import is_negated, measure_effects, read_wants
from pipeline.scoring.samples import draw_samples
from pipeline.wants import Want, parse_wants

Judge = Literal["oracle", "judge", "clip"]
REACH_TEMPLATES = "none"  # reachability compares bare texts, so that a list of them takes seconds


@dataclass(frozen=True)
class PromptEmbedding:
    """A prompt in CLIP space: the target text and the direction from neutral to target, both unit vectors [d]."""

    target: Float[Tensor, "d"]
    direction: Float[Tensor, "d"]


@dataclass(frozen=True)
class Target:
    """What edits of a prompt are held against.

    Attributes:
        guide: in the space of the CLIP that guides.
        judge: in the space of the CLIP that judges; None without one.
        wants: of the oracle's attributes; empty where it is told by no one and read from nothing.
        by: who says whether the target is reached.
        reachable: whether the pack can draw it; None where that was not asked.
    """

    guide: PromptEmbedding
    judge: PromptEmbedding | None
    wants: tuple[Want, ...]
    by: Judge
    reachable: bool | None


def load_target(row: PromptRow, pack: Pack, judge: Clip | None, config: ScoresConfig) -> Target:
    """The target of a prompt's row: told wants, else read ones, else the word of a CLIP.

    Reading and reachability look at ``config.num_samples`` unedited samples; without an oracle to read them, or with 0
    samples, neither happens. What a prompt out
    of reach would be read as is not what it wants: "a red sports car" is no wish for a red shirt.
    """
    forms = templates(config.templates)
    target, neutral = row.target, row.neutral
    told = row.wants
    oracle = pack.description.oracle
    reachable = None
    if config.num_samples and oracle is not None:
        reachable = _is_reachable(pack, target, neutral, config.num_samples)
    wants: tuple[Want, ...] = ()
    if told is not None and oracle is not None:
        wants = parse_wants(told, oracle.attributes, where=f"prompt {row.prompt!r}: ")
    elif oracle is not None and reachable:
        wants = _read(pack, target, neutral, config)
    by: Judge = "oracle" if wants else "clip" if judge is None else "judge"
    judged = None if judge is None else _embed(judge, target, neutral, forms)
    return Target(_embed(pack.clip, target, neutral, forms), judged, wants, by, True if told else reachable)


def _embed(clip: Clip, target: str, neutral: str, forms: tuple[str, ...]) -> PromptEmbedding:
    return PromptEmbedding(clip.encode_prompt(target, forms).cpu(), clip.text_direction(target, neutral, forms).cpu())


def _is_reachable(pack: Pack, target: str, neutral: str, num_samples: int) -> bool:
    samples = draw_samples(pack, num_samples)
    score = score_text(target, neutral, pack.clip, samples, REACH_TEMPLATES)[0]
    return score > null_threshold(pack, num_samples, REACH_TEMPLATES)


def _read(pack: Pack, target: str, neutral: str, config: ScoresConfig) -> tuple[Want, ...]:
    oracle = pack.description.oracle
    assert oracle is not None
    samples = draw_samples(pack, config.num_samples)
    assert samples.labels is not None
    forms = templates(config.templates)
    negated = is_negated(target)
    start = pack.description.neutral if negated else neutral
    move = unit_vectors(pack.clip.encode_prompt(target, forms) - pack.clip.encode_prompt(start, forms)).cpu()
    scores = (samples.embeddings @ move).numpy().astype(np.float64)
    effects = measure_effects(scores, samples.labels, oracle.attributes)
    return read_wants(effects, oracle.attributes, negated=negated, shown_by=oracle.shown_by)
