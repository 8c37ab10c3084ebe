"""Chosen settings: rule, channels and strength of every prompt, found by trial on a few latents of their own.

One loop for two purposes: ``chosen_settings`` (``settings: auto``, decided by CLIP and identity, as any pack has them)
and ``recommended_settings`` (decided by the oracle's hits, to be read and taken over by another run).
Letters: n latent, s style channel, d width of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storage
from pipeline.config import ScoresConfig, StyleDirectionsConfig, TrialsConfig
from pipeline.directions.grid import strengths_to_try, variants
from pipeline.directions.groups import Controls
from pipeline.directions.of_prompt import controls_for, direction_of, editable_channels
from pipeline.directions.style_move import StyleMove
from pipeline.directions.table import ChannelTable
from pipeline.errors import PromptError
from pipeline.machine.batch_size import choose_batch_size
from pipeline.machine.cores import map_on_cores
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack
from pipeline.pixels import to_rgb_arrays
from pipeline.prompts import Prompt, templates
from pipeline.rows import PromptRow
from pipeline.runs.progress import advance
from pipeline.runs.shard import Made, ShardReport, count_shards, part_path, run_shard, shard_bounds, stage_hash
from pipeline.schemas import CHOSEN_SETTINGS, RECOMMENDED_SETTINGS, TRIED_SETTINGS
from pipeline.scoring.judgement import judge_edits
from pipeline.scoring.seen import Seen, see
from pipeline.scoring.statistics import bootstrap_interval, nan_mean
from pipeline.scoring.targets import load_target
from pipeline.scoring.trials import Outcome, choose_outcome
from storage import Store

ARTIFACTS = {"similarity": CHOSEN_SETTINGS, "hit": RECOMMENDED_SETTINGS}


def stage_of(config: TrialsConfig) -> str:
    """The stage's name, by what decides."""
    return ARTIFACTS[config.by].name


def chosen_settings_hash(
    config: TrialsConfig,
    pack: Pack,
    *,
    prompts: list[Prompt],
    channels: ChannelTable,
    directions: StyleDirectionsConfig,
) -> str:
    """The config hash of the settings of these prompts."""
    listed = [p.model_dump(mode="json") for p in prompts]
    inputs = {"prompts": listed, "channel_directions": channels.source, "style_directions": directions.identity()}
    return stage_hash(stage_of(config), config, pack, inputs)


def chosen_settings_num_shards(config: TrialsConfig, prompts: list[Prompt]) -> int:
    """Shards of a run."""
    return count_shards(len(prompts), config.shard_size)


@dataclass(frozen=True)
class _Trial:
    """One setting: the prompt that it is written in, its move, and the strengths that it is tried at."""

    prompt: Prompt
    move: StyleMove
    strengths: tuple[float, ...]
    moved: int


@dataclass(frozen=True)
class _Unedited:
    """The latents of the trials and what they show."""

    styles: Float[Tensor, "n s"]
    seen: Seen


def run_chosen_settings_shard(
    config: TrialsConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    prompts: list[Prompt],
    channels: ChannelTable,
    directions: StyleDirectionsConfig,
) -> ShardReport:
    """Settings of one range of prompts. A prompt without a direction becomes a failed row; the others go on."""

    def make() -> Made:
        bounds = shard_bounds(len(prompts), config.shard_size, shard)
        table = editable_channels(directions, channels)
        controls = controls_for({"pursuit"}, pack, table)
        unedited = _draw_unedited(config, pack)
        chosen, tried = [], []
        for prompt in (prompts[i] for i in bounds):
            try:
                trials = _trials(prompt, config, directions, pack, table, controls)
            except (PromptError, ValueError) as error:
                chosen.append(_row(prompt) | {"status": "failed", "error": f"prompt {prompt.name!r}: {error}"})
                advance(1)
                continue
            outcomes = _outcomes(prompt, trials, unedited, config, pack)
            best, by = choose_outcome(
                outcomes,
                by=config.by,
                identity_share=config.identity_share,
                margin=config.margin,
                kept=config.kept,
            )
            row = _chosen_row(trials[best], outcomes, best, by, config)
            chosen.append(row | {"renders": sum(len(outcome.similarity) for outcome in outcomes)})
            tried += [_tried_row(t, o, k, best, config) for k, (t, o) in enumerate(zip(trials, outcomes, strict=True))]
            advance(1)
        stage = ARTIFACTS[config.by]
        files = {
            part_path(stage.name, shard): _table(stage, chosen),
            part_path(f"{stage.name}_tried", shard): _table(TRIED_SETTINGS, tried),
        }
        return Made(files, rows=len(chosen), failures=sum(row["status"] == "failed" for row in chosen))

    config_hash = chosen_settings_hash(config, pack, prompts=prompts, channels=channels, directions=directions)
    return run_shard(store, stage_of(config), shard, config_hash=config_hash, pack=pack, make=make)


def _trials(
    prompt: Prompt,
    config: TrialsConfig,
    directions: StyleDirectionsConfig,
    pack: Pack,
    channels: ChannelTable,
    controls: Controls | None,
) -> list[_Trial]:
    """Every setting at every strength; settings that make the same move are tried once."""
    text = pack.clip.text_direction(prompt.target, prompt.neutral, templates(directions.templates)).cpu()
    found: dict[bytes, tuple[Prompt, StyleMove, int]] = {}
    problem: ValueError | None = None
    for variant in variants(prompt, directions, pack, has_effect=channels.effect is not None):
        try:
            direction = direction_of(variant, text, config=directions, pack=pack, channels=channels, controls=controls)
        except ValueError as error:
            problem = problem or error
            continue
        move = StyleMove.of(direction, channels, pack.generator.space)
        key = move.offset.numpy().tobytes() + move.limit.numpy().tobytes()
        found.setdefault(key, (variant, move, len(direction.rows)))
    if not found:
        assert problem is not None
        raise problem
    return [
        _Trial(variant, move, strengths, moved)
        for strengths in strengths_to_try(prompt, pack, config.strengths)
        for variant, move, moved in found.values()
    ]


def _draw_unedited(config: TrialsConfig, pack: Pack) -> _Unedited:
    seeds = range(config.first_seed, config.first_seed + config.num_latents)
    with torch.no_grad():
        styles = pack.generator.styles(sample_w_plus(pack.generator, seeds, psi=config.psi))
    return _Unedited(styles, see(pack, None, _draw(styles, config, pack), batch_size=16))


def _draw(styles: Float[Tensor, "n s"], config: TrialsConfig, pack: Pack) -> UInt8[np.ndarray, "n r r 3"]:
    size = choose_batch_size(pack.generator, config.batch_size)

    def draw(part: Tensor) -> np.ndarray:
        return to_rgb_arrays(torch.nan_to_num(pack.generator.render(part)))

    with torch.no_grad():
        return np.concatenate(list(map_on_cores(draw, styles.split(size), device=styles.device)))


def _outcomes(
    prompt: Prompt, trials: Sequence[_Trial], unedited: _Unedited, config: TrialsConfig, pack: Pack
) -> list[Outcome]:
    """What every trial does to the latents; all of a prompt's are drawn together."""
    count = len(unedited.styles)
    moved = [t.move.moved(unedited.styles, strength) for t in trials for strength in t.strengths]
    seen = see(pack, None, _draw(torch.cat(moved), config, pack), batch_size=16)
    target = load_target(
        PromptRow(
            prompt.prompt_id, prompt.name, prompt.target, prompt.neutral, "global", (), "ok", None, wants=prompt.wants
        ),
        pack,
        None,
        ScoresConfig(num_samples=config.num_samples if config.by == "hit" else 0),
    )
    oracle, outcomes, start = pack.description.oracle, [], 0
    for trial in trials:
        places = range(start, start + count * len(trial.strengths))
        start = places.stop
        before, after = unedited.seen.rows([i % count for i in range(len(places))]), seen.rows(list(places))
        identity = None
        if before.identity is not None and after.identity is not None:
            identity = (before.identity * after.identity).sum(dim=1).numpy().astype(np.float64)
        hit = kept = np.full(len(places), np.nan)
        if oracle is not None and target.wants and before.labels is not None and after.labels is not None:
            found = judge_edits(target.wants, before.labels, after.labels, oracle)
            hit, kept = np.where(found.counts, found.hit.astype(np.float64), np.nan), found.kept
        similarity = (after.clip @ target.guide.target).numpy().astype(np.float64)
        outcomes.append(Outcome(similarity, identity, hit, kept))
    return outcomes


def _row(prompt: Prompt) -> dict[str, Any]:
    named = {"prompt_id": prompt.prompt_id, "prompt": prompt.name, "target": prompt.target, "neutral": prompt.neutral}
    return {**named, "method": prompt.method, "renders": 0, "status": "ok"}


def _chosen_row(trial: _Trial, outcomes: Sequence[Outcome], best: int, by: str, config: TrialsConfig) -> dict[str, Any]:
    score = [outcome.score(config.identity_share) for outcome in outcomes]
    return _row(trial.prompt) | {
        "rule": trial.prompt.rule,
        "num_channels": trial.prompt.num_channels,
        "strength": trial.strengths[0],
        "by": by,
        "hit": _mean(outcomes[best].hit),
        "kept": _mean(outcomes[best].kept),
        "gain": score[best] - score[0],
    }


def _tried_row(trial: _Trial, outcome: Outcome, number: int, best: int, config: TrialsConfig) -> dict[str, Any]:
    hit, kept = (bootstrap_interval(values) for values in (outcome.hit, outcome.kept))
    judged = int((~np.isnan(outcome.hit)).sum())
    return {
        "prompt_id": trial.prompt.prompt_id,
        "prompt": trial.prompt.name,
        "rule": trial.prompt.rule,
        "num_channels": trial.prompt.num_channels,
        "strength": trial.strengths[0],
        "moved": trial.moved,
        "similarity": float(outcome.similarity.mean()),
        "identity": None if outcome.identity is None else float(outcome.identity.mean()),
        "score": outcome.score(config.identity_share),
        "judged": judged or None,
        "hit": _mean(outcome.hit),
        "hit_low": _plain(hit[0]),
        "hit_high": _plain(hit[1]),
        "kept": _mean(outcome.kept),
        "kept_low": _plain(kept[0]),
        "kept_high": _plain(kept[1]),
        "is_default": number == 0,
        "is_chosen": number == best,
    }


def _mean(values: Float[np.ndarray, "n"]) -> float | None:
    return _plain(float(nan_mean(values)))


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value


def _table(artifact: Any, rows: Sequence[dict[str, Any]]) -> bytes:
    return storage.table_bytes(artifact.table({c.name: [row.get(c.name) for row in rows] for c in artifact.columns}))
