"""Read an export with polars, lazily: only the columns that are asked for are read."""

import sys

import polars as pl

folder = sys.argv[1]
edits = pl.scan_parquet(f"{folder}/data/train-*.parquet").filter(pl.col("prompt").is_not_null())
by_prompt = edits.group_by("prompt").agg(edits=pl.len(), hit=pl.col("hit").mean(), gain=pl.col("clip_gain").mean())
print(by_prompt.sort("prompt").collect())
