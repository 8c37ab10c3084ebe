"""How well photos become latents: every file accounted for, reconstruction, refinement, edits of what was inverted.

    python -m benchmarks.inversion_study --work build/inversion --count 500 --refined 42

Draws images that no model saw (the generator's own from fresh seeds, or drawings with held-out labels by --drawings),
writes them in mixed formats and sizes, breaks one in twenty in ten ways, inverts them as a user does and gives every
face glasses. Then some of them again, with refinement: as lossless files, and as mixed ones.

What a file lost when it was written no latent can draw: the floor is the error of the very picture that was written.
So refined files are compared with both: the file, as `inverted_images` does, and the picture that was written, which
is what a person wants back. Ends with the figures as JSON; prints those of every part as it is done. What a part left
in --work is not made again.
"""

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.photo_files import LOSSLESS, MIXED, Way, broken
from examples.peeps.render import draw, sample_split
from flows.edit_dataset import edit_dataset
from flows.invert_images import invert_images
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import load_pack
from pipeline.pixels import from_rgb_arrays, to_rgb_arrays
from pipeline.runs.shard import find_input
from pipeline.scoring.statistics import bootstrap_interval
from storage import Store, decode_image

FIRST_SEED = 9_000_000  # far from what the embedded pack was trained and evaluated with
PROMPT = {"name": "glasses", "target": "a face with glasses", "neutral": "a face"}
BROKEN_EVERY = 20
DEVICE = "cpu"
KEPT_EVERY = 4  # refined images, half a minute of a core: a study that is cut off goes on from there


def pictures(count: int, *, drawings: bool, psi: float) -> np.ndarray:
    """Images that no model saw, uint8 [count, r, r, 3]."""
    if drawings:
        return np.stack([draw(label) for label in sample_split(count, 4_242, validation=True)])
    pack = load_pack("peeps", device=DEVICE)
    parts = []
    for start in range(0, count, 20):
        seeds = range(FIRST_SEED + start, FIRST_SEED + min(count, start + 20))
        parts.append(to_rgb_arrays(pack.generator(sample_w_plus(pack.generator, list(seeds), psi=psi))))
    return np.concatenate(parts)


def write_files(folder: Path, images: np.ndarray, ways: Sequence[Way], *, spoil: bool) -> int:
    """The images as files, each in one of the ways in turn, in three sub-folders; returns how many are broken."""
    spoilt = 0
    for i, picture in enumerate(images):
        way = ways[i % len(ways)]
        data = way.write(picture)
        if spoil and i % BROKEN_EVERY == BROKEN_EVERY - 1:
            data, spoilt = broken(data, spoilt), spoilt + 1
        path = folder / f"part {i % 3}" / f"face {i:05d}.{way.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # a file with another time of change is another file to a run
            path.write_bytes(data)
    return spoilt


def inverted_rows(run: str, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of inverted_images, with ``number``, the image's."""
    rows = find_input("latents", Store(run)).table(["relative_path", *columns], folder="inverted_images").to_pylist()
    return [{**row, "number": int(re.findall(r"\d+", row["relative_path"])[-1])} for row in rows]


def spread(errors: Sequence[float]) -> dict[str, float]:
    """Mean, median and 95th percentile."""
    values = np.array(errors, dtype=float)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
    }


def study_all(run: str, ways: Sequence[Way]) -> dict[str, Any]:
    """What became of every file, and the encoder's pixel errors against the files: of all, and by the way written."""
    rows = inverted_rows(run, ["encoder_error", "reason", "status"])
    by_way = defaultdict[str, list[float]](list)
    for row in rows:
        if row["status"] == "ok":
            by_way[ways[row["number"] % len(ways)].name].append(row["encoder_error"])
    errors = [error for found in by_way.values() for error in found]
    return {
        "rows": len(rows),
        "latents": len(errors),
        "reasons": dict(Counter(row["reason"] for row in rows if row["status"] != "ok")),
        "without_reason": sum(row["status"] != "ok" and not row["reason"] for row in rows),
        "error": spread(errors),
        "error_by_way": {name: round(float(np.mean(found)), 4) for name, found in by_way.items()},
    }


def study_refined(run: str, images: np.ndarray, ways: Sequence[Way]) -> dict[str, Any]:
    """Errors of the encoder and of what was found, against the file and against the picture that was written.

    A way that changes the picture's shape has no error against what was written, and no floor.
    """
    pack, found = load_pack("peeps", device=DEVICE), []
    columns = ["aligned", "reconstruction", "seconds", "delta_bytes", "status"]
    for row in inverted_rows(run, columns):
        assert row["status"] == "ok", row
        way, written = ways[row["number"] % len(ways)], images[row["number"]]
        drawn, shown = (decode_image(row[key]["bytes"]) for key in ("reconstruction", "aligned"))
        with torch.no_grad():
            first = to_rgb_arrays(pack.generator(pack.inverter.invert(from_rgb_arrays(shown[None]))))[0]
        same_shape = way.size[0] == way.size[1]
        found.append(
            {
                "way": way.name,
                "file_encoder": _error(first, shown),
                "file": _error(drawn, shown),
                "floor": _error(written, shown) if same_shape else None,
                "written_encoder": _error(first, written) if same_shape else None,
                "written": _error(drawn, written) if same_shape else None,
                "seconds": row["seconds"],
                "delta_bytes": row["delta_bytes"] or 0,
            }
        )
    framed = [row for row in found if row["floor"] is not None]
    means = {key: float(np.mean([row[key] for row in framed])) for key in framed[0] if key != "way"}
    lower = np.array([1 - row["file"] / row["file_encoder"] for row in framed])
    return {
        **{key: round(value, 5) for key, value in means.items()},
        "images": len(found),
        "lower": 1 - means["file"] / means["file_encoder"],
        "lower_each": float(lower.mean()),
        "lower_each_interval": bootstrap_interval(lower),
        "lower_above_floor": 1 - (means["file"] - means["floor"]) / (means["file_encoder"] - means["floor"]),
        "written_lower": 1 - means["written"] / means["written_encoder"],
        "written_nearer": sum(row["written"] < row["written_encoder"] for row in framed),
        "each": found,
    }


def _error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean() / 127.5)


def share_interval(met: int, count: int) -> tuple[float, float]:
    """95 % interval of a share, which says something of 0 and of all, too. Source: Wilson 1927."""
    z, share = 1.96, met / count
    middle, half = share + z * z / (2 * count), z * (share * (1 - share) / count + (z / count / 2) ** 2) ** 0.5
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def study_edits(run: str) -> dict[str, Any]:
    """How often the oracle sees glasses after the edit, and the other attributes as before it, with 95 % intervals."""
    images = find_input("dataset", Store(run))
    pack = load_pack("peeps", device=DEVICE)
    seen: dict[tuple[str, str], dict[str, str]] = {}
    names = pack.oracle.config.attributes
    for shard in images.present:
        rows = [row for row in images.shard_table(shard).to_pylist() if row["image"] and row["prompt_id"] != "photo"]
        for start in range(0, len(rows), 32):
            part = rows[start : start + 32]
            pixels = from_rgb_arrays(np.stack([decode_image(row["image"]["bytes"]) for row in part]))
            found = {name: p.argmax(dim=1).tolist() for name, p in pack.oracle.probabilities(pixels).items()}
            for i, row in enumerate(part):
                seen[row["latent_id"], row["prompt_id"]] = {name: names[name][of[i]] for name, of in found.items()}
    before = {latent: of for (latent, prompt), of in seen.items() if prompt == "original"}
    after = {latent: of for (latent, prompt), of in seen.items() if prompt == "glasses"}
    asked = [latent for latent, of in before.items() if of["accessories"] != "glasses"]
    hits = np.array([after[latent]["accessories"] == "glasses" for latent in asked], dtype=float)
    kept = np.array(
        [
            np.mean([after[latent][name] == was for name, was in before[latent].items() if name != "accessories"])
            for latent in asked
        ]
    )
    return {
        "edited": len(asked),
        "hit": float(hits.mean()),
        "hit_interval": share_interval(int(hits.sum()), len(hits)),
        "kept": float(kept.mean()),
        "kept_interval": bootstrap_interval(kept),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/inversion"))
    parser.add_argument("--count", type=int, default=500, help="files that are inverted by the encoder, and edited")
    parser.add_argument("--refined", type=int, default=42, help="of each set that is refined and edited; 0 for none")
    parser.add_argument("--tuned", type=int, default=0, help="mixed files that get a generator of their own too")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--psi", type=float, default=0.9, help="truncation of the generator's own images")
    parser.add_argument("--drawings", action="store_true", help="drawings instead of the generator's own images")
    args = parser.parse_args()
    images = pictures(max(args.count, args.refined, args.tuned), drawings=args.drawings, psi=args.psi)
    found: dict[str, Any] = {"kind": "drawings" if args.drawings else f"generated, psi {args.psi}"}
    if args.count:
        folder, run = args.work / "all", str(args.work / "all_run")
        found["broken"] = write_files(folder, images[: args.count], MIXED, spoil=True)
        start = time.perf_counter()
        invert_images(images=str(folder), run=run, device=DEVICE)
        found["seconds"] = round(time.perf_counter() - start, 1)
        found["all"] = study_all(run, MIXED)
        print(json.dumps(found), flush=True)
        edit_dataset([PROMPT], images=str(folder), run=run, device=DEVICE)
        found["all"]["edits"] = study_edits(run)
        print(json.dumps(found["all"]["edits"]), flush=True)
    sets = (("lossless", LOSSLESS, args.refined, 0), ("mixed", MIXED, args.refined, 0), ("tuned", MIXED, args.tuned, 1))
    for name, ways, count, tuning in sets:
        if count:
            folder, run = args.work / name, str(args.work / f"{name}_run")
            write_files(folder, images[:count], ways, spoil=False)
            settings = {"refine": args.steps, "pivotal_tuning": tuning * args.steps, "device": DEVICE}
            settings["latents_per_shard"] = KEPT_EVERY
            edit_dataset([PROMPT], images=str(folder), run=run, **settings)
            found[name] = {**study_refined(run, images, ways), "edits": study_edits(run)}
            print(json.dumps({name: found[name]}), flush=True)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
