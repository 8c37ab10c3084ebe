"""Results that leave the device while it goes on, and are finished on the CPU's threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Leaving:
    """A tensor on its way to the CPU; the device does not wait for it.

    From CUDA it is copied into pinned memory, which torch keeps and uses again, in the order of the device's work.

    Args:
        x: not written to afterwards; on a CPU it is taken as it is.
    """

    def __init__(self, x: Tensor) -> None:
        self._here, self._done = x, None
        if x.device.type == "cuda":
            self._source = x  # alive until it is copied
            self._here = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
            self._here.copy_(x, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(x.device))

    def array(self) -> np.ndarray:
        """The values, once they are there; any thread may ask."""
        if self._done is not None:
            self._done.synchronize()
        return self._here.numpy()


def finish_beside(
    finish: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, threads: int, ahead: int
) -> Iterator[ResultT]:
    """``map(finish, items)`` in order: items are made in the calling thread while earlier ones are finished on others.

    Args:
        finish: from an item to a result, mostly outside Python's lock, as PNG encoding is.
        items: made one by one, never more than ``ahead`` before their results are taken.
        threads: that finish.
        ahead: items not yet finished or not yet taken; bounds the memory.
    Raises:
        Exception: the first of ``finish`` or of making an item; what has not started then is not run.
    """
    waiting: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="finish") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(finish, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
