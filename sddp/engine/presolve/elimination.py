"""Working copy of a compiled stage while rows become bounds and columns are substituted.

Substitution is Gaussian elimination, so it takes the same care: a pivot is not small beside the
other decisions of its row, an entry that cancels is dropped relative to what was added, and a
substitution that would leave an entry of mostly rounding is not made at all.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from sddp.engine.stage.stage_data import StageData
from sddp.lp import FEASIBILITY_TOLERANCE

Row = dict[int, float]

# A substituted column spreads its row over the rows that hold it; past this many new entries
# per entry removed the smaller problem is the slower one (explicit CVaR rows: 100 to 1).
MAXIMAL_FILL = 4

# Least size of a pivot beside the largest decision coefficient of its row, as in sparse LU.
PIVOT_THRESHOLD = 0.1

# An entry below this share of the largest number that was added to it is rounding.
CANCELLED = 1e-12

# An entry between `CANCELLED` and this share has lost more than half of its digits.
DOUBTFUL = 1e-7


class Elimination:
    """Rows of a stage as dictionaries, and which row holds which column.

    `sizes` holds the largest number that was ever added into each entry of `rows`, `row_size`
    the same for the sides of each row.
    """

    def __init__(self, compiled: StageData) -> None:
        self.stage = compiled
        self.state_position = {int(c): i for i, c in enumerate(compiled.incoming)}
        self.rows = _dictionaries(compiled.matrix)
        self.sizes = [{c: abs(v) for c, v in row.items()} for row in self.rows]
        self.row_lower = compiled.row_lower.copy()
        self.row_upper = compiled.row_upper.copy()
        finite = [np.where(np.isfinite(s), s, 0.0) for s in (self.row_lower, self.row_upper)]
        self.row_size = np.maximum(np.abs(finite[0]), np.abs(finite[1]))
        self.row_alive = np.ones(len(self.rows), dtype=bool)
        self.lower, self.upper = compiled.column_lower.copy(), compiled.column_upper.copy()
        self.cost, self.offset = compiled.cost.copy(), compiled.offset
        self.cost_size = np.abs(self.cost)
        self.moving: dict[str, dict[int, Row]] = {"lower": {}, "upper": {}}
        self.defined: dict[int, tuple[Row, float]] = {}
        self.noisy_rows, self.noisy_columns = _noisy(compiled)
        self.holders: dict[int, set[int]] = {}
        for i, row in enumerate(self.rows):
            for column in row:
                self.holders.setdefault(column, set()).add(i)

    def run(self) -> None:
        """Bounds first: a definition may rest on them."""
        for i in range(len(self.rows)):
            self._try_bound(i)
        for i in range(len(self.rows)):
            self._try_definition(i)

    def _decisions(self, row: Row) -> list[int]:
        return [column for column in row if column not in self.state_position]

    def _try_bound(self, i: int) -> None:
        """Turn ``a y + c.x <= b`` into a moving bound on ``y``."""
        row = self.rows[i]
        decisions = self._decisions(row)
        if len(decisions) != 1 or len(row) == 1 or i in self.noisy_rows:
            return
        column = decisions[0]
        sides = {"lower": self.row_lower[i], "upper": self.row_upper[i]}
        if np.isfinite(list(sides.values())).all() or column in self.noisy_columns:
            return
        name = "upper" if np.isfinite(sides["upper"]) else "lower"
        target = name if row[column] > 0 else ("lower" if name == "upper" else "upper")
        bounds = self.lower if target == "lower" else self.upper
        if np.isfinite(bounds[column]) or column in self.moving[target]:
            return
        bounds[column] = sides[name] / row[column]
        self.moving[target][column] = {
            state: -value / row[column] for state, value in row.items() if state != column
        }
        self._drop(i)

    def _try_definition(self, i: int) -> None:
        """Eliminate a column that the equality row `i` defines."""
        row = self.rows[i]
        if not self.row_alive[i] or i in self.noisy_rows or self.row_lower[i] != self.row_upper[i]:
            return
        decisions = self._decisions(row)
        least = PIVOT_THRESHOLD * max((abs(row[column]) for column in decisions), default=0.0)
        for column in decisions:
            if abs(row[column]) < least or not self._may_go(column, i):
                continue
            if self._bounds_implied(column, i) and self._substitute(column, i):
                return

    def _may_go(self, column: int, i: int) -> bool:
        others = len(self.holders[column]) - 1
        cheap = others * (len(self.rows[i]) - 2) <= MAXIMAL_FILL * len(self.rows[i])
        moving = column in self.moving["lower"] or column in self.moving["upper"]
        return cheap and not moving and column not in self.noisy_columns

    def _bounds_implied(self, column: int, i: int) -> bool:
        definition, constant = self._definition(column, i)
        for side, bound in (("lower", self.lower[column]), ("upper", self.upper[column])):
            if not np.isfinite(bound):
                continue
            reach = self._extreme(definition, constant, side)
            if reach is None or (reach < bound if side == "lower" else reach > bound):
                return False
        return True

    def _definition(self, column: int, i: int) -> tuple[Row, float]:
        row = self.rows[i]
        pivot = row[column]
        return (
            {other: -value / pivot for other, value in row.items() if other != column},
            float(self.row_upper[i]) / pivot,
        )

    def _extreme(self, definition: Row, constant: float, side: str) -> float | None:
        """Least or greatest value of a definition; None where it moves with the state."""
        state_part: Row = {}
        sizes: Row = {}
        for column, value in definition.items():
            if column in self.noisy_columns:
                return None  # its bounds may be others under other noise
            if column in self.state_position:
                add_to(state_part, sizes, {column: value})
                continue
            end = side if value > 0 else ("upper" if side == "lower" else "lower")
            constant += value * float((self.lower if end == "lower" else self.upper)[column])
            add_to(state_part, sizes, self.moving[end].get(column, {}), value)
        return None if state_part or not np.isfinite(constant) else constant

    def _substitute(self, column: int, i: int) -> bool:
        """Write the definition of `column` by row `i` into all other rows; False if refused."""
        definition, constant = self._definition(column, i)
        pivot = abs(self.rows[i][column])
        sizes = {other: self.sizes[i][other] / pivot for other in definition}
        changed: dict[int, tuple[Row, Row]] = {}
        for other in sorted(self.holders[column] - {i}):
            row, size = dict(self.rows[other]), dict(self.sizes[other])
            factor = row.pop(column)
            del size[column]
            add_to(row, size, definition, factor, sizes)
            doubtful = any(abs(row[c]) < DOUBTFUL * size[c] for c in definition if c in row)
            # An empty row whose side is noise would have to hold to the last digit.
            if doubtful or (not row and other in self.noisy_rows):
                return False
            changed[other] = (row, size)
        for other, (row, size) in changed.items():
            self._replace(other, row, size, self.rows[other][column], constant)
        self._substitute_cost(column, definition, constant, sizes)
        self.defined[column] = (definition, constant)
        self._drop(i)
        return True

    def _replace(self, i: int, row: Row, size: Row, factor: float, constant: float) -> None:
        """Put a substituted row in the place of row `i`; drop it where nothing is left of it."""
        for column in self.rows[i].keys() - row.keys():
            self.holders[column].discard(i)
        for column in row.keys() - self.rows[i].keys():
            self.holders.setdefault(column, set()).add(i)
        self.rows[i], self.sizes[i] = row, size
        shift = factor * constant
        self.row_size[i] = max(self.row_size[i], abs(shift))
        for sides in (self.row_lower, self.row_upper):
            sides[i] -= shift
            if abs(sides[i]) < CANCELLED * self.row_size[i]:
                sides[i] = 0.0
        room = FEASIBILITY_TOLERANCE * self.row_size[i]
        if not row and self.row_lower[i] <= room and self.row_upper[i] >= -room:
            self._drop(i)  # redundant; an inconsistent row stays, and says that nothing is feasible

    def _substitute_cost(self, column: int, definition: Row, constant: float, sizes: Row) -> None:
        cost = float(self.cost[column])
        for other, value in definition.items():
            self.cost_size[other] = max(self.cost_size[other], abs(cost) * sizes[other])
            self.cost[other] += cost * value
            if abs(self.cost[other]) < CANCELLED * self.cost_size[other]:
                self.cost[other] = 0.0
        self.offset += cost * constant
        self.cost[column] = 0.0

    def _drop(self, i: int) -> None:
        self.row_alive[i] = False
        for column in self.rows[i]:
            self.holders[column].discard(i)


def add_to(
    row: Row, sizes: Row, terms: Row, factor: float = 1.0, term_sizes: Row | None = None
) -> None:
    """Add multiples of other terms to a row, dropping what cancels relative to what was added.

    Parameters
    ----------
    row, sizes : dict
        Changed in place: coefficients, and the largest number ever added into each of them.
    terms : dict
    factor : float
    term_sizes : dict, optional
        Sizes of `terms`; their absolute values by default.
    """
    for column, value in terms.items():
        added = factor * value
        size = abs(added) if term_sizes is None else abs(factor) * term_sizes[column]
        total, size = row.get(column, 0.0) + added, max(size, sizes.get(column, 0.0))
        sizes[column] = size
        if abs(total) <= CANCELLED * size:
            row.pop(column, None)
        else:
            row[column] = total


def _dictionaries(matrix: sp.csr_array) -> list[Row]:
    columns, values = matrix.indices.tolist(), matrix.data.tolist()
    return [
        {c: v for c, v in zip(columns[start:end], values[start:end], strict=True) if v != 0.0}
        for start, end in pairwise(matrix.indptr.tolist())
    ]


def _noisy(compiled: StageData) -> tuple[set[int], set[int]]:
    """Rows and columns that hold noise and are left as they are."""
    positions = compiled.noise.positions
    entries = positions["matrix"].reshape(-1, 2)
    rows = {int(i) for place in ("row_lower", "row_upper") for i in positions[place]}
    columns = {
        int(i) for place in ("cost", "column_lower", "column_upper") for i in positions[place]
    }
    return rows | {int(i) for i in entries[:, 0]}, columns | {int(j) for j in entries[:, 1]}
