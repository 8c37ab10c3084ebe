"""A small change of a generator's weights, for one image; its style vectors stay what they were.

Changed are the convolutions' weights and biases and the learned constant, not the affine layers: a latent's style
vector, and with it every edit in StyleSpace, means the same in the changed generator.

Letters: o channels out, f weights that a channel out has, r rank.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.models.stylegan2 import Generator

LEFT, RIGHT = ".left", ".right"
STORED = torch.float16


class TunedGenerator(Generator):
    """A generator with a delta in it: drawn with a few times, so not worth preparing a plan for."""


@dataclass(frozen=True)
class GeneratorDelta:
    """What is added to a generator's tensors.

    Attributes:
        parts: by the tensor's name in ``Generator.synthesis``: what is added to it, or, with ``.left`` [o, r] and
            ``.right`` [r, f] behind the name, two factors of it.
    """

    parts: Mapping[str, Tensor]

    @classmethod
    def zero(cls, generator: Generator, rank: int, *, rng: torch.Generator) -> "GeneratorDelta":
        """A delta that changes nothing yet, its right factors drawn at random with a variance of 1 / rank.

        Args:
            generator: what it is of.
            rank: of what is added to a weight; where factors would not be smaller, and with 0, it is added whole.
            rng: on the CPU.
        """
        parts: dict[str, Tensor] = {}
        for name, tensor in _tuned(generator):
            rows, columns = tensor.shape[0], tensor[0].numel()
            if tensor.ndim == 4 and rank > 0 and rank * (rows + columns) < rows * columns:
                parts[name + LEFT] = tensor.new_zeros(rows, rank)
                parts[name + RIGHT] = torch.randn(rank, columns, generator=rng).to(tensor) / rank**0.5
            else:
                parts[name] = torch.zeros_like(tensor)
        return cls(parts)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], *, device: torch.device | str) -> "GeneratorDelta":
        """The inverse of ``arrays``."""
        return cls({name: torch.from_numpy(array).to(device, torch.float32) for name, array in arrays.items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """As it is stored, in half precision."""
        return {name: part.detach().to("cpu", STORED).contiguous().numpy() for name, part in self.parts.items()}

    def copied(self) -> "GeneratorDelta":
        """As it is now, apart from what becomes of its parts."""
        return GeneratorDelta({name: part.detach().clone() for name, part in self.parts.items()})

    def changed(self, generator: Generator) -> dict[str, Tensor]:
        """The tensors of ``Generator.synthesis`` with the delta added; differentiable in the parts.

        Raises:
            ValueError: if the delta is of a generator of another architecture.
        """
        found: dict[str, Tensor] = {}
        try:
            for name, tensor in _tuned(generator):
                if name in self.parts:
                    found[name] = tensor + self.parts[name]
                else:
                    found[name] = tensor + (self.parts[name + LEFT] @ self.parts[name + RIGHT]).view_as(tensor)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"a delta must be of this generator; it is of another: {error}.") from error
        return found


def delta_bytes(generator: Generator, rank: int) -> int:
    """How much a delta's numbers take when stored, whatever the image."""
    parts = GeneratorDelta.zero(generator, rank, rng=torch.Generator()).parts
    return STORED.itemsize * sum(part.numel() for part in parts.values())


def tuned_generator(generator: Generator, delta: GeneratorDelta) -> TunedGenerator:
    """The generator with a delta added; what the delta leaves alone is not copied."""
    with torch.device("meta"):
        tuned = TunedGenerator(generator.config)
    with torch.no_grad():
        changed = {f"synthesis.{name}": tensor for name, tensor in delta.changed(generator).items()}
    tuned.load_state_dict({**generator.state_dict(), **changed}, strict=True, assign=True)
    tuned = tuned.to(generator.mapping.w_avg.device)  # the filters, which no state holds
    return tuned.eval().requires_grad_(False)


def _tuned(generator: Generator) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a delta changes, in a fixed order."""
    for name, tensor in generator.synthesis.named_parameters():
        if ".affine." not in name and name.rpartition(".")[2] in ("weight", "bias", "const"):
            yield name, tensor
