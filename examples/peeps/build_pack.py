"""Assemble the pack from the trained parts.

    python -m examples.peeps.build_pack --build build/peeps --out pipeline/packs/peeps

Writes down the mapping network first: coordinate i of z names the category of attribute i, w holds its one-hot. A
category is an interval, which two layers express exactly, so nothing has to be trained. Then writes generator and CLIP
as fp16 safetensors and, with ``--directions RUN``, the statistics and channel directions that the flows left there.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

import storage
from examples.peeps.domain import ATTRIBUTES, Z_DIM, category_edges, w_block
from examples.peeps.train_clip import MEAN, STD
from examples.peeps.train_generator import CONFIG
from pipeline.models.clip import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE
from pipeline.models.stylegan2 import Generator
from pipeline.pack import DIRECTIONS_FILE, GENERATOR_FILE, STATISTICS_FILE, write_pack
from pipeline.shard import find_input

EDGE_WIDTH = 0.004  # of z; within it two neighbouring categories blend, about 1 % of all samples
LICENCE = (
    "Weights: CC0 1.0. Trained on drawings of Open Peeps by Pablo Stanley (CC0 1.0), rendered by dicebear-core (MIT) "
    "from dicebear-styles' open-peeps definition (CC0 1.0)."
)


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


def weights(generator: Generator) -> dict[str, Tensor]:
    """The generator's tensors, fp16 but for the mapping, whose steep steps need fp32."""
    state = generator.state_dict()
    return {k: (v if k.startswith("mapping.") else v.half()).contiguous() for k, v in state.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/peeps"), help="where the training left its parts")
    parser.add_argument("--out", type=Path, default=Path("pipeline/packs/peeps"))
    parser.add_argument("--directions", help="run with style-statistics and channel-directions of this pack")
    parser.add_argument("--strength", type=float, default=9.0, help="default strength written into the pack")
    parser.add_argument("--num-channels", type=int, default=8, help="default channel count written into the pack")
    args = parser.parse_args()
    generator = load_generator(args.build)
    clip = torch.load(args.build / "clip.pt", map_location="cpu", weights_only=True)["model"]
    config = json.loads((args.build / "clip_config.json").read_text())
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    files = {
        GENERATOR_FILE: save_safetensors(weights(generator)),
        WEIGHTS_FILE: save_safetensors({k: v.half().contiguous() for k, v in clip.items()}),
        CONFIG_FILE: (json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2) + "\n").encode(),
        MERGES_FILE: (args.build / MERGES_FILE).read_bytes(),
    }
    if args.directions:
        run = storage.Store(args.directions)
        for stage, name in (("style_statistics", STATISTICS_FILE), ("channel_directions", DIRECTIONS_FILE)):
            files[name] = storage.table_bytes(find_input(stage, run).table())
            files[f"{stage}.json"] = (json.dumps(storage.read_run(run, stage), indent=2) + "\n").encode()
    description = {
        "name": "peeps",
        "version": 1,
        "domain": "drawn faces, 128 px",
        "neutral": "a face",
        "strength": args.strength,
        "num_channels": args.num_channels,
        "licence": LICENCE,
        "generator": CONFIG,
        "clip": {},
    }
    write_pack(storage.Store(str(args.out)), description, files)
    total = sum(len(data) for data in files.values())
    print(f"{args.out}: {len(files)} files, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
