"""Train the identity network (the paper's R) as ArcFace trains (Deng et al., 2019).

    python -m examples.peeps.train_identity --build build/peeps

Who a peep is: head, facial hair, skin and the hair colour that shows. Expression, accessories, clothing and
background change nothing. A tenth of the identities is never trained on. Resumes from its checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.peeps.captions import visible_labels
from examples.peeps.domain import label_names
from examples.peeps.fit import device_of, fit
from examples.peeps.images import augment
from kernels import unit_vectors
from pipeline.models.identity import ResidualIdentity, ResidualIdentityConfig
from pipeline.pixels import from_rgb_arrays

IDENTITY = ("head", "facial_hair", "skin", "hair_color")
CONFIG = ResidualIdentityConfig(resolution=128, widths=(48, 96, 192), embed_dim=64, attributes=IDENTITY)
BATCH_RENDERS, BATCH_SAMPLES = 48, 16
LEARNING_RATE = 2e-3
SCALE, MARGIN = 24.0, 0.3  # of the paper's 64 and 0.5; there are 650 identities here, not 85,000
MARGIN_FROM = 200  # steps of plain softmax first


def identity_numbers(labels: np.ndarray) -> np.ndarray:
    """One number per row of labels [n, attributes]; equal numbers are the same peep."""
    visible = visible_labels(labels)
    names = label_names()
    number = np.zeros(len(labels), dtype=np.int64)
    for name in IDENTITY:
        number = number * 32 + visible[:, names.index(name)] + 1
    return number


def is_held_out(identities: np.ndarray) -> np.ndarray:
    """The tenth of identities that only the evaluation sees."""
    return (identities * 2654435761 % 2**32) % 10 == 0


class ArcFace(nn.Module):
    """The network and a unit vector for every training identity."""

    def __init__(self, network: ResidualIdentity, identities: int) -> None:
        super().__init__()
        self.network = network
        self.centres = nn.Parameter(torch.randn(identities, network.config.embed_dim))

    def loss(self, images: Tensor, target: Tensor, *, margin: float) -> Tensor:
        """Cross-entropy of scaled cosines, the angle to the true identity widened by ``margin`` radians."""
        cosine = self.network.embed(images) @ unit_vectors(self.centres).T
        angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        own = F.one_hot(target, cosine.shape[1]).bool()
        logits = torch.where(own, (angle + margin).clamp(max=torch.pi).cos(), cosine)
        return F.cross_entropy(SCALE * logits, target)


def embed(network: ResidualIdentity, images: np.ndarray) -> Tensor:
    """Unit embeddings [n, d] of uint8 images."""
    device = next(network.parameters()).device
    with torch.no_grad():
        return torch.cat(
            [network.embed(from_rgb_arrays(x).to(device)).cpu() for x in np.array_split(images, len(images) // 100 + 1)]
        )


def verification_auc(embedded: Tensor, labels: np.ndarray) -> float:
    """Area under the ROC curve over all pairs whose expression, accessories and clothing all differ."""
    names = label_names()
    numbers = torch.from_numpy(identity_numbers(labels))
    differs = torch.ones(len(labels), len(labels), dtype=torch.bool)
    for name in ("expression", "accessories", "clothing"):
        column = torch.from_numpy(labels[:, names.index(name)])
        differs &= column[:, None] != column[None]
    differs &= torch.ones_like(differs).triu(1).bool()
    same = (numbers[:, None] == numbers[None])[differs]
    similarity = (embedded @ embedded.T)[differs]
    rank = similarity.double().argsort().argsort().double() + 1
    positives, negatives = int(same.sum()), int((~same).sum())
    return float((rank[same].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/peeps"))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    device = device_of(args.device)
    renders = np.load(args.build / "renders/train_images.npy", mmap_mode="r")
    samples = np.load(args.build / "samples/images.npy", mmap_mode="r")
    drawn = identity_numbers(np.load(args.build / "renders/train_labels.npy"))
    made = identity_numbers(np.load(args.build / "samples/labels.npy"))
    known = np.unique(drawn[~is_held_out(drawn)])
    from_renders = np.flatnonzero(np.isin(drawn, known))
    from_samples = np.flatnonzero(np.isin(made, known))
    held_out = (
        np.load(args.build / "renders/validation_images.npy"),
        np.load(args.build / "renders/validation_labels.npy"),
    )
    torch.manual_seed(args.seed)
    model = ArcFace(ResidualIdentity(CONFIG), len(known)).to(device)

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng((args.seed, step))
        a = np.sort(rng.choice(from_renders, BATCH_RENDERS, replace=False))
        b = np.sort(rng.choice(from_samples, BATCH_SAMPLES, replace=False))
        images = augment(
            torch.cat([from_rgb_arrays(renders[a]), from_rgb_arrays(samples[b])]),
            torch.Generator().manual_seed(args.seed * 1_000_003 + step),
        )
        target = torch.from_numpy(np.searchsorted(known, np.concatenate([drawn[a], made[b]])))
        margin = MARGIN * min(1.0, max(0.0, (step - MARGIN_FROM) / MARGIN_FROM))
        return model.loss(images.to(device), target.to(device), margin=margin)

    def report() -> str:
        return f"AUC {verification_auc(embed(model.network, held_out[0]), held_out[1]):.4f}"

    checkpoint = args.build / "identity.pt"
    fit(model, loss, checkpoint=checkpoint, steps=args.steps, learning_rate=LEARNING_RATE, report=report)


if __name__ == "__main__":
    main()
