"""Exact, screened and gradient directions side by side: renders, likeness to the exact table, and what a judge sees.

``python -m benchmarks.screening_study --run FOLDER`` measures the exact table into FOLDER (resumed if it was killed),
screens every prompt, edits a few faces with every method's style direction and prints one row per method:

renders    G and CLIP forward passes behind the directions; backward passes of slopes are given apart
recall     share of the exact table's kept channels that the method keeps too
cosine     of the method's style direction and the exact one
hit        edited images that the judge puts into the target category, of those that were not there before
kept       other attributes that the judge sees unchanged
gain       hit minus that of the first row (exact, paper's rule), prompt by prompt, with its standard error

The judge is the pack's attribute oracle where it has one, else its own CLIP as a zero-shot classifier, which is not
independent of the directions.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from examples.peeps.captions import WORDS
from examples.peeps.domain import ATTRIBUTES
from kernels import probe_rows, unit_vectors
from pipeline.config import ChannelDirectionsConfig, Rule, ScreeningConfig, StyleDirectionsConfig, StyleStatisticsConfig
from pipeline.directions.direction import compute_style_direction
from pipeline.directions.statistics import find_statistics
from pipeline.directions.table import ChannelTable, load_channel_table, load_screened_table
from pipeline.machine.memory import keep_memory
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack, load_pack
from pipeline.prompts import Prompt, check_prompts, templates
from pipeline.runs.shard import close_stage, find_optional_input
from pipeline.stages import channel_directions as exact_stage
from pipeline.stages import screened_directions as screened_stage
from pipeline.stages import style_statistics as statistics_stage
from pipeline.stages.screened_directions import Screening
from storage import Store

RESULTS = Path(__file__).parent
STRENGTHS = (7.0, 14.0)
RULES: tuple[Rule, ...] = ("paper", "effect")
Judge = Callable[[Tensor], Mapping[str, Tensor]]
NO_PROMPT = {"none", "neutral"}  # the absence of an attribute is not something to add
INVISIBLE = "hair_color"  # many heads hide the hair or are drawn in black ink


@dataclass(frozen=True)
class Method:
    """One row of the study: a table of directions per prompt and a rule."""

    name: str
    rule: Rule
    renders: float
    backward: float
    tables: list[ChannelTable]


@dataclass(frozen=True)
class Outcome:
    """What a method came to, means over prompts; ``hit``, ``kept`` and ``gain`` with its error per strength."""

    name: str
    rule: str
    renders: float
    backward: float
    recall: float
    cosine: float
    hit: list[float]
    kept: list[float]
    gain: list[float]
    gain_error: list[float]


def study_prompts() -> list[Prompt]:
    """One prompt per drawn category, named ``attribute:category``."""
    rows = [
        {"name": f"{a.name}:{c}", "target": f"a face with {WORDS[a.name][c][0][0]}", "neutral": "a face"}
        for a in ATTRIBUTES
        for c in a.categories
        if a.name != INVISIBLE and c not in NO_PROMPT
    ]
    return check_prompts(rows)


def make_judge(pack: Pack) -> Judge:
    """Images in [-1, 1] to probabilities [n, categories] per attribute, categories in the order of ``ATTRIBUTES``."""
    oracle: Any = getattr(pack, "oracle", None)
    if oracle is not None:
        return oracle.probabilities
    texts = {
        a.name: torch.stack(
            [
                unit_vectors(pack.clip.encode_texts([f"a face with {w}" for w in WORDS[a.name][c][0]]).mean(dim=0))
                for c in a.categories
            ]
        )
        for a in ATTRIBUTES
    }

    def zero_shot(images: Tensor) -> Mapping[str, Tensor]:
        embedded = pack.clip.encode_images(images)
        return {name: (100 * embedded @ text.T).softmax(dim=1) for name, text in texts.items()}

    return zero_shot


def judge_styles(pack: Pack, judge: Judge, styles: Tensor) -> dict[str, Tensor]:
    """Category of every attribute of every style's image."""
    parts = []
    with torch.no_grad():
        for batch in styles.split(8):
            parts.append({k: v.argmax(dim=1) for k, v in judge(pack.generator.render(batch).clamp(-1, 1)).items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def measure_exact(pack: Pack, store: Store, config: ChannelDirectionsConfig) -> ChannelTable:
    """The exact table, measured into the run unless it is there."""
    if find_optional_input("style_statistics", store) is None:
        settings = StyleStatisticsConfig()
        for shard in range(statistics_stage.style_statistics_num_shards(settings)):
            statistics_stage.run_style_moments_shard(settings, store, pack, shard)
        statistics_stage.run_style_statistics(settings, store, pack)
        known = statistics_stage.style_statistics_hash(settings, pack)
        close_stage(store, statistics_stage.STAGE, num_shards=1, config_hash=known, config=settings, pack=pack)
    statistics = find_optional_input("style_statistics", store)
    assert statistics is not None
    for shard in range(exact_stage.channel_sums_num_shards(config, pack)):
        exact_stage.run_channel_sums_shard(config, store, pack, shard, statistics=statistics)
        print(f"exact: shard {shard + 1} of {exact_stage.channel_sums_num_shards(config, pack)}", flush=True)
    num_shards = exact_stage.channel_directions_num_shards(config, pack)
    for shard in range(num_shards):
        exact_stage.run_channel_directions_shard(config, store, pack, shard, statistics=statistics)
    known = exact_stage.channel_directions_hash(config, pack, statistics)
    close_stage(store, exact_stage.STAGE, num_shards=num_shards, config_hash=known, config=config, pack=pack)
    return load_channel_table(pack, store)


def screen(
    pack: Pack, base: Store, folder: str, config: ScreeningConfig, prompts: list[Prompt]
) -> tuple[ChannelTable, int, int]:
    """A screening into a folder of its own under the run: its table, renders and backward passes."""
    statistics = find_statistics(pack, base)
    assert statistics is not None
    store = base.child(folder)
    screening = Screening(config, store, pack, prompts=prompts, statistics=statistics)
    screening.run_texts()
    for shard in range(screening.num_slopes_shards):
        screening.run_slopes_shard(shard)
    for number in range(screening.num_rounds):
        screening.run_plan(number)
        for shard in range(screening.num_sums_shards(number)):
            screening.run_sums_shard(number, shard)
    screening.run_directions()
    close_stage(store, screened_stage.STAGE, num_shards=1, config_hash=screening.config_hash, config=config, pack=pack)
    texts, _ = screened_stage.compute_text_directions(config, pack, prompts)
    backward = len(probe_rows(texts, num_probes=config.num_probes).rows) * config.num_gradient_images
    return load_screened_table(pack, store, base), screening.renders(screening.num_rounds), backward


def moves(table: ChannelTable, pack: Pack, text: Tensor, rule: Rule) -> Tensor:
    """A prompt's style direction as a whole style vector."""
    found = compute_style_direction(table, text, num_channels=pack.description.num_channels, rule=rule)
    full = torch.zeros(pack.generator.space.num_channels)
    for row, value in zip(found.rows, found.value, strict=True):
        full[pack.generator.space.position(int(table.layer[row]), int(table.channel[row]))] = float(value)
    return full


def evaluate(
    method: Method,
    reference: list[Tensor],
    texts: list[Tensor],
    prompts: list[Prompt],
    *,
    pack: Pack,
    styles: Tensor,
    judge: Judge,
    first: np.ndarray | None,
) -> tuple[Outcome, np.ndarray]:
    """Likeness to the exact style directions, hit and kept by strength, and the hits [prompt, strength] behind them."""
    before = judge_styles(pack, judge, styles)
    recall, cosine, hit, kept = [], [], [], []
    for prompt, text, table, exact in zip(prompts, texts, method.tables, reference, strict=True):
        move = moves(table, pack, text, method.rule)
        both = float(((move != 0) & (exact != 0)).sum())
        recall.append(both / float((exact != 0).sum()))
        cosine.append(float(torch.nn.functional.cosine_similarity(move, exact, dim=0)))
        name, category = prompt.name.split(":")
        wanted = next(list(a.categories).index(category) for a in ATTRIBUTES if a.name == name)
        new = before[name] != wanted
        others = [k for k in before if k != name and not (name == "head" and k == INVISIBLE)]
        for strength in STRENGTHS:
            after = judge_styles(pack, judge, styles + strength * move)
            hit.append(float((after[name] == wanted)[new].float().mean()) if bool(new.any()) else np.nan)
            kept.append(float(torch.stack([(after[k] == before[k]).float() for k in others]).mean()))
    hits, shares = (np.array(x).reshape(len(prompts), -1) for x in (hit, kept))
    gain = hits - (hits if first is None else first)
    error = np.nanstd(gain, axis=0, ddof=1) / len(prompts) ** 0.5
    means = float(np.mean(recall)), float(np.mean(cosine))
    curves = [np.nanmean(x, axis=0).tolist() for x in (hits, shares, gain)]
    return Outcome(method.name, method.rule, method.renders, method.backward, *means, *curves, error.tolist()), hits


def to_table(outcomes: list[Outcome]) -> Table:
    """The study as a terminal table."""
    table = Table(title="Screening study")
    for title in ("directions", "rule", "renders", "backward", "recall", "cosine"):
        table.add_column(title, justify="left" if title in ("directions", "rule") else "right")
    for strength in STRENGTHS:
        table.add_column(f"hit/kept at {strength:g}", justify="right")
        table.add_column("gain", justify="right")
    for o in outcomes:
        cells = [f"{o.renders:.0f}", f"{o.backward:.0f}", f"{o.recall:.3f}", f"{o.cosine:.3f}"]
        for hit, kept, gain, error in zip(o.hit, o.kept, o.gain, o.gain_error, strict=True):
            cells += [f"{hit:.3f}/{kept:.4f}", f"{gain:+.3f} +- {error:.3f}"]
        table.add_row(o.name, o.rule, *cells)
    return table


def main() -> None:
    """Command line."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder for the tables; a second run reads what it finds there")
    parser.add_argument("--pack", default="peeps", help="pack with the peeps' attributes (default peeps)")
    parser.add_argument("--images", type=int, default=24, help="edited faces per prompt and strength (default 24)")
    parser.add_argument("--prompts", type=int, default=None, help="only so many prompts, spread evenly (default all)")
    parser.add_argument("--alone", action="store_true", help="also screen every prompt by itself")
    parser.add_argument("--pack-table", action="store_true", help="take the pack's own table as the exact one")
    parser.add_argument("--write", action="store_true", help="write screening_study.json beside this file")
    args = parser.parse_args()
    pack = load_pack(args.pack, device="cpu")
    every = study_prompts()
    count = args.prompts or len(every)
    prompts = [every[i * len(every) // count] for i in range(count)]
    base = Store(args.run)
    config = ChannelDirectionsConfig()
    exact = load_channel_table(pack) if args.pack_table else measure_exact(pack, base, config)
    statistics = find_statistics(pack, base)
    assert statistics is not None
    live = int((torch.as_tensor(exact.std) > 0).sum())
    wording = templates(StyleDirectionsConfig().templates)
    texts = [pack.clip.text_direction(p.target, p.neutral, wording) for p in prompts]
    everything = 2.0 * live * config.num_images
    rules = RULES if exact.effect is not None else RULES[:1]  # a pack's older table has no effects
    methods = [Method("exact", rule, everything, 0, [exact] * count) for rule in rules]
    for mode in ("screened", "gradient"):
        table, renders, backward = screen(pack, base, f"{mode}-{count}", ScreeningConfig(mode=mode), prompts)
        name = f"{mode}, {count} prompts together"
        methods += [Method(name, rule, renders, backward, [table] * count) for rule in RULES]
    if args.alone:
        alone = ScreeningConfig()
        found = [screen(pack, base, f"alone-{p.prompt_id}", alone, [p]) for p in prompts]
        renders, backward = (float(np.mean([f[i] for f in found])) for i in (1, 2))
        methods += [Method("screened, one prompt", rule, renders, backward, [f[0] for f in found]) for rule in RULES]
    with torch.no_grad():
        styles = pack.generator.styles(sample_w_plus(pack.generator, range(args.images), psi=0.7))
    reference = [moves(exact, pack, text, "paper") for text in texts]
    judge = make_judge(pack)
    outcomes: list[Outcome] = []
    first: np.ndarray | None = None
    for method in methods:
        outcome, hits = evaluate(method, reference, texts, prompts, pack=pack, styles=styles, judge=judge, first=first)
        first = hits if first is None else first
        outcomes.append(outcome)
        print(json.dumps(asdict(outcome)), flush=True)
    Console(width=200).print(to_table(outcomes))
    if args.write:
        results = {"pack": pack.digest, "prompts": count, "images": args.images, "strengths": STRENGTHS}
        rows = [asdict(outcome) for outcome in outcomes]
        text = json.dumps({**results, "judge": "oracle" if hasattr(pack, "oracle") else "clip", "rows": rows}, indent=2)
        (RESULTS / "screening_study.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
