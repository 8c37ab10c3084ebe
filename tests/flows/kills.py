"""Runs that are killed (SIGKILL) at random moments and run again, until one comes to its end; then compared.

``python -m tests.flows.kills --kills 100`` says how often a run was killed, and whether every finished folder was equal
to that of a run nobody killed, byte for byte. ``--worker`` does the same to runs of a Prefect server on loopback and
kills the run's process, the worker, both, or the server. With ``--photos 60`` the runs are ``invert-images`` of so many
files, one in ten broken.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import pandas as pd

from storage import Store, lease
from tests.conftest import PROMPT_ROWS, write_tiny_pack
from tests.pipeline.inversion.pictures import saved, smooth_picture

SHARES = (0.02, 0.98)  # of the time that a run still needs, between which it is killed
LEAST = 0.2  # of an undisturbed run's time, which a rerun takes though little is left to do


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


class Runs(Protocol):
    """A way to do a whole run in a folder, which can be killed."""

    def finish(self, run: Path) -> float:
        """Do it to its end, from wherever it stands; seconds of work. RuntimeError if it fails by itself."""
        ...

    def kill(self, run: Path, after: float) -> bool:
        """Do it and kill it after so many seconds of work; whether it was still at work then."""
        ...


@dataclass(frozen=True)
class Forked:
    """Runs in forked processes.

    Attributes:
        work: does a whole run in the folder that it is given.
    """

    work: Callable[[Path], Any]

    def finish(self, run: Path) -> float:
        """See ``Runs``."""
        start = time.monotonic()
        if code := wait(in_a_child(lambda: self.work(run))):
            raise RuntimeError(f"a run in {run} ended with {code}")
        return time.monotonic() - start

    def kill(self, run: Path, after: float) -> bool:
        """See ``Runs``."""
        child = in_a_child(lambda: self.work(run))
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        code = wait(child)
        if code > 0:
            raise RuntimeError(f"a rerun in {run} ended with {code}")
        return code == -signal.SIGKILL


def storm(
    runs: Runs,
    folder: Path,
    *,
    kills: int,
    per_run: int,
    seed: int = 0,
    said: Callable[[str], None] = lambda line: None,
    rows: tuple[str, str] = ("dataset", "image_id"),
    last: str = "_report.json",
) -> Tally:
    """Kill runs at random moments until there were ``kills``, each run ``per_run`` times before it may end.

    Args:
        runs: how they are done.
        folder: for the runs.
        kills: at least so many.
        per_run: kills of one run.
        seed: of the moments.
        said: is told how far it is, after each run.
        rows: the table whose rows are counted, and the column that names them.
        last: the file that a run writes last.
    Raises:
        RuntimeError: if a run fails by itself.
    """
    generator, tally = random.Random(seed), Tally()
    usual = runs.finish(folder / "undisturbed")
    expected = contents(folder / "undisturbed")
    table, column = rows
    ids = pd.read_parquet(folder / "undisturbed" / table)[column]
    said(f"an undisturbed run takes {usual:.1f} s and has {len(expected)} files, {len(ids)} rows")
    while tally.kills < kills:
        run = folder / f"run-{tally.runs:03d}"
        left, needed = min(per_run, kills - tally.kills), usual
        while left:
            after = needed * generator.uniform(*SHARES)
            killed = runs.kill(run, after)
            tally.kills += killed
            if needed == usual and not killed:  # a whole run takes no longer than that now: the machine is less busy
                usual = after
            needed = max(
                needed - after, LEAST * usual
            )  # what was made is kept, and the next moment falls into the rest
            left -= 1 if killed or (run / last).exists() else 0
        runs.finish(run)
        found = contents(run)
        tally.different += [
            f"{run.name}/{path}" for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
        ]
        there = pd.read_parquet(run / table)[column]
        tally.lost += len(set(ids) - set(there))
        tally.doubled += int(there.duplicated().sum())
        tally.runs += 1
        said(str(tally))
    return tally


SETTINGS: dict[str, Any] = {
    "num_latents": 12,
    "latents_per_shard": 3,
    "images_per_shard": 8,
    "device": "cpu",
    "templates": "none",
}


def edit_tiny(pack: str, folder: Path) -> dict[str, Any]:
    """A whole ``edit-dataset`` on the tiny pack, by measured directions, several shards a stage, under its lease."""
    from flows.edit_dataset import edit_dataset

    with lease(Store(folder), what="edit-dataset"):
        return edit_dataset(PROMPT_ROWS, run=str(folder), pack=pack, **SETTINGS)


def fill_with_photos(folder: Path, count: int) -> None:
    """Files of which one in ten is broken."""
    folder.mkdir()
    for i in range(count):
        data = saved(smooth_picture(40 + i, 40), "PNG")
        (folder / f"photo {i}.png").write_bytes(data[:50] if i % 10 == 9 else data)


def invert_photos(pack: str, photos: Path, folder: Path) -> dict[str, Any]:
    """``invert-images`` in shards of four, with a clock that stands still: the seconds of a photo are in its row."""
    from flows.invert_images import invert_images

    settings = {"latents_per_shard": 4, "refine": 4, "pivotal_tuning": 2}
    with (
        lease(Store(folder), what="invert-images"),
        mock.patch("pipeline.stages.inverted_latents.perf_counter", return_value=0.0),
    ):
        return invert_images(images=str(photos), run=str(folder), pack=pack, device="cpu", **settings)


@contextmanager
def forked_photos(pack: str, photos: Path) -> Iterator[Runs]:
    """Runs of ``invert-images`` in processes of their own."""
    import torch

    import flows.invert_images

    torch.set_num_threads(1)
    assert flows.invert_images
    yield Forked(lambda run: invert_photos(pack, photos, run))


@contextmanager
def forked(pack: str, folder: Path) -> Iterator[Runs]:
    """Runs in processes of their own, without Prefect."""
    import torch

    import flows.edit_dataset

    torch.set_num_threads(1)
    assert flows.edit_dataset  # imported once, before any process is forked
    yield Forked(lambda run: edit_tiny(pack, run))


@contextmanager
def on_worker(pack: str, folder: Path) -> Iterator[Runs]:
    """Runs on a worker; what was killed, and what the server said of it, is told in the end."""
    from tests.flows.prefect_processes import serving
    from tests.flows.worker_kills import OnWorker

    home = folder / "prefect"
    home.mkdir()
    with serving(home) as prefect:
        prefect.run("deploy", "--name", "edit-dataset", "--no-prompt")
        runs = OnWorker(prefect, {**SETTINGS, "prompts": PROMPT_ROWS, "pack": pack})
        try:
            yield runs
        finally:
            runs.stop()
        sys.stdout.write(f"killed {dict(runs.killed)}, states then {dict(runs.states)}\n")


def main() -> None:
    """Run a storm and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-run", type=int, default=4)
    parser.add_argument("--worker", action="store_true", help="kill runs, workers and servers of Prefect")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=int, default=0, help="invert so many photos instead of editing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack = str(write_tiny_pack(folder / "tiny"))
        settings: dict[str, Any] = {"kills": given.kills, "per_run": given.per_run, "seed": given.seed, "said": say}
        if given.photos:
            fill_with_photos(folder / "photos", given.photos)
            settings |= {"rows": ("inverted_images", "relative_path"), "last": "_latents.json"}
            way = forked_photos(pack, folder / "photos")
        else:
            way = (on_worker if given.worker else forked)(pack, folder)
        with way as runs:
            tally = storm(runs, folder, **settings)
    for path in tally.different[:20]:
        say(f"  {path}")
    sys.exit(bool(tally.different or tally.lost or tally.doubled))


def say(line: str) -> None:
    """To whoever waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
