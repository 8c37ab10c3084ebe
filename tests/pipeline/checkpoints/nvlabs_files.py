"""NVlabs' StyleGAN2 as a slow network of its own, and files in the exact structure of their pickles.

Written from the equations of Karras et al. 2020: every sample has its own weights, upsampling inserts zeros. Modules
carry the attributes that NVlabs' carry, and are pickled as their ``torch_utils.persistence`` pickles them: a record
with the class's source code and the state. Here that source code ends the process if anybody runs it.
"""

import contextlib
import copy
import math
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MODULE_SOURCE = "import os\nos._exit(99)\n"


# ------------------------------------------------------------------ persistence


def reconstruct(meta: Any) -> Any:
    raise AssertionError("a persistence record was reconstructed")


class EasyDict(dict):
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Network:
    """A TensorFlow network: what its ``__getstate__`` gives."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state


@contextlib.contextmanager
def nvlabs_modules() -> Iterator[None]:
    """NVlabs' module names, importable while a file is written."""
    places = {
        "torch_utils.persistence": {"_reconstruct_persistent_obj": reconstruct},
        "dnnlib.util": {"EasyDict": EasyDict},
        "dnnlib.tflib.network": {"Network": Network},
    }
    made = {}
    for path, members in places.items():
        parts = path.split(".")
        for i in range(1, len(parts) + 1):
            made.setdefault(".".join(parts[:i]), ModuleType(".".join(parts[:i])))
        for name, value in members.items():
            value.__module__, value.__qualname__, value.__name__ = path, name, name
            setattr(made[path], name, value)
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Persistent(nn.Module):
    """A module that pickles as NVlabs' persistent classes do."""

    def __reduce__(self) -> Any:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": MODULE_SOURCE,
            "class_name": type(self).__name__,
            "state": self.__dict__,
        }
        return reconstruct, (meta,), None

    def remember(self, *args: Any, **kwargs: Any) -> None:
        self._init_args, self._init_kwargs = copy.deepcopy(args), EasyDict(copy.deepcopy(kwargs))


def save_pickle(
    path: Path,
    generator: nn.Module,
    *,
    protocol: int = 4,
    other: nn.Module | None = None,
    discriminator: nn.Module | None = None,
) -> Path:
    """A training snapshot: G, D, G_ema, augment_pipe and the data set's arguments."""
    if discriminator is None:
        discriminator = Persistent()
        discriminator.b4 = nn_parameter_holder()
    snapshot = {
        "G": nn_parameter_holder() if other is None else other,
        "D": discriminator,
        "G_ema": generator,
        "augment_pipe": None,
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="x.zip", xflip=False),
    }
    with nvlabs_modules(), path.open("wb") as file:
        pickle.dump(snapshot, file, protocol=protocol)
    return path


def nn_parameter_holder() -> Persistent:
    holder = Persistent()
    holder.weight = nn.Parameter(torch.randn(4, 4))
    return holder


# ------------------------------------------------------------------ the network


class FullyConnectedLayer(Persistent):
    def __init__(
        self, num_in: int, num_out: int, *, activation: str = "linear", lr: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.activation = num_in, num_out, activation
        self.weight = nn.Parameter(torch.randn(num_out, num_in) / lr)
        self.bias = nn.Parameter(torch.full([num_out], np.float32(bias)))
        self.weight_gain = lr / np.sqrt(num_in)
        self.bias_gain = lr

    def forward(self, x: Tensor) -> Tensor:
        x = x @ (self.weight * float(self.weight_gain)).T + self.bias * self.bias_gain
        return x if self.activation == "linear" else torch.where(x >= 0, x, 0.2 * x) * math.sqrt(2)


def second_moment_one(x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


class MappingNetwork(Persistent):
    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_ws: int, *, num_layers: int, lr: float) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.num_layers = z_dim, c_dim, w_dim, num_ws, num_layers
        self.w_avg_beta = 0.995
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, w_dim)
        widths = [z_dim + (w_dim if c_dim > 0 else 0)] + [w_dim] * num_layers
        for i in range(num_layers):
            setattr(self, f"fc{i}", FullyConnectedLayer(widths[i], widths[i + 1], activation="lrelu", lr=lr))
        self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = second_moment_one(z)
        if c is not None:
            x = torch.cat([x, second_moment_one(self.embed(c))], dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x


def low_pass(x: Tensor, before: int, after: int) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (torch.outer(taps, taps) / 64 * 4).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, [before, after, before, after]), kernel, groups=x.shape[1])


def insert_zeros(x: Tensor) -> Tensor:
    out = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    out[:, :, ::2, ::2] = x
    return out


def modulated(x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool, up: bool) -> Tensor:
    """Every sample's own weight, one group per sample."""
    n, c, h, w = x.shape
    own = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        own = own / (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    k = weight.shape[-1]
    if not up:
        out = F.conv2d(x.reshape(1, n * c, h, w), own.flatten(0, 1), padding=k // 2, groups=n)
        return out.reshape(n, -1, h, w)
    grid = F.pad(insert_zeros(x), [2, 1, 2, 1]).reshape(1, n * c, 2 * h + 3, 2 * w + 3)
    out = F.conv2d(grid, own.flatten(0, 1).flip(2, 3), groups=n).reshape(n, -1, 2 * h + 1, 2 * w + 1)
    return low_pass(out, 1, 1)


class SynthesisLayer(Persistent):
    def __init__(self, num_in: int, num_out: int, w_dim: int, resolution: int, *, up: int, **kwargs: Any) -> None:
        super().__init__()
        self.w_dim, self.resolution, self.up = w_dim, resolution, up
        self.use_noise, self.activation, self.conv_clamp = kwargs["use_noise"], "lrelu", kwargs["conv_clamp"]
        self.padding, self.act_gain = 1, np.sqrt(2)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("resample_filter", torch.outer(taps, taps) / 64)
        self.affine = FullyConnectedLayer(w_dim, num_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn([num_out, num_in, 3, 3]))
        if self.use_noise:
            self.register_buffer("noise_const", torch.randn([resolution, resolution]))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([num_out]))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated(x, self.weight, self.affine(w), demodulate=True, up=self.up == 2)
        if self.use_noise:
            x = x + self.noise_const * self.noise_strength
        x = x + self.bias[:, None, None]
        x = torch.where(x >= 0, x, 0.2 * x) * math.sqrt(2)
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class ToRGBLayer(Persistent):
    def __init__(self, num_in: int, w_dim: int, *, conv_clamp: float | None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, num_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn([3, num_in, 1, 1]))
        self.bias = nn.Parameter(torch.zeros([3]))
        self.weight_gain = 1 / np.sqrt(num_in)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * float(self.weight_gain)
        x = modulated(x, self.weight, styles, demodulate=False, up=False) + self.bias[:, None, None]
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)


class SynthesisBlock(Persistent):
    def __init__(self, num_in: int, num_out: int, w_dim: int, resolution: int, **kwargs: Any) -> None:
        super().__init__()
        self.in_channels, self.w_dim, self.resolution, self.img_channels = num_in, w_dim, resolution, 3
        self.architecture, self.use_fp16 = "skip", kwargs.pop("use_fp16")
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("resample_filter", torch.outer(taps, taps) / 64)
        if num_in == 0:
            self.const = nn.Parameter(torch.randn([num_out, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(num_in, num_out, w_dim, resolution, up=2, **kwargs)
        self.conv1 = SynthesisLayer(num_out, num_out, w_dim, resolution, up=1, **kwargs)
        self.torgb = ToRGBLayer(num_out, w_dim, conv_clamp=kwargs["conv_clamp"])


class SynthesisNetwork(Persistent):
    def __init__(
        self,
        w_dim: int,
        resolution: int,
        *,
        channel_base: int,
        channel_max: int,
        num_fp16_res: int,
        conv_clamp: float | None,
        use_noise: bool,
    ) -> None:
        super().__init__()
        self.w_dim, self.img_resolution, self.img_channels = w_dim, resolution, 3
        self.block_resolutions = [2**i for i in range(2, int(math.log2(resolution)) + 1)]
        width = {r: min(channel_base // r, channel_max) for r in self.block_resolutions}
        for r in self.block_resolutions:
            half = r >= max(2 ** (int(math.log2(resolution)) + 1 - num_fp16_res), 8)
            block = SynthesisBlock(
                width[r // 2] if r > 4 else 0,
                width[r],
                w_dim,
                r,
                use_fp16=half,
                conv_clamp=conv_clamp,
                use_noise=use_noise,
            )
            setattr(self, f"b{r}", block)
        self.num_ws = 2 * len(self.block_resolutions)

    def forward(self, ws: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Features and image so far after every layer, w_plus [n, num_ws, w_dim] in."""
        trace: list[tuple[Tensor, Tensor | None]] = []
        x = self.b4.const[None].repeat(len(ws), 1, 1, 1)
        image, row = None, 0
        for r in self.block_resolutions:
            block = getattr(self, f"b{r}")
            for name in ("conv0", "conv1"):
                if hasattr(block, name):
                    x = getattr(block, name)(x, ws[:, row])
                    trace.append((x, image))
                    row += 1
            colours = block.torgb(x, ws[:, row])
            image = colours if image is None else low_pass(insert_zeros(image), 2, 1) + colours
            trace.append((x, image))
        return trace


class Generator(Persistent):
    """``flat``: arguments as stylegan3 records them; otherwise nested as stylegan2-ada-pytorch does."""

    def __init__(
        self,
        resolution: int,
        *,
        channel_base: int = 512,
        channel_max: int = 16,
        z_dim: int = 12,
        w_dim: int = 12,
        c_dim: int = 0,
        mapping_layers: int = 3,
        lr: float = 0.01,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        use_noise: bool = True,
        flat: bool = True,
    ) -> None:
        super().__init__()
        synthesis = {
            "channel_base": channel_base,
            "channel_max": channel_max,
            "num_fp16_res": num_fp16_res,
            "conv_clamp": conv_clamp,
            "use_noise": use_noise,
        }
        inner = synthesis if flat else {"synthesis_kwargs": EasyDict(synthesis)}
        self.remember(
            z_dim=z_dim,
            c_dim=c_dim,
            w_dim=w_dim,
            img_resolution=resolution,
            img_channels=3,
            mapping_kwargs=EasyDict(num_layers=mapping_layers),
            **inner,
        )
        self.z_dim, self.c_dim, self.w_dim, self.img_resolution = z_dim, c_dim, w_dim, resolution
        self.synthesis = SynthesisNetwork(w_dim, resolution, **synthesis)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, num_layers=mapping_layers, lr=lr)


def random_generator(resolution: int, *, seed: int = 0, **kwargs: Any) -> Generator:
    """Random weights, with biases, noise strengths and w_avg away from their initial zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(resolution, **kwargs).requires_grad_(False)
        for name, tensor in [*generator.named_parameters(), *generator.named_buffers()]:
            if name.endswith(("noise_strength", ".bias", "w_avg")):
                tensor.add_(torch.randn(tensor.shape) * (10 if ".fc" in name else 0.3))
    return generator


# ------------------------------------------------------------------ TensorFlow's layout


def tensorflow_networks(generator: Generator, **static_kwargs: Any) -> tuple[Network, Network, Network]:
    """(G, D, Gs) with the generator's weights in TensorFlow's layouts."""
    state = {name: tensor.numpy() for name, tensor in generator.state_dict().items()}
    mapping = []
    for i in range(generator.mapping.num_layers):
        mapping.append((f"Dense{i}/weight", state[f"mapping.fc{i}.weight"].T.copy()))
        mapping.append((f"Dense{i}/bias", state[f"mapping.fc{i}.bias"]))
    synthesis = [("4x4/Const/const", state["synthesis.b4.const"][None])]
    index = 0
    for r in generator.synthesis.block_resolutions:
        names = {"conv1": "Conv"} if r == 4 else {"conv0": "Conv0_up", "conv1": "Conv1"}
        for ours, theirs in {**names, "torgb": "ToRGB"}.items():
            prefix, path = f"synthesis.b{r}.{ours}", f"{r}x{r}/{theirs}"
            weight = state[f"{prefix}.weight"].transpose(2, 3, 1, 0)
            synthesis.append((f"{path}/weight", (weight[::-1, ::-1] if ours == "conv0" else weight).copy()))
            synthesis.append((f"{path}/mod_weight", state[f"{prefix}.affine.weight"].T.copy()))
            synthesis.append((f"{path}/mod_bias", state[f"{prefix}.affine.bias"] - 1))
            synthesis.append((f"{path}/bias", state[f"{prefix}.bias"]))
            if ours != "torgb":
                synthesis.append((f"{path}/noise_strength", state[f"{prefix}.noise_strength"]))
                synthesis.append((f"noise{index}", state[f"{prefix}.noise_const"][None, None]))
                index += 1

    def network(variables: list[Any], components: dict[str, Network]) -> Network:
        return Network(
            version=4,
            name="G",
            static_kwargs=static_kwargs,
            components=components,
            build_module_src=MODULE_SOURCE,
            build_func_name="G_main",
            variables=variables,
        )

    parts = {"mapping": network(mapping, {}), "synthesis": network(synthesis, {})}
    top = [("lod", np.zeros((), np.float32)), ("dlatent_avg", state["mapping.w_avg"])]
    return network(top, parts), network([], {}), network(top, parts)


def save_tensorflow(path: Path, networks: tuple[Network, Network, Network], *, protocol: int = 4) -> Path:
    with nvlabs_modules():
        path.write_bytes(pickle.dumps(networks, protocol=protocol))
    return path
