"""What channel directions cost: the published loop against ours, where the time goes, and how it grows.

``python -m benchmarks.directions`` prints a table; ``--write`` also writes ``results_directions.md`` and ``.json``
beside this file; ``--large`` adds a 1024-px generator; ``--modes`` runs whole prompt lists through the flows. Two ways
of one thing take turns, so that other load hits both alike: trust ratios before milliseconds. Generators other than the
pack's, and their ViT-B/32, have random weights: the arithmetic is the same.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.bench import CLIP_MEAN, CLIP_SIZE, CLIP_STD, count_flops, cpu_name, measure_gemm, seconds
from benchmarks.screening_study import study_prompts
from examples.peeps.captions import WORDS
from kernels import probe_rows, resize_normalize, unit_vectors
from pipeline.directions.differences import IMAGES_TOGETHER, editable_positions, image_styles, sum_differences
from pipeline.directions.slopes import sum_slopes
from pipeline.directions.statistics import find_statistics
from pipeline.machine.batch_size import choose_batch_size
from pipeline.machine.memory import keep_memory
from pipeline.models.clip import Clip
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.packs.pack import load_pack

RESULTS = Path(__file__).parent
STEP = 5.0
NEIGHBOURS = 8  # channels in a call of the exact rows
CONFIG_F = 16384  # channel_base of StyleGAN2's 256-px generator


@dataclass(frozen=True)
class Subject:
    """A generator, a CLIP and what is moved."""

    name: str
    generator: Generator
    clip: Clip
    std: Tensor
    styles: Tensor

    @property
    def live(self) -> list[int]:
        """Channels that vary."""
        return [p for p in editable_positions(self.generator.space) if self.std[p] > 0]


@dataclass(frozen=True)
class Row:
    """One measurement: milliseconds, and how many times as fast, as many or as large as the row it names."""

    subject: str
    what: str
    ms: float | None
    ratio: float | None
    against: str


def peeps() -> Subject:
    """The embedded pack."""
    pack = load_pack("peeps", device="cpu")
    found = find_statistics(pack)
    assert found is not None
    styles = image_styles(pack.generator, range(IMAGES_TOGETHER), psi=0.7)
    return Subject("peeps 128 px", pack.generator, pack.clip, found.std, styles)


def random_weights(resolution: int, channel_base: int, num_images: int) -> Subject:
    """A generator and a ViT-B/32 of random weights."""
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(resolution, channel_base=channel_base)).eval().requires_grad_(False)
    generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model = open_clip.create_model("ViT-B-32-quickgelu")
    clip = Clip(model, None, image_size=CLIP_SIZE, mean=CLIP_MEAN, std=CLIP_STD)
    styles = image_styles(generator, range(num_images), psi=0.7)
    return Subject(
        f"random {resolution} px, ViT-B/32", generator, clip, torch.ones(generator.space.num_channels), styles
    )


def published_pair(subject: Subject, image: int, position: int) -> Tensor:
    """The published loop's arithmetic for one image and channel: two whole renders, each alone, each embedded alone."""
    ends = []
    for sign in (1, -1):
        moved = subject.styles[image : image + 1].clone()
        moved[0, position] += sign * STEP * subject.std[position]
        pixels = subject.generator.render(moved, plan=DirectPlan(subject.generator.synthesis, impl="ref"))
        clip = subject.clip
        x = resize_normalize(pixels, clip.image_size, mean=clip.mean, std=clip.std, impl="ref")
        ends.append(unit_vectors(clip.model.encode_image(x)))
    return unit_vectors(ends[0] - ends[1])[0]


def exact(subject: Subject, positions: list[int], num_images: int) -> Tensor:
    """Our directions of the same."""
    styles = subject.styles.repeat(-(-num_images // len(subject.styles)), 1)[:num_images]
    size = choose_batch_size(subject.generator)
    return (
        sum_differences(
            subject.generator, subject.clip, styles, positions=positions, std=subject.std, step=STEP, batch_size=size
        )
        .direction()
        .direction
    )


def bench_exact(subject: Subject, repeats: int, *, num_channels: int) -> list[Row]:
    """A channel by the published loop and by ours, over the same images, by turns; and how far the directions are.

    The ratio is that of the totals, which a moment of other load moves less than it moves the mean of ratios. Ours
    takes ``NEIGHBOURS`` channels in one call: a shard has hundreds, and those of a layer share what lies below.
    """
    live = subject.live
    spread = [live[(2 * i + 1) * len(live) // (2 * num_channels) :][:NEIGHBOURS] for i in range(num_channels)]
    n = len(subject.styles)
    exact(subject, spread[0][:1], n)
    loops, ours, error = [], [], 0.0
    for _ in range(repeats):
        for positions in spread:
            found: list[Tensor] = []
            fast = seconds(lambda p=positions, f=found: f.append(exact(subject, p, n)[0])) / len(positions)
            loop: list[Tensor] = []
            first = positions[0]
            slow = seconds(lambda p=first, f=loop: f.extend(published_pair(subject, i, p) for i in range(n)))
            loops.append(slow)
            ours.append(fast)
            error = max(error, float((unit_vectors(torch.stack(loop).mean(dim=0)) - found[0]).abs().max()))
    name = f"exact, a channel of {NEIGHBOURS} neighbours in {n} images"
    return [
        Row(subject.name, name, 1e3 * statistics.mean(ours), sum(loops) / sum(ours), "x the published loop's speed"),
        Row(subject.name, "exact, largest difference to the loop", None, error, "of a unit vector's component"),
    ]


def bench_table(subject: Subject, *, num_images: int, num_sampled: int) -> list[Row]:
    """The table of all editable channels by the published loop and by ours, in seconds, over the same images.

    The published loop renders every editable channel whether it varies or not: its time is the mean over channels
    spread over all of them, varying and constant ones in the shares they have, times their number. Ours runs whole,
    all channels in one call, as a shard does; it passes over channels whose standard deviation is zero. That changes
    nothing in the table: +- 5 x 0 is no move, both renders are the same image, and their difference has no direction.
    """
    editable = editable_positions(subject.generator.space)
    spread = [editable[(2 * i + 1) * len(editable) // (2 * num_sampled)] for i in range(num_sampled)]
    styles = subject.styles[:num_images]
    exact(subject, subject.live[:1], num_images)
    loop, ours = [], []
    for part in (editable[i::2] for i in range(2)):  # by turns, as everywhere here
        ours.append(seconds(lambda p=part: exact(subject, p, num_images)))
        loop.append(seconds(lambda: [published_pair(subject, i, p) for p in spread for i in range(len(styles))]))
    whole = statistics.mean(loop) / num_sampled * len(editable)
    name = f"exact, table of {len(editable)} channels ({len(subject.live)} vary), {num_images} images"
    return [Row(subject.name, name, 1e3 * sum(ours), whole / sum(ours), "x the published loop's speed")]


def fifty_prompts() -> list[dict[str, str]]:
    """Fifty prompts of the pack's own domain: the study's, then other words for the same."""
    rows = [{"name": p.name, "target": p.target, "neutral": p.neutral} for p in study_prompts()]
    others = [(a, c, w[0][1]) for a, words in WORDS.items() for c, w in words.items() if len(w[0]) > 1]
    rows += [{"name": f"{a}:{c}, again", "target": f"a face with {w}", "neutral": "a face"} for a, c, w in others]
    return rows[:50]


def bench_modes() -> list[Row]:
    """Fifty prompts on the pack from an empty run to style directions, through the flow; Prefect already started.

    Channel directions that ship with the pack are left aside; its style statistics are used.
    """
    from prefect.testing.utilities import prefect_test_harness

    from flows.global_directions import global_directions

    rows = []
    prompts = fifty_prompts()
    with prefect_test_harness(server_startup_timeout=180), TemporaryDirectory() as folder:
        global_directions(prompts[:1], run=f"{folder}/warm", device="cpu")
        for mode in ("gradient", "screened"):
            before = os.getloadavg()[0]
            took = seconds(
                lambda m=mode: global_directions(
                    prompts, run=f"{folder}/{m}", mode=m, reuse_directions=False, device="cpu"
                )
            )
            rows.append(Row("peeps 128 px", f"{mode}, 50 prompts, whole flow", 1e3 * took, before, "load before"))
    return rows


def bench_parts(subject: Subject, gemm_gflops: float, repeats: int) -> list[Row]:
    """A render, a CLIP image and a slope's backward pass, in milliseconds an image."""
    n = len(subject.styles)
    images = subject.generator.render(subject.styles)
    subject.clip.encode_images(images)
    render = statistics.median(seconds(lambda: subject.generator.render(subject.styles)) for _ in range(repeats)) / n
    embed = statistics.median(seconds(lambda: subject.clip.encode_images(images)) for _ in range(repeats)) / n
    share = count_flops(subject.generator.space) / render / 1e9 / gemm_gflops
    return [
        Row(subject.name, f"render, batch {n}", 1e3 * render, share, "of the matrix product's rate"),
        Row(subject.name, f"CLIP image, batch {n}", 1e3 * embed, None, ""),
    ]


def slopes_seconds(subject: Subject, num_prompts: int, num_images: int) -> float:
    """Time of the slopes of random texts."""
    width = subject.clip.encode_images(torch.zeros(1, 3, 32, 32)).shape[1]
    texts = unit_vectors(torch.randn(num_prompts, width, generator=torch.Generator().manual_seed(0)))
    probes = probe_rows(texts, num_probes=0)
    styles = subject.styles[:1].repeat(num_images, 1)
    return seconds(
        lambda: sum_slopes(
            subject.generator,
            subject.clip,
            styles,
            std=subject.std,
            probes=probes,
            text_directions=texts,
            batch_size=min(4, num_images),
        )
    )


def bench_growth(subject: Subject) -> list[Row]:
    """Eight times as many channels, images and prompts: how many times the time. One direction each, once."""
    live = subject.live
    spread = [live[(2 * i + 1) * len(live) // 16] for i in range(8)]
    middle = spread[3:4]
    one = seconds(lambda: [exact(subject, [p], 8) for p in spread]) / 8
    channels = seconds(lambda: exact(subject, spread, 8)) / one
    alone = seconds(lambda: exact(subject, middle, 8))
    images = seconds(lambda: exact(subject, middle, 64)) / alone
    few = slopes_seconds(subject, 8, 4)
    prompts = slopes_seconds(subject, 64, 4) / few
    pictures = slopes_seconds(subject, 8, 32) / few
    return [
        Row(subject.name, "exact, 8 x the channels", None, channels, "x the time"),
        Row(subject.name, "exact, 8 x the images", None, images, "x the time"),
        Row(subject.name, "slopes, 8 x the prompts (8 to 64)", None, prompts, "x the time"),
        Row(subject.name, "slopes, 8 x the images", None, pictures, "x the time"),
    ]


def bench_derivatives(subject: Subject) -> list[Row]:
    """A channel's derivative by ``torch.func.jvp`` and its share of a backward pass, against a +- pair."""
    n, position = min(4, len(subject.styles)), subject.live[len(subject.live) // 2]
    styles = subject.styles[:n]
    tangent = torch.zeros_like(styles)
    tangent[:, position] = subject.std[position]

    def embed(x: Tensor) -> Tensor:
        return subject.clip.encode_images(subject.generator.render(x))

    def forward_mode() -> None:
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no forward-mode derivative
            torch.func.jvp(embed, (styles,), (tangent,))

    pair = seconds(lambda: embed(torch.cat([styles + STEP * tangent, styles - STEP * tangent])))
    backward = (slopes_seconds(subject, 9, n) - slopes_seconds(subject, 1, n)) / 8
    rows = [
        Row(
            subject.name,
            "backward pass, all channels along one text",
            1e3 * backward / n,
            pair / backward,
            "x a +- pair's speed",
        )
    ]
    try:
        forward_mode()
    except (NotImplementedError, RuntimeError) as error:
        return [*rows, Row(subject.name, f"jvp: {str(error)[:60]}", None, None, "")]
    jvp = seconds(forward_mode)
    return [*rows, Row(subject.name, "torch.func.jvp, one channel", 1e3 * jvp / n, pair / jvp, "x a +- pair's speed")]


def bench_formats(subject: Subject, repeats: int, *, compiler: bool) -> list[Row]:
    """bfloat16 autocast and torch.compile on this CPU: speed of a render, and what becomes of a direction."""
    rows = []
    styles, position = subject.styles[:4], subject.live[len(subject.live) // 2]
    compiled = torch.compile(lambda x: subject.generator.render(x), dynamic=False)

    def with_autocast() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return subject.generator.render(styles)

    ways: list[tuple[str, Callable[[], Tensor]]] = [("bf16 autocast", with_autocast)]
    if compiler:
        ways.append(("torch.compile", lambda: compiled(styles)))
    for name, way in ways:
        try:
            way()
        except Exception as error:
            rows.append(Row(subject.name, f"{name}: {type(error).__name__}", None, None, "does not run here"))
            continue
        pairs = [(seconds(lambda: subject.generator.render(styles)), seconds(way)) for _ in range(repeats)]
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append(
            Row(
                subject.name,
                f"{name}, render",
                1e3 * statistics.median(b for _, b in pairs) / 4,
                ratio,
                "x float32 eager",
            )
        )
    whole = exact(subject, [position], 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = exact(subject, [position], 4)
    cosine = float(torch.nn.functional.cosine_similarity(whole, rounded.float()).item())
    return [*rows, Row(subject.name, "bf16 autocast, a channel's direction", None, cosine, "cosine to float32")]


def savings() -> list[Row]:
    """Renders of one prompt on the pack, by mode: arithmetic, not a measurement."""
    subject = peeps()
    whole = len(subject.live) * 24 * 2
    return [
        Row(subject.name, "exact: renders of the table", None, float(whole), "renders"),
        Row(subject.name, "screened: renders of a prompt at most", None, float(whole // 100), "renders"),
        Row(subject.name, "gradient: renders of any number of prompts", None, 12.0, "renders, and backward passes"),
    ]


def run_all(*, large: bool, compiler: bool, modes: bool, repeats: int) -> tuple[str, list[Row]]:
    """Every row, and where it was measured."""
    load = os.getloadavg()[0]
    with torch.no_grad():
        gemm = measure_gemm(repeats)
        pack = peeps()
        rows = bench_table(pack, num_images=4, num_sampled=6)
        rows += bench_parts(pack, gemm, repeats) + bench_exact(pack, repeats, num_channels=3)
        rows += (
            bench_derivatives(pack) + bench_formats(pack, repeats, compiler=compiler) + bench_growth(pack) + savings()
        )
        others = [random_weights(256, CONFIG_F, 4)] + ([random_weights(1024, 32768, 1)] if large else [])
        for subject in others:
            rows += bench_parts(subject, gemm, 1) + bench_exact(subject, 1, num_channels=4) + bench_derivatives(subject)
    if modes:
        rows += bench_modes()
    machine = f"{cpu_name()}; torch {torch.__version__}, {torch.get_num_threads()} threads"
    where = f"{machine}, load {load:.1f} before; matrix product {gemm:.0f} GFLOP/s."
    return where, rows


def cells(row: Row) -> tuple[str, str, str, str]:
    """A row as text."""
    ms = "" if row.ms is None else f"{row.ms:.1f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}" if row.ratio < 1000 else f"{row.ratio:.0f}"
    return row.subject, row.what, ms, f"{ratio} {row.against}".strip()


HEADER = ("subject", "what", "ms", "comparison")


def main() -> None:
    """Command line."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also a 1024-px generator")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
    parser.add_argument("--modes", action="store_true", help="also 50 prompts by each mode, whole flows, minutes")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (default 3)")
    parser.add_argument("--write", action="store_true", help="write results_directions.md and .json beside this file")
    args = parser.parse_args()
    where, rows = run_all(large=args.large, compiler=args.compile, modes=args.modes, repeats=args.repeats)
    table = Table(title="Channel directions", caption=where)
    for title in HEADER:
        table.add_column(title)
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)
    if args.write:
        lines = ["# Channel directions", "", where, "", "| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
        lines += ["", "Written by `python -m benchmarks.directions --write`."]
        (RESULTS / "results_directions.md").write_text("\n".join(lines) + "\n")
        (RESULTS / "results_directions.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
