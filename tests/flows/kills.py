"""Runs that are killed (SIGKILL) at random moments and run again, until one comes to its end; then compared.

``python -m tests.flows.kills --kills 100`` says how often a run was killed, and whether every finished folder was equal
to that of a run nobody killed, byte for byte.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

SHARES = (0.02, 0.98)  # of an undisturbed run's time, between which it is killed


@dataclass
class Tally:
    """What became of the runs.

    Attributes:
        kills: processes killed while they worked.
        runs: folders that came to their end.
        different: files that differed from the undisturbed run's, by folder.
        lost: rows missing from a finished dataset.
        doubled: rows in it more than once.
    """

    kills: int = 0
    runs: int = 0
    different: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.runs} finished runs, {len(self.different)} files different, "
            f"{self.lost} rows lost, {self.doubled} doubled"
        )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run, temporary files of killed writers left out, as every reader does."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def in_a_child(work: Callable[[], Any]) -> int:
    """The id of a new process that does the work; forked, so that it need not import everything anew."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        work()
        code = 0
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Its exit code; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def storm(work: Callable[[Path], Any], folder: Path, *, kills: int, per_run: int, seed: int = 0) -> Tally:
    """Kill runs at random moments until there were ``kills``, each run ``per_run`` times before it may end.

    Args:
        work: does a whole run in the folder that it is given.
        folder: for the runs.
        kills: at least so many.
        per_run: kills of one run.
        seed: of the moments.
    Raises:
        RuntimeError: if a run fails by itself.
    """
    generator, tally = random.Random(seed), Tally()
    start = time.monotonic()
    if code := wait(in_a_child(lambda: work(folder / "undisturbed"))):
        raise RuntimeError(f"the undisturbed run ended with {code}")
    usual = time.monotonic() - start
    expected = contents(folder / "undisturbed")
    ids = pd.read_parquet(folder / "undisturbed" / "dataset").image_id
    while tally.kills < kills:
        run = folder / f"run-{tally.runs:03d}"
        left = min(per_run, kills - tally.kills)
        while left:
            child = in_a_child(lambda run=run: work(run))
            time.sleep(usual * generator.uniform(*SHARES))
            os.kill(child, signal.SIGKILL)
            code = wait(child)
            if code > 0:
                raise RuntimeError(f"a rerun of {run} ended with {code}")
            tally.kills += code == -signal.SIGKILL
            left -= 1 if code == -signal.SIGKILL or (run / "_report.json").exists() else 0
        if code := wait(in_a_child(lambda run=run: work(run))):
            raise RuntimeError(f"the last rerun of {run} ended with {code}")
        found = contents(run)
        tally.different += [
            f"{run.name}/{path}" for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
        ]
        there = pd.read_parquet(run / "dataset").image_id
        tally.lost += len(set(ids) - set(there))
        tally.doubled += int(there.duplicated().sum())
        tally.runs += 1
    return tally


def edit_tiny(pack: str, folder: Path) -> dict[str, Any]:
    """A whole ``edit-dataset`` on the tiny pack, by measured directions, several shards a stage."""
    from flows.edit_dataset import edit_dataset
    from tests.conftest import PROMPT_ROWS

    return edit_dataset(
        PROMPT_ROWS,
        run=str(folder),
        pack=pack,
        num_latents=12,
        latents_per_shard=3,
        images_per_shard=8,
        device="cpu",
        templates="none",
    )


def main() -> None:
    """Run a storm and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-run", type=int, default=4)
    given = parser.parse_args()
    import torch

    import flows.edit_dataset
    from tests.conftest import write_tiny_pack

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        pack = str(write_tiny_pack(Path(name) / "tiny"))
        assert flows.edit_dataset
        tally = storm(lambda run: edit_tiny(pack, run), Path(name), kills=given.kills, per_run=given.per_run)
    sys.stdout.write(f"{tally}\n")
    for path in tally.different[:20]:
        sys.stdout.write(f"  {path}\n")
    sys.exit(bool(tally.different or tally.lost or tally.doubled))


if __name__ == "__main__":
    main()
