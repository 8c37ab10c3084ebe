"""IR-SE50 and the e4e encoder as plain functions of a state dict, written from the papers; and their files."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
UNITS = (
    [(64, 64)] * 3 + [(64, 128)] + [(128, 128)] * 3 + [(128, 256)] + [(256, 256)] * 13 + [(256, 512)] + [(512, 512)] * 2
)
FIRST = (0, 3, 7, 21)  # units with stride 2


class Maker:
    """Random tensors by name, scaled so that activations stay of order 1."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def weight(self, name: str, *shape: int) -> None:
        bound = math.sqrt(3 / math.prod(shape[1:]))
        self.state[name] = torch.empty(shape).uniform_(-bound, bound, generator=self.random)

    def vector(self, name: str, size: int, *, around: float = 0.0) -> None:
        self.state[name] = around + 0.1 * torch.randn(size, generator=self.random)

    def norm(self, name: str, size: int) -> None:
        for field, around in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
            self.vector(f"{name}.{field}", size, around=around)
        self.state[f"{name}.running_var"] = 0.5 + torch.rand(size, generator=self.random)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(1000)

    def body(self) -> None:
        self.weight("input_layer.0.weight", 64, 3, 3, 3)
        self.norm("input_layer.1", 64)
        self.vector("input_layer.2.weight", 64, around=0.25)
        for i, (num_in, num_out) in enumerate(UNITS):
            if num_in != num_out:
                self.weight(f"body.{i}.shortcut_layer.0.weight", num_out, num_in, 1, 1)
                self.norm(f"body.{i}.shortcut_layer.1", num_out)
            unit = f"body.{i}.res_layer"
            self.norm(f"{unit}.0", num_in)
            self.weight(f"{unit}.1.weight", num_out, num_in, 3, 3)
            self.vector(f"{unit}.2.weight", num_out, around=0.25)
            self.weight(f"{unit}.3.weight", num_out, num_out, 3, 3)
            self.norm(f"{unit}.4", num_out)
            self.weight(f"{unit}.5.fc1.weight", num_out // 16, num_out, 1, 1)
            self.weight(f"{unit}.5.fc2.weight", num_out, num_out // 16, 1, 1)


def ir_se50_state() -> State:
    maker = Maker(0)
    maker.body()
    maker.norm("output_layer.0", 512)
    maker.weight("output_layer.3.weight", 512, 512 * 7 * 7)
    maker.vector("output_layer.3.bias", 512)
    maker.norm("output_layer.4", 512)
    return maker.state


def e4e_state(num_ws: int) -> State:
    """Tensors of the encoder, without the prefix; values that half precision holds exactly."""
    maker = Maker(1)
    maker.body()
    maker.weight("base", 512, 512, 3, 3)
    base = maker.state.pop("base").half()
    for i in range(num_ws):
        steps = 4 if i < 3 else 5 if i < 7 else 6
        for k in range(steps):
            maker.state[f"styles.{i}.convs.{2 * k}.weight"] = base.roll((7 * i + k, i, k), dims=(0, 1, 2))
            maker.vector(f"styles.{i}.convs.{2 * k}.bias", 512)
        maker.state[f"styles.{i}.linear.weight"] = torch.randn(512, 512, generator=maker.random)
        maker.vector(f"styles.{i}.linear.bias", 512)
    for name, width in (("latlayer1", 256), ("latlayer2", 128)):
        maker.weight(f"{name}.weight", 512, width, 1, 1)
        maker.vector(f"{name}.bias", 512)
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in maker.state.items()}


# ------------------------------------------------------------------ forward passes


def norm(x: Tensor, state: State, name: str) -> Tensor:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var = state[f"{name}.running_mean"].reshape(shape), state[f"{name}.running_var"].reshape(shape)
    weight, bias = state[f"{name}.weight"].reshape(shape), state[f"{name}.bias"].reshape(shape)
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * slope[None, :, None, None])


def body(x: Tensor, state: State) -> list[Tensor]:
    """Output of every unit."""
    x = F.conv2d(x, state["input_layer.0.weight"], padding=1)
    x = prelu(norm(x, state, "input_layer.1"), state["input_layer.2.weight"])
    outputs = []
    for i, (num_in, num_out) in enumerate(UNITS):
        stride, unit = 2 if i in FIRST else 1, f"body.{i}.res_layer"
        y = F.conv2d(norm(x, state, f"{unit}.0"), state[f"{unit}.1.weight"], padding=1)
        y = F.conv2d(prelu(y, state[f"{unit}.2.weight"]), state[f"{unit}.3.weight"], stride=stride, padding=1)
        y = norm(y, state, f"{unit}.4")
        gate = y.flatten(2).mean(dim=2) @ state[f"{unit}.5.fc1.weight"].flatten(1).T
        gate = 1 / (1 + torch.exp(-(gate.clamp(min=0) @ state[f"{unit}.5.fc2.weight"].flatten(1).T)))
        if num_in == num_out:
            kept = F.max_pool2d(x, 1, stride)
        else:
            kept = F.conv2d(x, state[f"body.{i}.shortcut_layer.0.weight"], stride=stride)
            kept = norm(kept, state, f"body.{i}.shortcut_layer.1")
        x = kept + y * gate[:, :, None, None]
        outputs.append(x)
    return outputs


def ir_se50(x: Tensor, state: State) -> Tensor:
    """Images of 112 px to unit vectors."""
    x = norm(body(x, state)[-1], state, "output_layer.0").flatten(1)
    x = norm(x @ state["output_layer.3.weight"].T + state["output_layer.3.bias"], state, "output_layer.4")
    return x / x.norm(dim=1, keepdim=True)


def upsampled(x: Tensor, size: int) -> Tensor:
    """Bilinear, corners on corners, one axis after the other."""
    matrix = torch.zeros(size, x.shape[-1])
    for i in range(size):
        place = i * (x.shape[-1] - 1) / (size - 1)
        low = min(int(place), x.shape[-1] - 2)
        matrix[i, low], matrix[i, low + 1] = 1 - (place - low), place - low
    return matrix @ x @ matrix.T


def e4e(x: Tensor, state: State, latent_avg: Tensor, *, residual: bool) -> Tensor:
    """Square images to w_plus."""
    outputs = body(x, state)
    c1, c2, c3 = outputs[6], outputs[20], outputs[23]
    p2 = upsampled(c3, c2.shape[-1]) + F.conv2d(c2, state["latlayer1.weight"], state["latlayer1.bias"])
    p1 = upsampled(p2, c1.shape[-1]) + F.conv2d(c1, state["latlayer2.weight"], state["latlayer2.bias"])
    codes = []
    for i in range(len(latent_avg)):
        y, k = (c3 if i < 3 else p2 if i < 7 else p1), 0
        while f"styles.{i}.convs.{k}.weight" in state:
            y = F.conv2d(y, state[f"styles.{i}.convs.{k}.weight"], state[f"styles.{i}.convs.{k}.bias"], 2, 1)
            y, k = torch.where(y >= 0, y, 0.01 * y), k + 2
        y = y.flatten(1) @ state[f"styles.{i}.linear.weight"].T / math.sqrt(512) + state[f"styles.{i}.linear.bias"]
        codes.append(y + (codes[0] if residual and i > 0 else 0))
    return torch.stack(codes, dim=1) + latent_avg


def save_e4e(path: Path, encoder: State, latent_avg: Tensor | None, **options: Any) -> Path:
    state = {f"encoder.{k}": v for k, v in encoder.items()} | {"decoder.style.1.weight": torch.zeros(2, 2)}
    torch.save({"state_dict": state, "latent_avg": latent_avg, "opts": options}, path)
    return path
