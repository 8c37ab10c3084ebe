"""Read an export with pandas: pairs of original and edited image, and the share of hits per prompt."""

import io
import sys

import pandas as pd
from PIL import Image

folder = sys.argv[1]
images = pd.read_parquet(f"{folder}/data", filters=[("accept", "==", True)])
originals = images[images.image_id == images.original_id].set_index("pair_id")
edits = images[images.image_id != images.original_id]

first = edits.iloc[0]
before, after = (Image.open(io.BytesIO(row.image["bytes"])) for row in (originals.loc[first.pair_id], first))
print(first.prompt, before.size, after.size, "|".join(first.captions))
print(edits.groupby("prompt").agg(edits=("image_id", "size"), hit=("hit", "mean"), kept=("kept", "mean")))
