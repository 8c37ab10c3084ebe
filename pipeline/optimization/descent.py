"""What every search for a latent shares: its Adam, its schedule, its best vector and when it ends.

Letters: x entry of the vector.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeVar

from jaxtyping import Float
from torch import Tensor

from pipeline.optimization.adam import AdamMoments, adam_step


@dataclass(frozen=True)
class Schedule:
    """How long a search goes on and how fast.

    Attributes:
        num_steps: at most, from 2, as the first has learning rate 0.
        learning_rate: the largest, of Adam.
        rampup: share of the steps over which the rate rises.
        rampdown: share of the steps over which it falls.
        tolerance: a gain of the loss below this counts as none.
        patience: steps without gain after which a search ends; 0 never ends one early.
    """

    num_steps: int
    learning_rate: float
    rampup: float
    rampdown: float
    tolerance: float
    patience: int


def learning_rate(step: int, num_steps: int, *, peak: float, rampup: float, rampdown: float) -> float:
    """``peak * (0.5 - 0.5 cos(pi min(1, (1 - t) / rampdown))) * min(1, t / rampup)`` with ``t = step / num_steps``.

    A linear rise from 0 over the first steps, a cosine fall over the last. Source: StyleCLIP's published code, which
    has it from the projector of StyleGAN2 (Karras et al. 2020).
    """
    t = step / num_steps
    fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / rampdown))
    return peak * fall * min(1.0, t / rampup)


class Descent:
    """A vector on its way down, with nothing shared with those beside it.

    Args:
        start: where it begins.
        schedule: how long and how fast.

    Attributes:
        vector: where it is now.
        best: where the loss was lowest.
        best_loss: that loss; infinite before the first.
        best_step: that step.
        step: updates made.
    """

    def __init__(self, start: Float[Tensor, "x"], schedule: Schedule) -> None:
        self.schedule = schedule
        self.vector = start.clone().requires_grad_()
        self.moments = AdamMoments.of(self.vector)
        self.best, self.best_loss, self.best_step = start, math.inf, 0
        self.flat_loss, self.flat_since = math.inf, 0
        self.step = 0

    def record(self, loss: float) -> None:
        """Note the vector's loss, and the vector where none was better."""
        if loss < self.best_loss:
            self.best, self.best_loss, self.best_step = self.vector.detach().clone(), loss, self.step
        if loss < self.flat_loss - self.schedule.tolerance:
            self.flat_loss, self.flat_since = loss, self.step

    @property
    def rate(self) -> float:
        """The learning rate of this step."""
        x = self.schedule
        return learning_rate(self.step, x.num_steps, peak=x.learning_rate, rampup=x.rampup, rampdown=x.rampdown)

    @property
    def is_last(self) -> bool:
        """Whether no step is left after this one."""
        return self.step + 1 >= self.schedule.num_steps

    @property
    def stop(self) -> str | None:
        """Why it ends here: steps (all done) or flat (no gain for ``patience`` steps); None where it goes on."""
        if self.is_last:
            return "steps"
        if self.schedule.patience and self.step - self.flat_since >= self.schedule.patience:
            return "flat"
        return None


def update_all(going: Sequence[tuple[Descent, Float[Tensor, "x"]]]) -> None:
    """One step of Adam for every descent along its gradient; those of one learning rate in one call."""
    for rate, members in groupby(sorted(going, key=lambda x: x[0].rate), key=lambda x: x[0].rate):
        descents, gradients = zip(*members, strict=True)
        adam_step([x.vector for x in descents], gradients, [x.moments for x in descents], rate=rate)
        for descent in descents:
            descent.step += 1


class _Numbered(Protocol):
    """What stands in a slot."""

    number: int


ItemT = TypeVar("ItemT")
SlotT = TypeVar("SlotT", bound=_Numbered)


def run_slots(
    items: Iterable[ItemT],
    *,
    seat: Callable[[list[tuple[int, ItemT]]], list[SlotT]],
    step: Callable[[list[SlotT]], list[SlotT]],
    batch_size: int,
) -> None:
    """Work on ``batch_size`` items at a time; one that ends gives its slot to the next.

    Args:
        items: what is to be done.
        seat: from numbered items to their slots; an item that cannot be worked on gets none.
        step: one step of every slot; returns those that ended.
        batch_size: slots at a time.
    """
    waiting, slots = deque(enumerate(items)), list[SlotT]()
    while waiting or slots:
        while waiting and len(slots) < batch_size:
            fresh = [waiting.popleft() for _ in range(min(len(waiting), batch_size - len(slots)))]
            slots += seat(fresh)
        if slots:
            gone = {slot.number for slot in step(slots)}
            slots = [slot for slot in slots if slot.number not in gone]
