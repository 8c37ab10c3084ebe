"""Which settings hit the target and keep the rest: prompts in free wording on a pack with oracle and identity network.

``python -m benchmarks.edit_methods_study --method optimize --set '{"l2_weight": 0.004}' --set '{}'`` tries each
setting in turn on the same latents and prints, per prompt and kind: how many of the latents that did not show all that
is wished for now show it, the share of all other attributes kept, the identity similarity, the loss, and for mappers
the mean cosine between the moves of different latents (Table 2 of the paper). ``--json`` appends every row to a file.

Settings are chosen with ``edit_methods_tuning.csv``, on latents of their own; ``edit_methods.csv``, the default, is
what they are then measured on: other words, other wishes, other latents.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from examples.peeps.edit_methods import METHODS, at_default_strength, render, run_mappers, run_optimization
from examples.peeps.free_wording import interval
from examples.peeps.judge import read_labels
from examples.peeps.wishes import FreePrompt, judge_wishes, read_free_prompts
from pipeline.machine.memory import keep_memory
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack, load_pack

FIRST_SEED = 5_000_000  # of the latents that are edited and judged
PROMPTS = Path(__file__).with_name("edit_methods.csv")


@dataclass(frozen=True)
class Score:
    """One prompt under one setting.

    Attributes:
        hit: share of the latents not showing the target before that show all of it now.
        kept: mean share of the other attributes that stayed, where the labels decide them.
        identity: mean cosine of the identities before and after; None without such a network.
        similarity: mean and standard deviation of the cosine between mapper moves; None for optimisation.
        loss: mean loss of the edited latents, or the mapper's validation loss.
        judged: latents that ``hit`` is over.
        seconds: time of the method for this prompt, shared equally among prompts.
    """

    setting: str
    kind: str
    target: str
    hit: float
    kept: float
    identity: float | None
    similarity: tuple[float, float] | None
    loss: float
    judged: int
    seconds: float


def study(
    pack: Pack,
    method: str,
    setting: dict[str, Any],
    *,
    num_latents: int,
    first_seed: int,
    num_training: int,
    prompts: Sequence[FreePrompt],
) -> list[Score]:
    """Scores of prompts under one setting; those that all latents show already are left out."""
    w = sample_w_plus(pack.generator, range(first_seed, first_seed + num_latents), psi=0.7)
    original = render(pack, w, "w_plus")
    before = read_labels(pack.oracle, original)
    start = time.perf_counter()
    if method == "optimize":
        space, edited = run_optimization(pack, w, setting, prompts)
    else:
        space, edited = run_mappers(pack, w, setting, prompts, num_training=num_training)
    seconds = (time.perf_counter() - start) / len(prompts)
    scores = []
    for prompt, found in zip(prompts, edited, strict=True):
        images = render(pack, at_default_strength(pack, method, w, found.x, space), space)
        verdict = judge_wishes(before, read_labels(pack.oracle, images), prompt.wishes)
        if not len(verdict.hit):
            continue
        identity = None
        if pack.description.identity is not None:
            with torch.no_grad():
                cosines = (pack.identity.embed(original) * pack.identity.embed(images)).sum(dim=1)
            identity = float(cosines.mean())
        scores.append(
            Score(
                setting=f"{method} {json.dumps(setting)}",
                kind=prompt.kind,
                target=prompt.target,
                hit=float(verdict.hit.mean()),
                kept=float(verdict.kept.mean()),
                identity=identity,
                similarity=found.similarity,
                loss=found.loss,
                judged=len(verdict.hit),
                seconds=seconds,
            )
        )
    return scores


def to_rich(scores: Sequence[Score]) -> Table:
    """One setting as a table, means last."""
    table = Table(title=scores[0].setting, title_justify="left")
    for heading in ("class", "prompt", "hit", "kept", "identity", "moves alike", "loss", "latents", "s"):
        table.add_column(heading, justify="left" if heading in ("class", "prompt") else "right")
    for s in scores:
        alike = "-" if s.similarity is None else f"{s.similarity[0]:.2f} +- {s.similarity[1]:.2f}"
        identity = "-" if s.identity is None else f"{s.identity:.2f}"
        table.add_row(
            s.kind, s.target, f"{s.hit:.1%}", f"{s.kept:.1%}", identity, alike, f"{s.loss:.3f}", str(s.judged),
            f"{s.seconds:.0f}",
        )  # fmt: skip
    for kind in (*dict.fromkeys(s.kind for s in scores), "all"):
        part = [s for s in scores if kind in (s.kind, "all")]
        means = []
        for values in (np.array([s.hit for s in part]), np.array([s.kept for s in part])):
            low, high = interval(values)
            means.append(f"{values.mean():.1%} ({low:.0%} to {high:.0%})")
        table.add_row(kind, f"mean of {len(part)}", *means, "", "", "", str(sum(s.judged for s in part)), "")
    return table


def main() -> None:
    """Command line."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or URI of a pack with an oracle (default peeps)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--set", action="append", default=[], help="settings to try, as JSON; may be repeated")
    parser.add_argument("--latents", type=int, default=200, help="latents to edit (default 200)")
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, help=f"of the latents to edit (default {FIRST_SEED})"
    )
    parser.add_argument("--training-latents", type=int, default=1_000, help="latents to train on (default 1000)")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="columns name, kind, target, neutral, want")
    parser.add_argument("--names", nargs="+", help="only these prompts")
    parser.add_argument("--json", type=Path, default=None, help="file to append the rows to")
    options = parser.parse_args()
    pack = load_pack(options.pack, device=options.device)
    every = read_free_prompts(options.prompts)
    prompts = [p for p in every if options.names is None or p.name in options.names]
    for text in options.set or ["{}"]:
        scores = study(
            pack,
            options.method,
            json.loads(text),
            num_latents=options.latents,
            first_seed=options.first_seed,
            num_training=options.training_latents,
            prompts=prompts,
        )
        Console().print(to_rich(scores))
        if options.json is not None:
            with options.json.open("a") as file:
                file.writelines(json.dumps(asdict(score)) + "\n" for score in scores)


if __name__ == "__main__":
    main()
