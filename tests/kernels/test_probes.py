import pytest
import torch
from torch import Tensor

from kernels import Probes, probe_rows, unit_vectors
from tests.tolerances import FLOAT32_KERNEL


def some_directions(number: int, width: int = 64) -> Tensor:
    return unit_vectors(torch.randn(number, width, generator=torch.Generator().manual_seed(1)))


def test_probe_rows_are_orthonormal_and_span_the_texts():
    texts = some_directions(5)
    probes = probe_rows(texts, num_probes=8)
    torch.testing.assert_close(probes.rows @ probes.rows.T, torch.eye(13), **FLOAT32_KERNEL)
    torch.testing.assert_close((texts @ probes.rows.T) @ probes.rows, texts, **FLOAT32_KERNEL)
    torch.testing.assert_close(texts @ probes.rows[5:].T, torch.zeros(5, 8), **FLOAT32_KERNEL)


def test_probe_rows_parallel_texts_cost_one_row():
    texts = some_directions(1)
    assert probe_rows(torch.cat([texts, -texts, texts]), num_probes=2).rows.shape == (3, 64)


@pytest.mark.parametrize(("number", "num_probes"), [(60, 4), (2, 62), (200, 0)])
def test_probe_rows_as_many_as_the_width_are_the_axes(number: int, num_probes: int):
    probes = probe_rows(some_directions(number), num_probes=num_probes)
    assert torch.equal(probes.rows, torch.eye(64))
    assert torch.equal(probes.weight, torch.ones(64))


def lengths(probes: Probes, x: Tensor) -> Tensor:
    return ((x @ probes.rows.T) * probes.weight).norm(dim=1)


def test_probe_rows_keep_the_length_on_average():
    texts, x = some_directions(3), torch.randn(20, 64, generator=torch.Generator().manual_seed(2))
    squares = torch.stack([lengths(probe_rows(texts, num_probes=8, seed=s), x).square() for s in range(400)])
    torch.testing.assert_close(squares.mean(dim=0), x.square().sum(dim=1), rtol=0.15, atol=0.0)  # 400 draws


def test_probes_lift_keeps_lengths_and_text_components():
    texts, x = some_directions(3), torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    probes = probe_rows(texts, num_probes=4)
    lifted = probes.lift((x @ probes.rows.T) * probes.weight)
    torch.testing.assert_close(lifted.norm(dim=1), lengths(probes, x), **FLOAT32_KERNEL)
    torch.testing.assert_close(lifted @ texts.T, x @ texts.T, **FLOAT32_KERNEL)


@pytest.mark.parametrize("bad", [torch.zeros(2, 8), torch.zeros(0, 8)])
def test_probe_rows_without_a_direction_is_refused(bad: Tensor):
    with pytest.raises(ValueError, match="at least one text direction must not be zero"):
        probe_rows(bad, num_probes=2)


def test_probes_keep_the_length_on_average_however_many_directions_the_texts_span():
    width, rank, draws = 12, 6, 300
    x = torch.linspace(-1, 1, width)
    lengths = [
        (probes.weight * (probes.rows @ x)).square().sum()
        for probes in (probe_rows(torch.eye(width)[:rank], num_probes=3, seed=seed) for seed in range(draws))
    ]
    assert float(torch.stack(lengths).mean() / x.square().sum()) == pytest.approx(1.0, abs=0.05)
