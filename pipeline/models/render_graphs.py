"""CUDA graphs of whole renders: small batches, whose layers take less time than it takes to start them one by one."""

import logging
from collections.abc import Callable
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

log = logging.getLogger(__name__)

LARGEST_GRAPHED = 8  # images; above, a 1024-px network keeps the card busy by itself
Render = Callable[[Tensor], Tensor]
WARM_UPS = 3  # before recording, as torch asks for: libraries choose and allocate then


class RenderGraphs:
    """Recorded renders by batch size, made the first time a size is asked for; without gradients.

    A recording reads and writes fixed memory, so one render at a time uses it. Where recording fails the reason is
    logged once, and batches are rendered as large ones are.

    Args:
        device: where the plan is; anything but CUDA records nothing.
        largest: images of a batch.
    """

    def __init__(self, device: torch.device, *, largest: int = LARGEST_GRAPHED) -> None:
        self.device, self.largest = device, largest
        self._lock = Lock()
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self.failed = False

    def takes(self, n: int) -> bool:
        """Whether a whole render of ``n`` images is to go through a graph."""
        usable = self.device.type == "cuda" and not self.failed
        return usable and n <= self.largest and not torch.is_grad_enabled()

    def images(self, render: Render, styles: Float[Tensor, "n s"]) -> Float[Tensor, "n 3 r r"]:
        """``render(styles)``, recorded or replayed; always the same function."""
        with self._lock:
            if len(styles) not in self._recorded and not self.failed:
                self._record(render, styles)
            if not self.failed:
                graph, given, images = self._recorded[len(styles)]
                given.copy_(styles)
                graph.replay()
                return images.clone()
        return render(styles)

    def _record(self, render: Render, styles: Tensor) -> None:
        try:
            given = styles.clone()
            stream = torch.cuda.Stream(self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    render(given)
            torch.cuda.current_stream(self.device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other shards go on meanwhile
                images = render(given)
            self._recorded[len(styles)] = (graph, given, images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("small batches are rendered without CUDA graphs: %s", " ".join(str(error).split())[:300])
            self.failed = True
