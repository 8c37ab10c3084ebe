"""Linear programs, whole numbers among them, built variable by variable and solved by HiGHS (through scipy)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

MOST_NODES = 200  # of the search over whole numbers; a count, not a time, so that every process ends at the same choice
GAP = 1e-4  # of the objective that the search may leave


@dataclass
class LinearProgram:
    """Minimise a sum of costs over variables between bounds, with sums of variables between bounds.

    Attributes:
        costs: of every variable.
        bounds: least and largest value of every variable.
        whole: whether each must be a whole number.
        rows: sums, as variable -> factor, with their least and largest value.
    """

    costs: list[float] = field(default_factory=list)
    bounds: list[tuple[float, float]] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[tuple[Mapping[int, float], float, float]] = field(default_factory=list)

    def variable(self, *, cost: float = 0.0, most: float = np.inf, whole: bool = False) -> int:
        """A new variable, at least 0; its number."""
        self.costs.append(cost)
        self.bounds.append((0.0, most))
        self.whole.append(whole)
        return len(self.costs) - 1

    def sum_between(self, factors: Mapping[int, float], low: float, high: float) -> None:
        """``low <= sum of factor * variable <= high``."""
        self.rows.append((factors, low, high))

    def near(
        self, factors: Mapping[int, float], wanted: float, *, cost: float, free: float = np.inf, beyond: float = 0.0
    ) -> tuple[int, ...]:
        """A sum that should be ``wanted``.

        Args:
            factors: variable -> factor.
            wanted: what the sum should be.
            cost: of every unit above or below it.
            free: units that it may be off at this cost.
            beyond: cost of every unit more.
        Returns:
            the variables that count the units beyond ``free``.
        """
        above, below = self.variable(cost=cost, most=free), self.variable(cost=cost, most=free)
        off = {above: -1.0, below: 1.0}
        further = (self.variable(cost=beyond), self.variable(cost=beyond)) if np.isfinite(free) else ()
        off |= dict(zip(further, (-1.0, 1.0), strict=bool(further)))
        self.sum_between({**factors, **off}, wanted, wanted)
        return further

    def solve(self) -> np.ndarray:
        """Values of all variables; the same on every call.

        Raises:
            ArithmeticError: if no values meet all bounds; programs here have slack, so that is an error of ours.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        places = [(i, variable) for i, (factors, _, _) in enumerate(self.rows) for variable in factors]
        values = [factor for factors, _, _ in self.rows for factor in factors.values()]
        row, column = np.array(places).T
        matrix = csr_array((values, (row, column)), shape=(len(self.rows), len(self.costs)))
        low, high = np.array([(low, high) for _, low, high in self.rows]).T
        found = milp(
            self.costs,
            integrality=np.array(self.whole, dtype=int),
            bounds=Bounds(*np.array(self.bounds).T),
            constraints=LinearConstraint(matrix, low, high),
            options={"node_limit": MOST_NODES, "mip_rel_gap": GAP},
        )
        if found.x is None:
            raise ArithmeticError(f"no values meet all bounds: {found.message}")
        return np.where(self.whole, np.round(found.x), found.x)
