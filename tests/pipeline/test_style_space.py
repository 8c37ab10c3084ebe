"""StyleSpace: the published layouts, the index rules, and the way between positions and channels."""

import re
from itertools import pairwise

import pytest
import torch

from pipeline.style_space import StyleSpace

# resolution, channel_base: layers, convolutions, conv and toRGB channels, total, num_ws, conv channels to layer 16
PUBLISHED_TOTALS = [
    (1024, 32768, 26, 17, 6048, 3040, 9088, 18, 5376),
    (512, 32768, 23, 15, 5952, 3008, 8960, 16, 5376),
    (512, 16384, 23, 15, 5024, 2528, 7552, 16, 4736),
    (256, 32768, 20, 13, 5760, 2944, 8704, 14, 5376),
    (256, 16384, 20, 13, 4928, 2496, 7424, 14, 4736),
    (128, 32768, 17, 11, 5376, 2816, 8192, 12, 5376),
]
PUBLISHED_CONV_WIDTHS = [
    (512, 32768, [512] * 10 + [256, 256, 128, 128, 64]),
    (256, 32768, [512] * 10 + [256, 256, 128]),
    (256, 16384, [512] * 8 + [256, 256, 128, 128, 64]),
]
PUBLISHED_RGB_WIDTHS = [
    (1024, 32768, [512] * 5 + [256, 128, 64, 32]),
    (256, 32768, [512] * 5 + [256, 128]),
    (256, 16384, [512] * 4 + [256, 128, 64]),
]
# name, channels and row of w_plus of all 26 layers of FFHQ config-f
FFHQ_1024 = [
    ("b4.conv1", 512, 0),
    ("b4.torgb", 512, 1),
    ("b8.conv0", 512, 1),
    ("b8.conv1", 512, 2),
    ("b8.torgb", 512, 3),
    ("b16.conv0", 512, 3),
    ("b16.conv1", 512, 4),
    ("b16.torgb", 512, 5),
    ("b32.conv0", 512, 5),
    ("b32.conv1", 512, 6),
    ("b32.torgb", 512, 7),
    ("b64.conv0", 512, 7),
    ("b64.conv1", 512, 8),
    ("b64.torgb", 512, 9),
    ("b128.conv0", 512, 9),
    ("b128.conv1", 256, 10),
    ("b128.torgb", 256, 11),
    ("b256.conv0", 256, 11),
    ("b256.conv1", 128, 12),
    ("b256.torgb", 128, 13),
    ("b512.conv0", 128, 13),
    ("b512.conv1", 64, 14),
    ("b512.torgb", 64, 15),
    ("b1024.conv0", 64, 15),
    ("b1024.conv1", 32, 16),
    ("b1024.torgb", 32, 17),
]
SPACES = [StyleSpace(1024, 32768), StyleSpace(256, 16384), StyleSpace(8, 64, 4)]
EACH_SPACE = pytest.mark.parametrize("space", SPACES, ids=lambda space: str(space.resolution))


@pytest.mark.parametrize("row", PUBLISHED_TOTALS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_style_space_totals_are_the_published_ones(row: tuple[int, ...]) -> None:
    space = StyleSpace(row[0], row[1])
    widths = [layer.num_channels for layer in space.editable]
    got = (
        len(space.layers),
        len(space.editable),
        sum(widths),
        sum(layer.num_channels for layer in space.layers if layer.is_torgb),
        space.num_channels,
        space.num_ws,
        sum(layer.num_channels for layer in space.editable if layer.index <= 16),
    )
    assert got == row[2:]


@pytest.mark.parametrize(("resolution", "channel_base", "widths"), PUBLISHED_CONV_WIDTHS)
def test_style_space_conv_widths_are_the_published_ones(resolution: int, channel_base: int, widths: list[int]) -> None:
    assert [layer.num_channels for layer in StyleSpace(resolution, channel_base).editable] == widths


@pytest.mark.parametrize(("resolution", "channel_base", "widths"), PUBLISHED_RGB_WIDTHS)
def test_style_space_torgb_widths_are_the_published_ones(resolution: int, channel_base: int, widths: list[int]) -> None:
    layers = StyleSpace(resolution, channel_base).layers
    assert [layer.num_channels for layer in layers if layer.is_torgb] == widths


def test_style_space_1024_layers_are_the_published_table() -> None:
    got = [(layer.name, layer.num_channels, layer.w_index) for layer in StyleSpace(1024, 32768).layers]
    assert got == FFHQ_1024


@EACH_SPACE
def test_layers_follow_the_index_rules(space: StyleSpace) -> None:
    by_name = {layer.name: layer for layer in space.layers}
    for k in range(1, (len(space.layers) + 1) // 3):
        block = [by_name[f"b{2 ** (k + 2)}.{kind}"] for kind in ("conv0", "conv1", "torgb")]
        assert [layer.index for layer in block] == [3 * k - 1, 3 * k, 3 * k + 1]
        assert [layer.w_index for layer in block] == [2 * k - 1, 2 * k, 2 * k + 1]
    assert [layer.index for layer in space.layers if layer.is_torgb] == list(range(1, len(space.layers), 3))


@EACH_SPACE
def test_layers_tile_the_style_vector(space: StyleSpace) -> None:
    edges = [0, *(layer.slice.stop for layer in space.layers)]
    assert [layer.offset for layer in space.layers] == edges[:-1]
    assert edges[-1] == space.num_channels


@EACH_SPACE
def test_layers_read_what_the_layer_below_writes(space: StyleSpace) -> None:
    convolutions = space.editable
    for below, above in pairwise(convolutions):
        assert above.num_channels == below.num_out
    assert all(layer.num_out == 3 for layer in space.layers if layer.is_torgb)


def test_num_ws_is_two_log2_resolution_minus_two() -> None:
    for exponent in range(3, 11):
        assert StyleSpace(2**exponent, 32768).num_ws == 2 * exponent - 2


@EACH_SPACE
def test_locate_and_position_are_inverse(space: StyleSpace) -> None:
    for layer in space.layers:
        for channel in (0, layer.num_channels // 2, layer.num_channels - 1):
            assert space.locate(space.position(layer.index, channel)) == (layer.index, channel)


def test_position_and_locate_are_inverse_at_every_position() -> None:
    space = StyleSpace(16, 128, 8)
    assert [space.position(*space.locate(p)) for p in range(space.num_channels)] == list(range(space.num_channels))


@pytest.mark.parametrize("offset", [-1, 0])
def test_locate_outside_raises(offset: int) -> None:
    space = StyleSpace(8, 64, 4)
    position = -1 if offset < 0 else space.num_channels
    with pytest.raises(IndexError, match=re.escape(f"[0, {space.num_channels}); got {position}")):
        space.locate(position)


@pytest.mark.parametrize(("layer", "channel"), [(-1, 0), (5, 0), (0, -1), (0, 4)])
def test_position_outside_raises(layer: int, channel: int) -> None:
    with pytest.raises(IndexError, match=f"no channel {channel} in layer {layer} of a 8-px generator"):
        StyleSpace(8, 64, 4).position(layer, channel)


def test_split_gives_views_in_layer_order() -> None:
    space = StyleSpace(8, 64, 4)
    styles = torch.arange(2 * space.num_channels, dtype=torch.float32).reshape(2, -1)
    parts = space.split(styles)
    assert [part.shape[1] for part in parts] == [layer.num_channels for layer in space.layers]
    assert torch.equal(torch.cat(parts, dim=1), styles)
    assert parts[0].data_ptr() == styles.data_ptr()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(20,), (1, 19), (1, 2, 10)])
def test_split_other_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"styles must be \[n, 20\] for a 8-px generator with channel_base=64"):
        StyleSpace(8, 64, 4).split(torch.zeros(shape))


@pytest.mark.parametrize("resolution", [4, 12, 0, -8])
def test_style_space_resolution_not_a_power_of_two_from_8_raises(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"power of two from 8; got {resolution}"):
        StyleSpace(resolution, 32768)


@pytest.mark.parametrize(("channel_base", "channel_max"), [(8, 512), (64, 0)])
def test_style_space_layer_without_channels_raises(channel_base: int, channel_max: int) -> None:
    with pytest.raises(ValueError, match=f"got channel_base={channel_base}, channel_max={channel_max}"):
        StyleSpace(16, channel_base, channel_max)
