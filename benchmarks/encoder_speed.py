"""How many pictures a minute e4e's encoder inverts on a CPU, of random weights, as speed does not depend on them.

    python -m benchmarks.encoder_speed --images 16

Beside the clock it counts the processor's seconds: on a machine that has other work to do, only those say what the
encoder itself takes.
"""

import argparse
import json
import time

import torch

from pipeline.inversion.encoder import encode
from pipeline.machine.cores import map_on_cores
from pipeline.models.e4e import E4e, E4eConfig
from pipeline.models.stylegan2 import Generator, GeneratorConfig

CPU = torch.device("cpu")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=256, help="of the generator: rows of w_plus")
    args = parser.parse_args()
    torch.manual_seed(0)
    config = GeneratorConfig(args.resolution, channel_base=512, channel_max=16)  # not drawn with: one pass needs none
    generator = Generator(config).eval().requires_grad_(False)
    encoder = E4e(E4eConfig(num_ws=config.style_space.num_ws)).eval().requires_grad_(False)
    encoder.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    pictures = torch.rand(args.images, 3, args.resolution, args.resolution) * 2 - 1
    encode(encoder, generator, pictures[:1], steps=1)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in map_on_cores(
        lambda part: encode(encoder, generator, part, steps=1), pictures.split(args.batch), device=CPU
    ):
        pass
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    threads = torch.get_num_threads()
    found = {
        "threads": threads,
        "seconds_per_image": round(clock / args.images, 2),
        "images_per_minute": round(60 * args.images / clock),
        "processor_seconds_per_image": round(processor / args.images, 2),
        "images_per_minute_of_idle_cores": round(60 * args.images / processor * threads),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
