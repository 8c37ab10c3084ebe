"""Sorting of more records than the memory should hold: sorted runs on the disk, merged as they are read."""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType

Record = tuple[str, ...]
RUN_LENGTH = 10_000  # records sorted in memory at a time, some 5 MB of paths
MOST_RUNS = 200  # files open at a time


class SortedRecords:
    """Records in order, as often as they are asked for; a context, whose end deletes them.

    Records compare as tuples of text, by code point. At most ``run_length`` of them are in memory, and one of each run
    while they are read.

    Args:
        records: read once, at once.
        run_length: records in memory at a time.
    """

    def __init__(self, records: Iterable[Record], *, run_length: int = RUN_LENGTH) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="styleclip-sort-")
        self._runs: list[Path] = []
        self.count = 0
        try:
            self._sort(iter(records), run_length)
        except BaseException:
            self._folder.cleanup()
            raise

    def _sort(self, waiting: Iterator[Record], run_length: int) -> None:
        made = 0
        while run := sorted(islice(waiting, run_length)):
            self.count += len(run)
            self._write(f"{made}.jsonl", run)
            made += 1
            if len(self._runs) == MOST_RUNS:
                merged = list(self._runs)
                self._runs = []
                self._write(f"{made}.jsonl", _merged(merged))
                made += 1
                for path in merged:
                    path.unlink()

    def _write(self, name: str, records: Iterable[Record]) -> None:
        path = Path(self._folder.name) / name
        with path.open("w", encoding="ascii") as file:
            for record in records:
                file.write(json.dumps(record) + "\n")
        self._runs.append(path)

    def __iter__(self) -> Iterator[Record]:
        return _merged(self._runs)

    def __enter__(self) -> "SortedRecords":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()


def _merged(runs: list[Path]) -> Iterator[Record]:
    with ExitStack() as stack:
        files = [stack.enter_context(path.open(encoding="ascii")) for path in runs]
        yield from heapq.merge(*((tuple(json.loads(line)) for line in file) for file in files))
