"""How many renders go through generator and CLIP at a time: from the memory at hand, unless the user says."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch

from pipeline.config import Precision
from pipeline.machine.plans import prepared_plan
from pipeline.models.stylegan2 import Generator

log = logging.getLogger(__name__)
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

CPU_BATCH = 16  # above this a CPU's caches overflow and a render gets slower (benchmarks/bench.py, "batch")
CUDA_BATCH = 512
MEMORY_SHARE = 0.25  # of what is free; the rest is for other workers, CLIP and the allocator's slack
LIVE_COPIES = 6  # copies of the largest feature map alive at once: input, scaled, convolved, filtered, shifted, RGB
BYTES = 4
CARD_SHARE = 0.5  # of a GPU's memory that a measured batch may hold; the rest is CLIP's and the allocator's
WORTH = 1.05  # a doubled batch must render this much faster, or the smaller one is taken
_sizes: WeakKeyDictionary[Generator, dict[tuple[bool, Precision], int]] = WeakKeyDictionary()
_measuring = Lock()


class Cost(NamedTuple):
    """What a trial of a batch took."""

    seconds: float
    num_bytes: int


class Batches:
    """Work in batches of a size that halves whenever the device's memory does not hold one.

    Attributes:
        size: items at a time from now on.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, run: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT]) -> list[ResultT]:
        """``run`` on the items, as many at a time as ``size`` says; results in order.

        Raises:
            torch.OutOfMemoryError: if a single item does not fit.
        """
        done: list[ResultT] = []
        while len(done) < len(items):
            part = items[len(done) : len(done) + self.size]
            found = self._try(run, part)
            if found is None:
                self.size = max(1, len(part) // 2)
                torch.cuda.empty_cache()  # does nothing where CUDA is not in use
                log.warning("out of memory with %d at a time; going on with %d", len(part), self.size)
            else:
                done += found
        return done

    def _try(
        self, run: Callable[[Sequence[ItemT]], Sequence[ResultT]], part: Sequence[ItemT]
    ) -> Sequence[ResultT] | None:
        try:
            return run(part)
        except torch.OutOfMemoryError:
            if len(part) < 2:
                raise
        return None  # outside of the handler, whose traceback would keep the tensors alive


def grown_batch_size(trial: Callable[[int], Cost], *, budget: int, most: int) -> int:
    """The smallest power of two that renders about as fast as any larger one, within a budget of memory.

    Sizes are doubled while a trial gains more than ``WORTH`` and the next, at twice the memory, would still fit.

    Args:
        trial: one batch of a size; may run out of memory.
        budget: bytes that a batch may hold.
        most: largest size.
    Raises:
        torch.OutOfMemoryError: if not even one fits.
    """
    size = chosen = 1
    cost, rate = trial(1), 0.0
    while True:
        if size / cost.seconds < WORTH * rate or (size > 1 and cost.num_bytes > budget):
            return chosen
        chosen, rate = size, size / cost.seconds
        size *= 2
        if size > most or 2 * cost.num_bytes > budget:
            return chosen
        try:
            cost = trial(size)
        except torch.OutOfMemoryError:
            return chosen


def render_bytes(generator: Generator, *, gradient: bool = False) -> int:
    """About how many bytes one render holds at its peak; with the gradient, every layer's maps are kept."""
    sizes = [layer.num_out * layer.resolution**2 for layer in generator.space.layers]
    below = [layer.num_channels * layer.resolution**2 for layer in generator.space.layers]
    largest = max(a + b for a, b in zip(sizes, below, strict=True))
    kept = 4 * (sum(sizes) + sum(below)) if gradient else 0
    return BYTES * (LIVE_COPIES * largest + kept)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on a device; for a CPU what the system, and the container if it says, leaves.

    Sources: Linux ``/proc/meminfo`` and cgroup v2 ``memory.max`` and ``memory.current``; elsewhere half of 4 GiB.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [2 * 2**30] if not hasattr(os, "sysconf") else []
    try:
        with open("/proc/meminfo", encoding="ascii") as info:
            found += [int(line.split()[1]) * 1024 for line in info if line.startswith("MemAvailable")]
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:
            bound = limit.read().strip()
        if bound != "max":
            with open("/sys/fs/cgroup/memory.current", encoding="ascii") as used:
                found.append(max(0, int(bound) - int(used.read())))
    except (OSError, ValueError):
        pass
    return min(found, default=2 * 2**30)


def choose_batch_size(
    generator: Generator,
    requested: int | None = None,
    *,
    gradient: bool = False,
    precision: Precision = "full",
) -> int:
    """Renders at a time: the user's number, else what the device does best with.

    On a CPU the largest power of two that fits a quarter of the free memory, and at most 16, where its caches end.
    Without gradients it works at a batch on each of torch's threads (``pipeline/machine/cores.py``), and each gets its
    part of the memory. Powers of two keep the number the same while the free memory moves a little. On a GPU the size
    is measured once per generator: ``grown_batch_size`` within half of the card's memory, at most 512. The choice is
    logged. It changes results by float rounding only.

    Args:
        generator: says how large a render is, and where it runs.
        requested: the user's number; None chooses.
        gradient: whether the activations are kept for a backward pass.
        precision: of the renders.
    """
    device = generator.mapping.w_avg.device
    if requested is not None:
        log.info("batch size %d, as asked for", requested)
        return requested
    if device.type == "cuda":
        return _measured(generator, gradient=gradient, precision=precision)
    free, each = free_bytes(device), render_bytes(generator, gradient=gradient)
    batches = torch.get_num_threads() if not gradient else 1
    fits = max(1, int(free * MEMORY_SHARE) // (each * batches))
    chosen = min(CPU_BATCH, 1 << (fits.bit_length() - 1))
    log.info("batch size %d: %.1f GiB free on %s, %.0f MiB a render", chosen, free / 2**30, device, each / 2**20)
    return chosen


def _measured(generator: Generator, *, gradient: bool, precision: Precision) -> int:
    """The size for a GPU, found by trial the first time; two shards do not measure side by side."""
    with _measuring:
        sizes = _sizes.setdefault(generator, {})
        key = (gradient, precision)
        if key not in sizes:
            device = generator.mapping.w_avg.device
            free, whole = torch.cuda.mem_get_info(device)
            budget = min(free, int(whole * CARD_SHARE))
            trial = partial(_trial, generator, gradient=gradient, precision=precision)
            sizes[key] = grown_batch_size(trial, budget=budget, most=CUDA_BATCH)
            log.info("batch size %d on %s: measured, within %.1f GiB", sizes[key], device, budget / 2**30)
        return sizes[key]


def _trial(generator: Generator, size: int, *, gradient: bool, precision: Precision) -> Cost:
    """Time and memory of a batch, layer by layer: compiled it holds less, and compiling every size takes minutes."""
    plan = prepared_plan(generator, precision).uncompiled()
    styles = torch.ones(size, generator.space.num_channels, device=plan.const.device, requires_grad=gradient)
    cost = Cost(0.0, 0)
    for _ in range(2):  # the first warms up
        torch.cuda.synchronize(styles.device)
        torch.cuda.reset_peak_memory_stats(styles.device)
        before, start = torch.cuda.memory_allocated(styles.device), time.perf_counter()
        with torch.set_grad_enabled(gradient):
            images = generator.render(styles, plan=plan)
            if gradient:
                torch.autograd.grad(images.sum(), styles)
        torch.cuda.synchronize(styles.device)
        cost = Cost(time.perf_counter() - start, torch.cuda.max_memory_allocated(styles.device) - before)
    return cost
