"""Latent mappers (StyleCLIP section 5): from a latent to the move that makes one prompt true of it.

Letters: n latent, l row of w_plus, d w_dim, s style channel, p prompt.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kernels import Impl, check_impl
from pipeline.errors import PipelineError
from pipeline.models.stylegan2 import MAPPING_LR_MULTIPLIER, Generator
from pipeline.models.synthesis import FullyConnected, GeneratorConfig
from pipeline.style_space import StyleSpace

Level = Literal["coarse", "medium", "fine"]
LEVELS: tuple[Level, ...] = ("coarse", "medium", "fine")
NUM_LAYERS = 4  # fully connected layers of a mapper
ROWS_OF_A_LEVEL = 4  # of w_plus, for coarse and for medium; the rest is fine
PIXEL_NORM_EPS = 1e-8


class MapperConfig(BaseModel):
    """Architecture of a mapper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["levels", "single", "styles"] = Field(
        "levels",
        description="levels: a network for each of coarse, medium, fine rows of w_plus; single: one for all rows; "
        "styles: one for every convolution layer of StyleSpace, toRGB left alone.",
    )
    levels: tuple[Level, ...] = Field(
        LEVELS, min_length=1, description="Levels that may move; the others stay. Read by kind levels only."
    )
    norm_axis: Literal["channel", "layer"] = Field(
        "channel",
        description="What the input is normalised over; layer (the rows of w_plus) is the published code's, which "
        "its weights depend on.",
    )
    row_split: Literal["even", "published"] = Field(
        default="even",
        description="Where rows are cut into levels: published cuts at 4 and 8 whatever their number, which imported "
        "weights depend on; even cuts 8 rows or fewer into three parts. Read by kind levels only.",
    )
    residual_scale: float = Field(0.1, gt=0, description="What the mapper's output is multiplied by; the paper's 0.1.")


def level_rows(num_ws: int, split: Literal["even", "published"] = "even") -> dict[Level, slice]:
    """Rows of w_plus of each level.

    Four coarse, four medium, the rest fine: rows mean the same resolutions in every generator (coarse up to 16 px,
    medium up to 64 px at 18 rows as at 12). With fewer than 9 rows nothing would be fine; the rows are then cut into
    three parts, the earlier ones the longer: 8 rows 3/3/2, 6 rows 2/2/2, 4 rows 2/1/1. The published code knows no such
    rule: with ``split="published"`` 8 rows are 4/4/0 and 6 rows 4/2/0.

    Raises:
        ValueError: if there are fewer than three rows.
    Source: StyleCLIP section 5 and its code for 18 rows; the rule for fewer is ours.
    """
    if num_ws < len(LEVELS):
        raise ValueError(f"`num_ws` must be at least {len(LEVELS)}, one row a level; got {num_ws}.")
    coarse = medium = ROWS_OF_A_LEVEL
    if split == "published":
        medium = min(medium, max(0, num_ws - coarse))
        coarse = min(coarse, num_ws)
    elif num_ws <= 2 * ROWS_OF_A_LEVEL:
        coarse = -(-num_ws // 3)
        medium = -(-(num_ws - coarse) // 2)
    return {
        "coarse": slice(0, coarse),
        "medium": slice(coarse, coarse + medium),
        "fine": slice(coarse + medium, num_ws),
    }


class PixelNorm(nn.Module):
    """``x / sqrt(mean(x^2) + 1e-8)`` over one axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x * torch.rsqrt(x.square().mean(dim=self.axis, keepdim=True) + PIXEL_NORM_EPS)


def mapper_network(width: int, *, axis: int) -> nn.Sequential:
    """PixelNorm and four fully connected layers, leaky ReLU after each, learning rate multiplier 0.01."""
    layers = [FullyConnected(width, width, lr=MAPPING_LR_MULTIPLIER, act=True) for _ in range(NUM_LAYERS)]
    return nn.Sequential(PixelNorm(axis), *layers)


class Mapper(nn.Module):
    """The move of a latent before scaling: M(w) on rows of w_plus, or M(s) on style vectors.

    Args:
        config: which networks.
        num_ws: rows of w_plus.
        w_dim: width of w.
        space: layout of the generator's style vectors.
    """

    def __init__(self, config: MapperConfig, *, num_ws: int, w_dim: int, space: StyleSpace) -> None:
        super().__init__()
        self.config, self.space = config, space
        axis = -1 if config.norm_axis == "channel" else 1
        self.rows: dict[str, slice] = {}
        if config.kind == "levels":
            self.rows = {
                name: rows for name, rows in level_rows(num_ws, config.row_split).items() if name in config.levels
            }
        elif config.kind == "single":
            self.rows = {"single": slice(0, num_ws)}
        for name in self.rows:
            self.add_module(name, mapper_network(w_dim, axis=axis))
        if config.kind == "styles":
            for layer in space.editable:
                self.add_module(f"layer{layer.index}", mapper_network(layer.num_channels, axis=-1))

    @property
    def space_name(self) -> str:
        """Space the mapper works in: w_plus or styles."""
        return "styles" if self.config.kind == "styles" else "w_plus"

    def forward(self, x: Float[Tensor, "n l d"] | Float[Tensor, "n s"]) -> Tensor:
        """The unscaled move, shape of ``x``: w_plus, or style vectors for kind styles."""
        if self.config.kind == "styles":
            parts = self.space.split(x)
            moves = [
                torch.zeros_like(part) if layer.is_torgb else self.get_submodule(f"layer{layer.index}")(part)
                for layer, part in zip(self.space.layers, parts, strict=True)
            ]
            return torch.cat(moves, dim=1)
        moves, done = [], 0
        for name, rows in self.rows.items():
            moves += [torch.zeros_like(x[:, done : rows.start]), self.get_submodule(name)(x[:, rows])]
            done = rows.stop
        return torch.cat([*moves, torch.zeros_like(x[:, done:])], dim=1)


def make_mapper(config: MapperConfig, generator: GeneratorConfig) -> Mapper:
    """A mapper with fresh weights for a generator."""
    space = generator.style_space
    return Mapper(config, num_ws=space.num_ws, w_dim=generator.w_dim, space=space)


def load_mapper(data: bytes, description: str, generator: GeneratorConfig, *, device: str) -> Mapper:
    """A trained mapper from its safetensors file and its description as JSON.

    Raises:
        PipelineError: if the weights do not fit the description and the generator.
    """
    mapper = make_mapper(MapperConfig.model_validate_json(description), generator)
    try:
        mapper.load_state_dict(load_safetensors(data), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise PipelineError(
            f"a mapper's weights must fit its description {description} and the pack's generator; {str(error)[:300]}. "
            f"Train it again with this pack."
        ) from error
    return mapper.eval().requires_grad_(False).to(device)


def recorded_config(data: bytes) -> str:
    """The description that an imported mapper's safetensors file carries, as JSON.

    Raises:
        PipelineError: if it carries none.
    """
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return MapperConfig.model_validate_json(header["__metadata__"]["config"]).model_dump_json()
    except (ValueError, KeyError) as error:
        raise PipelineError(
            "an imported mapper must carry its description; this one does not. Import it again."
        ) from error


def moved_latents(
    mapper: Mapper, generator: Generator, w: Float[Tensor, "n l d"], *, strength: float = 1.0
) -> Float[Tensor, "n l d"] | Float[Tensor, "n s"]:
    """Latents after the edit, in the mapper's space: ``x + strength * residual_scale * M(x)``.

    Args:
        mapper: a trained mapper.
        generator: turns w_plus into style vectors where the mapper works on those.
        w: source latents.
        strength: 1 is the move as trained, 0 returns the source.
    """
    x = generator.styles(w) if mapper.space_name == "styles" else w
    return x + strength * mapper.config.residual_scale * mapper(x)


class MapperBank:
    """Mappers of one architecture with their weights stacked, so that all run in one batched product a layer.

    Args:
        mappers: one per prompt; their weights are copied.
    Attributes:
        parameters: name to stacked weights [p, ...]; leaves that require gradients.
    """

    def __init__(self, mappers: Sequence[Mapper]) -> None:
        stacked, _ = stack_module_state(list(mappers))  # type: ignore[arg-type]
        self.parameters = {k: v.detach().clone().requires_grad_() for k, v in stacked.items()}
        self.base = mappers[0]

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def moves(self, x: Float[Tensor, "n l d"] | Float[Tensor, "n s"], *, impl: Impl = "auto") -> Tensor:
        """Unscaled moves of every latent by every mapper, [p, *x.shape]; differentiable in the parameters.

        Args:
            x: w_plus, or style vectors for kind styles.
            impl: the reference runs mapper by mapper.
        Raises:
            ValueError: if ``impl`` is none of the three.
        """
        check_impl(impl)
        if impl == "ref":
            return torch.stack([functional_call(self.base, self.of(i), (x,)) for i in range(len(self))])
        run = vmap(lambda parameters, inputs: functional_call(self.base, parameters, (inputs,)), in_dims=(0, None))
        return cast(Tensor, run(self.parameters, x))

    def of(self, index: int, parameters: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """State of one mapper, from its own or from other stacked parameters, e.g. the best so far."""
        return {k: v[index] for k, v in (parameters or self.parameters).items()}
