"""Edits of prompts in free wording, by kind, judged by the oracle.

    python -m examples.peeps.free_wording --pack peeps --faces 24

Global directions at the pack's defaults; every prompt of ``free_wording.csv`` or of another list in its form. A face
counts if it does not show all that is wished for already.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from examples.peeps.judge import Verdict, decided, read_labels
from examples.peeps.wishes import FREE_WORDING, FreePrompt, judge_wishes, read_free_prompts
from pipeline.directions.direction import StyleDirection, compute_style_direction
from pipeline.directions.groups import find_controls
from pipeline.directions.style_move import StyleMove
from pipeline.directions.table import ChannelTable, load_channel_table
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack, load_pack
from pipeline.prompts import templates

FIRST_SEED = 910_000
RESAMPLED = 2000  # bootstrap samples of the prompts


@dataclass(frozen=True)
class Result:
    """One prompt: shares of the faces that did not show the wish before, and of those that did.

    Attributes:
        prompt: what was asked for.
        hit: share of the former that show it after the edit.
        kept: mean share of their other attributes that stayed.
        faces: how many of them there are.
        channels: that the direction moves.
        spared: share of the latter whose wished-for attributes stayed as they were; NaN where there are none.
    """

    prompt: FreePrompt
    hit: float
    kept: float
    faces: int
    channels: int
    spared: float


@dataclass(frozen=True)
class KindResult:
    """Means over the prompts of one kind, with 95 % intervals of a bootstrap over prompts; ``spared`` as in ``Result``,
    over the prompts that some face showed already.
    """

    kind: str
    prompts: int
    hit: float
    hit_interval: tuple[float, float]
    kept: float
    kept_interval: tuple[float, float]
    spared: float


def default_direction(pack: Pack, table: ChannelTable, text: Tensor) -> StyleDirection:
    """The direction of a text by the pack's own rule and channel count."""
    settings = pack.description.settings.get("global", {})
    rule = settings.get("rule", "paper")
    if rule == "pursuit":
        controls = find_controls(pack, table)
        return compute_style_direction(
            table, text, num_channels=None, rule=rule, controls=controls, lowering=settings.get("lowering")
        )
    return compute_style_direction(table, text, num_channels=pack.description.num_channels, rule=rule)


def move(pack: Pack, table: ChannelTable, styles: Tensor, direction: StyleDirection, strength: float) -> Tensor:
    """Styles [n, s] moved along a direction."""
    return StyleMove.of(direction, table, pack.generator.space).moved(styles, strength)


def render(pack: Pack, styles: Tensor) -> Tensor:
    """Images [n, 3, r, r] in [-1, 1]."""
    with torch.no_grad():
        return torch.cat([pack.generator.render(x).clamp(-1, 1) for x in styles.split(24)])


def share_spared(before: np.ndarray, after: np.ndarray, prompt: FreePrompt) -> float:
    """Share of the faces that showed all wishes already whose wished-for attributes are the same after the edit."""
    shown = np.all([wish.holds(before) for wish in prompt.wishes], axis=0)
    if not shown.any():
        return float("nan")
    wanted = [wish.attribute for wish in prompt.wishes]
    changed = ((before != after) & decided(before, after))[shown][:, wanted]
    return float(1 - changed.any(axis=1).mean())


def measure(pack: Pack, prompts: list[FreePrompt], faces: int) -> list[Result]:
    """Every prompt's edit on the same faces; prompts that all of them show already are left out."""
    table = load_channel_table(pack)
    styles = pack.generator.styles(sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + faces), psi=0.7))
    before = read_labels(pack.oracle, render(pack, styles))
    found = []
    for prompt in tqdm(prompts, mininterval=10):
        text = pack.clip.text_direction(prompt.target, prompt.neutral, templates("imagenet_79")).cpu()
        direction = default_direction(pack, table, text)
        moved = move(pack, table, styles, direction, pack.description.strength)
        after = read_labels(pack.oracle, render(pack, moved))
        verdict: Verdict = judge_wishes(before, after, prompt.wishes)
        if len(verdict.hit):
            hit, kept = float(verdict.hit.mean()), float(verdict.kept.mean())
            spared = share_spared(before, after, prompt)
            found.append(Result(prompt, hit, kept, len(verdict.hit), len(direction.rows), spared))
    return found


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean, by resampling the values."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (RESAMPLED, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def by_kind(results: list[Result]) -> list[KindResult]:
    """One line per kind, in the order of the list."""
    lines = []
    for kind in dict.fromkeys(r.prompt.kind for r in results):
        hit = np.array([r.hit for r in results if r.prompt.kind == kind])
        kept = np.array([r.kept for r in results if r.prompt.kind == kind])
        spared = np.array([r.spared for r in results if r.prompt.kind == kind and not np.isnan(r.spared)])
        mean = float(spared.mean()) if len(spared) else float("nan")
        lines.append(
            KindResult(kind, len(hit), float(hit.mean()), interval(hit), float(kept.mean()), interval(kept), mean)
        )
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or folder")
    parser.add_argument("--prompts", type=Path, default=FREE_WORDING)
    parser.add_argument("--faces", type=int, default=48)
    args = parser.parse_args()
    results = measure(load_pack(args.pack, device="cpu"), read_free_prompts(args.prompts), args.faces)
    for r in results:
        if r.hit < 0.9 or r.kept < 0.95 or (r.prompt.kind == "negation" and r.spared < 0.95):
            print(
                f"{r.prompt.name}: {r.prompt.target}: hit {r.hit:.2f}, kept {r.kept:.2f}, spared {r.spared:.2f}, "
                f"{r.channels} channels"
            )
    for line in by_kind(results):
        hit, kept = (f"({x[0]:.2f} to {x[1]:.2f})" for x in (line.hit_interval, line.kept_interval))
        print(
            f"{line.kind}: {line.prompts} prompts, hit {line.hit:.3f} {hit}, kept {line.kept:.3f} {kept}, "
            f"of faces that showed it {line.spared:.3f} spared"
        )


if __name__ == "__main__":
    main()
