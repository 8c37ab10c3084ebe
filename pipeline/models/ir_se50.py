"""IR-SE50: the face recognition network behind StyleCLIP's identity loss, and the body of e4e's encoder.

A ResNet-50 of pre-normalised bottlenecks with squeeze-and-excitation (Deng et al. 2019, "ArcFace"; Hu et al. 2018).
State names follow InsightFace_Pytorch's, so that ``model_ir_se50.pth`` loads by name.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import unit_vectors

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # channels and units; the first unit of each stage halves the size
REDUCTION = 16  # squeeze-and-excitation
INPUT_SIZE = 112  # pixels the network was trained at
FRAME = 256  # pixels of the frame that the crop is given in
FACE_CROP = (35, 223, 32, 220)  # top, bottom, left, right on FFHQ's framing (StyleCLIP's identity loss)


class IrSe50Config(BaseModel):
    """How a pack's IR-SE50 is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ir_se50"] = "ir_se50"
    width: int = Field(default=512, ge=1, description="Length of the embedding.")
    crop: tuple[int, int, int, int] | None = Field(
        default=FACE_CROP,
        description="Top, bottom, left and right of the face on a 256-px frame; none means the whole image.",
    )


class SqueezeExcite(nn.Module):
    """Each channel times a gate in (0, 1) computed from the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Features to gated features."""
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class Bottleneck(nn.Module):
    """``shortcut(x) + SE(BN(conv(PReLU(conv(BN(x))))))``; the second convolution has the stride."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        if num_in != num_out:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(num_in),
            nn.Conv2d(num_in, num_out, 3, padding=1, bias=False),
            nn.PReLU(num_out),
            nn.Conv2d(num_out, num_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(num_out),
            SqueezeExcite(num_out),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Features to features; every ``stride``-th pixel."""
        has_own = hasattr(self, "shortcut_layer")
        kept = self.shortcut_layer(x) if has_own else x[:, :, :: self.stride, :: self.stride]
        return kept + self.res_layer(x)


class IrSe50Body(nn.Module):
    """First convolution and 24 bottlenecks: the part that e4e shares. One sixteenth of the size comes out.

    Args:
        num_in: channels of the input.
    """

    def __init__(self, num_in: int = 3) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(num_in, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        units, num_in = [], 64
        for num_out, count in STAGES:
            for i in range(count):
                units.append(Bottleneck(num_in, num_out, stride=2 if i == 0 else 1))
                num_in = num_out
        self.body = nn.Sequential(*units)

    def features(self, x: Float[Tensor, "n i h w"], taps: Sequence[int]) -> list[Float[Tensor, "n c h2 w2"]]:
        """Outputs of the bottlenecks numbered ``taps``, in running order."""
        x = self.input_layer(x)
        found = []
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in taps:
                found.append(x)
        return found


class IrSe50(IrSe50Body):
    """Images to unit embeddings of who is in them.

    Args:
        config: embedding width and crop.
    """

    def __init__(self, config: IrSe50Config | None = None) -> None:
        super().__init__()
        self.config = config or IrSe50Config()
        side = INPUT_SIZE // 2 ** len(STAGES)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Identity(),  # dropout in training
            nn.Flatten(),
            nn.Linear(512 * side * side, self.config.width),
            nn.BatchNorm1d(self.config.width),
        )

    def forward(self, x: Float[Tensor, "n 3 112 112"]) -> Float[Tensor, "n d"]:
        """Cropped faces of 112 px, in [-1, 1], to unit embeddings."""
        (x,) = self.features(x, taps=[len(self.body) - 1])
        return unit_vectors(self.output_layer(x))

    def crop(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 112 112"]:
        """Faces as StyleCLIP's identity loss cuts them: pooled to a 256-px frame, cropped, pooled to 112 px."""
        x = images if images.shape[2:] == (FRAME, FRAME) else F.adaptive_avg_pool2d(images, FRAME)
        if self.config.crop is not None:
            top, bottom, left, right = self.config.crop
            x = x[:, :, top:bottom, left:right]
        return F.adaptive_avg_pool2d(x, INPUT_SIZE)

    def embed(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n d"]:
        """Unit embeddings of the faces in images.

        Args:
            images: RGB in [-1, 1], any size; see ``crop``.
        Returns:
            [n, width], unit length; differentiable in the images.
        """
        return self(self.crop(images))
