"""How well photos become latents: every file accounted for, reconstruction, refinement, edits of what was inverted.

    python -m benchmarks.inversion_study --work build/inversion --images 500 --refined 16 --edited 64

Draws images that no model saw (the generator's own from fresh seeds, or drawings with held-out labels by --drawings),
saves them in mixed formats and sizes, breaks one in twenty in ten ways, and inverts them with the embedded pack.
"""

import argparse
import io
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from examples.peeps.render import draw, sample_split
from flows.edit_dataset import edit_dataset
from flows.invert_images import invert_images
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import load_pack
from pipeline.pixels import to_rgb_arrays
from pipeline.runs.shard import find_input
from storage import Store

FIRST_SEED = 50_000_000  # used by nothing else
PROMPT = {"name": "glasses", "target": "a face with glasses", "neutral": "a face"}
SIZES = (128, 96, 160, 256, 300, 512)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
BROKEN_EVERY = 20


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


def encoded(picture: np.ndarray, kind: str, size: int) -> bytes:
    """A picture as a file."""
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS)
    if kind == "GIF":
        image = image.quantize(256)
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
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


def inverted_rows(run: str, columns: list[str]) -> list[dict[str, object]]:
    """Rows of inverted_images."""
    return find_input("latents", Store(run)).table(columns, folder="inverted_images").to_pylist()


def study_edits(run: str) -> dict[str, float]:
    """How often the oracle sees glasses after the edit, and the other attributes as before it."""
    table: pa.Table = find_input("dataset", Store(run)).table()
    pack = load_pack("peeps", device="cpu")
    from pipeline.pixels import from_rgb_arrays
    from storage import decode_image

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
    parser.add_argument("--refined", type=int, default=16, help="images of the refinement study; 0 for none")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--edited", type=int, default=64, help="images of the edit study; 0 for none")
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
    if args.refined:
        write_folder(args.work / "refined", images[: args.refined])
        run = str(args.work / "refined_run")
        invert_images(images=str(args.work / "refined"), run=run, refine=args.steps, device="cpu")
        pairs = [
            (row["encoder_error"], row["inversion_error"])
            for row in inverted_rows(run, ["encoder_error", "inversion_error"])
            if row["inversion_error"] is not None
        ]
        found["refined_from"], found["refined_to"] = (float(x) for x in np.mean(np.array(pairs, dtype=float), axis=0))
        print(json.dumps(found), flush=True)
    if args.edited:
        write_folder(args.work / "edited", images[: args.edited])
        run = str(args.work / "edited_run")
        edit_dataset(prompts=[PROMPT], images=str(args.work / "edited"), run=run, device="cpu")
        found |= study_edits(run)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
