"""Distil the drawings into a StyleGAN2 generator whose StyleSpace can be edited.

    python -m examples.peeps.train_generator --data build/peeps/renders --out build/peeps

No adversary: w holds a score for every category, and the synthesis network learns to draw the winner. Three choices
make StyleSpace usable for edits:

* each affine row is fixed and reads one category's score, so a style channel serves one category;
* shape is read up to 16 px, colour from 16 to 32 px, so an attribute has few, early homes;
* in training a losing category is often left standing at full score while the winner is raised above it, a
  different amount in every row of w_plus: what an edit does to a face that already wears something else.

Resumes from its checkpoint; progress on the terminal; the same seed gives the same run on one machine.
"""

import argparse
import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from examples.peeps.domain import ATTRIBUTES, W_DIM, Z_DIM, w_block
from examples.peeps.muon import Muon
from examples.peeps.render import draw
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.pixels import from_rgb_arrays

CONFIG = GeneratorConfig(
    resolution=128,
    channel_base=3072,
    channel_max=256,
    z_dim=Z_DIM,
    w_dim=W_DIM,
    mapping_layers=2,
    noise=False,
)

_COLORS = {"skin": 4, "hair_color": 4, "clothing": 4, "background": 4}

# Style channels per category, layer by layer; the other channels of a layer are constant. One channel per shape
# category: where several share the work, none of them alone changes the picture and no direction can be measured.
HOMES: dict[str, dict[str, int]] = {
    "b4.conv1": {"head": 1},
    "b8.conv0": {"facial_hair": 1, "accessories": 1},
    "b8.conv1": {"expression": 1},
    "b16.conv0": _COLORS,
    "b16.conv1": _COLORS,
    "b32.conv0": _COLORS,
}


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train; steps are batches."""

    batch: int = 16
    steps_64: int = 1200
    steps_128: int = 1800
    learning_rate: float = 0.05  # of the convolutions, under Muon
    other_learning_rate: float = 5e-3  # of the constant, the biases and toRGB, under Adam
    cool_from: float = 0.5  # cosine to zero from here
    ema: float = 0.999
    edit_probability: float = 0.25
    ramp: int = 600  # steps until edits come at full probability

    @property
    def steps(self) -> int:
        """Total number of batches."""
        return self.steps_64 + self.steps_128


def structure_affines(generator: Generator) -> None:
    """Fix every affine: a home channel is ``sqrt(K) * score`` of its category, all others are 1."""
    with torch.no_grad():
        for layer in generator.space.layers:
            affine = generator.synthesis.layer(layer.index).affine
            affine.weight.zero_()
            affine.bias.fill_(1.0)
            channel = 0
            for number, attribute in enumerate(ATTRIBUTES):
                per_category = HOMES.get(layer.name, {}).get(attribute.name, 0)
                size = len(attribute.categories)
                for category in range(size):
                    for _ in range(per_category):
                        column = w_block(number).start + category
                        affine.weight[channel, column] = math.sqrt(size) / affine.weight_gain
                        affine.bias[channel] = 0.0
                        channel += 1


def sample_scores(labels: Tensor, num_ws: int, edit_probability: float, rng: torch.Generator) -> Tensor:
    """w_plus [n, num_ws, W_DIM] whose winning categories are ``labels``.

    Plain attributes: the winner scores 0.7 to 1.1, the rest what truncation would leave them. Edited ones: another
    category keeps its 0.7 to 1.1 and the winner stands 0.15 to 3 above it, jittered by 20 % from row to row.
    """
    n = labels.shape[0]
    w = torch.zeros(n, num_ws, W_DIM)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=rng)

    for number, attribute in enumerate(ATTRIBUTES):
        size = len(attribute.categories)
        winner = F.one_hot(labels[:, number], size).float()
        base = uniform(0.7, 1.1, n, 1)
        leak = (1 - base).clamp(min=0) * torch.rand(n, 1, generator=rng) / size
        score = (winner * base + leak)[:, None, :].expand(n, num_ws, size)
        other = (labels[:, number] + torch.randint(1, size, (n,), generator=rng)) % size
        margin = uniform(0.15, 3.0, n, 1, 1) * uniform(0.8, 1.2, n, num_ws, 1)
        losing = F.one_hot(other, size).float() * base
        pushed = -uniform(0.0, 1.5, n, size) * (torch.rand(n, size, generator=rng) < 0.15) * (1 - winner)
        edited = (losing + pushed)[:, None, :] + winner[:, None, :] * (base[:, :, None] + margin)
        use = torch.rand(n, 1, 1, generator=rng) < edit_probability
        w[:, :, w_block(number)] = torch.where(use, edited, score)
    return w


def weight_map() -> Tensor:
    """[1, 1, r, r]: 1 on large shapes, 4 where beards or glasses draw, up to 8 where expressions do."""
    beards_and_glasses, expressions = _strokes((2, 3)), _strokes((1,))
    return 1 + 3 * torch.maximum(beards_and_glasses, expressions) + 4 * expressions


def _strokes(attributes: tuple[int, ...]) -> Tensor:
    """1 where the categories of these attributes draw differently on a bald head, 0 elsewhere, softened by 2 px."""
    base = np.zeros(len(ATTRIBUTES), dtype=np.int64)
    base[0] = list(ATTRIBUTES[0].categories).index("bald")
    drawings = []
    for number in attributes:
        for category in range(len(ATTRIBUTES[number].categories)):
            label = base.copy()
            label[number] = category
            drawings.append(draw(label))
    moved = torch.from_numpy(np.stack(drawings).astype(np.float32)).std(dim=0).amax(dim=-1)[None, None]
    return F.avg_pool2d((moved > 8).float(), 5, stride=1, padding=2).clamp(max=1)


def reconstruction_loss(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L1, squared error, L1 of the 4x-pooled images, and L1 of horizontal and vertical differences.

    The squared error is what makes thin strokes appear at all: under L1 alone a stroke that most faces lack is best
    left out (the median), and its gradient stays small.
    """
    difference = image - target
    pixel = (weight * (difference.abs() + difference.square())).mean()
    pooled = F.avg_pool2d(difference, 4).abs().mean()
    rows = (weight[:, :, 1:] * (difference[:, :, 1:] - difference[:, :, :-1]).abs()).mean()
    columns = (weight[..., 1:] * (difference[..., 1:] - difference[..., :-1]).abs()).mean()
    return pixel + pooled + rows + columns


def render_at(generator: Generator, w: Tensor, resolution: int) -> Tensor:
    """The image after the toRGB layer of ``resolution``."""
    last = next(x.index for x in generator.space.layers if x.is_torgb and x.resolution == resolution)
    rgb = generator.activations(generator.styles(w), last + 1).rgb
    assert rgb is not None
    return rgb


def validate(generator: Generator, images: np.ndarray, labels: np.ndarray, resolution: int, device: str) -> float:
    """Mean L1 on held-out combinations at plain scores of 1."""
    total = 0.0
    with torch.no_grad():
        for i in range(0, len(images), 50):
            target = from_rgb_arrays(images[i : i + 50]).to(device)
            target = F.avg_pool2d(target, target.shape[-1] // resolution)
            w = torch.zeros(target.shape[0], W_DIM)
            for number in range(len(ATTRIBUTES)):
                size = len(ATTRIBUTES[number].categories)
                w[:, w_block(number)] = F.one_hot(torch.from_numpy(labels[i : i + 50, number]), size).float()
            image = render_at(generator, w[:, None].expand(-1, generator.space.num_ws, -1).to(device), resolution)
            total += float((image - target).abs().mean()) * target.shape[0]
    return total / len(images)


def train(data: Path, out: Path, *, schedule: Schedule, device: str, seed: int) -> None:
    """Train to the end of the schedule, going on from ``out/generator.pt`` if it is there."""
    images = np.load(data / "train_images.npy", mmap_mode="r")
    labels = torch.from_numpy(np.load(data / "train_labels.npy"))
    validation = (np.load(data / "validation_images.npy")[:300], np.load(data / "validation_labels.npy")[:300])
    torch.manual_seed(seed)
    generator = Generator(CONFIG).to(device, memory_format=torch.channels_last)
    structure_affines(generator)
    learned = [p for k, p in generator.synthesis.named_parameters() if "affine" not in k and "noise" not in k]
    for p in generator.parameters():
        p.requires_grad_(False)
    for p in learned:
        p.requires_grad_(True)
    ema = copy.deepcopy(generator)
    convolutions = [p for p in learned if p.ndim == 4 and p.shape[-1] == 3]
    others = [p for p in learned if not (p.ndim == 4 and p.shape[-1] == 3)]
    optimizers = {
        "muon": (Muon(convolutions, lr=schedule.learning_rate), schedule.learning_rate),
        "adam": (
            torch.optim.Adam(others, lr=schedule.other_learning_rate, betas=(0.9, 0.99)),
            schedule.other_learning_rate,
        ),
    }
    rng = torch.Generator().manual_seed(seed)
    weight = weight_map().to(device)
    first = 0
    checkpoint = out / "generator.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        generator.synthesis.load_state_dict(saved["model"])
        ema.synthesis.load_state_dict(saved["ema"])
        for name, (optimizer, _) in optimizers.items():
            optimizer.load_state_dict(saved[name])
        rng.set_state(saved["rng"].cpu())
        first = saved["step"]
    progress = tqdm(range(first, schedule.steps), initial=first, total=schedule.steps, mininterval=5)
    for step in progress:
        resolution = 64 if step < schedule.steps_64 else 128
        done = step / schedule.steps
        cooled = 0.5 + 0.5 * math.cos(math.pi * max(0.0, done - schedule.cool_from) / (1 - schedule.cool_from))
        for optimizer, rate in optimizers.values():
            optimizer.param_groups[0]["lr"] = rate * max(cooled, 0.01)
        pick = torch.randint(0, len(labels), (schedule.batch,), generator=rng).sort().values
        target = from_rgb_arrays(images[pick.numpy()]).to(device)
        edits = schedule.edit_probability * min(1.0, step / schedule.ramp)
        w = sample_scores(labels[pick], generator.space.num_ws, edits, rng).to(device)
        jitter = 1 + 0.1 * torch.randn(schedule.batch, generator.space.num_channels, generator=rng).to(device)
        styles = generator.styles(w)
        for layer in generator.space.layers:
            if layer.name not in HOMES:
                jitter[:, layer.slice] = 1
        last = next(x.index for x in generator.space.layers if x.is_torgb and x.resolution == resolution)
        image = generator.activations(styles * jitter, last + 1).rgb
        assert image is not None
        shrink = target.shape[-1] // resolution
        loss = reconstruction_loss(image, F.avg_pool2d(target, shrink), F.avg_pool2d(weight, shrink))
        for optimizer, _ in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer, _ in optimizers.values():
            optimizer.step()
        since = step - schedule.steps_64 if resolution == 128 else step
        decay = min(schedule.ema, (1 + since) / (10 + since))
        with torch.no_grad():
            for kept, new in zip(ema.parameters(), generator.parameters(), strict=True):
                if new.requires_grad:
                    kept.lerp_(new, 1 - decay)
        if (step + 1) % 100 == 0 or step + 1 == schedule.steps:
            error = validate(ema, *validation, resolution, device)
            progress.write(f"step {step + 1}  loss {float(loss):.4f}  held-out L1 {error:.4f} at {resolution} px")
            state = {
                "model": generator.synthesis.state_dict(),
                "ema": ema.synthesis.state_dict(),
                **{name: optimizer.state_dict() for name, (optimizer, _) in optimizers.items()},
            }
            torch.save({**state, "rng": rng.get_state(), "step": step + 1}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("build/peeps/renders"))
    parser.add_argument("--out", type=Path, default=Path("build/peeps"))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps-64", type=int, default=Schedule.steps_64)
    parser.add_argument("--steps-128", type=int, default=Schedule.steps_128)
    args = parser.parse_args()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    schedule = Schedule(steps_64=args.steps_64, steps_128=args.steps_128)
    train(args.data, args.out, schedule=schedule, device=device, seed=args.seed)


if __name__ == "__main__":
    main()
