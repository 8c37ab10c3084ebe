"""Style moves: bounded where a channel is lowered, and only on the way to its limit."""

import numpy as np
import torch

from pipeline.directions.direction import StyleDirection
from pipeline.directions.style_move import StyleMove
from pipeline.directions.table import ChannelTable
from pipeline.style_space import StyleSpace

NAN = float("nan")


def move() -> StyleMove:
    """Lowers the first two channels, the second towards 0.5; raises the third; lowers the fourth by its largest."""
    return StyleMove(torch.tensor([-1.0, -1.0, 1.0, 1.0]), torch.tensor([NAN, 0.5, NAN, 2.0]))


def test_a_bounded_channel_moves_twice_as_far_as_its_limit_is_away_at_most():
    styles = torch.tensor([[3.0, 3.0, 3.0, 0.0], [0.0, 1.0, 0.0, 1.9]])
    moved = move().moved(styles, 10.0)
    torch.testing.assert_close(moved, torch.tensor([[-7.0, -2.0, 13.0, 4.0], [-10.0, 0.0, 10.0, 2.1]]))


def test_a_channel_beyond_its_limit_stays():
    moved = move().moved(torch.tensor([0.0, 0.2, 0.0, 2.5]), 10.0)
    assert moved.tolist() == [-10.0, np.float32(0.2), 10.0, 2.5]


def test_a_small_strength_and_a_negative_one_move_as_if_there_were_no_limit():
    styles = torch.tensor([3.0, 3.0, 3.0, 0.0])
    assert move().moved(styles, 1.0).tolist() == [2.0, 2.0, 4.0, 1.0]
    assert move().moved(styles, -10.0).tolist() == [13.0, 13.0, -7.0, -10.0]


def test_the_move_of_a_direction_stands_at_its_channels():
    space = StyleSpace(8, 16)
    table = ChannelTable(np.array([0, 2]), np.array([1, 0]), torch.eye(2), torch.ones(2), "hand")
    direction = StyleDirection(np.array([1]), np.ones(1), np.array([2.0]), 0.1, 1.0, np.array([-3.0], dtype=np.float32))
    found = StyleMove.of(direction, table, space)
    place = space.position(2, 0)
    assert torch.nonzero(found.offset).flatten().tolist() == [place]
    assert (float(found.offset[place]), float(found.limit[place])) == (2.0, -3.0)
    assert int(torch.isnan(found.limit).sum()) == space.num_channels - 1
