import pyarrow as pa
import pytest

from pipeline.schemas import scores_artifact
from pipeline.stages.report import compute_summary

TEXTS = {"target": "t", "neutral": "n", "method": "global", "strengths": [4.0]}
PROMPTS = pa.Table.from_pylist(
    [
        {"prompt_id": "hat", "prompt": "hat", **TEXTS, "strengths": [4.0, 9.0], "status": "ok", "error": None},
        {"prompt_id": "car", "prompt": "red sports car", **TEXTS, "status": "ok", "error": None},
        {"prompt_id": "bad", "prompt": "bad", **TEXTS, "status": "failed", "error": "no channel"},
    ]
)
EDITS = pa.table({name: pa.array([], pa.string()) for name in ("edit_id", "strength", "status", "error")})


def row(latent: int, prompt_id: str, **scores: object) -> dict:
    base = {"image_id": f"{latent}-{prompt_id}", "latent_id": str(latent), "prompt_id": prompt_id, "strength": 4.0}
    seen = {
        "pixel_distance": 0.1,
        "clip_gain": 0.2,
        "hit_by": "oracle",
        "status": "ok",
        "already": False,
        "reachable": True,
    }
    return base | seen | {"kept": 0.95} | scores


def summary_of(rows: list[dict], *, judge: bool = False, **unknown: list[str]) -> list[dict]:
    artifact = scores_artifact(attributes=("head",), identity=False, judge=judge, oracle=True)
    table = artifact.table({c.name: [r.get(c.name) for r in rows] for c in artifact.columns})
    tables = (table[i : i + 1] for i in range(len(table)))
    return compute_summary(PROMPTS, [EDITS], tables, unknown_words=unknown).to_pylist()


def test_summary_counts_hits_among_those_that_count_and_gives_a_verdict():
    hat = [row(0, "hat", hit=True), row(1, "hat", hit=False), row(2, "hat", already=True)]
    car = [row(i, "car", hit=False, reachable=False, hit_by="clip") for i in range(4)]
    hats, _, cars, bad = summary_of([*hat, *car], car=["sports", "car"])
    assert (hats["hits"], hats["judged"], hats["already"], hats["images"]) == (1, 2, 1, 3)
    assert hats["verdict"] == "1 of 2, 1 had it already"
    assert hats["mean_kept"] == pytest.approx(0.95)
    assert hats["mean_identity_similarity"] is None
    assert (cars["verdict"], cars["unknown_words"]) == ("0 of 4, words unknown", ["sports", "car"])
    assert (bad["verdict"], bad["images"], bad["error"]) == ("failed", 0, "no channel")


def test_summary_sets_the_judges_gain_beside_the_guides_and_says_where_they_part():
    told = [row(i, "hat", hit=True, clip_gain=0.4, judge_gain=gain) for i, gain in enumerate((0.0, -0.1, 0.2))]
    had = [row(9, "hat", already=True, clip_gain=0.1, judge_gain=0.0)]  # asks for what was there: proves nothing
    hats = summary_of([*told, *had], judge=True)[0]
    assert hats["mean_judge_gain"] == pytest.approx(0.025)
    assert hats["disputed"] == 2
    assert hats["verdict"] == "3 of 3, 1 had it already, the judge sees nothing in 2"
    assert summary_of([row(0, "hat", hit=True)])[0]["disputed"] is None


def test_summary_has_a_row_for_every_strength_in_order():
    rows = [row(0, "hat", hit=True) | {"strength": s} for s in (9.0, 4.0)]
    found = [r for r in summary_of(rows) if r["prompt"] == "hat"]
    assert [(r["strength"], r["images"]) for r in found] == [(4.0, 1), (9.0, 1)]
