from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.packs.pack import GENERATOR_FILE, SAMPLES_FILE, Pack, load_pack, write_pack
from pipeline.scoring import samples as module
from pipeline.scoring.samples import compute_samples, draw_samples, samples_bytes
from storage import Store


def with_samples(pack: Pack, folder: Path, *, count: int, generator: bytes | None = None) -> Pack:
    """The pack with what was found in its first samples, and another generator after that."""
    files = {name: pack.read(name) for name in pack.description.files}
    files[SAMPLES_FILE] = samples_bytes(pack, compute_samples(pack, count))
    if generator is not None:
        files[GENERATOR_FILE] = generator
    write_pack(Store(str(folder)), pack.description.model_dump(exclude={"files"}), files)
    return load_pack(str(folder), device="cpu")


@pytest.mark.parametrize("asked", [24, 17])
def test_samples_that_the_pack_brings_are_those_that_it_would_draw(
    tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
):
    pack = with_samples(tiny_pack, tmp_path, count=24)
    drawn, whole = compute_samples(tiny_pack, asked), compute_samples(tiny_pack, 24)
    monkeypatch.setattr(module, "compute_samples", None)  # nothing is drawn
    brought = draw_samples(pack, asked)
    torch.testing.assert_close(brought.embeddings, drawn.embeddings, atol=2e-3, rtol=0)
    torch.testing.assert_close(brought.embeddings.norm(dim=1), torch.ones(asked))
    assert np.array_equal(brought.labels, drawn.labels)
    assert np.array_equal(brought.regions, whole.regions)


def test_samples_of_other_weights_and_too_few_samples_are_drawn_anew(tiny_pack: Pack, tmp_path: Path):
    pack = with_samples(tiny_pack, tmp_path / "few", count=8)
    assert len(draw_samples(pack, 12).embeddings) == 12
    state = tiny_pack.generator.state_dict()
    other = module_bytes({name: value + 0.1 if value.is_floating_point() else value for name, value in state.items()})
    stale = with_samples(tiny_pack, tmp_path / "stale", count=8, generator=other)
    torch.testing.assert_close(draw_samples(stale, 8).embeddings, compute_samples(stale, 8).embeddings)


def module_bytes(state: dict[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in state.items()})
