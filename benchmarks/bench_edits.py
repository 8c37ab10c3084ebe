"""Edits in batches against one by one: latent optimisation of 64 pairs, training of 8 mappers.

``python -m benchmarks.bench_edits`` prints both ratios and how far the losses differ; ``--pairs``, ``--steps`` and
``--mappers`` shorten it, ``--pack`` takes another pack. Batched and single runs take turns, part by part, so that
other load on the machine hits both alike: trust the ratios before the seconds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

from pipeline.config import MappersConfig, OptimizedLatentsConfig
from pipeline.edit_loss import EditLoss, EditWeights, text_target
from pipeline.mapper_training import Task, train_mappers
from pipeline.optimization import Pair, optimize
from pipeline.pack import Pack, load_pack
from pipeline.prompts import Prompt, check_prompts
from pipeline.sampling import sample_w_plus

TARGETS = ("a mohawk", "a hat", "a turban", "an afro", "sunglasses", "a beard", "dark skin", "a green shirt")
RUNS = 2  # parts that the work is cut into, so that both ways are measured by turns
ResultT = TypeVar("ResultT")


def timed(run: Callable[[], ResultT]) -> tuple[float, ResultT]:
    """Wall time of a call and what it returned."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def make_prompts(count: int) -> list[Prompt]:
    """As many prompts as asked for, by turns."""
    return check_prompts(
        [
            {"name": f"{i} {TARGETS[i % len(TARGETS)]}", "target": f"a face with {TARGETS[i % len(TARGETS)]}"}
            for i in range(count)
        ],
        default_neutral="a face",
    )


def bench_optimization(pack: Pack, *, num_pairs: int, num_steps: int, batch_size: int) -> tuple[str, float, float, str]:
    """Pairs in batches and one by one: seconds of each, and the largest relative difference of the final losses."""
    weights = EditWeights(1.0, 0.0, 0.008, 0.1 if pack.description.identity else 0.0)
    prompts = make_prompts(len(TARGETS))
    texts = [text_target(prompt, pack, weights, template_set="none") for prompt in prompts]
    w_plus = sample_w_plus(pack.generator, range(num_pairs), psi=0.7)
    pairs = [Pair(f"{i}", f"{i}", w_plus[i], texts[i % len(texts)]) for i in range(num_pairs)]
    loss = EditLoss.of_pack(pack, [weights])
    config = OptimizedLatentsConfig(num_steps=num_steps, patience=0, image_interval=0, batch_size=batch_size)
    optimize(pack.generator, loss, pairs[:2], config.model_copy(update={"num_steps": 2}))
    together = alone = worst = 0.0
    for part in (pairs[i::RUNS] for i in range(RUNS)):
        seconds, batched = timed(lambda part=part: optimize(pack.generator, loss, part, config))
        together += seconds
        seconds, single = timed(lambda part=part: [optimize(pack.generator, loss, [pair], config)[0] for pair in part])
        alone += seconds
        for a, b in zip(batched, single, strict=True):
            best, other = a.curve[a.best_step][0], b.curve[b.best_step][0]
            worst = max(worst, abs(best - other) / abs(other))
    name = f"{num_pairs} pairs x {num_steps} steps, batches of {batch_size}"
    return name, together, alone, f"losses differ by {worst:.2%} at most"


def bench_mappers(pack: Pack, *, num_mappers: int, num_steps: int) -> tuple[str, float, float, str]:
    """Mappers trained together and alone: seconds of each, and the largest relative difference of the losses."""
    weights = EditWeights(1.0, 0.0, 0.8, 0.1 if pack.description.identity else 0.0)
    tasks = [Task(p.prompt_id, text_target(p, pack, weights, template_set="none")) for p in make_prompts(num_mappers)]
    w_plus = sample_w_plus(pack.generator, range(24), psi=0.7)
    loss = EditLoss.of_pack(pack, [weights])
    config = MappersConfig(num_steps=num_steps, validation_interval=num_steps)
    together, found = timed(lambda: train_mappers(pack.generator, loss, tasks, w_plus, config))
    alone, singles = timed(lambda: [train_mappers(pack.generator, loss, [t], w_plus, config)[0] for t in tasks])
    worst = max(abs(a.losses[0] - b.losses[0]) / abs(b.losses[0]) for a, b in zip(found, singles, strict=True))
    return f"{num_mappers} mappers x {num_steps} updates", together, alone, f"losses differ by {worst:.2%} at most"


def bench_processes(pack: str, *, num_pairs: int, num_steps: int, num_single: int) -> tuple[str, float, float, str]:
    """One ``styleclip optimize-latents`` with all pairs against single ones, start-up included; the time of
    ``num_single`` single runs is scaled to ``num_pairs``.
    """
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.csv"
        prompts.write_text("name,target,neutral,method\nhat,a face with a hat,a face,optimize\n")

        def styleclip(*arguments: str) -> None:
            subprocess.run([sys.executable, "-m", "flows.cli", *arguments], check=True, capture_output=True)

        def optimize_run(name: str, num_latents: int, first_seed: int) -> float:
            run = ("--run", f"{folder}/{name}", "--pack", pack)
            styleclip("sample-latents", *run, "--num-latents", str(num_latents), "--first-seed", str(first_seed))
            steps = ("--num-steps", str(num_steps), "--patience", "0", "--image-interval", "0")
            return timed(lambda: styleclip("optimize-latents", "--prompts", str(prompts), *run, *steps))[0]

        alone = sum(optimize_run(f"single-{i}", 1, i) for i in range(num_single)) * num_pairs / num_single
        together = optimize_run("all", num_pairs, 0)
    name = f"{num_pairs} pairs x {num_steps} steps, as runs of the command"
    return name, together, alone, f"{num_single} single runs were timed"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or URI of a pack (default peeps)")
    parser.add_argument("--pairs", type=int, default=64, help="(latent, prompt) pairs (default 64)")
    parser.add_argument("--mappers", type=int, default=8, help="mappers (default 8)")
    parser.add_argument("--steps", type=int, default=20, help="steps and updates of each (default 20)")
    parser.add_argument("--batch-size", type=int, default=16, help="pairs at a time (default 16)")
    parser.add_argument("--single-runs", type=int, default=0, help="also time the command, single runs (default 0)")
    options = parser.parse_args()
    torch.manual_seed(0)
    pack = load_pack(options.pack, device="cpu")
    rows = [
        bench_optimization(pack, num_pairs=options.pairs, num_steps=options.steps, batch_size=options.batch_size),
        bench_mappers(pack, num_mappers=options.mappers, num_steps=options.steps),
    ]
    if options.single_runs:
        rows.append(
            bench_processes(
                options.pack, num_pairs=options.pairs, num_steps=options.steps, num_single=options.single_runs
            )
        )
    table = Table(title="Edits together against one by one", caption=f"{torch.get_num_threads()} threads")
    for i, title in enumerate(("case", "together, s", "alone, s", "together / alone", "")):
        table.add_column(title, justify="left" if i in (0, 4) else "right")
    for name, together, alone, detail in rows:
        table.add_row(name, f"{together:.1f}", f"{alone:.1f}", f"{together / alone:.2f}", detail)
    Console().print(table)


if __name__ == "__main__":
    main()
