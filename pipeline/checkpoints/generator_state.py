"""From a foreign generator's tensors, under our names, to a configuration and a state that loads strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.checkpoints.foreign_tensor import SourceTensor
from pipeline.checkpoints.tensor_ledger import TensorLedger
from pipeline.errors import CheckpointError
from pipeline.models.sampling import sample_z
from pipeline.models.stylegan2 import Generator, GeneratorConfig, MappingNetwork

Parity = Literal["nvlabs", "none"]
W_AVG_SEEDS = 10_000  # as many as NVlabs' projector averages
NOISE_SEED = 0
LARGEST_RESOLUTION = 4096


@dataclass(frozen=True)
class ImportedGenerator:
    """A generator read from a foreign checkpoint.

    Attributes:
        config: architecture.
        state: float32 tensors by our names; loads strictly into ``Generator(config)``.
        unused: tensors of the file that were left out on purpose, by the file's names.
        notes: what was decided on the way, for the pack's record; JSON values.
    """

    config: GeneratorConfig
    state: dict[str, Tensor]
    unused: tuple[str, ...]
    notes: dict[str, Any] = field(default_factory=dict)


def assemble_generator(
    tensors: Mapping[str, SourceTensor],
    *,
    source: str,
    conv_clamp: float | None = None,
    num_fp16_res: int = 0,
    notes: Mapping[str, Any] | None = None,
) -> ImportedGenerator:
    """Infer the configuration from the shapes and give every tensor its place.

    A missing ``mapping.w_avg`` is estimated as the mean w of seeds 0 to 9,999, and missing noise images are drawn
    from seed 0; both are noted.

    Args:
        tensors: by our names; ``resample_filter`` entries may be among them.
        source: name of the file, for messages.
        conv_clamp: see ``GeneratorConfig``.
        num_fp16_res: see ``GeneratorConfig``.
        notes: to be kept with the result.
    Raises:
        CheckpointError: if a tensor is missing, misshapen or without a place.
    """
    ledger = TensorLedger(tensors, source=source)
    config = replace(_infer_config(ledger), conv_clamp=conv_clamp, num_fp16_res=num_fp16_res)
    found = dict(notes or {})
    state: dict[str, Tensor] = {}
    random = torch.Generator().manual_seed(NOISE_SEED)
    for name, shape in _expected_shapes(config).items():
        is_noise = name.endswith(("noise_const", "noise_strength"))
        if is_noise and not config.noise:
            state[name] = torch.zeros(shape)
        elif name.endswith("noise_const") and name not in ledger:
            state[name] = torch.randn(shape, generator=random)
            found["noise"] = f"not in the file; drawn from seed {NOISE_SEED}"
        elif name != "mapping.w_avg" or name in ledger:
            state[name] = ledger.take(name, shape)
    ledger.leave_out(lambda name: name.endswith("resample_filter"))
    unused = ledger.close()
    if "mapping.w_avg" not in state:
        state["mapping.w_avg"] = estimate_w_avg(config, state)
        found["w_avg"] = f"not in the file; mean of w over seeds 0 to {W_AVG_SEEDS - 1}"
    return ImportedGenerator(config, state, unused, found)


def estimate_w_avg(config: GeneratorConfig, state: Mapping[str, Tensor]) -> Tensor:
    """Mean of w over z of seeds 0 to 9,999, [w_dim]."""
    network = MappingNetwork(config)
    weights = {k.removeprefix("mapping."): v for k, v in state.items() if k.startswith("mapping.fc")}
    network.load_state_dict({**weights, "w_avg": torch.zeros(config.w_dim)}, strict=True)
    with torch.no_grad():
        total = torch.zeros(config.w_dim, dtype=torch.float64)
        for start in range(0, W_AVG_SEEDS, 1000):
            total += network(sample_z(range(start, start + 1000), config.z_dim)).double().sum(dim=0)
    return (total / W_AVG_SEEDS).float()


def _expected_shapes(config: GeneratorConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Generator(config).state_dict().items()}


def _infer_config(ledger: TensorLedger) -> GeneratorConfig:
    """Resolution, channels, mapping and noise from the shapes alone."""
    resolution = 4
    while f"synthesis.b{resolution * 2}.conv1.weight" in ledger and resolution < LARGEST_RESOLUTION:
        resolution *= 2
    if resolution < 8:
        if (
            not any(name.startswith("synthesis.b8.") for name in ledger.tensors)
            and "synthesis.b4.conv1.weight" in ledger
        ):
            raise CheckpointError(
                f"{ledger.source}: a generator must draw 8 px or more; this one is whole and draws 4 px. "
                f"So small a one is not supported."
            )
        ledger.shape("synthesis.b8.conv1.weight")
    sizes = [2**i for i in range(2, resolution.bit_length())]
    widths = {r: _axis(ledger, f"synthesis.b{r}.conv1.weight", 0) for r in sizes}
    depth = 0
    while f"mapping.fc{depth}.weight" in ledger:
        depth += 1
    if depth == 0:
        ledger.shape("mapping.fc0.weight")
    w_dim = _axis(ledger, f"mapping.fc{depth - 1}.weight", 0)
    hidden = _axis(ledger, "mapping.fc0.weight", 0)
    base, largest = infer_channels(widths)
    return GeneratorConfig(
        resolution=resolution,
        channel_base=base,
        channel_max=largest,
        z_dim=_axis(ledger, "mapping.fc0.weight", 1),
        w_dim=w_dim,
        mapping_layers=depth,
        mapping_dim=None if hidden == w_dim else hidden,
        noise="synthesis.b4.conv1.noise_strength" in ledger,
    )


def _axis(ledger: TensorLedger, name: str, axis: int) -> int:
    shape = ledger.shape(name)
    if len(shape) <= axis or shape[axis] < 1:
        raise CheckpointError(
            f"{ledger.source}: {name} must have more than {axis} axes, none empty; got {list(shape)}. "
            f"The file is damaged."
        )
    return shape[axis]


def infer_channels(widths: Mapping[int, int]) -> tuple[int, int]:
    """(channel_base, channel_max) with ``widths[r] = min(channel_base // r, channel_max)`` for every resolution r.

    Several bases can give the same widths; the smallest is taken. Where none fits, the widest layer and the highest
    resolution decide, and the layers that differ are found when their shapes are compared.
    """
    largest = max(widths.values())
    low, high = 0, None
    for resolution, width in widths.items():
        low = max(low, width * resolution)
        if width < largest:
            top = width * resolution + resolution - 1
            high = top if high is None else min(high, top)
    if high is None or low <= high:
        return low, largest
    last = max(widths)
    return widths[last] * last, largest
