"""Read an export of tar shards with webdataset: a stream of decoded images and labels."""

import sys
from collections import Counter
from pathlib import Path

import webdataset

folder = Path(sys.argv[1])
shards = sorted(str(path) for path in (folder / "data").glob("train-*.tar"))
samples = webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("png", "json")
counts: Counter[str] = Counter()
for image, labels in samples:
    counts[f"{labels['prompt_id']} {image.shape}"] += 1
print(dict(counts))
