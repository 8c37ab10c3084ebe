"""What an export takes: processor time an image against rendering, and peak memory for more and more images.

python -m benchmarks.export_cost --work build/export --counts 1000 10000

The runs are made of a few hundred drawn pictures of the built-in pack, given new names until there are enough: an
export does not look at what its images show. Every export runs in a process of its own, whose peak is what the system
says (ru_maxrss). Processor time is user and system time together, so that other work on the machine does not count.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import storage
from pipeline.config import DatasetConfig, EditedLatentsConfig, LatentsConfig, ScoresConfig
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack, load_pack
from pipeline.pixels import to_rgb_arrays
from pipeline.prompts import ORIGINAL
from pipeline.rows import ImageRow, PromptRow, artifact_table
from pipeline.runs.shard import Made, close_stage, part_path, run_shard, stage_hash
from pipeline.schemas import DATASET, EDITS_FOLDER, LATENTS, PROMPTS, scores_artifact
from storage import Store

EDITS = 49  # of every face
PICTURES = 200
FORMATS = ("parquet", "imagefolder", "webdataset", "csv")
SETTINGS = [(kind, "png") for kind in FORMATS] + [("parquet", "webp"), ("parquet", "jpeg")]


def draw_pictures(pack: Pack) -> tuple[list[bytes], float]:
    """Rendered and encoded pictures, and the processor seconds that one took."""
    styles = pack.generator.styles(sample_w_plus(pack.generator, range(PICTURES), psi=0.7))
    pictures: list[bytes] = []
    start = time.process_time()
    with torch.no_grad():
        for batch in styles.split(16):
            pictures += [storage.encode_png(image) for image in to_rgb_arrays(pack.generator.render(batch))]
    return pictures, (time.process_time() - start) / PICTURES


def write_run(store: Store, pack: Pack, pictures: list[bytes], count: int) -> None:
    """A finished run of ``count`` images by its artifacts: latents, edits, dataset and scores."""
    faces = count // (1 + EDITS)
    prompts = [
        PromptRow(f"prompt-{i:02d}", f"prompt {i}", "a face with glasses", "a face", "global", (18.0,), "ok", None)
        for i in range(EDITS)
    ]
    listed = artifact_table(PROMPTS, prompts, widths={"text_direction": 1})
    names = [f"seed-{i:08d}" for i in range(faces)]
    blank: dict[str, Any] = {c.name: [None] * faces for c in LATENTS.columns}
    latents = {**blank, "latent_id": names, "source": ["seed"] * faces, "status": ["ok"] * faces}
    table = LATENTS.table(latents, widths={"w_plus": 1}, metadata={"w_plus_shape": (1, 1)})
    _close(store, pack, "latents", LatentsConfig(num_latents=faces), [{part_path("latents", 0): table}], faces)
    edits = [{part_path(EDITS_FOLDER, 0): listed}]
    _close(store, pack, "edited_latents", EditedLatentsConfig(), edits, faces * EDITS)
    images, scores = [], []
    for start in range(0, faces, 20):
        rows = [
            row
            for face in range(start, min(start + 20, faces))
            for row in _image_rows(names[face], prompts, pictures[face % PICTURES :] + pictures[: face % PICTURES])
        ]
        number = start // 20
        images.append({part_path("dataset", number): artifact_table(DATASET, rows)})
        scores.append({part_path("scores", number): _scores(pack, rows)})
    _close(store, pack, "dataset", DatasetConfig(), images, count)
    _close(store, pack, "scores", ScoresConfig(), scores, count)


def _image_rows(name: str, prompts: list[PromptRow], pictures: list[bytes]) -> list[ImageRow]:
    rows = []
    for i, prompt in enumerate([None, *prompts]):
        prompt_id = ORIGINAL if prompt is None else prompt.prompt_id
        picture = storage.image_struct(pictures[i], f"{name}__{prompt_id}.png")
        about = (None,) * 4 if prompt is None else (prompt.prompt, prompt.target, prompt.neutral, prompt.method)
        rows.append(ImageRow(f"{name}__{prompt_id}", picture, name, prompt_id, *about, 18.0 * (i > 0)))
    return rows


def _scores(pack: Pack, rows: list[ImageRow]) -> Any:
    oracle = pack.description.oracle
    assert oracle is not None
    artifact = scores_artifact(attributes=tuple(oracle.attributes), identity=True, judge=False, oracle=True)
    columns: dict[str, list[Any]] = {c.name: [None] * len(rows) for c in artifact.columns}
    for key in ("image_id", "latent_id", "prompt_id", "strength"):
        columns[key] = [getattr(row, key) for row in rows]
    for name, categories in oracle.attributes.items():
        for when in ("before", "after"):
            columns[f"{when}_{name}"] = [categories[i % len(categories)] for i in range(len(rows))]
        columns[f"after_{name}_probability"] = [0.99] * len(rows)
    return artifact.table({**columns, "status": ["ok"] * len(rows)})


def _close(store: Store, pack: Pack, stage: str, config: Any, shards: list[dict[str, Any]], rows: int) -> None:
    config_hash = stage_hash(stage, config, pack, {"rows": rows})
    for shard, tables in enumerate(shards):
        files = {path: storage.table_bytes(table) for path, table in tables.items()}
        counted = max(table.num_rows for table in tables.values())
        run_shard(
            store, stage, shard, config_hash=config_hash, pack=pack, make=lambda f=files, n=counted: Made(f, rows=n)
        )
    close_stage(store, stage, num_shards=len(shards), config_hash=config_hash, config=config, pack=pack)


def export(run: str, to: str, kind: str, image_format: str) -> None:
    """Export in this process; prints rows, processor seconds and peak MiB as JSON."""
    from flows.export_dataset import export_dataset

    start = time.process_time()
    done = export_dataset(run=run, to=to, format=kind, image_format=image_format, device="cpu")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"rows": done["rows"], "seconds": time.process_time() - start, "peak": peak}))


def measure(run: Path, to: Path, kind: str, image_format: str) -> dict[str, float]:
    """Export in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.export_cost", "--export", str(run), str(to), kind, image_format]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/export"))
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--export", nargs=4, metavar=("RUN", "TO", "FORMAT", "IMAGES"), help="one export, by itself")
    args = parser.parse_args()
    if args.export:
        export(*args.export)
        return
    pack = load_pack("peeps", device="cpu")
    pictures, render = draw_pictures(pack)
    print(f"rendering and encoding: {1000 * render:.1f} ms of processor time an image\n")
    heads = " | ".join(f"{count:,}: ms an image | share of rendering | peak MiB" for count in args.counts)
    print(f"| format | images | {heads} |\n|---|---|{'---:|---:|---:|' * len(args.counts)}", flush=True)
    for count in args.counts:
        write_run(Store(str(args.work / f"run-{count}")), pack, pictures, count)
    for kind, image_format in (setting for setting in SETTINGS if setting[0] in args.formats):
        cells = []
        for count in args.counts:
            to = args.work / f"{kind}-{image_format}-{count}"
            of = measure(args.work / f"run-{count}", to, kind, image_format)
            each = of["seconds"] / of["rows"]
            cells += [f"{1000 * each:.2f}", f"{100 * each / render:.0f} %", f"{of['peak']:.0f}"]
        print(f"| {kind} | {image_format} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
