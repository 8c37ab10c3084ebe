import numpy as np
import pytest
import torch

from pipeline.pixels import from_rgb_arrays, from_uint8, to_rgb_arrays, to_uint8


def grey(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)


@pytest.mark.parametrize(
    ("how", "levels"),
    [("round", [0, 0, 128, 254, 255]), ("+127.5", [0, 0, 127, 254, 255]), ("+128", [0, 0, 128, 254, 255])],
)
def test_to_uint8_rounds_and_cuts(how: str, levels: list[int]):
    assert to_uint8(grey(-3.0, -1.0, 0.0, 0.994, 7.0), how)[0, 0, 0].tolist() == levels  # type: ignore[arg-type]


def test_every_level_survives_the_way_there_and_back():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)
    arrays = np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(to_rgb_arrays(from_rgb_arrays(arrays)), arrays)


def test_round_takes_the_nearest_level():
    assert to_uint8(grey(0.9 / 127.5 - 1, 0.4 / 127.5 - 1))[0, 0, 0].tolist() == [1, 0]
