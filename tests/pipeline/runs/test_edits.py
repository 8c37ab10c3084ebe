"""How far an edit goes whose prompt does not say."""

import pytest

from pipeline.config import EditedLatentsConfig
from pipeline.packs.pack import load_pack
from pipeline.runs.edits import default_strengths


@pytest.mark.parametrize(
    ("method", "given", "wanted"),
    [
        ("global", None, (18.0,)),
        ("global", (6.0, 9.0), (6.0, 9.0)),
        ("mapper", (6.0, 9.0), (0.75,)),
        ("optimize", None, (0.75,)),
        ("tedigan", None, (1.0,)),
    ],
)
def test_strength_by_default_is_the_run_s_or_the_pack_s_for_directions_and_the_pack_s_share_of_a_move(
    method: str, given: tuple[float, ...] | None, wanted: tuple[float, ...]
):
    config = EditedLatentsConfig(strengths=given)
    assert default_strengths(method, config, load_pack("peeps", device="cpu")) == wanted
