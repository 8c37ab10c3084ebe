"""What the readers of e4e's encoder and of ``model_ir_se50.pth`` share: their tensors matched name by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from pipeline.checkpoints.foreign_tensor import SourceTensor
from pipeline.checkpoints.pickle_globals import as_tensor
from pipeline.checkpoints.tensor_ledger import TensorLedger

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class ImportedNetwork(Generic[Config]):
    """A network read from a foreign checkpoint.

    Attributes:
        config: architecture and use.
        state: float32 tensors by our names; loads strictly.
        unused: tensors of the file that were left out on purpose, by the file's names.
        notes: what was decided on the way, for the pack's record; JSON values.
    """

    config: Config
    state: dict[str, Tensor]
    unused: tuple[str, ...]
    notes: dict[str, Any] = field(default_factory=dict)


def source_tensors(entries: Mapping[Any, Any], *, prefix: str = "") -> dict[str, SourceTensor]:
    """The tensors among a dict's entries whose key starts with ``prefix``, by their key without it."""
    found = {}
    for key, value in entries.items():
        tensor = as_tensor(value)
        if tensor is not None and isinstance(key, str) and key.startswith(prefix):
            found[key.removeprefix(prefix)] = SourceTensor.of(key, tensor)
    return found


def matched_state(
    network: nn.Module, ledger: TensorLedger, *, without: frozenset[str] = frozenset()
) -> dict[str, Tensor]:
    """Every tensor that ``network`` wants, by name, from the ledger.

    Args:
        network: of the right architecture, its weights of no matter (it may be on the meta device).
        ledger: the checkpoint's tensors by our names.
        without: names that the caller fills in.
    Raises:
        CheckpointError: if one is missing or misshapen.
    """
    state = {}
    for name, wanted in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
        elif name not in without:
            state[name] = ledger.take(name, tuple(wanted.shape))
    ledger.leave_out(lambda name: name.endswith("num_batches_tracked"))
    return state
