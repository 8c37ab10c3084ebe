"""How exactly a device's arithmetic is done: a setting of the run, never what torch happens to do by itself.

By itself torch rounds the factors of float32 convolutions to 10 bits on a GPU (TF32), which moves images. And where
they are not to be rounded, cuDNN is neither right nor fast: its version 9.19 on an H200 is off by more than the largest
value itself in a 3x3 convolution of 512 to 1,024 channels of 64 x 64 whenever the batch is a multiple of 8, and takes
three to five times as long as torch's own convolution, which is off by 4e-6 (float64 compared). So full precision does
without cuDNN.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

import torch

from pipeline.config import Precision
from pipeline.errors import PipelineError

TF32_CAPABILITY = (8, 0)  # of CUDA devices; Ampere's
HALF_CAPABILITY = (7, 0)  # Volta's: the first whose half-precision products add up in full


def check_precision(precision: Precision, device: torch.device | str) -> None:
    """Refuse a precision that a device does not have.

    Raises:
        PipelineError: if ``tf32`` or ``half`` is asked of anything but a CUDA device that has it.
    """
    device = torch.device(device)
    if precision == "full":
        return
    if device.type != "cuda":
        raise PipelineError(
            f"`precision` must be full on {device.type}, which has no faster arithmetic for it; got {precision!r}. "
            f"Add --precision full, or --device cuda where there is a GPU."
        )
    wanted = TF32_CAPABILITY if precision == "tf32" else HALF_CAPABILITY
    found = torch.cuda.get_device_capability(device)
    if found < wanted:
        raise PipelineError(
            f"`precision` {precision} needs a GPU of compute capability {wanted[0]}.{wanted[1]} or above; "
            f"{torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}. Add --precision full."
        )


_turn = Condition()
_holders: list[Precision] = []  # of the work that goes on in this process; all alike
_outside: list[tuple[bool, bool, bool]] = []  # the switches as they were before the first of them


@contextmanager
def held_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Have float32 products on CUDA rounded as the precision says, or not at all.

    torch's switches are the process's. Work of one precision goes on side by side in any number of threads; work of
    another waits until they are through, so that no result is of a precision that it does not name. ``half`` rounds as
    ``tf32`` does what is not in half precision itself: its sums and losses lose nothing that half has not lost already.
    When the last of the work is through, the switches are as they were before.

    Args:
        precision: of all float32 convolutions and matrix products meanwhile.
        device: where they run; on other than CUDA devices nothing is changed.
    Raises:
        PipelineError: if the device does not have the precision.
    """
    check_precision(precision, device)
    if device.type != "cuda":
        yield
        return
    with _turn:
        _turn.wait_for(lambda: not _holders or _holders[0] == precision)
        if not _holders:
            _outside[:] = [_switches()]
        _holders.append(precision)
        _set_switches(*[precision != "full"] * 3)
    try:
        yield
    finally:
        with _turn:
            _holders.remove(precision)
            if not _holders:
                _set_switches(*_outside.pop())
            _turn.notify_all()


def _switches() -> tuple[bool, bool, bool]:
    """Torch's own: TF32 in convolutions, TF32 in matrix products, cuDNN at all."""
    return torch.backends.cudnn.allow_tf32, bool(torch.backends.cuda.matmul.allow_tf32), torch.backends.cudnn.enabled


def _set_switches(convolutions: bool, products: bool, cudnn: bool) -> None:
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.enabled = cudnn
