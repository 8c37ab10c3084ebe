"""Datasets as a GPU writes them, full batches encoded beside the rendering: the same rows as a CPU's."""

import pytest
import torch

from pipeline.config import DatasetConfig
from pipeline.directions.style_move import StyleMove
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack
from pipeline.rows import PromptRow
from pipeline.stages import dataset
from pipeline.stages.dataset import Edit, _batches, _merged, _render, render_beside
from storage import decode_image


@pytest.fixture
def batches(tiny_pack: Pack) -> list[dataset._Batch]:
    """Three latents with 0, 1 and 4 edits, three images at a time."""
    generator, config = tiny_pack.generator, DatasetConfig(batch_size=3)
    styles = generator.styles(sample_w_plus(generator, range(3), psi=0.7))
    offset = torch.linspace(-1, 1, generator.space.num_channels)
    move = StyleMove(offset, torch.full_like(offset, torch.nan))
    found = []
    for number, style, edits in zip(range(3), styles, (0, 1, 4), strict=True):
        made = [Edit(_prompt(), float(k + 1), "styles", None, move) for k in range(edits)]
        found += _batches(f"latent-{number}", style, made, config, tiny_pack)
    return found


def _prompt() -> PromptRow:
    return PromptRow("p", "a p", "a p", "a", "global", strengths=(1.0,), status="ok", error=None)


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_merged_batches_are_full_and_keep_the_order(size: int, batches: list[dataset._Batch]):
    merged = list(_merged(iter(batches), size))
    assert [len(x.labels) for x in merged] == [min(size, 8 - i) for i in range(0, 8, size)]
    assert [x for part in merged for x in part.labels] == [x for part in batches for x in part.labels]
    assert torch.equal(torch.cat([x.styles for x in merged]), torch.cat([x.styles for x in batches]))


def test_render_beside_makes_the_rows_of_a_cpu(tiny_pack: Pack, batches: list[dataset._Batch]):
    config = DatasetConfig(batch_size=3)
    want = [row for batch in batches for row in _render(tiny_pack.generator, config, batch)]
    merged = _merged(iter(batches), 3)
    got = [row for rows in render_beside(tiny_pack.generator, config, merged) for row in rows]
    assert [row.image_id for row in got] == [row.image_id for row in want]
    assert len({row.image_id for row in got}) == 8
    for a, b in zip(got, want, strict=True):  # a batch of other company moves last bits, and a pixel by one level
        pixels = [decode_image(row.image["bytes"]).astype(int) for row in (a, b)]
        assert abs(pixels[0] - pixels[1]).max() <= 1
    same = [row for batch in batches for row in _render(tiny_pack.generator, config, batch)]
    alone = [row for rows in render_beside(tiny_pack.generator, config, iter(batches)) for row in rows]
    assert [row.image["bytes"] for row in alone] == [row.image["bytes"] for row in same]


def test_render_beside_goes_on_with_fewer_where_memory_ends(
    tiny_pack: Pack, batches: list[dataset._Batch], monkeypatch: pytest.MonkeyPatch
):
    config, render, sizes = DatasetConfig(batch_size=8), tiny_pack.generator.render, []

    def on_a_small_card(styles: torch.Tensor, **how: object) -> torch.Tensor:
        sizes.append(len(styles))
        if len(styles) > 2:
            raise torch.OutOfMemoryError("too many")
        return render(styles, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(tiny_pack.generator, "render", on_a_small_card)
    rows = [x for part in render_beside(tiny_pack.generator, config, _merged(iter(batches), 8)) for x in part]
    assert len(rows) == 8
    assert sizes == [8, 4, 2, 2, 2, 2]
