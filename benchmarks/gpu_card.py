"""What a card can do at best, what work needs at least, and a report that grows as rows come in."""

import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from pipeline.style_space import StyleSpace


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        work: what was done, with its sizes.
        unit: of the numbers.
        measured: by the new path.
        old: by the old path in the same run; None where there is none.
        floor: what counted work over the card's own measured rates allows; None where it is not counted.
        goal: what it is judged by, as text.
        reached: whether the goal is; None where there is none.
        notes: errors, sizes, whatever else was seen.
    """

    work: str
    unit: str
    measured: float
    old: float | None = None
    floor: float | None = None
    goal: str = ""
    reached: bool | None = None
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The row as text; a share of the floor is 1 where the card does no more than it must."""
        parts = [f"{self.work}: {self.measured:.4g} {self.unit}"]
        if self.old is not None:
            parts.append(f"old {self.old:.4g}")
        if self.floor is not None:
            share = self.measured / self.floor if self.unit.endswith("/s") else self.floor / self.measured
            parts.append(f"floor {self.floor:.4g} (share {share:.0%})")
        if self.goal:
            parts.append(f"goal {self.goal}: {'reached' if self.reached else 'NOT reached'}")
        parts += [f"{key} {value}" for key, value in self.notes.items()]
        return "; ".join(parts)


class Report:
    """Rows as they come, printed and written at once; a row that fails is one more line.

    Args:
        device: torch device.
        seconds: of the whole run; a row that would start after that is left out.
        path: JSON file; None writes none.
    """

    def __init__(self, device: torch.device, *, seconds: float, path: Path | None) -> None:
        self.device, self.path = device, path
        self.started, self.seconds = time.monotonic(), seconds
        self.rows: list[Row] = []
        self.failed: dict[str, str] = {}
        self.left_out: list[str] = []
        self.card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.seconds - (time.monotonic() - self.started)

    def add(self, name: str, make: Callable[[], Row | list[Row]], *, needs: float = 20.0) -> None:
        """Run one part of the benchmark, whatever becomes of it."""
        if self.left < needs:
            self.left_out.append(name)
            print(f"[{self.left:.0f} s left] {name}: left out, needs some {needs:.0f} s", flush=True)
        else:
            try:
                found = make()
                for row in found if isinstance(found, list) else [found]:
                    self.rows.append(row)
                    print(f"[{self.left:.0f} s left] {row.line}", flush=True)
            except Exception as error:  # one part must not cost the others their turn
                self.failed[name] = traceback.format_exc(limit=-6)
                print(f"[{self.left:.0f} s left] {name}: FAILED with {type(error).__name__}: {error}", flush=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        self.write()

    def write(self) -> None:
        """The report so far, as JSON."""
        if self.path is None:
            return
        facts = {
            "card": self.card,
            "torch": torch.__version__,
            "seconds": round(time.monotonic() - self.started, 1),
            "rows": [asdict(row) for row in self.rows],
            "failed": self.failed,
            "left_out": self.left_out,
        }
        self.path.write_text(json.dumps(facts, indent=2) + "\n")


def seconds(run: Callable[[], object], device: torch.device, *, repeats: int = 5, warm_ups: int = 2) -> float:
    """Median wall time of a call, the device's work included."""
    times = []
    for i in range(warm_ups + repeats):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if i >= warm_ups:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def product_rate(device: torch.device, dtype: torch.dtype, *, size: int) -> float:
    """FLOP/s of a square matrix product: the best of ten, as a ceiling should be."""
    a, b = torch.randn(2, size, size, device=device).to(dtype).unbind(0)
    return 2 * size**3 / min(seconds(lambda: a @ b, device, repeats=1, warm_ups=1) for _ in range(10))


def copy_rate(device: torch.device, *, num_bytes: int) -> float:
    """Bytes/s read and written by a copy: the best of ten."""
    a = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * num_bytes / min(seconds(lambda: b.copy_(a), device, repeats=1, warm_ups=1) for _ in range(10))


def render_flops(space: StyleSpace) -> float:
    """FLOP of one image's convolutions in polyphase form, two per multiply-add."""
    taps = {True: 1, False: 9}
    return sum(2.0 * taps[x.is_torgb] * x.num_channels * x.num_out * x.resolution**2 for x in space.layers)


def render_bytes(space: StyleSpace, *, element: int) -> float:
    """Bytes that one image's layers must read and write, each map once; weights, shared by a batch, are left out."""
    total = 0.0
    for x in space.layers:
        below = x.resolution // 2 if x.kind == "conv0" else x.resolution
        out = 4 * 3 * x.resolution**2 if x.is_torgb else element * x.num_out * x.resolution**2
        total += element * x.num_channels * below**2 + out
    return total


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
