"""Draw peeps: labels to images, and a data set of both.

python -m examples.peeps.render --out build/peeps/renders --train 32000 --validation 1000
"""

import argparse
import importlib.resources
import io
import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from PIL import Image
from tqdm import tqdm

from examples.peeps.domain import ATTRIBUTES

RESOLUTION = 128


@cache
def _style() -> Style:
    text = (importlib.resources.files("dicebear_styles") / "open-peeps.json").read_text()
    return Style(json.loads(text))


def draw(label: np.ndarray, *, resolution: int = RESOLUTION) -> np.ndarray:
    """One peep: category numbers [num_attributes] to uint8 RGB [resolution, resolution, 3]."""
    options: dict[str, object] = {"seed": "peep", "maskProbability": 0, "size": resolution}
    for attribute, number in zip(ATTRIBUTES, label, strict=True):
        value = list(attribute.categories.values())[int(number)]
        if attribute.option.endswith("Color"):
            options[attribute.option] = [value]
        elif value is None:
            options[f"{attribute.option}Probability"] = 0
        else:
            options[f"{attribute.option}Variant"] = [value]
            options[f"{attribute.option}Probability"] = 100
    svg = Avatar(_style(), options).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=resolution, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def sample_labels(count: int, seed: int) -> np.ndarray:
    """Independent categories at the shares of the domain, int64 [count, num_attributes]."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(a.slots, size=count) for a in ATTRIBUTES], axis=1)


def held_out(labels: np.ndarray, sixteenth: int = 0) -> np.ndarray:
    """Which label combinations never occur in training: one in sixteen (head, expression, accessory) triples.

    ``sixteenth``, 0 to 15, says which: the CLIP that judges does without others than the rest of the pack.
    """
    head, expression, accessory = labels[:, 0], labels[:, 1], labels[:, 3]
    return (head * 7 + expression * 3 + accessory * 5) % 16 == sixteenth


def sample_split(count: int, seed: int, *, validation: bool, sixteenth: int = 0) -> np.ndarray:
    """Labels of one side of the split."""
    labels = sample_labels(count * 20 if validation else count * 2, seed)
    return labels[held_out(labels, sixteenth) == validation][:count]


def _draw_many(labels: np.ndarray) -> np.ndarray:
    return np.stack([draw(label) for label in labels])


def render_dataset(out: Path, name: str, labels: np.ndarray) -> None:
    """Write ``{name}_images.npy`` (uint8 [n, r, r, 3]) and ``{name}_labels.npy``; kept if already there."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{name}_images.npy"
    if target.exists() and np.array_equal(np.load(out / f"{name}_labels.npy"), labels):
        return
    chunks = np.array_split(labels, max(1, len(labels) // 200))
    with ProcessPoolExecutor() as pool:
        images = list(tqdm(pool.map(_draw_many, chunks), total=len(chunks), desc=f"drawing {name}"))
    np.save(out / f"{name}_labels.npy", labels)
    np.save(target, np.concatenate(images))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/peeps/renders"))
    parser.add_argument("--train", type=int, default=32000, help="training images")
    parser.add_argument("--validation", type=int, default=1000, help="images of held-out combinations")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    render_dataset(args.out, "train", sample_split(args.train, args.seed, validation=False))
    render_dataset(args.out, "validation", sample_split(args.validation, args.seed + 1, validation=True))


if __name__ == "__main__":
    main()
