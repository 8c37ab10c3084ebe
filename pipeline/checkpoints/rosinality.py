"""Generators of rosinality's stylegan2-pytorch (.pt), converted from NVlabs or trained with it.

The file holds ``g_ema`` and, if it was converted, ``latent_avg``; one from training has the optimiser's state and no
``latent_avg``. e4e and pSp carry the same network as ``decoder.*``.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from kernels import binomial_filter
from pipeline.checkpoints.foreign_tensor import ForeignTensor, SourceTensor
from pipeline.checkpoints.generator_state import ImportedGenerator, assemble_generator
from pipeline.checkpoints.pickle_globals import as_tensor
from pipeline.errors import CheckpointError
from pipeline.models.stylegan2 import MAPPING_LR_MULTIPLIER

USUAL_LR = (1.0, 0.1, MAPPING_LR_MULTIPLIER, 0.001)  # of the mapping; its weights start with spread 1 / lr
STYLED = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
}
TO_RGB = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "bias": "bias",
}
KERNEL = r"(convs\.\d{1,2}\.conv\.blur|to_rgbs\.\d{1,2}\.upsample)\.kernel"


def read_rosinality(tree: Any, *, source: str, mapping_lr: float | None = None) -> ImportedGenerator:
    """The generator of an unpickled rosinality file: its ``g_ema``, or a bare state of one.

    Args:
        tree: from ``read_foreign_file``.
        source: name of the file, for messages.
        mapping_lr: ``lr_mlp`` that it was trained with, above 0; the file does not say. None means 0.01, rosinality's
            own value; where the weights' spread speaks for another, the notes say so.
    Raises:
        CheckpointError: if it is no such file or a tensor does not fit.
    """
    if not isinstance(tree, dict):
        raise CheckpointError(f"{source}: a rosinality file must hold a dict with g_ema; got another thing.")
    state = tree.get("g_ema", tree)
    state = state if isinstance(state, dict) else {}
    if "conv1.conv.weight" not in state:
        keys = ", ".join(str(k) for k in list(tree)[:6])
        raise CheckpointError(
            f"{source}: a rosinality file must hold g_ema with conv1.conv.weight; got {keys or 'nothing'}. "
            f"Try another --format."
        )
    tensors = {}
    for key, value in state.items():
        tensor = as_tensor(value)
        if tensor is not None:
            tensors[str(key)] = SourceTensor.of(str(key), tensor)
    average = as_tensor(tree.get("latent_avg"))
    notes: dict[str, Any] = {"class_name": "rosinality"}
    named = to_our_names(tensors, average, source=source)
    if mapping_lr is not None:
        named = _with_mapping_lr(named, mapping_lr)
        notes["mapping_lr"] = mapping_lr
    elif doubt := _doubt_of_mapping_lr(named):
        notes["mapping_lr"] = doubt
    return assemble_generator(named, source=source, notes=notes)


def _with_mapping_lr(tensors: Mapping[str, SourceTensor], rate: float) -> dict[str, SourceTensor]:
    """A mapping of another learning rate multiplier brought to ours, which scales weights and biases at run time."""
    factor = rate / MAPPING_LR_MULTIPLIER
    return {
        name: tensor.changed(tensor.shape, lambda t: t.float() * factor) if name.startswith("mapping.fc") else tensor
        for name, tensor in tensors.items()
    }


def _doubt_of_mapping_lr(tensors: Mapping[str, SourceTensor]) -> str | None:
    """A warning where the mapping weights' spread is nearer to that of another usual ``lr_mlp`` than 0.01's."""
    weights = [tensor for name, tensor in tensors.items() if re.fullmatch(r"mapping\.fc\d+\.weight", name)]
    spreads = sorted(float(tensor.load().float().std()) for tensor in weights)
    if not spreads or not 0 < spreads[len(spreads) // 2] < math.inf:
        return None
    spread = spreads[len(spreads) // 2]
    nearest = min(USUAL_LR, key=lambda rate: abs(math.log(spread * rate)))
    if nearest == MAPPING_LR_MULTIPLIER:
        return None
    return (
        f"taken as {MAPPING_LR_MULTIPLIER:g}, but the mapping weights spread by {spread:.2g}, as after training with "
        f"lr_mlp {nearest:g}: look at preview.png, and if it is off, import again with --mapping-lr {nearest:g}"
    )


def to_our_names(
    tensors: Mapping[str, SourceTensor], latent_avg: ForeignTensor | None, *, source: str
) -> dict[str, SourceTensor]:
    """Rosinality's tensors under our names and in our layouts; the values are the same.

    Args:
        tensors: by rosinality's names.
        latent_avg: [w_dim], or [num_ws, w_dim] of equal rows as encoders store it; None where the file has none.
        source: name of the file, for messages.
    Raises:
        CheckpointError: if a kernel is not rosinality's own or a tensor cannot have its shape.
    """
    out: dict[str, SourceTensor] = {}
    for key, tensor in tensors.items():
        if re.fullmatch(KERNEL, key):
            _check_kernel(tensor, source)
            out[f"{key}.resample_filter"] = tensor
            continue
        name, made = _ours(key, tensor)
        out[name] = made
    if latent_avg is not None:
        average = SourceTensor.of("latent_avg", latent_avg)
        rows = average.shape[-1] if average.shape else 0
        out["mapping.w_avg"] = average.changed((rows,), lambda t: t.reshape(-1, rows)[0])
    return out


def _ours(key: str, tensor: SourceTensor) -> tuple[str, SourceTensor]:
    """Our name and layout of one tensor; an unknown one keeps its name, and will be reported as having no place."""
    if found := re.fullmatch(r"style\.(\d{1,2})\.(weight|bias)", key):
        return f"mapping.fc{int(found[1]) - 1}.{found[2]}", tensor
    if key == "input.input":
        return "synthesis.b4.const", tensor.reshaped(*tensor.shape[1:])
    if found := re.fullmatch(r"noises\.noise_(\d{1,2})", key):
        return f"{_convolution(int(found[1]) - 1)}.noise_const", tensor.reshaped(*tensor.shape[2:])
    if found := re.fullmatch(r"(conv1|convs\.(\d{1,2}))\.(.+)", key):
        index = -1 if found[2] is None else int(found[2])
        layer, fields, rest = _convolution(index), STYLED, found[3]
    elif found := re.fullmatch(r"(to_rgb1|to_rgbs\.(\d{1,2}))\.(.+)", key):
        block = 4 if found[2] is None else 2 ** (int(found[2]) + 3)
        layer, fields, rest = f"synthesis.b{block}.torgb", TO_RGB, found[3]
    else:
        return key, tensor
    if rest not in fields:
        return key, tensor
    if rest == "conv.weight":
        tensor = tensor.reshaped(*tensor.shape[1:])
    elif rest == "noise.weight":
        tensor = tensor.reshaped()
    elif rest == "bias":
        tensor = tensor.reshaped(*tensor.shape[1:2])
    return f"{layer}.{fields[rest]}", tensor


def _convolution(index: int) -> str:
    """Our name of ``convs.<index>``; -1 is ``conv1``."""
    if index < 0:
        return "synthesis.b4.conv1"
    return f"synthesis.b{2 ** (min(index, 40) // 2 + 3)}.conv{index % 2}"


def _check_kernel(tensor: SourceTensor, source: str) -> None:
    taps = binomial_filter()
    got, wanted = tensor.load().float(), torch.outer(taps, taps) * 4
    if got.shape != wanted.shape or not torch.allclose(got, wanted, atol=1e-6):
        raise CheckpointError(
            f"{source}: {tensor.key} must be the kernel of [1, 3, 3, 1] with sum 4; got another one, of shape "
            f"{list(tensor.shape)}. Other blur kernels are not supported."
        )
