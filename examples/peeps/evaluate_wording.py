"""The rows of the evaluation on prompts in free wording: every method, every kind of prompt, with intervals.

    python -m examples.peeps.evaluate_wording --pack pipeline/packs/peeps

Measures mapper and optimisation anew and keeps what else ``evaluation.json`` says of the pack.
"""

import argparse
from collections.abc import Iterable

import numpy as np

from examples.peeps import edit_methods
from examples.peeps.findings import Finding, read_findings, write_findings
from examples.peeps.free_wording import KindResult, by_kind
from examples.peeps.free_wording import measure as measure_free_wording
from examples.peeps.wishes import FREE_WORDING, SECOND_LIST, FreePrompt, read_free_prompts
from pipeline.packs.pack import Pack, load_pack

BY_SEARCH = "free wording by "  # how the rows of mapper and optimisation begin


def free_wording(pack: Pack, faces: int) -> list[Finding]:
    """Global directions at the pack's defaults on both lists of prompts in free wording, by kind."""
    wanted = {"one wish": 0.95, "negation": 0.9, "several": 0.85}
    findings = []
    for name, path in (("free wording", FREE_WORDING), ("free wording, second list", SECOND_LIST)):
        lines = by_kind(measure_free_wording(pack, read_free_prompts(path), faces))
        findings += _wording_rows(name, lines, faces, hit=wanted, kept=0.97)
        for line in lines:
            if line.kind == "negation":
                what = f"{name}, {line.kind}, {line.prompts} prompts, {faces} faces"
                findings.append(Finding(f"{what}: of faces without it spared", line.spared, 0.95))
    return findings


def free_wording_by_search(pack: Pack, method: str, faces: int, prompts: int) -> list[Finding]:
    """Mapper or optimisation at the pack's settings on some prompts of every kind: they take minutes a prompt."""
    chosen = some_of_every_kind(read_free_prompts(), prompts)
    lines = by_kind(edit_methods.measure(pack, method, chosen, faces))
    return _wording_rows(f"{BY_SEARCH}{method}", lines, faces, hit={line.kind: 0.9 for line in lines}, kept=0.95)


def some_of_every_kind(prompts: list[FreePrompt], count: int) -> list[FreePrompt]:
    """So many prompts of every kind, evenly spread over the list."""
    chosen = []
    for kind in dict.fromkeys(p.kind for p in prompts):
        part = [p for p in prompts if p.kind == kind]
        places = np.linspace(0, len(part) - 1, min(count, len(part))).round().astype(int)
        chosen += [part[i] for i in places]
    return chosen


def _wording_rows(
    name: str, lines: Iterable[KindResult], faces: int, *, hit: dict[str, float], kept: float
) -> list[Finding]:
    findings = []
    for line in lines:
        what = f"{name}, {line.kind}, {line.prompts} prompts, {faces} faces"
        ends = [f"95 % interval {x[0]:.2f} to {x[1]:.2f}" for x in (line.hit_interval, line.kept_interval)]
        findings.append(Finding(f"{what}: hit", line.hit, hit[line.kind], detail=ends[0]))
        findings.append(Finding(f"{what}: kept", line.kept, kept, detail=ends[1]))
    return findings


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or folder")
    parser.add_argument("--faces", type=int, default=6, help="seeds edited per prompt")
    parser.add_argument("--prompts", type=int, default=16, help="prompts of every kind")
    args = parser.parse_args()
    pack = load_pack(args.pack, device="cpu")
    findings, edits = read_findings(pack)
    findings = [f for f in findings if not f.what.startswith(BY_SEARCH)]
    for method in edit_methods.METHODS:
        findings += free_wording_by_search(pack, method, args.faces, args.prompts)
    write_findings(pack, findings, edits)


if __name__ == "__main__":
    main()
