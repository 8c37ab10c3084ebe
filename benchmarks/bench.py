"""Fast path against reference, in one run: whole generators, upfirdn2d, resize.

``python -m benchmarks.bench`` prints a table; ``--write`` also writes ``benchmarks/results.md`` and ``.json``;
``--large`` adds 512 and 1024 px. Fast and reference take turns, so that other load on the machine hits both alike:
trust the ratios before the milliseconds. The machine's own matrix product, measured in the same run, is the yardstick.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from kernels import Impl, binomial_filter, resize_normalize, upfirdn2d
from pipeline.machine.memory import keep_memory
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.style_space import StyleSpace

RESULTS = Path(__file__).parent
GEMM_SIZE = 1024
CLIP_SIZE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # Radford et al. 2021
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class GeneratorCase:
    """A generator and how many images it renders at once."""

    resolution: int
    channel_base: int
    batch: int


# 32768 is StyleGAN2's config-f, 16384 half its width; 4096 keeps the default run short enough for a laptop.
DEFAULT_CASES = (GeneratorCase(64, 16384, 4), GeneratorCase(128, 4096, 4), GeneratorCase(256, 4096, 2))
LARGE_CASES = (GeneratorCase(512, 16384, 1), GeneratorCase(1024, 32768, 1))


@dataclass(frozen=True)
class Result:
    """One row of the table.

    Attributes:
        name: what ran, with its sizes.
        ref_ms: median milliseconds an image, reference.
        fast_ms: median milliseconds an image, fast path.
        ratio: median over repeats of reference time / fast time.
        gflops: billion multiply-adds, counted twice, per second of the fast path; None where that says nothing.
        gemm_share: ``gflops`` over the machine's matrix product.
    """

    name: str
    ref_ms: float
    fast_ms: float
    ratio: float
    gflops: float | None = None
    gemm_share: float | None = None


@dataclass(frozen=True)
class Report:
    """All rows and where they were measured."""

    machine: str
    torch_version: str
    threads: int
    load_before: float
    gemm_gflops: float
    repeats: int
    results: list[Result]


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure_gemm(repeats: int) -> float:
    """GFLOP/s of a square float32 matrix product: the best of the repeats, as a ceiling should be."""
    a, b = torch.randn(2, GEMM_SIZE, GEMM_SIZE).unbind(0)
    torch.mm(a, b)
    best = min(seconds(lambda: torch.mm(a, b)) for _ in range(3 * repeats))
    return 2 * GEMM_SIZE**3 / best / 1e9


def compare(name: str, run: Callable[[Impl], object], *, batch: int, repeats: int) -> Result:
    """Reference and fast path by turns, after one warm-up each."""
    run("ref")
    run("fast")
    times = [(seconds(lambda: run("ref")), seconds(lambda: run("fast"))) for _ in range(repeats)]
    return Result(
        name=name,
        ref_ms=1e3 * statistics.median(ref for ref, _ in times) / batch,
        fast_ms=1e3 * statistics.median(fast for _, fast in times) / batch,
        ratio=statistics.median(ref / fast for ref, fast in times),
    )


def count_flops(space: StyleSpace) -> float:
    """FLOPs of one image's convolutions, two per multiply-add; an upsampling layer works on its smaller input."""
    total = 0
    for layer in space.layers:
        taps = 1 if layer.is_torgb else 9
        side = layer.resolution // 2 if layer.kind == "conv0" else layer.resolution
        total += 2 * taps * layer.num_channels * layer.num_out * side**2
    return float(total)


def bench_generator(case: GeneratorCase, *, gemm_gflops: float, repeats: int) -> Result:
    """Styles to images through every layer: modulated convolutions, skips and activations."""
    generator = Generator(GeneratorConfig(case.resolution, channel_base=case.channel_base, z_dim=64, w_dim=64))
    generator.requires_grad_(False)
    styles = generator.styles(torch.randn(case.batch, 64))
    name = f"generator {case.resolution} px, channel_base {case.channel_base}, batch {case.batch}"
    result = compare(
        name,
        lambda impl: generator.render(styles, plan=DirectPlan(generator.synthesis, impl=impl)),
        batch=case.batch,
        repeats=repeats,
    )
    gflops = count_flops(generator.space) / (result.fast_ms / 1e3) / 1e9
    return Result(name, result.ref_ms, result.fast_ms, result.ratio, gflops, gflops / gemm_gflops)


def bench_upfirdn2d(channels: int, size: int, *, repeats: int) -> list[Result]:
    """The two uses in a generator: doubling an image and low-passing features."""
    x, f = torch.randn(1, channels, size, size), binomial_filter()
    return [
        compare(
            f"upfirdn2d doubling {channels} x {size} px",
            lambda impl: upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1), gain=4.0, impl=impl),
            batch=1,
            repeats=repeats,
        ),
        compare(
            f"upfirdn2d low-pass {channels} x {size} px",
            lambda impl: upfirdn2d(x, f, padding=(1, 1, 1, 1), gain=4.0, impl=impl),
            batch=1,
            repeats=repeats,
        ),
    ]


def bench_resize(size: int, *, batch: int, gradient: bool, repeats: int) -> Result:
    """CLIP's preprocessing of rendered images; with the gradient, as latent optimisation and screening need it."""
    images = (torch.rand(batch, 3, size, size) * 2 - 1).requires_grad_(gradient)

    def run(impl: Impl) -> None:
        with torch.set_grad_enabled(gradient):
            out = resize_normalize(images, CLIP_SIZE, mean=CLIP_MEAN, std=CLIP_STD, impl=impl)
            if gradient:
                torch.autograd.grad(out.sum(), images)

    name = f"resize_normalize {size} to {CLIP_SIZE} px, batch {batch}{', with gradient' if gradient else ''}"
    return compare(name, run, batch=batch, repeats=repeats)


def cpu_name() -> str:
    """The processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def run_all(*, large: bool, repeats: int) -> Report:
    """Every row, in inference without gradients."""
    load_before = os.getloadavg()[0]
    torch.manual_seed(0)
    with torch.no_grad():
        gemm = measure_gemm(repeats)
        cases = DEFAULT_CASES + (LARGE_CASES if large else ())
        results = [bench_generator(case, gemm_gflops=gemm, repeats=repeats) for case in cases]
        results += bench_upfirdn2d(3, 256, repeats=repeats) + bench_upfirdn2d(64, 128, repeats=repeats)
        for size, batch in ((64, 8), (256, 8), (1024, 2)):
            for gradient in (False, True):
                results.append(bench_resize(size, batch=batch, gradient=gradient, repeats=repeats))
    return Report(
        machine=f"{cpu_name()}, {os.cpu_count()} cores",
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        load_before=load_before,
        gemm_gflops=gemm,
        repeats=repeats,
        results=results,
    )


HEADER = ("case", "ref ms/image", "fast ms/image", "ref / fast", "GFLOP/s", "share of GEMM")


def cells(result: Result) -> tuple[str, ...]:
    """A row as text."""
    gflops = "" if result.gflops is None else f"{result.gflops:.0f}"
    share = "" if result.gemm_share is None else f"{result.gemm_share:.0%}"
    return result.name, f"{result.ref_ms:.2f}", f"{result.fast_ms:.2f}", f"{result.ratio:.2f}", gflops, share


def caption(report: Report) -> str:
    """Where and how the numbers were measured."""
    return (
        f"{report.machine}; torch {report.torch_version}, {report.threads} threads, load {report.load_before:.1f} "
        f"before; matrix product {report.gemm_gflops:.0f} GFLOP/s; median of {report.repeats} repeats, float32."
    )


def to_rich(report: Report) -> Table:
    """The report as a terminal table."""
    table = Table(title="Fast path against reference", caption=caption(report))
    for i, title in enumerate(HEADER):
        table.add_column(title, justify="left" if i == 0 else "right")
    for result in report.results:
        table.add_row(*cells(result))
    return table


def to_markdown(report: Report) -> str:
    """The report as a Markdown page."""
    lines = ["# Benchmark", "", caption(report), "", "| " + " | ".join(HEADER) + " |"]
    lines.append("|" + " --- |" + " ---: |" * (len(HEADER) - 1))
    lines += ["| " + " | ".join(cells(result)) + " |" for result in report.results]
    lines += ["", "Written by `python -m benchmarks.bench --write`."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also 512 and 1024 px")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each path (default 5)")
    parser.add_argument("--write", action="store_true", help="write results.md and results.json beside this file")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f"--repeats must be at least 1; got {args.repeats}")
    report = run_all(large=args.large, repeats=args.repeats)
    Console().print(to_rich(report))
    if args.write:
        (RESULTS / "results.md").write_text(to_markdown(report))
        (RESULTS / "results.json").write_text(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
