"""The mapping network of the peeps generator, written down instead of trained.

Coordinate i of z names the category of attribute i, w holds its one-hot. A category is an interval, which two layers
express exactly.
"""

import math
from pathlib import Path

import torch

from examples.peeps.domain import ATTRIBUTES, Z_DIM, category_edges, w_block
from examples.peeps.train_generator import CONFIG
from pipeline.models.stylegan2 import Generator

EDGE_WIDTH = 0.004  # of z; within it two neighbouring categories blend, about 1 % of all samples


def construct_mapping(generator: Generator) -> None:
    """Write down the two-layer mapping network that cuts z into categories.

    Coordinate x of an attribute crosses an edge e within ``EDGE_WIDTH``: with t = (x - e) / EDGE_WIDTH and r = leaky
    ReLU of slope 0.2, ``(r(t) - r(t - 1) - 0.2) / 0.8`` climbs from 0 to 1 between t = 0 and t = 1 and is flat
    elsewhere. A category is the step at its lower edge less the step at its upper edge. The constants undo the
    layers' own gains (equalised learning rate, sqrt 2).
    """
    first, second = generator.mapping.get_submodule("fc0"), generator.mapping.get_submodule("fc1")
    gain = math.sqrt(2)
    with torch.no_grad():
        for parameter in (first.weight, first.bias, second.weight, second.bias):
            parameter.zero_()
        unit = 0
        for number in range(len(ATTRIBUTES)):
            column = w_block(number).start
            second.bias[column] += 1 / (gain * second.bias_gain)
            for k, edge in enumerate(category_edges(number)):
                for shift, sign in ((0.0, 1.0), (1.0, -1.0)):
                    first.weight[unit, number] = 1 / EDGE_WIDTH / first.weight_gain
                    first.bias[unit] = (-edge / EDGE_WIDTH - shift) / first.bias_gain
                    step = sign / (0.8 * gain * gain * second.weight_gain)
                    second.weight[column + k, unit] -= step
                    second.weight[column + k + 1, unit] += step
                    unit += 1
                second.bias[column + k] += 0.25 / (gain * second.bias_gain)
                second.bias[column + k + 1] -= 0.25 / (gain * second.bias_gain)
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(100_000, Z_DIM, generator=rng)
        generator.mapping.w_avg.copy_(generator.mapping(z).mean(dim=0))


def load_generator(build: Path) -> Generator:
    """The averaged weights of the generator's checkpoint."""
    generator = Generator(CONFIG).requires_grad_(False)
    saved = torch.load(build / "generator.pt", map_location="cpu", weights_only=True)["ema"]
    generator.synthesis.load_state_dict(saved)
    construct_mapping(generator)
    return generator
