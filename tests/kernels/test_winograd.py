"""winograd_conv2d against torch's direct convolution."""

import pytest
import torch
from torch import Tensor

from kernels import modulated_conv2d, winograd_conv2d, winograd_taps
from kernels import winograd as module
from tests.kernels.random_tensors import Randn
from tests.tolerances import FLOAT64_FORMULA, WINOGRAD_FLOAT32

SHAPES = pytest.mark.parametrize(("n", "i", "o", "h", "w"), [(1, 1, 1, 4, 4), (3, 5, 2, 8, 12), (2, 16, 24, 16, 16)])


def some_inputs(randn: Randn, n: int, i: int, o: int, h: int, w: int) -> dict[str, Tensor]:
    return {
        "x": randn(n, i, h, w),
        "weight": randn(o, i, 3, 3) / (3 * i**0.5),
        "scale_in": randn(n, i),
        "scale_out": randn(n, o),
        "shift": randn(1, o, h, w),
    }


@SHAPES
def test_winograd_conv2d_equals_conv2d(n: int, i: int, o: int, h: int, w: int, randn: Randn) -> None:
    inputs = some_inputs(randn, n, i, o, h, w)
    got = winograd_conv2d(**inputs, impl="fast")
    torch.testing.assert_close(got, winograd_conv2d(**inputs, impl="ref"), **FLOAT64_FORMULA)
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shift_shape", [(1, 1, 1, 1), (1, 2, 1, 1), (1, 1, 8, 12), (3, 2, 8, 12)])
def test_winograd_conv2d_shift_is_broadcast(shift_shape: tuple[int, ...], randn: Randn) -> None:
    inputs = some_inputs(randn, 3, 5, 2, 8, 12) | {"shift": randn(*shift_shape)}
    fast, ref = (winograd_conv2d(**inputs, impl=impl) for impl in ("fast", "ref"))
    torch.testing.assert_close(fast, ref, **FLOAT64_FORMULA)


@pytest.mark.parametrize("band_rows", [1, 2, 4])
def test_winograd_conv2d_any_band_equals_conv2d(band_rows: int, randn: Randn, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = some_inputs(randn, 2, 3, 2, 16, 8)
    row_bytes = 2 * 2 * 36 * (3 + 2) * 8
    monkeypatch.setattr(module, "BAND_BYTES", band_rows * row_bytes)
    fast, ref = (winograd_conv2d(**inputs, impl=impl) for impl in ("fast", "ref"))
    torch.testing.assert_close(fast, ref, **FLOAT64_FORMULA)


def test_winograd_conv2d_float32_error_is_as_stated(randn: Randn) -> None:
    inputs = some_inputs(randn, 2, 128, 32, 16, 16) | {"scale_out": torch.ones(2, 32, dtype=torch.float64)}
    got = winograd_conv2d(**{name: t.float() for name, t in inputs.items()}, impl="fast")
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), winograd_conv2d(**inputs, impl="ref"), **WINOGRAD_FLOAT32)


def test_winograd_conv2d_auto_takes_sides_that_four_does_not_divide(randn: Randn) -> None:
    inputs = some_inputs(randn, 1, 2, 3, 5, 8)
    assert torch.equal(winograd_conv2d(**inputs), winograd_conv2d(**inputs, impl="ref"))
    with pytest.raises(ValueError, match=r"both sides must be multiples of 4; got \(5, 8\)"):
        winograd_conv2d(**inputs, impl="fast")


@pytest.mark.parametrize("name", ["x", "weight", "scale_in", "scale_out", "shift"])
def test_winograd_conv2d_auto_takes_gradients_and_fast_refuses_them(name: str, randn: Randn) -> None:
    inputs = some_inputs(randn, 1, 2, 3, 4, 8)
    gradients = []
    for impl in ("auto", "ref"):
        leaf = inputs[name].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(winograd_conv2d(**inputs | {name: leaf}, impl=impl).square().sum(), leaf)
        gradients.append(gradient)
    assert torch.equal(*gradients)
    leaf = inputs[name].clone().requires_grad_()
    with pytest.raises(ValueError, match=r"the fast path has no gradient; one is asked for"):
        winograd_conv2d(**inputs | {name: leaf}, impl="fast")
    with torch.no_grad():
        assert winograd_conv2d(**inputs | {name: leaf}, impl="fast").isfinite().all()


def test_modulated_conv2d_with_taps_fast_raises_where_winograd_cannot_run(randn: Randn) -> None:
    x, weight, styles = randn(2, 4, 6, 8), randn(3, 4, 3, 3), randn(2, 4)
    with pytest.raises(ValueError, match=r"both sides must be multiples of 4; got \(6, 8\)"):
        modulated_conv2d(x, weight, styles, taps=winograd_taps(weight), impl="fast")
    got = modulated_conv2d(x, weight, styles, taps=winograd_taps(weight))
    torch.testing.assert_close(got, modulated_conv2d(x, weight, styles, impl="ref"), **FLOAT64_FORMULA)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("shift_shape", [None, (1, 3, 1, 1), (1, 3, 8, 8)])
def test_modulated_conv2d_with_taps_equals_ref(
    demodulate: bool, shift_shape: tuple[int, ...] | None, randn: Randn
) -> None:
    x, weight, styles = randn(2, 4, 8, 8), randn(3, 4, 3, 3), randn(2, 4)
    shift = None if shift_shape is None else randn(*shift_shape)
    got = modulated_conv2d(
        x, weight, styles, demodulate=demodulate, shift=shift, gain=1.5, taps=winograd_taps(weight), impl="fast"
    )
    want = modulated_conv2d(x, weight, styles, demodulate=demodulate, shift=shift, gain=1.5, impl="ref")
    torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


def test_modulated_conv2d_taps_with_upsampling_raise(randn: Randn) -> None:
    weight = randn(3, 4, 3, 3)
    with pytest.raises(ValueError, match="`taps` must be None where the convolution upsamples"):
        modulated_conv2d(
            randn(1, 4, 4, 4), weight, randn(1, 4), up=2, resample_filter=randn(4), taps=winograd_taps(weight)
        )


@pytest.mark.usefixtures("unchecked")
def test_winograd_taps_other_than_3x3_raise(randn: Randn) -> None:
    with pytest.raises(ValueError, match="3x3 taps; got"):
        winograd_taps(randn(2, 2, 5, 5))
    with pytest.raises(ValueError, match="3x3 taps; got"):
        winograd_conv2d(**some_inputs(randn, 1, 2, 2, 4, 4) | {"weight": randn(2, 2, 1, 1)})
