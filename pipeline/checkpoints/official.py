"""What the published StyleCLIP hands out beside networks: mappers, channel directions (fs3) and w_plus latents."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.checkpoints.encoder_state import ImportedNetwork, matched_state, source_tensors
from pipeline.checkpoints.foreign_tensor import ForeignTensor
from pipeline.checkpoints.pickle_globals import Stub, as_tensor
from pipeline.checkpoints.tensor_ledger import TensorLedger
from pipeline.errors import CheckpointError
from pipeline.models.mapper import LEVELS, Level, Mapper, MapperConfig
from pipeline.reference import LAST_PUBLISHED_LAYER
from pipeline.style_space import StyleLayer, StyleSpace

FLOATS = ("float16", "bfloat16", "float32", "float64")
PUBLISHED_SCALE = 0.1  # the published code adds 0.1 M(w) to w
STYLE_MAPPER = re.compile(r"mapper_(\d{1,2})\.mapping\.(.+)")  # a mapper in StyleSpace: one network a layer
PUBLISHED_NAMES = {"course_mapping": "coarse", "medium_mapping": "medium", "fine_mapping": "fine", "mapping": "single"}


def read_mapper(tree: Any, *, source: str, space: StyleSpace) -> ImportedNetwork[MapperConfig]:
    """A mapper of an unpickled StyleCLIP ``.pt``; the generator in it is left out.

    Published mappers of w_plus were trained with a pixel norm over the rows of each level instead of the channels.
    Their weights depend on it, so it is recorded as ``norm_axis="layer"``. Those in StyleSpace
    (``work_in_stylespace``) see one layer's channels at a time and have no rows: ``"channel"``.

    Args:
        tree: from ``read_foreign_file``.
        source: name of the file, for messages.
        space: layout of the generator it was trained with.
    Raises:
        CheckpointError: if it is no such file or a tensor does not fit.
    """
    entries = tree.get("state_dict") if isinstance(tree, dict) else None
    tensors = source_tensors(entries, prefix="mapper.") if isinstance(entries, dict) else {}
    renamed = {_our_mapper_name(name): tensor for name, tensor in tensors.items()}
    levels: tuple[Level, ...] = tuple(level for level in LEVELS if f"{level}.1.weight" in renamed)
    in_styles = any(STYLE_MAPPER.fullmatch(name) for name in tensors)
    single = "single.1.weight" in renamed
    if not levels and not single and not in_styles:
        raise CheckpointError(
            f"{source}: a mapper file must hold mapper.course_mapping, medium_mapping, fine_mapping, mapping or, in "
            f"StyleSpace, mapper_0 and on; got none of them. It is of another architecture."
        )
    assert isinstance(entries, dict)
    _check_size(tree.get("opts"), entries, source=source, space=space)
    if in_styles:
        _check_layers(renamed, source=source, space=space)
    config = MapperConfig(
        kind="styles" if in_styles else "single" if single else "levels",
        levels=levels or LEVELS,
        norm_axis="channel" if in_styles else "layer",
        row_split="published",
        residual_scale=PUBLISHED_SCALE,
    )
    ledger = TensorLedger(renamed, source=source)
    notes: dict[str, Any] = {"space": "styles"} if in_styles else {"norm_axis": "layer"}
    if not in_styles:
        notes["width"] = (ledger.shape(f"{'single' if single else levels[0]}.1.weight") or (1,))[0]
    with torch.device("meta"):
        network = Mapper(config, num_ws=space.num_ws, w_dim=notes.get("width", 1), space=space)
    state = matched_state(network, ledger)
    left = [str(k) for k in (entries or {}) if not str(k).startswith("mapper.")]
    return ImportedNetwork(config, state, (*ledger.close(), *left), notes)


def _check_size(options: Any, entries: Mapping[Any, Any], *, source: str, space: StyleSpace) -> None:
    """A mapper belongs to a generator of one size: the recorded one, else that of the generator in the file."""
    recorded = options.state if isinstance(options, Stub) else options if isinstance(options, dict) else {}
    size = recorded.get("stylegan_size")
    blocks = [int(found[1]) for key in entries if (found := re.match(r"decoder\.to_rgbs\.(\d{1,2})\.", str(key)))]
    if type(size) is not int and blocks:
        size = 2 ** (max(blocks) + 3)
    if type(size) is int and size != space.resolution:
        raise CheckpointError(
            f"{source}: a mapper must be of the pack's generator, which is of {space.resolution} px; this one was "
            f"trained for {size} px (stylegan_size). Import it into a pack of that generator."
        )


def _our_mapper_name(name: str) -> str:
    """Our name of a mapper's tensor; an unknown one keeps its own, and will be reported as having no place."""
    if found := STYLE_MAPPER.fullmatch(name):
        return f"layer{int(found[1])}.{found[2]}"
    first, _, rest = name.partition(".")
    ours = PUBLISHED_NAMES.get(first)
    return f"{ours}.{rest.removeprefix('mapping.')}" if ours else name


def _check_layers(names: Iterable[str], *, source: str, space: StyleSpace) -> None:
    """A mapper in StyleSpace must have the generator's convolutions and none of its toRGB layers."""
    got = {int(found[1]) for name in names if (found := re.match(r"layer(\d+)\.", name))}
    colours = sorted(got & {layer.index for layer in space.layers if layer.is_torgb})
    if colours and len(got) >= len(space.layers):
        raise CheckpointError(
            f"{source}: a mapper in StyleSpace must leave the toRGB layers alone; this one moves {colours[:4]} and on. "
            f"The published code never trains such a mapper, and it is not supported."
        )
    wanted = {layer.index for layer in space.editable}
    if got != wanted:
        raise CheckpointError(
            f"{source}: a mapper in StyleSpace must have one network for each of the generator's {len(wanted)} "
            f"convolution layers ({space.resolution} px), up to layer {max(wanted)}; got {len(got)}, up to "
            f"{max(got)}. It belongs to a generator of another resolution."
        )


def read_fs3(tree: Any, space: StyleSpace, *, source: str) -> tuple[list[StyleLayer], Float[Tensor, "c d"]]:
    """Channel directions of an unpickled ``fs3.npy``: one row per channel, layer by layer, convolutions only.

    Rows of NaN, which the published code gives to channels without effect, become zero.

    Args:
        tree: from ``read_foreign_file``.
        space: layout of the generator they belong to.
        source: name of the file, for messages.
    Returns:
        the layers covered, and unit vectors [sum of their channels, d].
    Raises:
        CheckpointError: if the number of rows is neither all convolutions' nor those to layer 16.
    """
    tensor = as_tensor(tree)
    shape = () if tensor is None else tensor.shape
    layers = list(space.editable)
    published = [layer for layer in layers if layer.index <= LAST_PUBLISHED_LAYER]
    for candidate in (layers, published):
        count = sum(layer.num_channels for layer in candidate)
        if tensor is not None and len(shape) == 2 and shape[0] == count:
            rows = tensor.load().float()
            norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            usable = torch.isfinite(norm) & (norm > 0)
            return candidate, torch.where(usable, rows / norm, torch.zeros_like(rows))
    counts = [sum(layer.num_channels for layer in x) for x in (published, layers)]
    wanted = " or ".join(f"{count:,}" for count in dict.fromkeys(counts))
    raise CheckpointError(
        f"{source}: a table of channel directions must have {wanted} rows "
        f"for this {space.resolution}-px generator; got shape {list(shape)}. It belongs to another generator."
    )


def check_w_plus(tree: Any, *, source: str, num_ws: int, w_dim: int = 512) -> ForeignTensor:
    """w_plus latents of an unpickled ``.npy``, ``.pt`` or ``.pth``, not yet read and not looked at one by one.

    Args:
        tree: from ``read_foreign_file``.
        source: name of the file, for messages.
        num_ws: rows of w_plus of the generator they are for.
        w_dim: length of w.
    Returns:
        [n, num_ws, w_dim], n at least 1; a file of one [num_ws, w_dim] latent gives n = 1.
    Raises:
        CheckpointError: if it is no array of numbers with a fraction, or its shape is another.
    """
    tensor = as_tensor(tree)
    shape: tuple[int, ...] = () if tensor is None else tensor.shape
    if tensor is None or shape[-2:] != (num_ws, w_dim) or len(shape) not in (2, 3) or 0 in shape:
        cause = ""
        if len(shape) == 3 and shape[2] == w_dim and shape[1] != num_ws and shape[1] > 3 and shape[1] % 2 == 0:
            cause = f" It is for a {2 ** min(shape[1] // 2 + 1, 16)}-px generator."
        raise CheckpointError(
            f"{source}: latents must be [n, {num_ws}, {w_dim}] for this generator; got "
            f"{list(shape) if tensor is not None else 'no array'}.{cause}"
        )
    if tensor.storage.dtype not in FLOATS:
        raise CheckpointError(
            f"{source}: latents must be floating-point numbers ({', '.join(FLOATS)}); got {tensor.storage.dtype}. "
            f"It is no file of latents, or was rounded: write it again."
        )
    if len(shape) == 2:
        return ForeignTensor(tensor.storage, tensor.offset, (1, *shape), (shape[0] * shape[1], *tensor.stride))
    return tensor
