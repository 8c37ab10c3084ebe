"""The augmentation example on faces of a few pixels: hair is the upper half's colour, glasses a dark bar."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import storage

ROOT = Path(__file__).parents[2]
NAMES = {"accessories": ["none", "glasses", "eyepatch"], "head": ["bald", "long"]}


def face(glasses: int, long: int, dice: np.random.Generator) -> dict:
    image = dice.integers(190, 230, (24, 24, 3), dtype=np.uint8)
    image[:8] = (40, 40, 200) if long else (230, 160, 40)
    if glasses:
        image[12:14, 6:18] = 0
    return storage.image_struct(storage.encode_png(image), "face.png")


def rows_of(number: int, split: str, dice: np.random.Generator) -> list[dict]:
    rows = []
    for i in range(number):
        name, glasses, long = f"{split}-{i}", i % 2, i // 2 % 2
        about = {"pair_id": name, "original_id": f"{name}__original", "accept": True}
        about |= {"before_accessories": glasses, "head": long, "before_head": long}
        for accessories, kind in ((glasses, "original"), (1 - glasses, "edit")):
            image = face(accessories, long, dice)
            rows.append({**about, "image_id": f"{name}__{kind}", "accessories": accessories, "image": image})
    return rows


@pytest.fixture
def export(tmp_path: Path) -> Path:
    dice = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for split, number in (("train", 160), ("test", 40)):
        frame = pd.DataFrame(rows_of(number, split, dice))
        frame.to_parquet(tmp_path / f"data/{split}-00000-of-00001.parquet")
    (tmp_path / "labels.json").write_text(json.dumps(NAMES))
    return tmp_path


def test_augmentation_example_shows_its_gain_with_intervals(export: Path):
    command = [sys.executable, str(ROOT / "examples/augmentation/train.py"), str(export)]
    command += ["--seeds", "3", "--size", "24", "--steps", "40", "--bias", "1.0"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    rows = dict(re.findall(r"^\| ([^|]+) \| \d+ \| (.*) \|$", found.stdout, flags=re.MULTILINE))
    means = {arm: [float(cell.split(" ")[0]) for cell in cells.split(" | ")] for arm, cells in rows.items()}
    assert means["biased"][1] > 0.9  # it learnt the hair
    assert means["biased"][2] < 0.5
    assert means["augmented"][2] > means["biased"][2] + 0.3
    assert "| gain of augmented |" in found.stdout
