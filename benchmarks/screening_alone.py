"""Every prompt of a list screened by itself, against the pack's whole table: renders, hit and kept, with intervals.

    python -m benchmarks.screening_alone --run FOLDER --prompts examples/peeps/free_wording_2.csv --faces 12

Edits are the pack's defaults on the same faces, judged by its oracle. A prompt counts if some face does not show its
wish yet. A killed study goes on where it was: each prompt's screening lies in FOLDER.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.screening_study import screen
from examples.peeps.free_wording import FIRST_SEED, default_direction, interval, move, render
from examples.peeps.judge import read_labels
from examples.peeps.wishes import SECOND_LIST, judge_wishes, read_free_prompts
from pipeline.config import ScreeningConfig
from pipeline.directions.table import load_channel_table
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import load_pack
from pipeline.prompts import check_prompts, templates
from storage import Store


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", required=True, help="folder for the screenings; a second run reads what it finds there"
    )
    parser.add_argument("--pack", default="peeps", help="pack with the peeps' attributes (default peeps)")
    parser.add_argument("--prompts", type=Path, default=SECOND_LIST)
    parser.add_argument("--only", nargs="*", default=[], help="names of the prompts to take (default all)")
    parser.add_argument("--faces", type=int, default=12)
    parser.add_argument("--renders", type=int, default=None, help="budget of a prompt (default: the setting's own)")
    args = parser.parse_args()
    pack = load_pack(args.pack, device="cpu")
    whole = load_channel_table(pack)
    config = ScreeningConfig(rule="pursuit", by_control=True, renders_per_prompt=args.renders)
    styles = pack.generator.styles(sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + args.faces), psi=0.7))
    before = read_labels(pack.oracle, render(pack, styles))
    found = []
    for free in read_free_prompts(args.prompts):
        if args.only and free.name not in args.only:
            continue
        prompt = check_prompts([{"name": free.name, "target": free.target, "neutral": free.neutral}])
        folder = f"{prompt[0].prompt_id}-{args.renders or 'usual'}"
        table, renders, _ = screen(pack, Store(args.run), folder, config, prompt)
        text = pack.clip.text_direction(free.target, free.neutral, templates("imagenet_79")).cpu()
        line = [float(renders)]
        for channels in (whole, table):
            direction = default_direction(pack, channels, text)
            moved = move(pack, channels, styles, direction, pack.description.strength)
            verdict = judge_wishes(before, read_labels(pack.oracle, render(pack, moved)), free.wishes)
            line += [float(verdict.hit.mean()), float(verdict.kept.mean())] if len(verdict.hit) else [np.nan, np.nan]
        print(f"{free.name}: {renders} renders, hit {line[1]:.2f} by the table, {line[3]:.2f} alone; "
              f"kept {line[2]:.3f}, {line[4]:.3f}", flush=True)  # fmt: skip
        if not np.isnan(line).any():
            found.append(line)
    values = np.array(found)
    print(f"{len(values)} prompts, {values[:, 0].mean():.0f} renders each, {values[:, 0].max():.0f} at most")
    rows = {
        "hit by the table": values[:, 1],
        "hit alone": values[:, 3],
        "gap": values[:, 1] - values[:, 3],
        "kept by the table": values[:, 2],
        "kept alone": values[:, 4],
        "gap of kept": values[:, 2] - values[:, 4],
    }
    for name, column in rows.items():
        low, high = interval(column)
        print(f"{name}: {column.mean():.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
