"""Rosinality's StyleGAN2 as a slow network of its own, with that code's names, layouts and files."""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EqualLinear(nn.Module):
    def __init__(self, num_in: int, num_out: int, *, bias: float = 0.0, lr: float = 1.0, act: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in) / lr)
        self.bias = nn.Parameter(torch.full((num_out,), bias))
        self.scale, self.lr, self.act = lr / math.sqrt(num_in), lr, act

    def forward(self, x: Tensor) -> Tensor:
        x = x @ (self.weight * self.scale).T + self.bias * self.lr
        return F.leaky_relu(x, 0.2) * math.sqrt(2) if self.act else x


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


class Kernel(nn.Module):
    """A low-pass filter as a buffer ``kernel``, of sum 4."""

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", torch.outer(taps, taps) / 64 * 4)

    def forward(self, x: Tensor, before: int, after: int) -> Tensor:
        n, c = x.shape[:2]
        planes = F.pad(x, [before, after, before, after]).reshape(n * c, 1, *(s + before + after for s in x.shape[2:]))
        out = F.conv2d(planes, self.kernel.flip(0, 1)[None, None])
        return out.reshape(n, c, *out.shape[2:])


class ModulatedConv2d(nn.Module):
    def __init__(self, num_in: int, num_out: int, k: int, style_dim: int, *, demodulate: bool, up: bool) -> None:
        super().__init__()
        self.demodulate, self.up, self.k = demodulate, up, k
        self.scale = 1 / math.sqrt(num_in * k**2)
        self.weight = nn.Parameter(torch.randn(1, num_out, num_in, k, k))
        self.modulation = EqualLinear(style_dim, num_in, bias=1.0)
        if up:
            self.blur = Kernel()

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        n, c, h, width = x.shape
        weight = self.scale * self.weight * self.modulation(w).reshape(n, 1, c, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, n * c, h, width)
        if self.up:
            taps = weight.transpose(1, 2).reshape(n * c, -1, self.k, self.k)
            out = F.conv_transpose2d(x, taps, stride=2, groups=n)
            return self.blur(out.reshape(n, -1, *out.shape[2:]), 1, 1)
        out = F.conv2d(x, weight.flatten(0, 1), padding=self.k // 2, groups=n)
        return out.reshape(n, -1, h, width)


class NoiseInjection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class FusedLeakyReLU(nn.Module):
    def __init__(self, num: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num))


class StyledConv(nn.Module):
    def __init__(self, num_in: int, num_out: int, style_dim: int, *, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(num_in, num_out, 3, style_dim, demodulate=True, up=up)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(num_out)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = self.conv(x, w) + self.noise.weight * noise + self.activate.bias.reshape(1, -1, 1, 1)
        return F.leaky_relu(x, 0.2) * math.sqrt(2)


class ToRGB(nn.Module):
    def __init__(self, num_in: int, style_dim: int, *, upsample: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(num_in, 3, 1, style_dim, demodulate=False, up=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if upsample:
            self.upsample = Kernel()

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        out = self.conv(x, w) + self.bias
        if skip is None:
            return out
        grid = torch.zeros(*skip.shape[:2], 2 * skip.shape[2], 2 * skip.shape[3])
        grid[:, :, ::2, ::2] = skip
        return out + self.upsample(grid, 2, 1)


class Input(nn.Module):
    def __init__(self, num: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, num, 4, 4))


class Generator(nn.Module):
    """``widths``: channels per resolution, 4 first."""

    def __init__(self, size: int, style_dim: int, n_mlp: int, widths: dict[int, int], lr_mlp: float = 0.01) -> None:
        super().__init__()
        self.size, self.style_dim, self.log_size = size, style_dim, int(math.log2(size))
        layers = [EqualLinear(style_dim, style_dim, lr=lr_mlp, act=True) for _ in range(n_mlp)]
        self.style = nn.Sequential(PixelNorm(), *layers)
        self.input = Input(widths[4])
        self.conv1 = StyledConv(widths[4], widths[4], style_dim, up=False)
        self.to_rgb1 = ToRGB(widths[4], style_dim, upsample=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for i in range(2 * self.log_size - 3):
            side = 2 ** ((i + 5) // 2)
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, side, side))
        for i in range(3, self.log_size + 1):
            num_in, num_out = widths[2 ** (i - 1)], widths[2**i]
            self.convs.append(StyledConv(num_in, num_out, style_dim, up=True))
            self.convs.append(StyledConv(num_out, num_out, style_dim, up=False))
            self.to_rgbs.append(ToRGB(num_out, style_dim, upsample=True))

    @property
    def num_ws(self) -> int:
        return 2 * self.log_size - 2

    def forward(self, ws: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Features and image so far after every layer, w_plus [n, num_ws, style_dim] in."""
        x = self.conv1(self.input.input.repeat(len(ws), 1, 1, 1), ws[:, 0], self.noises.noise_0)
        trace: list[tuple[Tensor, Tensor | None]] = [(x, None)]
        skip = self.to_rgb1(x, ws[:, 1], None)
        trace.append((x, skip))
        for j in range(len(self.to_rgbs)):
            i = 2 * j + 1
            x = self.convs[2 * j](x, ws[:, i], getattr(self.noises, f"noise_{i}"))
            trace.append((x, skip))
            x = self.convs[2 * j + 1](x, ws[:, i + 1], getattr(self.noises, f"noise_{i + 1}"))
            trace.append((x, skip))
            skip = self.to_rgbs[j](x, ws[:, i + 2], skip)
            trace.append((x, skip))
        return trace

    def styles(self, ws: Tensor) -> Tensor:
        """Raw modulation of every layer in running order."""
        parts = [self.conv1.conv.modulation(ws[:, 0]), self.to_rgb1.conv.modulation(ws[:, 1])]
        for j in range(len(self.to_rgbs)):
            i = 2 * j + 1
            layers = (self.convs[2 * j], self.convs[2 * j + 1], self.to_rgbs[j])
            parts += [layer.conv.modulation(ws[:, i + k]) for k, layer in enumerate(layers)]
        return torch.cat(parts, dim=1)


def random_generator(
    size: int,
    *,
    style_dim: int = 12,
    n_mlp: int = 3,
    base: int = 512,
    largest: int = 16,
    seed: int = 0,
    lr_mlp: float = 0.01,
) -> Generator:
    """Random weights, with biases and noise strengths away from their initial zeros."""
    widths = {2**i: min(base // 2**i, largest) for i in range(2, int(math.log2(size)) + 1)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(size, style_dim, n_mlp, widths, lr_mlp).requires_grad_(False)
        for name, tensor in generator.named_parameters():
            if name.endswith(("noise.weight", "bias")):
                tensor.add_(torch.randn(tensor.shape) * (0.1 / lr_mlp if name.startswith("style.") else 0.3))
    return generator


def save_converted(path: Path, generator: Generator, *, zipped: bool = True) -> Path:
    """As the converter writes it: g_ema and latent_avg."""
    latent_avg = torch.randn(generator.style_dim, generator=torch.Generator().manual_seed(9))
    content: dict[str, Any] = {"g_ema": generator.state_dict(), "latent_avg": latent_avg}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def save_trained(path: Path, generator: Generator) -> Path:
    """As training writes it: optimiser and arguments, no latent_avg."""
    optimiser = torch.optim.Adam(EqualLinear(2, 2).parameters())
    content = {
        "g": generator.state_dict(),
        "d": EqualLinear(2, 2).state_dict(),
        "g_ema": generator.state_dict(),
        "g_optim": optimiser.state_dict(),
        "args": argparse.Namespace(size=generator.size, path="x", latent=generator.style_dim),
        "ada_aug_p": 0.1,
    }
    torch.save(content, path)
    return path
