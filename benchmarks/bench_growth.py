"""Whole runs of ``styleclip edit-dataset`` at growing sizes: seconds, memory and bytes, and whether they grow in line.

``python -m benchmarks.bench_growth`` runs the sizes below; ``--sizes 1000x50`` takes others (prompts x latents),
``--run`` keeps the runs, ``--write`` also writes ``results_growth.md`` and ``.json`` beside this file. Each run is a
process of its own. CPU seconds are those of the process: other load slows it down, but costs it few of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.bench import RESULTS, cpu_name

SIZES = ("20x5", "40x5", "40x10", "80x5", "160x5")
HAIR = ("", "a mohawk", "an afro", "long hair", "a hat", "a turban", "a beanie", "a bun", "short hair", "a hijab")
FACES = ("a face", "an old face", "a smiling face", "an angry face", "a sad face")
WORN = ("", "glasses", "sunglasses", "a beard", "a moustache")
SKIN = ("", "dark skin", "light skin", "a green shirt")
HEADER = ("prompts", "latents", "images", "seconds", "CPU seconds", "CPU ms an image", "peak MB", "run MB")


@dataclass(frozen=True)
class Row:
    """What one run took.

    Attributes:
        prompts: of its list.
        latents: of its seeds.
        images: in its dataset.
        seconds: wall time of the process.
        cpu_seconds: of all its threads.
        peak_mb: its resident memory at most, in 10^6 bytes.
        run_mb: all files of the run, in 10^6 bytes.
    """

    prompts: int
    latents: int
    images: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    run_mb: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        each = 1000 * self.cpu_seconds / self.images
        times = (f"{self.seconds:.0f}", f"{self.cpu_seconds:.0f}", f"{each:.1f}")
        return (
            str(self.prompts),
            str(self.latents),
            str(self.images),
            *times,
            f"{self.peak_mb:.0f}",
            f"{self.run_mb:.0f}",
        )


def targets() -> Iterator[str]:
    """A thousand different descriptions of faces."""
    for face, skin, worn, hair in product(FACES, SKIN, WORN, HAIR):
        things = [thing for thing in (hair, worn, skin) if thing]
        if things:
            yield f"{face} with {' and '.join(things)}"


def measure(num_prompts: int, num_latents: int, folder: Path) -> Row:
    """One run in a process of its own."""
    chosen = list(islice(targets(), num_prompts))
    if len(chosen) < num_prompts:
        raise SystemExit(f"at most {len(chosen)} prompts can be made; got {num_prompts}.")
    rows = [f"{i},{target},a face" for i, target in enumerate(chosen)]
    prompts = folder / f"{num_prompts}.csv"
    prompts.write_text("\n".join(["name,target,neutral", *rows]) + "\n")
    run = folder / f"{num_prompts}x{num_latents}"
    where = ("--prompts", str(prompts), "--run", str(run), "--num-latents", str(num_latents))
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "edit-dataset", *where, "--unreachable", "keep"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the run of {num_prompts} prompts x {num_latents} latents ended with {process.returncode}.")
    return Row(
        prompts=num_prompts,
        latents=num_latents,
        images=json.loads((run / "_dataset.json").read_text())["rows"],
        seconds=time.perf_counter() - start,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak_mb=used.ru_maxrss * 1024 / 1e6,
        run_mb=sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) / 1e6,
    )


def in_line(rows: Sequence[Row]) -> str:
    """CPU seconds as a start, a part a prompt and a part an image, by least squares, and the worst misfit."""
    sizes = np.array([[1.0, row.prompts, row.images] for row in rows])
    seconds = np.array([row.cpu_seconds for row in rows])
    (start, prompt, image), *_ = np.linalg.lstsq(sizes, seconds, rcond=None)
    worst = np.abs(sizes @ [start, prompt, image] / seconds - 1).max()
    return (
        f"CPU seconds = {start:.1f} + {1000 * prompt:.0f} ms a prompt + {1000 * image:.1f} ms an image, "
        f"within {worst:.0%} of every row"
    )


def write(rows: Sequence[Row], where: str) -> None:
    """The rows so far, as a page and as JSON."""
    lines = ["# Whole runs at growing sizes", "", f"{where}.", "", "| " + " | ".join(HEADER) + " |"]
    lines += ["|" + " --- |" * len(HEADER)] + ["| " + " | ".join(row.cells) + " |" for row in rows]
    lines += [
        "",
        f"{in_line(rows)}." if len(rows) > 3 else "",
        "",
        "Written by `python -m benchmarks.bench_growth --write`.",
    ]
    (RESULTS / "results_growth.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "results_growth.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help=f"prompts x latents (default {' '.join(SIZES)})")
    parser.add_argument("--run", type=Path, help="folder to keep the runs in (default: a temporary one)")
    parser.add_argument("--write", action="store_true", help="write results_growth.md and .json beside this file")
    options = parser.parse_args()
    where = f"{cpu_name()}; {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads; pack peeps, global directions"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.run or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for size in options.sizes:
            num_prompts, num_latents = map(int, size.split("x"))
            rows.append(measure(num_prompts, num_latents, folder))
            print(" ".join(rows[-1].cells), flush=True)
            if options.write:
                write(rows, where)
    table = Table(title="Whole runs at growing sizes", caption=where)
    for title in HEADER:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*row.cells)
    Console().print(table)
    if len(rows) > 3:
        print(in_line(rows))


if __name__ == "__main__":
    main()
