"""The GPU path against the old one and against the card: one call under six minutes.

``python -m benchmarks.bench_gpu`` (``make bench-gpu``) measures the card's own rates, then rendering, channel
directions, slopes, optimisation, mappers and dataset writing with random weights of the published sizes, each by the
old path (the modules layer by layer, strict float32 unless a row says otherwise) and the new one in the same run. It
prints as it goes, catches what fails, ends by a limit of its own and writes ``results_gpu_<card>.json`` beside this
file. It needs neither prefect nor any weights. ``--smoke`` runs every row with tiny sizes on whatever there is, to show
that they run; its numbers mean nothing.
"""

import argparse
import contextlib
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import open_clip
import torch
from torch import Tensor

import storage
from benchmarks.gpu_card import Report, Row, copy_rate, product_rate, render_bytes, render_flops, seconds
from kernels import DirectionSums, probe_rows, unit_vectors
from pipeline.config import DatasetConfig, MappersConfig, OptimizedLatentsConfig, Precision
from pipeline.directions.differences import IMAGES_TOGETHER, sum_differences
from pipeline.directions.slopes import sum_slopes
from pipeline.machine.batch_size import choose_batch_size
from pipeline.machine.beside import finish_beside
from pipeline.machine.plans import prepared_plan, synthesis_plan
from pipeline.machine.precision import held_precision
from pipeline.models.clip import Clip
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.models.synthesis_plan import DirectPlan, SynthesisPlan
from pipeline.optimization.edit_loss import EditLoss, EditWeights, TextTarget
from pipeline.optimization.latents import Pair, optimize
from pipeline.optimization.mappers import Task, train_mappers
from pipeline.pixels import to_rgb_arrays
from pipeline.rows import artifact_table
from pipeline.schemas import DATASET
from pipeline.stages import dataset
from storage import Store

RESULTS = Path(__file__).parent
LIMIT = 340.0  # seconds
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # Radford 2021
PLAN_USERS = (
    "pipeline.directions.differences",
    "pipeline.directions.slopes",
    "pipeline.optimization.latents",
    "pipeline.optimization.mappers",
    "pipeline.stages.dataset",
)
CLIP_USERS = ("pipeline.directions.slopes",)


CONFIG_F = GeneratorConfig(1024, conv_clamp=256.0)
CONFIG_256 = GeneratorConfig(256, channel_base=16384, conv_clamp=256.0)


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the smoke run's is tiny."""

    large: GeneratorConfig = CONFIG_F
    small: GeneratorConfig = CONFIG_256
    clip: str | dict[str, object] = "ViT-B-32-quickgelu"
    batch: int = 32
    small_batch: int = 128
    channels: int = 16  # of every layer, of which exact directions are timed
    compared: int = 4  # of these, in which half and full directions are compared
    directions_batch: int = 256
    prompts: int = 20
    slope_images: int = 12
    pairs: int = 16
    steps: int = 24
    old_steps: int = 4
    mapper_prompts: int = 8
    images: int = 2048
    product: int = 8192
    copied: int = 2**31


TINY_CLIP: dict[str, object] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}
TINY = GeneratorConfig(32, channel_base=256, channel_max=16, z_dim=16, w_dim=16, mapping_layers=2, conv_clamp=256.0)
SMOKE = Sizes(
    large=TINY,
    small=replace(TINY, resolution=16),
    clip=TINY_CLIP,
    batch=4,
    small_batch=8,
    channels=2,
    compared=2,
    directions_batch=32,
    prompts=2,
    slope_images=3,
    pairs=2,
    steps=4,
    old_steps=2,
    mapper_prompts=2,
    images=24,
    product=64,
    copied=2**16,
)


@contextlib.contextmanager
def with_cudnn() -> Iterator[None]:
    """As the old path ran: by cuDNN's float32 convolutions, which full precision does without by now."""
    before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, True
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


class Bench:
    """Networks with random weights and the rows that are measured with them."""

    def __init__(self, sizes: Sizes, report: Report) -> None:
        self.sizes, self.report, self.device = sizes, report, report.device
        self.on_card = self.device.type == "cuda"
        torch.manual_seed(0)
        self.large, self.small = self.network(sizes.large), self.network(sizes.small)
        self.clip = self.make_clip()
        self.flops, self.bytes = math.nan, math.nan  # the card's rates
        self.std = torch.full((self.large.space.num_channels,), 0.3)

    def network(self, config: GeneratorConfig) -> Generator:
        """A generator whose activations stay of order 1, as trained ones' do."""
        generator = Generator(config).requires_grad_(False).to(self.device)
        return generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def make_clip(self) -> Clip:
        """CLIP of the named size without weights to load."""
        named = isinstance(self.sizes.clip, str)
        model = open_clip.create_model(self.sizes.clip) if named else open_clip.CLIP(**self.sizes.clip)  # type: ignore[arg-type]
        size = model.visual.image_size
        size = size if isinstance(size, int) else size[0]
        return Clip(model.to(self.device), None, image_size=size, mean=CLIP_MEAN, std=CLIP_STD)

    def plan(self, generator: Generator, precision: Precision) -> SynthesisPlan:
        """The product's plan; where it would be refused, on a CPU, its layers one by one."""
        if self.on_card:
            return synthesis_plan(generator, precision)
        return prepared_plan(generator, precision).uncompiled()

    def styles(self, generator: Generator, n: int) -> Tensor:
        """Style vectors of random latents."""
        rng = torch.Generator().manual_seed(n)
        with torch.no_grad():
            return generator.styles(torch.randn(n, generator.config.w_dim, generator=rng).to(self.device))

    @contextlib.contextmanager
    def path(self, precision: Precision | None) -> Iterator[Precision]:
        """The product in a precision, or by the old path (None); yields what to ask its functions for."""
        asked: Precision = (precision or "full") if self.on_card else "full"
        with held_precision(asked, self.device), contextlib.ExitStack() as patches:
            if precision is None:
                patches.enter_context(with_cudnn())
            if precision is None or not self.on_card:
                for user in PLAN_USERS:
                    patches.enter_context(mock.patch(f"{user}.synthesis_plan", partial(self._plan, precision)))
                for user in CLIP_USERS:
                    patches.enter_context(mock.patch(f"{user}.clip_for", partial(self._clip, precision)))
            yield asked

    def _plan(
        self, precision: Precision | None, generator: Generator, asked: Precision = "full", *, winograd: bool = False
    ) -> SynthesisPlan:
        return DirectPlan(generator.synthesis) if precision is None else self.plan(generator, precision)

    def _clip(self, precision: Precision | None, clip: Clip, asked: Precision) -> Clip:
        return clip.in_half(torch.float16 if self.on_card else torch.bfloat16) if precision == "half" else clip

    # ------------------------------------------------------------------ the card

    def card(self) -> list[Row]:
        """The rates that every floor is counted in."""
        half = torch.float16 if self.on_card else torch.float32
        self.flops = product_rate(self.device, half, size=self.sizes.product)
        self.bytes = copy_rate(self.device, num_bytes=self.sizes.copied)
        return [
            Row("matrix product, half precision", "TFLOP/s", self.flops / 1e12),
            Row("copy, read and written", "TB/s", self.bytes / 1e12),
        ]

    def floor_rate(self, generator: Generator) -> float:
        """Images/s that counted FLOP and bytes allow."""
        compute = render_flops(generator.space) / self.flops
        return 1 / max(compute, render_bytes(generator.space, element=2) / self.bytes)

    # ------------------------------------------------------------------ rendering

    def rate(self, generator: Generator, plan: SynthesisPlan, batch: int, *, repeats: int = 5) -> float:
        """Images/s."""
        styles = self.styles(generator, batch)
        with torch.no_grad():
            return batch / seconds(lambda: generator.render(styles, plan=plan), self.device, repeats=repeats)

    def render(self, generator: Generator, batch: int, *, goal: float, times: float | None) -> list[Row]:
        """Rendering in every precision, with its error against strict float32."""
        rows, styles = [], self.styles(generator, batch)
        name = f"rendering, {generator.space.resolution} px, batch {batch}"
        half_layers = Generator(replace(generator.config, num_fp16_res=9)).to(self.device)
        half_layers.load_state_dict(generator.state_dict())
        half_layers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        direct = DirectPlan(generator.synthesis)
        with held_precision("full", self.device), torch.no_grad():
            with with_cudnn():
                strict = self.rate(generator, direct, batch, repeats=3)
            wanted = generator.render(styles[:8], plan=direct)
        with held_precision("half" if self.on_card else "full", self.device):
            old_half = self.rate(half_layers.requires_grad_(False), DirectPlan(half_layers.synthesis), batch, repeats=3)
        del half_layers
        scale = 127.5 * 0.5 / float(wanted.std())  # as if a pixel's deviation were half of the range, as in photographs
        precisions: tuple[Precision, ...] = ("full", "tf32", "half")
        for precision in precisions:
            with held_precision(precision if self.on_card else "full", self.device), torch.no_grad():
                plan = self.plan(generator, precision)
                rate = self.rate(generator, plan, batch)
                error = (generator.render(styles, plan=plan)[:8] - wanted).abs() * scale
            old = old_half if precision == "half" else strict
            goals = f">= {goal:g} images/s" + (f" and {times:g}x the old path" if times else "") + ", error <= 1 level"
            fast = rate >= goal and rate >= (times or 0) * old_half and float(error.mean()) <= 1
            notes = {"mean error, levels": f"{float(error.mean()):.3g}", "largest": f"{float(error.max()):.3g}"}
            judged = {"goal": goals, "reached": fast} if precision == "half" else {}
            floor = self.floor_rate(generator)
            rows.append(Row(f"{name}, {precision}", "images/s", rate, old, floor, notes=dict(notes), **judged))
        return rows

    def small_batches(self) -> list[Row]:
        """One image and eight, where starting a layer takes longer than the layer."""
        rows = []
        with held_precision("half" if self.on_card else "full", self.device):
            for n in (1, 8):
                old = self.rate(self.large, DirectPlan(self.large.synthesis), n)
                new = self.rate(self.large, self.plan(self.large, "half"), n)
                rows.append(Row(f"rendering, {self.large.space.resolution} px, batch {n}, half", "images/s", new, old))
        return rows

    def gradients(self) -> Row:
        """Forward and backward to the styles."""
        styles = self.styles(self.large, self.sizes.pairs)

        def run(plan: SynthesisPlan) -> None:
            leaf = styles.clone().requires_grad_()
            torch.autograd.grad(self.large.render(leaf, plan=plan).square().mean(), leaf)

        with held_precision("full", self.device), with_cudnn():
            old = seconds(lambda: run(DirectPlan(self.large.synthesis)), self.device, repeats=2, warm_ups=1)
        with held_precision("half" if self.on_card else "full", self.device):
            new = seconds(lambda: run(self.plan(self.large, "half")), self.device)
        n = self.sizes.pairs
        return Row(f"forward and backward, batch {n}, half", "ms an image", 1e3 * new / n, 1e3 * old / n)

    def embedding(self) -> Row:
        """CLIP's image tower, resizing included."""
        images = torch.rand(64, 3, self.clip.image_size, self.clip.image_size, device=self.device) * 2 - 1
        with torch.no_grad(), held_precision("full", self.device), with_cudnn():
            old = seconds(lambda: self.clip.encode_images(images), self.device)
            want = self.clip.encode_images(images)
        with torch.no_grad(), held_precision("half" if self.on_card else "full", self.device):
            half = self._clip("half", self.clip, "half")
            new = seconds(lambda: half.encode_images(images), self.device)
            least = float((half.encode_images(images) * want).sum(dim=1).min())
        return Row("CLIP, batch 64, half", "ms an image", 1e3 * new / 64, 1e3 * old / 64, notes={"least cosine": least})

    def batch_size(self) -> list[Row]:
        """What is chosen where the user says nothing."""
        rows = []
        for gradient in (False, True):
            chosen = choose_batch_size(self.large, gradient=gradient, precision="half" if self.on_card else "full")
            kind = "with gradients" if gradient else "without gradients"
            rows.append(Row(f"batch size chosen, {kind}", "images", chosen))
        return rows

    # ------------------------------------------------------------------ directions

    def directions(self) -> list[Row]:
        """The exact table from some channels of every layer, and its agreement with full precision's."""
        space, n = self.large.space, IMAGES_TOGETHER
        styles = self.styles(self.large, n)

        def run(positions: list[int], precision: Precision | None) -> DirectionSums:
            with self.path(precision) as asked:
                return sum_differences(
                    self.large,
                    self.clip,
                    styles,
                    positions=positions,
                    std=self.std,
                    step=5.0,
                    batch_size=self.sizes.directions_batch if precision else 2 * n,
                    precision=asked,
                )

        total, found, compared = 0.0, [], []
        for layer in space.editable:  # a layer costs what is above it
            positions = list(range(layer.offset, layer.offset + min(self.sizes.channels, layer.num_channels)))
            found.append(run(positions, "half").direction().direction[: self.sizes.compared])  # and compiles
            once = seconds(partial(run, positions, "half"), self.device, repeats=1, warm_ups=0)
            total += once / len(positions) * layer.num_channels
            compared += positions[: self.sizes.compared]
        num_channels = sum(x.num_channels for x in space.editable)
        minutes = total / n * 100 / 60
        strict: list[DirectionSums] = []
        old = seconds(lambda: strict.append(run(compared, None)), self.device, repeats=1, warm_ups=0)
        old *= num_channels / len(compared) / n * 100 / 60
        half, full = torch.cat(found), strict[0].direction().direction
        cosine = float((half * full).sum(dim=1).min())
        texts = unit_vectors(torch.randn(20, half.shape[1], generator=torch.Generator().manual_seed(1)))
        top = min(20, len(compared) // 2)
        kept = [
            set((x @ texts.T).abs().topk(top, dim=0).indices.T[i].tolist()) for x in (half, full) for i in range(20)
        ]
        same = sum(a == b for a, b in zip(kept[:20], kept[20:], strict=True))
        goal = "<= 25 minutes, directions within 1e-3, the same top 20 channels of 20 texts"
        return [
            Row(
                f"exact table, {num_channels} channels x 100 images, half",
                "minutes",
                minutes,
                old,
                goal=goal,
                reached=minutes <= 25 and cosine >= 1 - 1e-3 and same == 20,
                notes={
                    "least cosine": f"{cosine:.6f}",
                    "texts with the same channels": f"{same} of 20",
                    "timed": f"{self.sizes.channels} channels a layer x {n} images",
                    "compared": f"{len(compared)} channels; of random weights",
                },
            )
        ]

    def slopes(self) -> Row:
        """Slopes of a prompt list."""
        styles = self.styles(self.large, self.sizes.slope_images)
        width = int(self.clip.model.visual.output_dim)
        texts = unit_vectors(torch.randn(self.sizes.prompts, width, generator=torch.Generator().manual_seed(0)))
        probes = probe_rows(texts, num_probes=16)

        def run(precision: Precision | None) -> None:
            with self.path(precision) as asked:
                sum_slopes(
                    self.large,
                    self.clip,
                    styles,
                    std=self.std,
                    probes=probes,
                    text_directions=texts,
                    batch_size=len(styles) if precision else 4,
                    precision=asked,
                )

        new = seconds(lambda: run("half"), self.device, repeats=1, warm_ups=1)
        old = seconds(lambda: run(None), self.device, repeats=1, warm_ups=0)
        name = f"slopes, {self.sizes.prompts} prompts x {self.sizes.slope_images} images, half"
        return Row(name, "s", new, old, goal="<= 1.5 s", reached=new <= 1.5)

    # ------------------------------------------------------------------ optimisation and mappers

    def judge(self, precision: Precision | None) -> EditLoss:
        """The loss of random texts."""
        return EditLoss(self._clip(precision, self.clip, "full"), None)

    def texts(self, count: int) -> list[TextTarget]:
        """Random unit vectors in CLIP's space."""
        width = int(self.clip.model.visual.output_dim)
        found = unit_vectors(torch.randn(2 * count, width, generator=torch.Generator().manual_seed(2))).to(self.device)
        return [
            TextTarget(a, b, EditWeights(1.0, 0.0, 0.008)) for a, b in zip(found[:count], found[count:], strict=True)
        ]

    def w_plus(self, n: int) -> Tensor:
        """Random latents."""
        w = torch.randn(n, self.large.config.w_dim, generator=torch.Generator().manual_seed(3))
        return w[:, None].repeat(1, self.large.space.num_ws, 1).to(self.device)

    def per_step(self, run: Callable[[int], object], *, steps: int) -> float:
        """Seconds of a step: what twice as many take more, so that preparing, embedding and validating are left out."""
        run(steps)  # compiles
        short, long = (seconds(partial(run, n), self.device, repeats=1, warm_ups=0) for n in (steps, 2 * steps))
        return (long - short) / steps

    def optimisation(self) -> Row:
        """Steps of a full batch of pairs, scaled to 64 pairs x 300 steps."""
        texts = self.texts(self.sizes.pairs)
        pairs = [
            Pair(f"l{i}", "p", w, text) for i, (w, text) in enumerate(zip(self.w_plus(len(texts)), texts, strict=True))
        ]

        def run(precision: Precision | None, num_steps: int) -> None:
            with self.path(precision) as asked:
                settings = {"num_steps": num_steps, "batch_size": len(pairs), "image_interval": 0, "patience": 0}
                optimize(self.large, self.judge(precision), pairs, OptimizedLatentsConfig(**settings, precision=asked))

        work = 64 * 300 / len(pairs)
        new = self.per_step(partial(run, "half"), steps=self.sizes.steps) * work
        old = self.per_step(partial(run, None), steps=self.sizes.old_steps) * work
        return Row("optimisation, 64 pairs x 300 steps, half", "s", new, old, goal="<= 90 s", reached=new <= 90)

    def mappers(self) -> Row:
        """Updates of some mappers on two latents each, scaled to 50,000 image-steps."""
        tasks = [Task(f"p{i}", text) for i, text in enumerate(self.texts(self.sizes.mapper_prompts))]
        latents = self.w_plus(8)

        def run(precision: Precision | None, num_steps: int) -> None:
            with self.path(precision) as asked:
                config = MappersConfig(num_steps=num_steps, validation_interval=num_steps, precision=asked)
                train_mappers(self.large, self.judge(precision), tasks, latents, config)

        work = 50_000 / (2 * len(tasks)) / 60
        new = self.per_step(partial(run, "half"), steps=self.sizes.steps) * work
        old = self.per_step(partial(run, None), steps=self.sizes.old_steps) * work
        name = f"mappers, 50,000 image-steps, {len(tasks)} together, half"
        return Row(name, "minutes", new, old, goal="<= 4 minutes", reached=new <= 4)

    # ------------------------------------------------------------------ dataset

    def dataset(self) -> Row:
        """Rendering, encoding and writing of a dataset, against the slower of rendering and encoding alone."""
        n, batch = self.sizes.images, self.sizes.small_batch
        styles = self.styles(self.small, n)
        labels = [(f"latent-{i}", None, 0.0) for i in range(n)]

        def run(precision: Precision | None, store: Store) -> None:
            with self.path(precision) as asked:
                config = DatasetConfig(batch_size=batch, precision=asked)
                parts = zip(styles.split(batch), (labels[i : i + batch] for i in range(0, n, batch)), strict=True)
                batches = (dataset._Batch(*part) for part in parts)
                if precision is None:
                    found = (dataset._render(self.small, config, part) for part in batches)
                else:
                    found = dataset.render_beside(self.small, config, batches)
                rows = [row for part in found for row in part]
                store.write_bytes("part.parquet", storage.table_bytes(artifact_table(DATASET, rows)))

        with held_precision("half" if self.on_card else "full", self.device), torch.no_grad():
            plan = self.plan(self.small, "half")
            render = self.rate(self.small, plan, batch)
            images = to_rgb_arrays(self.small.render(styles[:batch], plan=plan))
        threads = max(1, (os.cpu_count() or 1) - 1)
        work = list(images) * max(1, 256 // len(images))
        encode = len(work) / seconds(
            lambda: list(finish_beside(storage.encode_png, work, threads=threads, ahead=2 * threads)),
            self.device,
            repeats=1,
            warm_ups=0,
        )
        with tempfile.TemporaryDirectory() as folder:
            store = Store(folder)
            new, old = (
                n / seconds(lambda x=x: run(x, store), self.device, repeats=1, warm_ups=0) for x in ("half", None)
            )
        slower = min(render, encode)
        return Row(
            f"dataset, {n} images of {self.small.space.resolution} px, half",
            "images/s",
            new,
            old,
            slower,
            goal=">= 60 % of the slower of rendering and encoding",
            reached=new >= 0.6 * slower,
            notes={"render images/s": round(render), "encode images/s": round(encode), "threads": threads},
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to show that every row runs; writes nothing")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds in all (default {LIMIT:.0f})")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these: card large slopes ... (default all)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    args = parser.parse_args()
    if not args.smoke and not torch.cuda.is_available():
        parser.error("the GPU path is measured on a GPU; there is none here. --smoke shows on a CPU that it runs.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = re.sub(r"\W+", "_", torch.cuda.get_device_name(device)).lower() if device.type == "cuda" else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(device, seconds=args.limit, path=None if args.smoke else args.out / f"results_gpu_{card}.json")
    bench = Bench(SMOKE if args.smoke else Sizes(), report)
    sizes = bench.sizes
    works: dict[str, tuple[Callable[[], Row | list[Row]], float]] = {  # and the seconds that they need
        "card": (bench.card, 5),
        "large": (lambda: bench.render(bench.large, sizes.batch, goal=1200, times=7), 60),
        "small": (lambda: bench.render(bench.small, sizes.small_batch, goal=5000, times=None), 40),
        "gradients": (bench.gradients, 40),
        "slopes": (bench.slopes, 20),
        "optimisation": (bench.optimisation, 20),
        "mappers": (bench.mappers, 30),
        "clip": (bench.embedding, 5),
        "dataset": (bench.dataset, 20),
        "directions": (bench.directions, 60),
        "small-batches": (bench.small_batches, 30),
        "batch-size": (bench.batch_size, 15),
    }
    unknown = set(args.rows or ()) - set(works)
    if unknown:
        parser.error(f"--rows must be of {', '.join(works)}; got {', '.join(sorted(unknown))}.")
    for name in args.rows or works:
        work, needs = works[name]
        report.add(name, work, needs=0.0 if args.smoke else needs)
    print(f"{len(report.rows)} rows, {len(report.failed)} failed, {len(report.left_out)} left out", flush=True)
    for name, trace in report.failed.items():
        print(f"--- {name}\n{trace}", flush=True)
    if report.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
