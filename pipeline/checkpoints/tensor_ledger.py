"""Strict accounts of a checkpoint's tensors: each is used, or listed as left out on purpose, or an error."""

from collections.abc import Callable, Mapping

from torch import Tensor

from pipeline.checkpoints.foreign_tensor import SourceTensor
from pipeline.errors import CheckpointError

SHOWN = 4  # names in a message


class TensorLedger:
    """Tensors by their name in our network, and which of them have been used.

    Args:
        tensors: the checkpoint's tensors by our names.
        source: name of the file, for messages.
    """

    def __init__(self, tensors: Mapping[str, SourceTensor], *, source: str) -> None:
        self.tensors = dict(tensors)
        self.source = source
        self.unused: list[str] = []
        self._open = set(self.tensors)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            CheckpointError: if the checkpoint does not have it.
        """
        return self._found(name).shape

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor in float32, which from now on counts as used.

        Raises:
            CheckpointError: if it is missing or of another shape.
        """
        tensor = self._found(name)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{self.source}: {tensor.key} must be {list(shape)}; got {list(tensor.shape)}. "
                f"{_likely_cause(name, tensor.shape, shape)}"
            )
        self._open.discard(name)
        return tensor.load().float()

    def leave_out(self, is_useless: Callable[[str], bool]) -> None:
        """List tensors as left out on purpose, by our name."""
        useless = sorted(name for name in self._open if is_useless(name))
        self.unused += [self.tensors[name].key for name in useless]
        self._open.difference_update(useless)

    def close(self) -> tuple[str, ...]:
        """Names, in the file, of what was left out.

        Raises:
            CheckpointError: if a tensor was neither used nor left out.
        """
        if self._open:
            keys = sorted(self.tensors[name].key for name in self._open)
            raise CheckpointError(
                f"{self.source}: every tensor must have a place in the network; {len(keys)} have none: "
                f"{', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''}. "
                f"The file is of a variant of the architecture that is not supported."
            )
        return tuple(self.unused)

    def _found(self, name: str) -> SourceTensor:
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.source}: must hold {name} (or what its format calls it); it does not. "
                f"It is of another architecture, or not the whole network."
            )
        return self.tensors[name]


def _likely_cause(name: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What usually stands behind a shape of this kind."""
    if name.endswith("noise_const"):
        return "Likely cause: another resolution."
    if name.endswith("torgb.weight") and got[:1] != wanted[:1]:
        return "Likely cause: images with another number of channels than RGB's three."
    if len(got) == len(wanted) and all(a == b or max(a, b) % min(a, b) == 0 for a, b in zip(got, wanted, strict=True)):
        if name.startswith("layer"):  # of a mapper in StyleSpace
            return "It belongs to a generator of another channel_base or channel_max."
        return "Likely cause: another channel_base, channel_max or resolution than its other layers."
    return "Likely cause: another architecture."
