"""What noise changes in a stage LP between solves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.presolve.presolve import PresolvedStage
from sddp.engine.stage.stage_data import StageData
from sddp.engine.subproblem.bunching import RightHandSides
from sddp.engine.subproblem.stage_lp import StageLP


class NoiseInput:
    """Writes noise into the LP, and remembers what stands there.

    `realisation` is the position in the support that stands there, None for other values.

    Substitutions may have added to an entry that holds noise; that part (reduced minus declared
    value) stays when the noise changes.
    """

    def __init__(self, reduced: PresolvedStage, lp: StageLP) -> None:
        compiled = reduced.compiled
        self._table, self._lp = compiled.noise, lp
        self.realisation: int | None = None
        positions = compiled.noise.positions
        column, row = reduced.column_position(), reduced.row_position
        arrays = reduced.arrays
        self._columns = column[positions["cost"]].astype(np.int32)
        self._cost_shift = arrays.cost[self._columns] - compiled.cost[positions["cost"]]
        self._offset_shift = arrays.offset - compiled.offset
        self._sides = (
            _Sides(compiled, "row", row, arrays.row_lower, arrays.row_upper, lp.set_row_bounds),
            _Sides(
                compiled,
                "column",
                column,
                arrays.column_lower,
                arrays.column_upper,
                lp.set_column_bounds,
            ),
        )
        entries = positions["matrix"].reshape(-1, 2)
        self._rows, self._entry_columns = row[entries[:, 0]], column[entries[:, 1]]
        self._matrix_shift = np.zeros(0)
        if len(entries):
            here = np.asarray(arrays.matrix[self._rows, self._entry_columns]).ravel()
            there = np.asarray(compiled.matrix[entries[:, 0], entries[:, 1]]).ravel()
            self._matrix_shift = here - there
        self._outgoing = compiled.outgoing
        self._bounds = (compiled.column_lower.copy(), compiled.column_upper.copy())
        self._bound_positions = (positions["column_lower"], positions["column_upper"])
        self.outgoing_bounds = self._bounds_of_outgoing()
        self.current: Mapping[str, Floats] = {}

    def to_realisation(self, realisation: int) -> None:
        """Write one realisation of the support, unless it stands there already."""
        if realisation != self.realisation:
            self.to_entries(self.entries(realisation))
            self.realisation = realisation

    def label(self) -> str:
        """What stands there, for messages."""
        outside = self.realisation is None
        return "noise outside the support" if outside else f"noise {self.realisation}"

    def entries(self, realisation: int | None) -> Mapping[str, Floats]:
        """Entries at one realisation of the support; None: those that stand in the LP."""
        if realisation is None:
            return self.current
        return {place: values[realisation] for place, values in self._table.values.items()}

    def to_entries(self, entries: Mapping[str, Floats]) -> None:
        """Write given entries."""
        self.realisation = None
        self.current = entries
        if len(self._columns):
            self._lp.set_costs(self._columns, entries["cost"] + self._cost_shift)
        for sides in self._sides:
            sides.write(entries)
        if any(len(positions) for positions in self._bound_positions):
            self._bounds[0][self._bound_positions[0]] = entries["column_lower"]
            self._bounds[1][self._bound_positions[1]] = entries["column_upper"]
            self.outgoing_bounds = self._bounds_of_outgoing()
        if len(entries["offset"]):
            self._lp.offset = float(entries["offset"][0]) + self._offset_shift
        self._lp.set_coefficients(
            self._rows, self._entry_columns, entries["matrix"] + self._matrix_shift
        )

    def right_hand_sides(self) -> RightHandSides | None:
        """Sides of the moved rows in every realisation; None where noise moves anything else."""
        others = ("cost", "matrix", "column_lower", "column_upper")
        if any(len(self._table.positions[place]) for place in others):
            return None
        return self._sides[0].table(self._table.values)

    def offsets(self) -> Floats:
        """Constant of the objective in every realisation."""
        offsets = self._table.values["offset"]
        if offsets.shape[1] == 0:
            return np.full(self._table.n_realisations, self._lp.offset)
        return offsets[:, 0] + self._offset_shift

    def _bounds_of_outgoing(self) -> tuple[Floats, Floats]:
        """Bounds of the outgoing variables under the present noise."""
        lower, upper = self._bounds
        return lower[self._outgoing], upper[self._outgoing]


class _Sides:
    """Noise in the two sides of rows, or in the two bounds of columns."""

    def __init__(
        self,
        compiled: StageData,
        kind: str,
        position: Ints,
        lower: Floats,
        upper: Floats,
        setter: Callable[[NDArray[np.int32], Floats, Floats], None],
    ) -> None:
        self._kind, self._setter = kind, setter
        declared = {
            "lower": getattr(compiled, f"{kind}_lower"),
            "upper": getattr(compiled, f"{kind}_upper"),
        }
        self._at = {
            side: position[compiled.noise.positions[f"{kind}_{side}"]]
            for side in ("lower", "upper")
        }
        self._touched = np.unique(np.concatenate(list(self._at.values()))).astype(np.int32)
        self._now = {"lower": lower.copy(), "upper": upper.copy()}
        self._shift = {
            side: self._now[side][self._at[side]]
            - declared[side][compiled.noise.positions[f"{kind}_{side}"]]
            for side in ("lower", "upper")
        }

    def table(self, values: Mapping[str, Floats]) -> RightHandSides:
        """The touched sides in every realisation."""
        n_realisations = len(values[f"{self._kind}_lower"])
        both = {}
        for side, at in self._at.items():
            both[side] = np.tile(self._now[side], (n_realisations, 1))
            both[side][:, at] = values[f"{self._kind}_{side}"] + self._shift[side]
            both[side] = both[side][:, self._touched]
        return RightHandSides(self._touched, both["lower"], both["upper"])

    def write(self, entries: Mapping[str, Floats]) -> None:
        if len(self._touched) == 0:
            return
        for side, at in self._at.items():
            self._now[side][at] = entries[f"{self._kind}_{side}"] + self._shift[side]
        self._setter(
            self._touched, self._now["lower"][self._touched], self._now["upper"][self._touched]
        )
