"""Mean and variance as a stream, the same under any sharding (Chan, Golub and LeVeque 1979)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RunningMoments:
    """Count, mean and sum of squared deviations of every column, in float64.

    Values are added in batches with ``update`` and partial results joined with ``merge``; any order and any split
    gives the same moments up to float64 rounding, without holding more than one batch.

    Attributes:
        count: rows seen.
        mean: [c].
        m2: sum over rows of ``(x - mean)^2``, [c].
    """

    count: int
    mean: Float[Tensor, "c"]
    m2: Float[Tensor, "c"]

    @classmethod
    def empty(cls, num_columns: int) -> "RunningMoments":
        """Moments of no rows."""
        return cls(0, torch.zeros(num_columns, dtype=torch.float64), torch.zeros(num_columns, dtype=torch.float64))

    def update(self, x: Float[Tensor, "n c"]) -> "RunningMoments":
        """Moments with the rows of ``x`` added.

        Raises:
            ValueError: if ``x`` has another number of columns or is not finite.
        """
        if x.ndim != 2 or x.shape[1] != self.mean.numel():
            raise ValueError(f"rows must have {self.mean.numel()} columns; got {tuple(x.shape)}.")
        if x.shape[0] == 0:
            return self
        if not bool(torch.isfinite(x).all()):
            raise ValueError("rows must be finite; got NaN or infinity.")
        x = x.detach().to("cpu", torch.float64)
        mean = x.mean(dim=0)
        return self.merge(RunningMoments(x.shape[0], mean, (x - mean).square().sum(dim=0)))

    def merge(self, other: "RunningMoments") -> "RunningMoments":
        """Moments of both sets of rows: ``m2 = m2_a + m2_b + (mean_b - mean_a)^2 * n_a * n_b / n``.

        Raises:
            ValueError: if the two have different numbers of columns.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"moments must have one number of columns; got {self.mean.numel()} and {other.mean.numel()}."
            )
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta.square() * (self.count * other.count / count)
        return RunningMoments(count, mean, m2)

    def std(self, *, ddof: int = 0) -> Float[Tensor, "c"]:
        """Standard deviation with ``ddof`` degrees of freedom removed (0: population, as the published code).

        Raises:
            ValueError: if there are not more than ``ddof`` rows.
        """
        if self.count <= ddof:
            raise ValueError(f"a standard deviation with ddof={ddof} needs more than {ddof} rows; got {self.count}.")
        return (self.m2 / (self.count - ddof)).sqrt()
