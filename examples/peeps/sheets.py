"""Pictures of what the pack draws: 64 samples, 16 interpolations in w, 16 reconstructions.

python -m examples.peeps.sheets --pack pipeline/packs/peeps --out examples/peeps
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from examples.peeps.evaluate import FIRST_SEED, TEST_SEED, batched, draw_test_set
from examples.peeps.render import sample_split
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack, load_pack
from pipeline.pixels import to_rgb_arrays

TILE = 80
STEPS = 8  # of an interpolation


def tile(images: Tensor, columns: int) -> Image.Image:
    """Images [n, 3, r, r] in [-1, 1] in rows of ``columns``, ``TILE`` px each."""
    small = F.interpolate(images, size=(TILE, TILE), mode="bilinear", antialias=True)
    pixels = to_rgb_arrays(small).reshape(-1, columns, TILE, TILE, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(np.ascontiguousarray(pixels.reshape(-1, columns * TILE, 3)))


def samples(pack: Pack) -> Image.Image:
    """Sixty-four samples at psi 0.7."""
    return tile(batched(pack.generator, sample_w_plus(pack.generator, range(64), psi=0.7)), 8)


def interpolations(pack: Pack) -> Image.Image:
    """Sixteen straight lines in w between two samples, two to a row."""
    ends = sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + 32), psi=0.7)
    steps = torch.linspace(0, 1, STEPS).reshape(1, STEPS, 1, 1)
    w = ends[:16, None].lerp(ends[16:, None], steps).flatten(0, 1)
    return tile(batched(pack.generator, w), 2 * STEPS)


def reconstructions(pack: Pack) -> Image.Image:
    """Sixteen held-out drawings, each above what the generator makes of its inversion."""
    drawings = draw_test_set(sample_split(16, TEST_SEED, validation=True))
    made = batched(lambda x: pack.generator(pack.inverter.invert(x)), drawings)
    return tile(torch.stack([drawings.unflatten(0, (2, 8)), made.unflatten(0, (2, 8))], dim=1).flatten(0, 2), 8)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or folder")
    parser.add_argument("--out", type=Path, default=Path("examples/peeps"))
    args = parser.parse_args()
    pack = load_pack(args.pack, device="cpu")
    for sheet in (samples, interpolations, reconstructions):
        sheet(pack).quantize(128).save(args.out / f"{sheet.__name__}.png", optimize=True)


if __name__ == "__main__":
    main()
