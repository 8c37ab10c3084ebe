"""Does the augmentation help? A classifier of glasses, trained on faces whose glasses go with a kind of hair.

    python examples/augmentation/train.py output/augmentation/export

The training faces are unedited ones of the split train, chosen so that glasses and hair agree in 95 of 100. Beside them
the same faces are given with their counterfactual edits: glasses put on or taken off, all else as it was. Both
classifiers are tested on unedited faces of the split test, as many of each combination. Everything is drawn by the
seed, so the same folder gives the same table on the same machine.
"""

import argparse
import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import stats
from torch import nn

LONG = ("afro", "bangs", "bob", "bun", "curly", "dreadlocks", "long", "pompadour")  # hair that glasses go with
ARMS = ("biased", "augmented", "half, augmented")


@dataclass(frozen=True)
class Faces:
    """Images with what matters of them.

    Attributes:
        pixels: [n, 3, size, size], -1 to 1.
        glasses: 1 where there are glasses [n].
        long: 1 where the hair is one of ``LONG`` [n].
    """

    pixels: torch.Tensor
    glasses: torch.Tensor
    long: torch.Tensor

    def __getitem__(self, rows: np.ndarray) -> "Faces":
        """Some of them."""
        return Faces(self.pixels[rows], self.glasses[rows], self.long[rows])

    def and_also(self, others: "Faces") -> "Faces":
        """These and others."""
        fields = ("pixels", "glasses", "long")
        return Faces(*(torch.cat([getattr(self, name), getattr(others, name)]) for name in fields))


def read_faces(frame: pd.DataFrame, names: dict[str, list[str]], size: int) -> Faces:
    """Rows of an export as tensors."""
    images = [Image.open(io.BytesIO(cell["bytes"])).convert("RGB").resize((size, size)) for cell in frame.image]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float()
    glasses = frame.accessories.map(lambda k: names["accessories"][int(k)]) == "glasses"
    long = frame["head"].map(lambda k: names["head"][int(k)]).isin(LONG)
    return Faces(pixels / 127.5 - 1, torch.tensor(glasses.to_numpy()).long(), torch.tensor(long.to_numpy()).long())


def read_export(folder: str, size: int) -> tuple[Faces, dict[int, int], Faces, Faces]:
    """Training faces, which of them has which edit, the edits, and test faces; other accessories are left out.

    A face without glasses may have an edit that puts them on, a face with glasses one that takes them off; a face whose
    edit missed, or was rejected, stays without one.
    """
    names = pd.read_json(f"{folder}/labels.json", typ="series").to_dict()
    frame = pd.read_parquet(f"{folder}/data", filters=[("accept", "==", True)])
    kinds = [names["accessories"].index(name) for name in ("none", "glasses")]
    frame = frame[frame.accessories.isin(kinds) & frame.before_accessories.isin(kinds)]
    frame = frame[frame["head"] == frame["before_head"]]  # an edit that changed the hair is no counterfactual
    originals = frame[frame.image_id == frame.original_id].set_index("pair_id").sort_index()
    edits = frame[(frame.image_id != frame.original_id) & (frame.accessories != frame.before_accessories)]
    edits = edits.drop_duplicates("pair_id").set_index("pair_id").sort_index()
    test = images_of_split(folder, "test")
    training = originals[~originals.image_id.isin(test)]
    edits = edits[edits.index.isin(training.index)]
    edit_of = {training.index.get_loc(pair): number for number, pair in enumerate(edits.index)}
    held_out = originals[originals.image_id.isin(test)]
    faces, edited, test_faces = (read_faces(part, names, size) for part in (training, edits, held_out))
    return faces, edit_of, edited, test_faces


def images_of_split(folder: str, split: str) -> set[str]:
    """Names of the images of a split."""
    files = sorted(Path(folder, "data").glob(f"{split}-*.parquet"))
    return {name for file in files for name in pd.read_parquet(file, columns=["image_id"]).image_id}


def biased_rows(faces: Faces, bias: float, dice: np.random.Generator) -> np.ndarray:
    """As many rows as can be had in which glasses and hair agree in a share ``bias``, half of them with glasses."""
    cells = {(g, h): np.flatnonzero((faces.glasses == g) & (faces.long == h)) for g in (0, 1) for h in (0, 1)}
    shares = {(g, h): bias if g == h else 1 - bias for g, h in cells}
    most = min(len(rows) / shares[cell] for cell, rows in cells.items() if shares[cell] > 0)
    chosen = [dice.permutation(rows)[: round(most * shares[cell])] for cell, rows in cells.items()]
    return np.concatenate(chosen)


def balanced_rows(faces: Faces) -> np.ndarray:
    """As many rows of each combination of glasses and hair."""
    cells = [torch.nonzero((faces.glasses == g) & (faces.long == h))[:, 0].numpy() for g in (0, 1) for h in (0, 1)]
    return np.concatenate([rows[: min(map(len, cells))] for rows in cells])


def classifier() -> nn.Sequential:
    """Three convolutions and a sum over places."""
    widths = (3, 16, 32, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], 2))


def train(faces: Faces, *, steps: int, batch: int, seed: int) -> nn.Sequential:
    """A classifier of glasses, after as many steps whatever the number of faces."""
    torch.manual_seed(seed)
    model, dice = classifier(), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for _ in range(steps):
        rows = dice.integers(0, len(faces.glasses), batch)
        loss = nn.functional.cross_entropy(model(faces.pixels[rows]), faces.glasses[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def accuracies(model: nn.Module, faces: Faces) -> tuple[float, float, float]:
    """Of all faces, of those that follow the bias, of those against it; 0 to 1."""
    with torch.no_grad():
        right = (model(faces.pixels).argmax(dim=1) == faces.glasses).float()
    follows = faces.glasses == faces.long
    return float(right.mean()), float(right[follows].mean()), float(right[~follows].mean())


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval by Student's t over the seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ({values.mean() - half:.3f} to {values.mean() + half:.3f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="an export, see README.md beside this file")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--bias", type=float, default=0.95)
    parser.add_argument("--size", type=int, default=48, help="pixels of a side that the classifier sees")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    faces, edit_of, edits, test = read_export(args.folder, args.size)
    test = test[balanced_rows(test)]
    found: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in ARMS}
    for seed in range(args.seeds):
        rows = biased_rows(faces, args.bias, np.random.default_rng(seed))
        half = np.random.default_rng(seed).permutation(rows)[: len(rows) // 2]
        both = [
            faces[some].and_also(edits[np.array([edit_of[i] for i in some if i in edit_of])]) for some in (rows, half)
        ]
        sets = (faces[rows], *both)
        for arm, chosen in zip(ARMS, sets, strict=True):
            model = train(chosen, steps=args.steps, batch=args.batch, seed=seed)
            found[arm].append(accuracies(model, test))
    print(f"{len(rows)} training faces, {len(test.glasses)} test faces, {args.seeds} seeds\n")
    print("| trained on | images | accuracy | where hair and glasses agree | where they do not |")
    print("|---|---:|---|---|---|")
    sizes = [len(chosen.glasses) for chosen in sets]
    for (arm, results), size in zip(found.items(), sizes, strict=True):
        print(f"| {arm} | {size} | {' | '.join(interval(column) for column in np.array(results).T)} |")
    gains = {arm: np.array(found[arm]).T - np.array(found["biased"]).T for arm in ARMS[1:]}
    for arm, gain in gains.items():
        print(f"| gain of {arm} | | {' | '.join(interval(column) for column in gain)} |")
    low = gains["augmented"][0].mean() - stats.t.ppf(0.975, args.seeds - 1) * stats.sem(gains["augmented"][0])
    print(f"\n{'The edits help.' if low > 0 else 'No gain is shown: its interval holds 0.'}")


if __name__ == "__main__":
    main()
