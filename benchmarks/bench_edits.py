"""Edits in batches against one by one: latent optimisation of 64 pairs, training of 8 mappers.

``python -m benchmarks.bench_edits`` prints the ratios at the settings that the pack recommends, and how far the losses
differ; ``--pairs``, ``--steps`` and ``--mappers`` shorten it, ``--pack`` takes another pack, ``--single-runs`` adds
whole runs of the commands with all steps of the settings (20 minutes), ``--write`` also writes ``results_edits.md`` and
``.json`` beside this file. Batched and single runs within this process take turns, part by part, so that other load on
the machine hits both alike: trust the ratios before the seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.bench import RESULTS, cpu_name
from pipeline.config import MappersConfig, OptimizedLatentsConfig, recommended
from pipeline.machine.memory import keep_memory
from pipeline.models.sampling import sample_w_plus
from pipeline.optimization.edit_loss import EditLoss, EditWeights, text_target
from pipeline.optimization.latents import Pair, optimize
from pipeline.optimization.mappers import Task, train_mappers
from pipeline.packs.pack import Pack, load_pack
from pipeline.prompts import Prompt, check_prompts

TARGETS = ("a mohawk", "a hat", "a turban", "an afro", "sunglasses", "a beard", "dark skin", "a green shirt")
TRAINING_LATENTS = 200
RUNS = 2  # parts that the work is cut into, so that both ways are measured by turns
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Row:
    """Seconds of one amount of work done together and one by one."""

    case: str
    together: float
    alone: float
    detail: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            self.case, f"{self.together:.1f}", f"{self.alone:.1f}", f"{self.together / self.alone:.2f}", self.detail,
        )  # fmt: skip


HEADER = ("case", "together, s", "alone, s", "together / alone", "")


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


def bench_optimization(pack: Pack, *, num_pairs: int, num_steps: int, batch_size: int) -> Row:
    """Pairs in batches and one by one, and the largest relative difference of the final losses."""
    settings = {"num_steps": num_steps, "patience": 0, "image_interval": 0, "batch_size": batch_size}
    config = recommended(OptimizedLatentsConfig, pack.description.settings.get("optimize", {}), settings)
    weights = config_weights(config)
    prompts = make_prompts(len(TARGETS))
    texts = [text_target(prompt, pack, weights, template_set="none") for prompt in prompts]
    w_plus = sample_w_plus(pack.generator, range(num_pairs), psi=0.7)
    pairs = [Pair(f"{i}", f"{i}", w_plus[i], texts[i % len(texts)]) for i in range(num_pairs)]
    loss = EditLoss.of_pack(pack, [weights])
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
    return Row(name, together, alone, f"losses differ by {worst:.2%} at most")


def bench_mappers(pack: Pack, *, num_mappers: int, num_steps: int) -> Row:
    """Mappers trained together and alone, and the largest relative difference of the losses."""
    settings = {"num_steps": num_steps, "validation_interval": num_steps}
    config = recommended(MappersConfig, pack.description.settings.get("mapper", {}), settings)
    weights = config_weights(config)
    tasks = [Task(p.prompt_id, text_target(p, pack, weights, template_set="none")) for p in make_prompts(num_mappers)]
    w_plus = sample_w_plus(pack.generator, range(24), psi=0.7)
    loss = EditLoss.of_pack(pack, [weights])
    together, found = timed(lambda: train_mappers(pack.generator, loss, tasks, w_plus, config))
    alone, singles = timed(lambda: [train_mappers(pack.generator, loss, [t], w_plus, config)[0] for t in tasks])
    worst = max(abs(a.losses[0] - b.losses[0]) / abs(b.losses[0]) for a, b in zip(found, singles, strict=True))
    name = f"{num_mappers} mappers x {num_steps} updates"
    return Row(name, together, alone, f"losses differ by {worst:.2%} at most")


def styleclip(*arguments: str) -> float:
    """Wall time of a command, its start-up included."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return timed(lambda: subprocess.run(command, check=True, capture_output=True))[0]


def bench_optimization_commands(pack: str, *, num_pairs: int, num_single: int) -> Row:
    """One ``styleclip optimize-latents`` with all pairs against single ones, every step of the pack's settings taken.

    The time of ``num_single`` single runs is scaled to ``num_pairs``.
    """
    with tempfile.TemporaryDirectory() as folder:
        prompts = write_prompts(f"{folder}/prompts.csv", TARGETS[:1], method="optimize")

        def run(name: str, num_latents: int, first_seed: int) -> float:
            where = ("--run", f"{folder}/{name}", "--pack", pack)
            styleclip("sample-latents", *where, "--num-latents", f"{num_latents}", "--first-seed", f"{first_seed}")
            steps = ("--patience", "0", "--image-interval", "0")
            return styleclip("optimize-latents", "--prompts", prompts, *where, *steps)

        alone = sum(run(f"single-{i}", 1, i) for i in range(num_single)) * num_pairs / num_single
        together = run("all", num_pairs, 0)
    return Row(f"{num_pairs} pairs, as runs of the command", together, alone, f"{num_single} single runs were timed")


def bench_mapper_commands(pack: str, *, num_mappers: int, num_single: int) -> Row:
    """One ``styleclip train-mappers`` with all prompts against one a prompt, at the pack's settings.

    The time of ``num_single`` single runs is scaled to ``num_mappers``.
    """
    targets = [TARGETS[i % len(TARGETS)] for i in range(num_mappers)]
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, chosen: Sequence[str]) -> float:
            where = ("--run", f"{folder}/{name}", "--pack", pack)
            styleclip("sample-latents", *where, "--num-latents", f"{TRAINING_LATENTS}")
            prompts = write_prompts(f"{folder}/{name}.csv", chosen, method="mapper")
            return styleclip("train-mappers", "--prompts", prompts, *where)

        alone = sum(run(f"single-{i}", targets[i : i + 1]) for i in range(num_single)) * num_mappers / num_single
        together = run("all", targets)
    return Row(
        f"{num_mappers} mappers, as runs of the command", together, alone, f"{num_single} single runs were timed"
    )


def write_prompts(path: str, targets: Sequence[str], *, method: str) -> str:
    """A prompt list of faces with the targets; its path."""
    rows = [f"{i},a face with {target},a face,{method}" for i, target in enumerate(targets)]
    Path(path).write_text("\n".join(["name,target,neutral,method", *rows]) + "\n")
    return path


def config_weights(config: OptimizedLatentsConfig | MappersConfig) -> EditWeights:
    """A stage's weights of the loss terms."""
    return EditWeights(config.clip_weight, config.direction_weight, config.l2_weight, config.identity_weight)


def main() -> None:
    """Command line."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or URI of a pack (default peeps)")
    parser.add_argument("--pairs", type=int, default=64, help="(latent, prompt) pairs (default 64)")
    parser.add_argument("--mappers", type=int, default=8, help="mappers (default 8)")
    parser.add_argument("--steps", type=int, default=20, help="steps and updates of each (default 20)")
    parser.add_argument("--batch-size", type=int, default=16, help="pairs at a time (default 16)")
    parser.add_argument(
        "--single-runs", type=int, default=0, help="also time the commands, so many single runs (default 0)"
    )
    parser.add_argument("--write", action="store_true", help="write results_edits.md and .json beside this file")
    options = parser.parse_args()
    torch.manual_seed(0)
    pack = load_pack(options.pack, device="cpu")
    rows = [
        bench_optimization(pack, num_pairs=options.pairs, num_steps=options.steps, batch_size=options.batch_size),
        bench_mappers(pack, num_mappers=options.mappers, num_steps=options.steps),
    ]
    if options.single_runs:
        rows += [
            bench_optimization_commands(options.pack, num_pairs=options.pairs, num_single=options.single_runs),
            bench_mapper_commands(options.pack, num_mappers=options.mappers, num_single=options.single_runs),
        ]
    where = f"{cpu_name()}; torch {torch.__version__}, {torch.get_num_threads()} threads"
    table = Table(title="Edits together against one by one", caption=where)
    for i, title in enumerate(HEADER):
        table.add_column(title, justify="left" if i in (0, 4) else "right")
    for row in rows:
        table.add_row(*row.cells)
    Console().print(table)
    if options.write:
        lines = ["# Edits together against one by one", "", where, "", "| " + " | ".join(HEADER) + " |"]
        lines += ["|" + " --- |" * len(HEADER)] + ["| " + " | ".join(row.cells) + " |" for row in rows]
        lines += ["", "Written by `python -m benchmarks.bench_edits --write`."]
        (RESULTS / "results_edits.md").write_text("\n".join(lines) + "\n")
        (RESULTS / "results_edits.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
