"""Measure the pack's channel directions control by control: channels that read one number move together.

    python -m examples.peeps.measure_controls --pack pipeline/packs/peeps

The twelve channels of a colour read one score. One of them alone shows the generator what it never saw and changes
little, and not towards its colour (cosine with the colour's place 0.1 to 0.8 with either sign); all twelve together do
what the score does. So every channel of a control gets the direction of the whole control, with its own sign.
``styleclip channel-directions`` moves single channels, as the paper does, and gives shapes the same directions.
"""

import argparse
import json

import numpy as np
import torch
from tqdm import tqdm

import storage
from kernels import unit_vectors
from pipeline.directions.groups import find_channel_groups
from pipeline.directions.table import load_channel_table
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import DIRECTIONS_FILE, Pack, load_pack, write_pack
from pipeline.schemas import CHANNEL_DIRECTIONS

FIRST_SEED = 2_000_000
PSI = 0.7
STEP = 5.0  # standard deviations
SMALLEST_DIFFERENCE = 1e-5  # of unit embeddings; below it is rounding


def measure(pack: Pack, num_images: int) -> dict[str, object]:
    """Columns of the channel directions' table."""
    table = load_channel_table(pack)
    groups = find_channel_groups(pack, table)
    positions = [pack.generator.space.position(int(a), int(b)) for a, b in zip(table.layer, table.channel, strict=True)]
    seeds = range(FIRST_SEED, FIRST_SEED + num_images)
    styles = pack.generator.styles(sample_w_plus(pack.generator, seeds, psi=PSI))
    width = table.direction.shape[1]
    direction, effect = torch.zeros(groups.count, width), torch.zeros(groups.count, width)
    agreement, count = torch.zeros(groups.count), torch.zeros(groups.count, dtype=torch.int32)
    for number in tqdm(range(groups.count), mininterval=10):
        rows = torch.nonzero(groups.group == number).flatten().tolist()
        if not bool((table.std[rows] > 0).any()):
            continue
        move = torch.zeros(styles.shape[1])
        for row in rows:
            move[positions[row]] = STEP * table.std[row] * groups.sign[row]
        with torch.no_grad():
            embedded = [
                unit_vectors(pack.clip.encode_images(pack.generator.render(moved).clamp(-1, 1)))
                for moved in (styles + move, styles - move)
            ]
        unit = unit_vectors(embedded[0] - embedded[1], shortest=SMALLEST_DIFFERENCE)
        usable = unit.norm(dim=1) > 0
        count[number] = int(usable.sum())
        mean = unit.sum(dim=0) / max(1, int(usable.sum()))
        direction[number], agreement[number] = unit_vectors(mean), mean.norm()
        effect[number] = (embedded[0] - embedded[1]).mean(dim=0)
    sign = groups.sign[:, None]
    constant = (table.std == 0).tolist()
    counts = count[groups.group].tolist()
    return {
        "layer": table.layer,
        "channel": table.channel,
        "direction": list((direction[groups.group] * sign).numpy().astype(np.float32)),
        "effect": list((effect[groups.group] * sign).numpy().astype(np.float32)),
        "agreement": agreement[groups.group].tolist(),
        "count": counts,
        "status": ["constant" if c else "ok" if n else "no_effect" for c, n in zip(constant, counts, strict=True)],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="pipeline/packs/peeps")
    parser.add_argument("--num-images", type=int, default=24)
    args = parser.parse_args()
    pack = load_pack(args.pack, device="cpu")
    columns = measure(pack, args.num_images)
    width = pack.clip.encode_texts(["a face"]).shape[1]
    table = CHANNEL_DIRECTIONS.table(columns, widths={"direction": width, "effect": width})
    settings = {"first_seed": FIRST_SEED, "num_images": args.num_images, "psi": PSI, "step": STEP}
    record = {"stage": "channel_directions", "measured": "by control", "config": settings, "rows": table.num_rows}
    files = {
        DIRECTIONS_FILE: storage.table_bytes(table),
        "channel_directions.json": (json.dumps(record, indent=2) + "\n").encode(),
    }
    description = pack.description.model_dump(exclude={"files"})
    write_pack(pack.store, description, files, written=pack.description.files)


if __name__ == "__main__":
    main()
