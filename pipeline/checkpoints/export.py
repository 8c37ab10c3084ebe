"""Our generator in the forms that other tools read.

``rosinality``: ``{"g_ema", "latent_avg"}``, which stylegan2-pytorch loads strictly. ``nvlabs-state``: the state dict of
NVlabs' Generator and the arguments to build it with; their pickle itself holds code, which we do not write.
"""

import io
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from kernels import binomial_filter
from pipeline.errors import PackError
from pipeline.models.stylegan2 import Generator
from pipeline.style_space import StyleLayer

ExportFormat = Literal["rosinality", "nvlabs-state"]
ROSINALITY_WIDEST, ROSINALITY_BASE, ROSINALITY_FLAT = 512, 16384, 32  # channels up to 32 px are 512 there


def export_generator(generator: Generator, export_format: ExportFormat) -> tuple[bytes, str]:
    """The generator as a file of ``torch.save``.

    Args:
        generator: ours.
        export_format: see the module.
    Returns:
        the file's contents, and how the other tool has to build its network, as one line.
    Raises:
        PackError: if the format cannot hold this architecture.
    """
    make: Callable[[Generator], tuple[dict[str, Any], str]] = {
        "rosinality": _rosinality,
        "nvlabs-state": _nvlabs_state,
    }[export_format]
    content, advice = make(generator)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue(), advice


def _state(generator: Generator) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}


def _rosinality(generator: Generator) -> tuple[dict[str, Any], str]:
    config, state = generator.config, _state(generator)
    if {config.z_dim, config.mapping_dim or config.w_dim} != {config.w_dim}:
        raise PackError(
            f"rosinality's mapping has one width for z, w and all between; got z_dim={config.z_dim}, "
            f"mapping_dim={config.mapping_dim}, w_dim={config.w_dim}. Use --format nvlabs-state."
        )
    taps = binomial_filter()
    kernel = torch.outer(taps, taps) * 4
    out: dict[str, Tensor] = {"input.input": state["synthesis.b4.const"][None]}
    for i in range(config.mapping_layers):
        for name in ("weight", "bias"):
            out[f"style.{i + 1}.{name}"] = state[f"mapping.fc{i}.{name}"]
    for layer in generator.space.layers:
        ours, theirs = f"synthesis.{layer.name}", _rosinality_name(layer)
        out[f"{theirs}.conv.weight"] = state[f"{ours}.weight"][None]
        for name in ("weight", "bias"):
            out[f"{theirs}.conv.modulation.{name}"] = state[f"{ours}.affine.{name}"]
        if layer.is_torgb:
            out[f"{theirs}.bias"] = state[f"{ours}.bias"].reshape(1, 3, 1, 1)
            if layer.resolution > 4:
                out[f"{theirs}.upsample.kernel"] = kernel.clone()
            continue
        out[f"{theirs}.activate.bias"] = state[f"{ours}.bias"]
        out[f"{theirs}.noise.weight"] = state[f"{ours}.noise_strength"].reshape(1)
        number = 2 * int(math.log2(layer.resolution)) - (5 if layer.kind == "conv0" else 4)
        out[f"noises.noise_{number}"] = state[f"{ours}.noise_const"][None, None]
        if layer.kind == "conv0":
            out[f"{theirs}.conv.blur.kernel"] = kernel.clone()
    return {"g_ema": out, "latent_avg": state["mapping.w_avg"]}, rosinality_arguments(generator)


def _rosinality_name(layer: StyleLayer) -> str:
    block = int(math.log2(layer.resolution)) - 3
    if block < 0:
        return {"conv1": "conv1", "torgb": "to_rgb1"}[layer.kind]
    return f"to_rgbs.{block}" if layer.is_torgb else f"convs.{2 * block + (layer.kind == 'conv1')}"


def rosinality_arguments(generator: Generator) -> str:
    """How stylegan2-pytorch builds a network of our channels; where its own table has others, with those set."""
    config, space = generator.config, generator.space
    sizes = sorted({layer.resolution for layer in space.layers})
    ours = {r: space.channels(r) for r in sizes}
    multiplier = f"1) with its table of channels set to {ours}"
    for m in (1, 2):
        if ours == {r: ROSINALITY_WIDEST if r <= ROSINALITY_FLAT else ROSINALITY_BASE * m // r for r in sizes}:
            multiplier = f"{m})"
    return f"Generator({config.resolution}, {config.w_dim}, {config.mapping_layers}, channel_multiplier={multiplier}"


def _nvlabs_state(generator: Generator) -> tuple[dict[str, Any], str]:
    config, state = generator.config, _state(generator)
    taps = binomial_filter()
    for layer in generator.space.layers:
        if not layer.is_torgb:
            state[f"synthesis.{layer.name}.resample_filter"] = torch.outer(taps, taps)
        state[f"synthesis.b{layer.resolution}.resample_filter"] = torch.outer(taps, taps)
    arguments = {
        "z_dim": config.z_dim,
        "c_dim": 0,
        "w_dim": config.w_dim,
        "img_resolution": config.resolution,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": config.mapping_layers, "layer_features": config.mapping_dim},
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
        "num_fp16_res": config.num_fp16_res,
        "conv_clamp": config.conv_clamp,
    }
    advice = "training.networks_stylegan2.Generator(**file['init_kwargs']).load_state_dict(file['G_ema'])"
    return {"G_ema": state, "init_kwargs": arguments}, advice
