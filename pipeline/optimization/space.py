"""The spaces in which a latent is searched for: w, w_plus, styles.

Letters: n sample, l row of w_plus, d w_dim, s style channel, x the optimised vector.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import SynthesisPlan

SpaceName = Literal["w", "w_plus", "styles"]


class LatentSpace:
    """The optimised vector of a space: how it becomes styles, and which entries may move.

    Args:
        generator: whose space it is.
        name: w is w_plus with one move for all rows.
        plan: how its vectors are rendered; None runs the modules as they are.

    Attributes:
        mean: the mean latent as a vector of the space.
        movable: 1 where an entry may move, else 0.
    """

    def __init__(self, generator: Generator, name: SpaceName, *, plan: SynthesisPlan | None = None) -> None:
        self.generator, self.name, self.plan = generator, name, plan
        with torch.no_grad():
            mean = generator.mapping.w_avg.expand(1, generator.space.num_ws, -1)
            self.mean = self.of_latent(mean)
        self.movable = torch.ones_like(self.mean)
        if name == "styles":
            for layer in generator.space.layers:
                self.movable[layer.slice] = float(not layer.is_torgb)

    def of_latent(self, w_plus: Float[Tensor, "1 l d"]) -> Float[Tensor, "x"]:
        """A latent as a flat vector of the space."""
        return (self.generator.styles(w_plus) if self.name == "styles" else w_plus).reshape(-1)

    def styles(self, vectors: Float[Tensor, "n x"]) -> Float[Tensor, "n s"]:
        """Vectors as style vectors."""
        if self.name == "styles":
            return vectors
        return self.generator.styles(vectors.view(len(vectors), self.generator.space.num_ws, -1))

    def tied(self, entries: Float[Tensor, "x"]) -> Float[Tensor, "x"]:
        """Entries as the space allows them: in w the first row's, for all rows."""
        if self.name != "w":
            return entries
        rows = entries.view(self.generator.space.num_ws, -1)
        return rows[:1].expand_as(rows).reshape(-1)

    def of_gradient(self, gradient: Float[Tensor, "x"]) -> Float[Tensor, "x"]:
        """A gradient as the space allows it: 0 where nothing may move; in w the sum over the rows, for all rows."""
        if self.name != "w":
            return gradient * self.movable
        rows = gradient.view(self.generator.space.num_ws, -1)
        return rows.sum(dim=0).expand_as(rows).reshape(-1)

    def noise(self, source: Float[Tensor, "x"], rng: torch.Generator) -> Float[Tensor, "x"]:
        """Noise within the space, of the source's distance from the mean, root mean square over the entries."""
        scale = (source - self.mean).square().mean().sqrt()
        return scale * self.tied(torch.randn(source.shape, generator=rng).to(source)) * self.movable
