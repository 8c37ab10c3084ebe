"""How well photos become latents: every file accounted for, reconstruction, refinement, edits of what was inverted.

    python -m benchmarks.inversion_study --work build/inversion --images 500 --refined 24 --tuned 6

Draws images that no model saw (the generator's own from fresh seeds, or drawings with held-out labels by --drawings),
saves them in mixed formats and sizes, breaks one in twenty in ten ways, and inverts them with the embedded pack.

Refined are files of three sets: lossless, mild and harsh. What a file lost when it was written no latent can draw: the
floor of a set is the error of the very picture that was written. So errors are also told against that picture.
"""

import argparse
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from examples.peeps.render import draw, sample_split
from flows.edit_dataset import edit_dataset
from flows.invert_images import invert_images
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import load_pack
from pipeline.pixels import from_rgb_arrays, to_rgb_arrays
from pipeline.runs.shard import find_input
from storage import Store, decode_image

FIRST_SEED = 50_000_000  # used by nothing else
PROMPT = {"name": "glasses", "target": "a face with glasses", "neutral": "a face"}
SIZES = (128, 96, 160, 256, 300, 512)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
BROKEN_EVERY = 20
Written = tuple[str, int, dict[str, Any]]
"""Format, side in pixels, and how Pillow is to write it."""
SETS: dict[str, tuple[Written, ...]] = {
    "lossless": (("PNG", 128, {}), ("WEBP", 128, {"lossless": True}), ("BMP", 128, {}), ("TIFF", 128, {})),
    "mild": (
        *(("PNG", 256, {}), ("JPEG", 128, {"quality": 95})),
        *(("WEBP", 256, {"quality": 90}), ("GIF", 128, {})),
    ),
    "harsh": (
        *(("PNG", 96, {}), ("JPEG", 128, {"quality": 75})),
        *(("GIF", 160, {"colours": 64}), ("JPEG", 256, {"quality": 80})),
    ),
}


def pictures(count: int, *, drawings: bool) -> np.ndarray:
    """Images that no model saw, uint8 [count, r, r, 3]."""
    if drawings:
        return np.stack([draw(label) for label in sample_split(count, 4_242, validation=True)])
    pack = load_pack("peeps", device="cpu")
    parts = []
    for start in range(0, count, 20):
        seeds = range(FIRST_SEED + start, FIRST_SEED + min(count, start + 20))
        parts.append(to_rgb_arrays(pack.generator(sample_w_plus(pack.generator, list(seeds), psi=0.9))))
    return np.concatenate(parts)


def encoded(picture: np.ndarray, kind: str, size: int, *, colours: int = 256, **options: Any) -> bytes:
    """A picture as a file; ``options`` go to Pillow."""
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS)
    if kind == "GIF":
        image = image.quantize(colours)
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}) | options)
    return buffer.getvalue()


def broken(data: bytes, way: int) -> bytes:
    """A file spoilt in one of ten ways."""
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (90_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return (
        b"",
        data[: len(data) // 3],
        data[:20],
        b"this is a note, not an image",
        b"<html><body>404 Not Found</body></html>",
        b"%PDF-1.7\n" + bytes(500),
        header + b"\x00\x00\x00\x00" + b"\x00\x00\x00\x00IDAT\x00\x00\x00\x00",
        encoded(np.zeros((4, 4, 3), np.uint8), "PNG", 4),
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100),
        bytes(2_000),
    )[way % 10]


def write_folder(folder: Path, images: np.ndarray) -> int:
    """The images as files, in three sub-folders; returns how many of them are broken."""
    spoilt = 0
    for i, picture in enumerate(images):
        kind = FORMATS[i % len(FORMATS)]
        data = encoded(picture, kind, SIZES[(i // len(FORMATS)) % len(SIZES)])
        if i % BROKEN_EVERY == BROKEN_EVERY - 1:
            data, spoilt = broken(data, spoilt), spoilt + 1
        path = folder / f"part {i % 3}" / f"face {i // 3:04d}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return spoilt


def inverted_rows(run: str, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of inverted_images."""
    return find_input("latents", Store(run)).table(columns, folder="inverted_images").to_pylist()


def write_sets(folder: Path, images: np.ndarray) -> None:
    """The images as files, each in one of ``SETS`` in turn, a sub-folder each."""
    for i, picture in enumerate(images):
        name = list(SETS)[i % len(SETS)]
        kind, size, options = SETS[name][(i // len(SETS)) % len(SETS[name])]
        path = folder / name / f"{i:04d}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture, kind, size, **options))


def study_sets(run: str, images: np.ndarray) -> dict[str, dict[str, float]]:
    """Errors by set: of the encoder, of what was found, and the floor; against the files and what was written."""
    pack, found = load_pack("peeps", device="cpu"), dict[str, dict[str, list[float]]]()
    columns = ["relative_path", "aligned", "reconstruction", "seconds", "delta_bytes"]
    for row in inverted_rows(run, columns):
        name, file = str(row["relative_path"]).split("/")
        drawn, shown = (decode_image(row[key]["bytes"]) for key in ("reconstruction", "aligned"))
        with torch.no_grad():
            first = to_rgb_arrays(pack.generator(pack.inverter.invert(from_rgb_arrays(shown[None]))))[0]
        written = images[int(file[:4])]
        errors = {
            "file_encoder": _error(first, shown),
            "file": _error(drawn, shown),
            "file_floor": _error(written, shown),
            "written_encoder": _error(first, written),
            "written": _error(drawn, written),
            "seconds": row["seconds"],
            "delta_bytes": row["delta_bytes"] or 0,
        }
        for key, value in errors.items():
            found.setdefault(name, {}).setdefault(key, []).append(value)
    return {name: {key: float(np.mean(values)) for key, values in of.items()} for name, of in found.items()}


def _error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean() / 127.5)


def study_edits(run: str) -> dict[str, float]:
    """How often the oracle sees glasses after the edit, and the other attributes as before it."""
    table: pa.Table = find_input("dataset", Store(run)).table()
    pack = load_pack("peeps", device="cpu")
    seen: dict[tuple[str, str], dict[str, str]] = {}
    for row in table.to_pylist():
        image = from_rgb_arrays(decode_image(row["image"]["bytes"])[None])
        found = {k: p.argmax().item() for k, p in pack.oracle.probabilities(image).items()}
        names = pack.oracle.config.attributes
        seen[row["latent_id"], row["prompt_id"]] = {k: names[k][int(v)] for k, v in found.items()}
    before = {latent: of for (latent, prompt), of in seen.items() if prompt == "original"}
    after = {latent: of for (latent, prompt), of in seen.items() if prompt == "glasses"}
    asked = [latent for latent, of in before.items() if of["accessories"] != "glasses"]
    kept = [
        after[latent][name] == before[latent][name]
        for latent in asked
        for name in before[latent]
        if name != "accessories"
    ]
    hits = [after[latent]["accessories"] == "glasses" for latent in asked]
    return {"edited": len(asked), "hit": float(np.mean(hits)), "kept": float(np.mean(kept))}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/inversion"))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--refined", type=int, default=24, help="images that are refined and edited; 0 for none")
    parser.add_argument("--tuned", type=int, default=6, help="images that get a generator of their own too; 0: none")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--drawings", action="store_true", help="drawings instead of the generator's own images")
    args = parser.parse_args()
    images = pictures(args.images, drawings=args.drawings)
    found: dict[str, object] = {"kind": "drawings" if args.drawings else "generated", "files": len(images)}
    found["broken"] = write_folder(args.work / "all", images)
    start = time.perf_counter()
    closed = invert_images(images=str(args.work / "all"), run=str(args.work / "run"), device="cpu")
    found["seconds"] = round(time.perf_counter() - start, 1)
    rows = inverted_rows(str(args.work / "run"), ["inversion_error", "reason"])
    errors = [row["inversion_error"] for row in rows if row["reason"] is None]
    found |= {"rows": closed["rows"], "failures": closed["failures"]}
    found["reasons"] = dict(Counter(str(row["reason"]) for row in rows if row["reason"] is not None))
    found["l1"] = float(np.mean(np.array(errors, dtype=float)))
    print(json.dumps(found), flush=True)
    for name, count, tuning in (("refined", args.refined, 0), ("tuned", args.tuned, args.steps)):
        if count:
            folder, run = args.work / name, str(args.work / f"{name}_run")
            write_sets(folder, images[:count])
            edit_dataset([PROMPT], images=str(folder), run=run, refine=args.steps, pivotal_tuning=tuning, device="cpu")
            found[name] = {**study_sets(run, images), "edits": study_edits(run)}
            print(json.dumps(found[name]), flush=True)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
