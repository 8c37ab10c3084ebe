"""What settings found by trial are worth: the usual, `auto` and the recommended, against the best of the whole sweep.

    python -m benchmarks.settings_study --device auto

Every prompt's settings are tried on latents of the trials' own, as ``settings: auto`` and ``recommend-settings`` do
it, and one is taken. Then *every* setting is drawn on other latents, and what was taken is compared with the best there
is: the most hits among the settings that keep the wanted share, chosen on the very latents that it is measured on, so
that it flatters the sweep. Once with the pack's rule, once with the paper's, as a pack without settings has it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from pipeline.config import StyleDirectionsConfig, TrialsConfig
from pipeline.directions.of_prompt import controls_for
from pipeline.directions.table import load_channel_table
from pipeline.packs.pack import Pack, load_pack
from pipeline.prompts import Prompt, read_prompts
from pipeline.scoring.statistics import bootstrap_interval, nan_mean
from pipeline.scoring.trials import Outcome, choose_outcome
from pipeline.stages import chosen_settings

PROMPTS = Path(__file__).with_name("settings_prompts.csv")
FIRST_SEED = 5_500_000  # of the latents that settings are measured on
WAYS = ("usual", "auto", "recommended", "best of the sweep")


@dataclass(frozen=True)
class Score:
    """One prompt with the setting that one way takes: hit and kept on the latents of the measurement.

    Attributes:
        usual: the rule that the prompt has without trials.
        way: one of ``WAYS``.
        setting: rule, number of channels and strength.
        settings: how many were tried.
    """

    usual: str
    prompt: str
    way: str
    setting: str
    settings: int
    hit: float
    kept: float


def study(
    pack: Pack, prompts: Sequence[Prompt], usual: StyleDirectionsConfig, trial: TrialsConfig, measure: TrialsConfig
) -> list[Score]:
    """Every prompt by every way."""
    table = load_channel_table(pack)
    controls = controls_for({"pursuit"}, pack, table)
    latents = [chosen_settings._draw_unedited(config, pack) for config in (trial, measure)]
    scores = []
    for prompt in tqdm(prompts, desc=str(usual.rule)):
        trials = chosen_settings._trials(prompt, trial, usual, pack, table, controls)
        tried, measured = (
            chosen_settings._outcomes(prompt, trials, unedited, config, pack)
            for unedited, config in zip(latents, (trial, measure), strict=True)
        )
        taken = dict.fromkeys(WAYS, 0)
        taken["auto"] = take(tried, trial.model_copy(update={"by": "similarity"}))
        taken["recommended"] = take(tried, trial)
        taken["best of the sweep"] = take(measured, trial)
        for way, k in taken.items():
            x = trials[k].prompt
            setting = f"{x.rule} {x.num_channels or ''} at {trials[k].strengths[0]:g}"
            hit, kept = float(nan_mean(measured[k].hit)), float(nan_mean(measured[k].kept))
            scores.append(Score(str(usual.rule), prompt.name, way, setting, len(trials), hit, kept))
    return scores


def take(outcomes: Sequence[Outcome], config: TrialsConfig) -> int:
    """Which of the outcomes the loop takes."""
    return choose_outcome(
        outcomes, by=config.by, identity_share=config.identity_share, margin=config.margin, kept=config.kept
    )[0]


def to_rich(scores: Sequence[Score]) -> Table:
    """Means over the prompts, and the least kept of a prompt."""
    table = Table(title=f"usual rule {scores[0].usual}, {scores[0].settings} settings or fewer", title_justify="left")
    for heading in ("way", "prompts", "hit", "kept", "least kept", "other setting than usual"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    usual = {s.prompt: s.setting for s in scores if s.way == "usual"}
    for way in WAYS:
        part = [s for s in scores if s.way == way]
        means = []
        for values in (np.array([s.hit for s in part]), np.array([s.kept for s in part])):
            low, high = bootstrap_interval(values)
            means.append(f"{nan_mean(values):.1%} ({low:.0%} to {high:.0%})")
        changed = sum(s.setting != usual[s.prompt] for s in part)
        table.add_row(way, str(len(part)), *means, f"{min(s.kept for s in part):.1%}", str(changed))
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or URI of a pack with an oracle (default peeps)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")
    parser.add_argument("--prompts", default=str(PROMPTS), help="prompt list with `wants`")
    parser.add_argument("--trial-latents", type=int, default=8, help="as the flows' own (default 8)")
    parser.add_argument("--latents", type=int, default=48, help="latents to measure on (default 48)")
    parser.add_argument("--json", type=Path, default=None, help="file to append the rows to")
    options = parser.parse_args()
    pack = load_pack(options.pack, device=options.device)
    prompts = read_prompts(options.prompts)
    trial = TrialsConfig(by="hit", num_latents=options.trial_latents, num_samples=0)
    measure = trial.model_copy(update={"num_latents": options.latents, "first_seed": FIRST_SEED})
    recommended = pack.description.settings.get("global", {})
    for usual in (StyleDirectionsConfig(**recommended), StyleDirectionsConfig()):
        scores = study(pack, prompts, usual, trial, measure)
        Console().print(to_rich(scores))
        if options.json is not None:
            with options.json.open("a") as file:
                file.writelines(json.dumps(vars(score)) + "\n" for score in scores)


if __name__ == "__main__":
    main()
