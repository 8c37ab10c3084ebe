"""Draw samples of the trained generator with their labels: what the oracle, identity network and inverter also see.

    python -m examples.peeps.sample --build build/peeps --count 6000

Truncation psi is uniform in [0.5, 1]. Writes ``samples/{images,labels,w}.npy``: uint8 [n, r, r, 3], int64
[n, attributes], float32 [n, w_dim].
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from examples.peeps.domain import ATTRIBUTES, category_edges
from examples.peeps.fit import device_of
from examples.peeps.mapping import load_generator
from pipeline.models.stylegan2 import Generator
from pipeline.pixels import to_rgb_arrays

BATCH = 20


def labels_of(z: Tensor) -> np.ndarray:
    """Category numbers [n, attributes] that z [n, z_dim] names: the intervals of its normalised coordinates."""
    unit = (z / z.square().mean(dim=1, keepdim=True).sqrt()).numpy()
    return np.stack([np.searchsorted(category_edges(i), unit[:, i]) for i in range(len(ATTRIBUTES))], axis=1)


def draw_samples(
    generator: Generator, count: int, *, seed: int, psi: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and w of ``count`` random z; psi uniform between the two given."""
    rng = torch.Generator().manual_seed(seed)
    device = generator.mapping.w_avg.device
    images, labels, latents = [], [], []
    for start in tqdm(range(0, count, BATCH), desc="sampling", mininterval=5):
        n = min(BATCH, count - start)
        z = torch.randn(n, generator.config.z_dim, generator=rng)
        kept = psi[0] + (psi[1] - psi[0]) * torch.rand(n, 1, generator=rng)
        with torch.no_grad():
            w = generator.mapping.w_avg.lerp(generator.mapping(z.to(device)), kept.to(device))
            images.append(to_rgb_arrays(generator(w)))
        labels.append(labels_of(z))
        latents.append(w.cpu().numpy())
    return np.concatenate(images), np.concatenate(labels), np.concatenate(latents)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/peeps"))
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    args = parser.parse_args()
    out = args.build / "samples"
    out.mkdir(parents=True, exist_ok=True)
    generator = load_generator(args.build).to(device_of(args.device))
    arrays = draw_samples(generator, args.count, seed=args.seed, psi=(0.5, 1.0))
    for name, array in zip(("images", "labels", "w"), arrays, strict=True):
        np.save(out / f"{name}.npy", array)


if __name__ == "__main__":
    main()
