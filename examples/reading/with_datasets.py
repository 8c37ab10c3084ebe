"""Read an export with Hugging Face datasets: images as PIL images, labels as typed numbers with names."""

import sys
from collections import Counter

from datasets import load_dataset

folder = sys.argv[1]
for name, split in load_dataset(folder).items():
    prompt = split.features["prompt_id"]
    counts = Counter(prompt.int2str(number) for number in split["prompt_id"])
    print(name, split[0]["image"].size, dict(counts))
