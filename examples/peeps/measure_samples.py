"""Put into the pack what its networks find in its first unedited samples, so that no run has to draw them.

    python -m examples.peeps.measure_samples --pack pipeline/packs/peeps

Reading prompts and telling what is out of reach look at 256 samples: 15 seconds of a CPU core, before anything else.
To be run again whenever generator, CLIP or oracle change; until then the file that is there is passed over.
"""

import argparse

from pipeline.config import ScoresConfig
from pipeline.packs.pack import SAMPLES_FILE, load_pack, write_pack
from pipeline.scoring.samples import compute_samples, samples_bytes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="pipeline/packs/peeps")
    parser.add_argument("--count", type=int, default=ScoresConfig().num_samples)
    args = parser.parse_args()
    pack = load_pack(args.pack, device="cpu")
    files = {SAMPLES_FILE: samples_bytes(pack, compute_samples(pack, args.count))}
    description = pack.description.model_dump(exclude={"files"})
    write_pack(pack.store, description, files, written=pack.description.files)


if __name__ == "__main__":
    main()
