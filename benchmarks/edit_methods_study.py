"""Which settings hit the target and keep the rest: 12 held-out prompts on a pack with oracle and identity network.

``python -m benchmarks.edit_methods_study --method optimize --set '{"l2_weight": 0.004}' --set '{}'`` tries each
setting in turn on the same latents and prints, per prompt and over all: how many of the latents that did not show the
target now show it, the share of all other attributes kept, the identity similarity, the loss, and for mappers the
mean cosine between the moves of different latents (Table 2 of the paper). ``--json`` appends every row to a file.

The prompts are in words and combinations that the embedded CLIP was not trained on. Complex: several attributes, or
a whole character; medium: a haircut or headwear; simple: one small thing.
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
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from examples.peeps.domain import ATTRIBUTES, label_names
from examples.peeps.judge import decided, read_labels
from pipeline.config import MappersConfig, OptimizedLatentsConfig, recommended
from pipeline.machine.memory import keep_memory
from pipeline.models.mapper import make_mapper, moved_latents
from pipeline.models.sampling import sample_w_plus
from pipeline.optimization.edit_loss import EditLoss, EditWeights, TextTarget, text_target
from pipeline.optimization.latents import Pair, optimize
from pipeline.optimization.mappers import Task, mapper_config, train_mappers
from pipeline.packs.pack import Pack, load_pack
from pipeline.prompts import check_prompts

FIRST_SEED = 5_000_000  # of the latents that are edited and judged
TRAINING_SEED = 3_000_000  # of the latents that mappers are trained on
RENDER_BATCH = 50


@dataclass(frozen=True)
class Case:
    """A prompt and what the oracle must see once it is true."""

    kind: str
    target: str
    neutral: str
    wanted: dict[str, str]


CASES = (
    Case("complex", "a smiling person with glasses and a mohawk", "a person",
         {"expression": "smile", "accessories": "glasses", "head": "mohawk"}),
    Case("complex", "a pirate face with a black patch on the eye and a big bushy beard", "a face",
         {"accessories": "eyepatch", "facial_hair": "beard"}),
    Case("complex", "an angry face with dark sunglasses and a swept back quiff", "a face",
         {"expression": "angry", "accessories": "sunglasses", "head": "pompadour"}),
    Case("complex", "an aged face with wrinkles and a big wrapped turban", "a face",
         {"expression": "old", "head": "turban"}),
    Case("medium", "a face with hair in a punk mohawk", "a face", {"head": "mohawk"}),
    Case("medium", "a face with a big wrapped turban", "a face", {"head": "turban"}),
    Case("medium", "a face with big round afro hair", "a face", {"head": "afro"}),
    Case("medium", "a face with a knit beanie", "a face", {"head": "beanie"}),
    Case("simple", "a face with reading spectacles", "a face", {"accessories": "glasses"}),
    Case("simple", "a face without wrinkles and with a calm expression", "an old face with wrinkles",
         {"expression": "neutral"}),
    Case("simple", "a face with a happy grin", "a face with a blank look", {"expression": "smile"}),
    Case("simple", "a face with a bushy moustache", "a face with a clean chin", {"facial_hair": "moustache"}),
)  # fmt: skip


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


def verdict(before: np.ndarray, after: np.ndarray, wanted: dict[str, str]) -> tuple[float, float, int]:
    """Hit, kept and judged latents from the oracle's labels [n, attributes]; see ``Score``."""
    names = label_names()
    targets = {names.index(a): list(ATTRIBUTES[names.index(a)].categories).index(c) for a, c in wanted.items()}
    columns = list(targets)
    fresh = (before[:, columns] != list(targets.values())).any(axis=1)
    hit = (after[:, columns] == list(targets.values())).all(axis=1)
    others = [i for i in range(len(names)) if i not in targets]
    counts = decided(before, after)[:, others]
    same = (before == after)[:, others] & counts
    kept = same.sum(axis=1) / counts.sum(axis=1)
    return float(hit[fresh].mean()) if fresh.any() else 1.0, float(kept[fresh].mean()), int(fresh.sum())


def render(pack: Pack, x: Tensor, space: str) -> Float[Tensor, "n 3 r r"]:
    """Images of latents in either space."""
    with torch.no_grad():
        parts = x.split(RENDER_BATCH)
        return torch.cat([pack.generator.render(p if space == "styles" else pack.generator.styles(p)) for p in parts])


def load_texts(pack: Pack, config: OptimizedLatentsConfig | MappersConfig) -> list[TextTarget]:
    """All cases in CLIP space, with the setting's weights."""
    weights = EditWeights(config.clip_weight, config.direction_weight, config.l2_weight, config.identity_weight)
    rows = [{"name": f"{i}", "target": c.target, "neutral": c.neutral} for i, c in enumerate(CASES)]
    return [text_target(prompt, pack, weights, template_set=config.templates) for prompt in check_prompts(rows)]


@dataclass(frozen=True)
class Edited:
    """Edited latents of one case [n, ...], their loss, and the similarity of mapper moves."""

    x: Tensor
    loss: float
    similarity: tuple[float, float] | None = None


def run_optimization(pack: Pack, w: Tensor, setting: dict[str, Any], chosen: Sequence[int]) -> tuple[str, list[Edited]]:
    """Every case on every latent."""
    given = {"image_interval": 0, **setting}
    config = recommended(OptimizedLatentsConfig, pack.description.settings.get("optimize", {}), given)
    texts = load_texts(pack, config)
    pairs = [Pair(f"{i}", f"{c}", w[i], texts[c]) for c in chosen for i in range(len(w))]
    outcomes = optimize(pack.generator, EditLoss.of_pack(pack, [t.weights for t in texts]), pairs, config)
    edited = []
    for k in range(len(chosen)):
        part = outcomes[k * len(w) : (k + 1) * len(w)]
        assert all(o.vector is not None for o in part), "a pair failed; see its error"
        x = torch.stack([torch.from_numpy(o.vector) for o in part if o.vector is not None]).to(w)
        shaped = x if config.space == "styles" else x.view_as(w)
        edited.append(Edited(shaped, float(np.mean([o.curve[o.best_step][0] for o in part]))))
    return config.space, edited


def run_mappers(
    pack: Pack, w: Tensor, setting: dict[str, Any], chosen: Sequence[int], *, num_training: int
) -> tuple[str, list[Edited]]:
    """Every case's mapper, trained on latents of its own, on every latent."""
    config = recommended(MappersConfig, pack.description.settings.get("mapper", {}), setting)
    texts = load_texts(pack, config)
    training = sample_w_plus(pack.generator, range(TRAINING_SEED, TRAINING_SEED + num_training), psi=0.7)
    loss = EditLoss.of_pack(pack, [t.weights for t in texts])
    edited, space = [], "w_plus"
    for start in range(0, len(chosen), config.shard_size):
        tasks = [Task(f"{c}", texts[c]) for c in chosen[start : start + config.shard_size]]
        for trained in train_mappers(pack.generator, loss, tasks, training, config):
            assert trained.state is not None, trained.error
            mapper = make_mapper(mapper_config(config), pack.generator.config)
            mapper.load_state_dict(trained.state)
            mapper.requires_grad_(False).to(w.device)
            space = mapper.space_name
            edited.append(Edited(moved_latents(mapper, pack.generator, w), trained.losses[0], trained.similarity))
    return space, edited


def study(
    pack: Pack,
    method: str,
    setting: dict[str, Any],
    *,
    num_latents: int,
    first_seed: int,
    num_training: int,
    chosen: Sequence[int],
) -> list[Score]:
    """Scores of the chosen cases under one setting."""
    w = sample_w_plus(pack.generator, range(first_seed, first_seed + num_latents), psi=0.7)
    original = render(pack, w, "w_plus")
    before = read_labels(pack.oracle, original)
    start = time.perf_counter()
    if method == "optimize":
        space, edited = run_optimization(pack, w, setting, chosen)
    else:
        space, edited = run_mappers(pack, w, setting, chosen, num_training=num_training)
    seconds = (time.perf_counter() - start) / len(chosen)
    scores = []
    for number, found in zip(chosen, edited, strict=True):
        case, images = CASES[number], render(pack, found.x, space)
        hit, kept, judged = verdict(before, read_labels(pack.oracle, images), case.wanted)
        identity = None
        if pack.description.identity is not None:
            with torch.no_grad():
                cosines = (pack.identity.embed(original) * pack.identity.embed(images)).sum(dim=1)
            identity = float(cosines.mean())
        name = f"{method} {json.dumps(setting)}"
        scores.append(
            Score(name, case.kind, case.target, hit, kept, identity, found.similarity, found.loss, judged, seconds)
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
    hit, kept = (float(np.mean([getattr(s, name) for s in scores])) for name in ("hit", "kept"))
    table.add_row("all", "mean (wanted: 95% hit, 90% kept)", f"{hit:.1%}", f"{kept:.1%}", "", "", "", "", "")
    return table


def main() -> None:
    """Command line."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or URI of a pack with an oracle (default peeps)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default auto)")
    parser.add_argument("--method", choices=("optimize", "mapper"), required=True)
    parser.add_argument("--set", action="append", default=[], help="settings to try, as JSON; may be repeated")
    parser.add_argument("--latents", type=int, default=200, help="latents to edit (default 200)")
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, help=f"of the latents to edit (default {FIRST_SEED})"
    )
    parser.add_argument("--training-latents", type=int, default=1_000, help="latents to train on (default 1000)")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="numbers of the cases")
    parser.add_argument("--json", type=Path, default=None, help="file to append the rows to")
    options = parser.parse_args()
    pack = load_pack(options.pack, device=options.device)
    for text in options.set or ["{}"]:
        scores = study(
            pack,
            options.method,
            json.loads(text),
            num_latents=options.latents,
            first_seed=options.first_seed,
            num_training=options.training_latents,
            chosen=options.cases,
        )
        Console().print(to_rich(scores))
        if options.json is not None:
            with options.json.open("a") as file:
                file.writelines(json.dumps(asdict(score)) + "\n" for score in scores)


if __name__ == "__main__":
    main()
