"""What an evaluation of the pack found, as it is kept beside the pack."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from pipeline.packs.pack import Pack


@dataclass(frozen=True)
class Finding:
    """One line of the table; ``at_least`` is false where small is good."""

    what: str
    value: float
    wanted: float
    at_least: bool = True
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted


@dataclass(frozen=True)
class Edited:
    """One prompt: the setting chosen on the tuning seeds, and shares found on the test seeds."""

    prompt: str
    strength: float
    channels: int
    hit: float
    kept: float
    default_hit: float
    default_kept: float


def listed(scores: dict[str, float]) -> str:
    """Scores by name, as a line."""
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def to_markdown(findings: Iterable[Finding], edits: Iterable[Edited]) -> str:
    """The two tables as Markdown."""
    lines = ["| what | wanted | found | |", "|---|---|---|---|"]
    for f in findings:
        sign = "at least" if f.at_least else "at most"
        lines.append(f"| {f.what} | {sign} {f.wanted} | {f.value:.3f}{'' if f.holds else ' (missed)'} | {f.detail} |")
    head = ("prompt", "strength", "channels", "target hit", "others kept", "hit at defaults", "kept at defaults")
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for e in edits:
        shares = " | ".join(f"{share:.2f}" for share in (e.hit, e.kept, e.default_hit, e.default_kept))
        lines.append(f"| {e.prompt} | {e.strength:g} | {e.channels} | {shares} |")
    return "\n".join(lines) + "\n"


def write_findings(pack: Pack, findings: Sequence[Finding], edits: Sequence[Edited]) -> None:
    """Write ``evaluation.json`` and ``evaluation.md`` beside the pack's files, with the digests that they are of."""
    record = {
        "files": pack.description.files,
        "defaults": [pack.description.strength, pack.description.settings.get("global", {}).get("rule", "paper")],
        "findings": [{**asdict(f), "holds": f.holds} for f in findings],
        "edits": [asdict(e) for e in edits],
    }
    pack.store.write_bytes("evaluation.json", (json.dumps(record, indent=2) + "\n").encode())
    pack.store.write_bytes("evaluation.md", to_markdown(findings, edits).encode())


def read_findings(pack: Pack) -> tuple[list[Finding], list[Edited]]:
    """What was found of the pack, as ``write_findings`` left it."""
    record = json.loads(pack.store.read_bytes("evaluation.json"))
    plain = [{k: v for k, v in found.items() if k != "holds"} for found in record["findings"]]
    return [Finding(**found) for found in plain], [Edited(**edit) for edit in record["edits"]]
