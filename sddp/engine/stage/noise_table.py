"""Everything of a compiled stage that changes with the noise, closed: arrays and plain code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats, Ints, read_only
from sddp.engine.stage.expressions import Code, Coefficient, evaluate
from sddp.errors import ModelError

# Places where noise can enter a linear program.
PLACES = ("cost", "offset", "row_lower", "row_upper", "column_lower", "column_upper", "matrix")

# Places where an infinite number says that there is no bound.
SIDES = {"row_lower": -np.inf, "column_lower": -np.inf, "row_upper": np.inf, "column_upper": np.inf}


@dataclass(frozen=True, eq=False)
class Entries:
    """Numbers of one place as functions of the noise: ``number + sum factor * noise + codes``.

    Attributes
    ----------
    number : array, shape (n_entries,)
    entry, parameter, factor : arrays, shape (n_terms,)
        ``factor`` times the noise of a parameter is added to an entry.
    codes : mapping from entry to postfix code
        What is not affine; see `expressions`.
    """

    number: Floats
    entry: Ints
    parameter: Ints
    factor: Floats
    codes: Mapping[int, Code]

    @classmethod
    def of(cls, coefficients: Sequence[Coefficient]) -> Entries:
        """From coefficients as they were read."""
        terms = [
            (i, position, factor)
            for i, coefficient in enumerate(coefficients)
            for position, factor in coefficient.linear.items()
        ]
        return cls(
            number=read_only([c.number for c in coefficients]),
            entry=np.array([i for i, _, _ in terms], dtype=np.int64),
            parameter=np.array([position for _, position, _ in terms], dtype=np.int64),
            factor=read_only([factor for _, _, factor in terms]),
            codes={i: c.code for i, c in enumerate(coefficients) if c.code},
        )

    def at(self, noises: Floats) -> Floats:
        """Values at noises of shape (n, n_parameters): shape (n, n_entries)."""
        values: Floats = np.tile(self.number, (len(noises), 1))
        if len(self.entry):
            terms = self.factor[:, None] * noises[:, self.parameter].T
            np.add.at(values.T, self.entry, terms)
        for entry, code in self.codes.items():
            values[:, entry] += evaluate(code, noises)
        return values


NONE = Entries.of(())


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """Numbers that change with the noise, for each realization and for any other noise.

    Attributes
    ----------
    names : tuple of str
        The parameters.
    limits : array, shape (n_parameters, 2)
        Least and greatest value that each parameter was declared for.
    support : array, shape (n_realisations, n_parameters)
    probabilities : array, shape (n_realisations,)
    positions : mapping from place to integer array
        Columns, rows, or (for the matrix) pairs of row and column; see `PLACES`.
    entries : mapping from place to Entries
        In the user's sense.
    values : mapping from place to array, shape (n_realisations, n_entries)
        At the support; costs are those of the minimization.
    """

    names: tuple[str, ...]
    limits: Floats
    support: Floats
    probabilities: Floats
    positions: Mapping[str, Ints]
    entries: Mapping[str, Entries]
    values: Mapping[str, Floats]

    @property
    def n_realisations(self) -> int:
        """Number of realizations; 1 where there is no noise."""
        return len(self.probabilities)


def values_at(
    entries: Mapping[str, Entries],
    noises: Floats,
    sign: float,
    describe: Callable[[str, int, int], str],
) -> dict[str, Floats]:
    """Entries of each place at noises of shape (n, n_parameters), in engine units.

    `describe` turns place, entry and noise into the beginning of an error message.

    Raises
    ------
    ModelError
        A noise makes an entry NaN, or infinite where it is no bound.
    """
    found: dict[str, Floats] = {}
    for place, held in entries.items():
        values = held.at(noises)
        infinite = np.isinf(values) & (values != SIDES.get(place, np.nan))
        bad = np.argwhere(np.isnan(values) | infinite)
        if len(bad):
            at, entry = (int(i) for i in bad[0])
            raise ModelError(
                f"{describe(place, entry, at)} {values[at, entry]}; noise must give finite numbers"
            )
        found[place] = read_only(sign * values if place in ("cost", "offset") else values)
    return found


def entry_label(
    place: str, position: Sequence[int], columns: Sequence[str], rows: Sequence[str]
) -> str:
    """What an entry is, by the names of its row and column."""
    if place == "matrix":
        return f"the coefficient of {columns[position[1]]} in constraint {rows[position[0]]}"
    if place == "offset":
        return "the constant of the objective"
    if place == "cost":
        return f"the coefficient of {columns[position[0]]} in the objective"
    kind, side = place.split("_")
    if kind == "row":
        return f"the {side} side of constraint {rows[position[0]]}"
    return f"the {side} bound of {columns[position[0]]}"


def noise_label(names: Sequence[str], noise: Floats) -> str:
    """Parameters and values of one noise."""
    return ", ".join(f"{name}={value:g}" for name, value in zip(names, noise, strict=True))


NO_VALUES = {place: read_only(np.zeros((1, 0))) for place in PLACES}
NO_POSITIONS: Mapping[str, Ints] = {place: np.zeros(0, dtype=np.int64) for place in PLACES}


def no_noise() -> NoiseTable:
    """The table of a stage without noise."""
    return NoiseTable(
        names=(),
        limits=read_only(np.zeros((0, 2))),
        support=read_only(np.zeros((1, 0))),
        probabilities=read_only([1.0]),
        positions=NO_POSITIONS,
        entries=dict.fromkeys(PLACES, NONE),
        values=NO_VALUES,
    )
