"""The memory that listing a folder takes: peak of Python's own memory, for more and more files.

python -m benchmarks.listing_peak --work build/listing --counts 1000 10000 100000
"""

import argparse
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import storage
from pipeline.inversion.sources import list_images
from pipeline.schemas import IMAGE_LISTING
from pipeline.stages.image_listing import ROWS_PER_SHARD


def list_all(folder: str) -> int:
    """List a folder as the stage does: digest, then piece after piece as Parquet."""
    with list_images(folder) as listing:
        listing.digest()
        rows = iter(listing)
        while part := list(islice(rows, ROWS_PER_SHARD)):
            columns = {c.name: [getattr(row, c.name) for row in part] for c in IMAGE_LISTING.columns}
            storage.table_bytes(IMAGE_LISTING.table({**columns, "labels": [[]] * len(part)}))
        return listing.count


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/listing"))
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    args = parser.parse_args()
    for count in args.counts:
        folder = args.work / str(count)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / f"IMG_{number:06d}.jpg").touch()
        start = time.perf_counter()
        tracemalloc.start()
        found = list_all(str(folder))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{found} files: peak {peak / 2**20:.1f} MiB, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
