"""How many renders go through generator and CLIP at a time: from the memory at hand, unless the user says."""

import logging
import os

import torch

from pipeline.models.stylegan2 import Generator

log = logging.getLogger(__name__)

CPU_BATCH = 16  # above this a CPU's caches overflow and a render gets slower (benchmarks/bench.py, "batch")
CUDA_BATCH = 512
MEMORY_SHARE = 0.25  # of what is free; the rest is for other workers, CLIP and the allocator's slack
LIVE_COPIES = 6  # copies of the largest feature map alive at once: input, scaled, convolved, filtered, shifted, RGB
BYTES = 4


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


def choose_batch_size(generator: Generator, requested: int | None = None, *, gradient: bool = False) -> int:
    """Renders at a time: the user's number, else the largest power of two that fits a quarter of the free memory.

    A CPU stops at 16, where its caches end, a GPU at 512. Without gradients a CPU works at a batch on each of torch's
    threads (``pipeline/machine/cores.py``), and each gets its part of the memory. Powers of two keep the number the
    same while the free memory moves a little. The choice is logged. It changes results by float rounding only.

    Args:
        generator: says how large a render is, and where it runs.
        requested: the user's number; None chooses.
        gradient: whether the activations are kept for a backward pass.
    """
    device = generator.mapping.w_avg.device
    if requested is not None:
        log.info("batch size %d, as asked for", requested)
        return requested
    most = CPU_BATCH if device.type == "cpu" else CUDA_BATCH
    free, each = free_bytes(device), render_bytes(generator, gradient=gradient)
    batches = torch.get_num_threads() if device.type == "cpu" and not gradient else 1
    fits = max(1, int(free * MEMORY_SHARE) // (each * batches))
    chosen = min(most, 1 << (fits.bit_length() - 1))
    log.info("batch size %d: %.1f GiB free on %s, %.0f MiB a render", chosen, free / 2**30, device, each / 2**20)
    return chosen
