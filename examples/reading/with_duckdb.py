"""Read an export with DuckDB: SQL over the Parquet files, and an image out of it."""

import sys

import duckdb

folder = sys.argv[1]
files = f"'{folder}/data/train-*.parquet'"
counts = f"select prompt, count(*) as edits, avg(clip_gain) as gain from {files} where prompt is not null group by 1"
print(duckdb.sql(counts))
png = duckdb.sql(f"select image.bytes from {files} limit 1").fetchall()[0][0]
print("first image:", len(png), "bytes")
