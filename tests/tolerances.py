"""Every tolerance the tests use, each with the reason for its size."""

from typing import TypedDict


class Tolerance(TypedDict):
    """Keyword arguments of ``torch.testing.assert_close``."""

    rtol: float
    atol: float


# Two ways of one formula in float64 (eps 2e-16), sums of at most some 1e4 terms: only a wrong formula is further off.
FLOAT64_FORMULA: Tolerance = {"rtol": 1e-9, "atol": 1e-10}

# A whole float64 generator: some twenty layers of the above, values up to a few hundred.
FLOAT64_GENERATOR: Tolerance = {"rtol": 1e-8, "atol": 1e-8}

# One kernel in float32 (eps 1.2e-7), values of order 1, sums of a few hundred terms in another order.
FLOAT32_KERNEL: Tolerance = {"rtol": 1e-5, "atol": 1e-5}

# Winograd's F(4x4, 3x3) in float32: its transforms multiply by up to 8 and cancel; 5e-5 measured on values of order 1.
WINOGRAD_FLOAT32: Tolerance = {"rtol": 2e-4, "atol": 2e-4}

# A whole float32 generator of random weights, pixel values of order 10: rounding of the sums grows layer by layer.
FLOAT32_GENERATOR: Tolerance = {"rtol": 1e-4, "atol": 1e-4}

# Moments in float64 against numpy's two-pass result; the merge formula loses at most a few bits per merge.
MOMENTS: Tolerance = {"rtol": 1e-9, "atol": 1e-9}

# Demodulation divides by sqrt(energy + 1e-8): with energies of order 1, scaling the styles moves the result by ~1e-8.
DEMODULATION_EPS_LEAK: Tolerance = {"rtol": 1e-6, "atol": 1e-7}

# The rows of a bicubic matrix are normalised in float64 and then rounded to float32.
ROW_SUM: Tolerance = {"rtol": 0.0, "atol": 1e-6}

# Pillow computes mode-F images in double and stores float32; ours is float32 on values to 255: 255 * 1e-7 per product.
PILLOW_FLOAT: Tolerance = {"rtol": 0.0, "atol": 1e-4}

# Pillow rounds to 8 bits after each of its two passes: half a level twice, so one level in the rounded result.
PILLOW_UINT8_LEVELS = 1

# torch's own antialiased bicubic computes its weights in float32.
TORCH_BICUBIC: Tolerance = {"rtol": 0.0, "atol": 1e-5}

# the same row alone or in a batch: matrix products add up in another order
BATCH_INDEPENDENT: Tolerance = {"rtol": 1e-5, "atol": 1e-5}
# float64 results stored as float32
FLOAT32_STORED: Tolerance = {"rtol": 1e-5, "atol": 1e-6}
# whole renders by the reference against batched renders from kept activations, through CLIP and two normalisations
KEPT_ACTIVATIONS: Tolerance = {"rtol": 1e-3, "atol": 1e-3}
# an imported network against an independent one, float32: the sums run in another order, layer upon layer
IMPORTED_NETWORK: Tolerance = {"rtol": 0.0, "atol": 1e-4}
# float16 has 11 bits (5e-4); a dozen layers of sums in it, against float32, on values scaled to 1
HALF_PRECISION: Tolerance = {"rtol": 0.0, "atol": 1e-2}
# a derivative against a central difference of 0.05 sigma: curvature, and float32 rounding divided by the step
FINITE_DIFFERENCE: Tolerance = {"rtol": 3e-2, "atol": 1e-3}
# some ten steps of Adam on rounding that differs with the batch: Adam divides by the gradient's size, so last bits grow
OPTIMIZED: Tolerance = {"rtol": 1e-2, "atol": 2e-3}
# the same through 8-bit images: float rounding moves a pixel here and there by one grey level of 255
GREY_LEVEL: Tolerance = {"rtol": 0.0, "atol": 1e-2}
# bfloat16 has 8 bits (4e-3): eight times float16's error
BFLOAT16: Tolerance = {"rtol": 0.0, "atol": 8e-2}
