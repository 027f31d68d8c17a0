"""A declared stage as numbers: arrays, names and plain code; closed, and equal by content.

Made by `translation.read_stage`; no pass ever touches Pyomo again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.stage.declaration import InitialCut, RowGenerator
from sddp.engine.stage.noise_table import NoiseTable, entry_label, noise_label, values_at
from sddp.engine.stage.state_space import StateSpace
from sddp.engine.stage.transition import MatrixMap, ScaleMap, StateMap
from sddp.errors import ModelError
from sddp.imports import class_path
from sddp.lp import Arrays


@dataclass(frozen=True, eq=False)
class StageData:
    """The stage as a minimisation over columns: ``row_lower <= matrix @ z <= row_upper``.

    Closed: numbers, names and the sealed row generator, nothing of Pyomo. What the builder does
    to its model afterwards changes nothing here.

    `sign` is -1 where the user maximises: values inside the engine are ``sign`` times theirs.
    `column_names` are Pyomo's names of the variables, `column_groups` those of the components that
    they are members of. `incoming` and `outgoing` are column positions of the state components;
    `outgoing` is empty where nothing is handed on. `generator_columns` are those that `rows` writes
    its rows in. Entries that hold noise have the value of the first realization.
    """

    sign: float
    column_names: tuple[str, ...]
    column_groups: tuple[str, ...]
    row_names: tuple[str, ...]
    cost: Floats
    offset: float
    matrix: sp.csr_array
    row_lower: Floats
    row_upper: Floats
    column_lower: Floats
    column_upper: Floats
    states: StateSpace
    incoming: Ints
    outgoing: Ints
    initial: Floats | None
    noise: NoiseTable
    transition: StateMap
    generator_columns: Ints
    rows: RowGenerator | None
    homogeneous: bool

    @property
    def n_columns(self) -> int:
        """Number of Pyomo variables, incoming ones among them."""
        return len(self.cost)

    def row_sizes(self, units: Floats) -> Floats:
        """Sizes of the row generator's variables that are states, 0 for the others."""
        at = self.generator_columns
        states = np.isin(at, np.concatenate([self.incoming, self.outgoing]))
        sizes: Floats = np.where(states, units[at], 0.0)
        return sizes

    @cached_property
    def content(self) -> str:
        """Hash of everything but the initial state."""
        digest = hashlib.blake2b(digest_size=20)
        for part in _content(self):
            digest.update(part)
        return digest.hexdigest()

    @property
    def fingerprint(self) -> str:
        """Hash of the content: stages of equal fingerprints are the same stage."""
        initial = "" if self.initial is None else self.initial.tobytes().hex()
        return f"{self.content}-{initial}"


class ReadStage(NamedTuple):
    """A stage that was read before, with the initial cuts of its node.

    A builder may return one in the place of a `Stage`: nodes then share what is read once.
    """

    data: StageData
    initial_cuts: Sequence[InitialCut] = ()


def arrays_at(compiled: StageData, noise: Mapping[str, Floats]) -> Arrays:
    """Arrays of a stage, over the declared columns, with noise entries written in."""
    own = Arrays(
        compiled.cost,
        compiled.matrix,
        compiled.row_lower,
        compiled.row_upper,
        compiled.column_lower,
        compiled.column_upper,
        compiled.offset,
    )
    return with_entries(own, compiled.noise, noise)


def noise_values(
    compiled: StageData, realisation: Mapping[str, float], where: str
) -> dict[str, Floats]:
    """Entries at given parameter values, in the support or not, in engine units.

    Raises
    ------
    ModelError
        Other names than the declared ones, or a value that is not finite, outside the domain of
        its parameter, or makes an entry NaN or infinite.
    """
    table = compiled.noise
    if set(realisation) != set(table.names):
        raise ModelError(
            f"{where}: noise has {sorted(map(str, realisation))}; it needs values for "
            f"{sorted(table.names)}"
        )
    for name, (least, greatest) in zip(table.names, table.limits, strict=True):
        value = realisation[name]
        if not np.isfinite(value):
            raise ModelError(f"{where}: noise {name} = {value} is not finite; give a number")
        if not least <= value <= greatest:
            raise ModelError(
                f"{where}: noise {name} = {value} lies outside [{least:g}, {greatest:g}], the "
                "domain of its parameter; give a value in it"
            )
    noises = np.array([[realisation[name] for name in table.names]], dtype=float)

    def describe(place: str, entry: int, at: int) -> str:
        position = table.positions[place].reshape(len(table.entries[place].number), -1)[entry]
        label = entry_label(place, position, compiled.column_names, compiled.row_names)
        return f"{where}: noise {noise_label(table.names, noises[at])} makes {label}"

    found = values_at(table.entries, noises, compiled.sign, describe)
    return {place: values[0] for place, values in found.items()}


def with_entries(arrays: Arrays, table: NoiseTable, noise: Mapping[str, Floats]) -> Arrays:
    """The same, copied, with noise entries written in; the matrix has a place for each."""
    positions = table.positions
    vectors = {}
    for place in ("cost", "row_lower", "row_upper", "column_lower", "column_upper"):
        vectors[place] = getattr(arrays, place).copy()
        vectors[place][positions[place]] = noise[place]
    matrix = arrays.matrix
    if len(positions["matrix"]):
        n_rows, n_columns = matrix.shape
        rows = np.repeat(np.arange(n_rows), np.diff(matrix.indptr))
        keys = rows * n_columns + matrix.indices
        entries = positions["matrix"].reshape(-1, 2)
        matrix = matrix.copy()
        at = np.searchsorted(keys, entries[:, 0] * n_columns + entries[:, 1])
        matrix.data[at] = noise["matrix"]
    offset = float(noise["offset"][0]) if len(noise["offset"]) else arrays.offset
    return Arrays(matrix=matrix, offset=offset, **vectors)


def _content(stage: StageData) -> Iterator[bytes]:
    """Everything that a stage consists of but its initial state."""
    noise, transition, matrix = stage.noise, stage.transition, stage.matrix
    codes = {place: sorted(entries.codes.items()) for place, entries in noise.entries.items()}
    rows = None if stage.rows is None else (class_path(type(stage.rows)), stage.rows.digest())
    yield repr(
        (
            stage.sign, stage.column_names, stage.column_groups, stage.row_names, stage.offset,
            stage.states.indices, stage.homogeneous, noise.names, codes, type(transition).__name__,
            rows,
        )
    ).encode()  # fmt: skip
    arrays = [
        stage.cost, matrix.data, matrix.indices, matrix.indptr, stage.row_lower, stage.row_upper,
        stage.column_lower, stage.column_upper, stage.incoming, stage.outgoing,
        stage.generator_columns, noise.probabilities, transition.probabilities, transition.shift,
    ]  # fmt: skip
    if noise.names:
        arrays += [noise.limits, noise.support, *noise.positions.values()]
        for entries in noise.entries.values():
            arrays += [entries.number, entries.entry, entries.parameter, entries.factor]
    if isinstance(transition, ScaleMap):
        arrays.append(transition.scale)
    elif isinstance(transition, MatrixMap):
        stacked = transition.stacked
        arrays += (
            [stacked]
            if isinstance(stacked, np.ndarray)
            else [stacked.data, stacked.indices, stacked.indptr]
        )
    for array in arrays:
        yield b"none" if array is None else repr(array.shape).encode() + array.tobytes()
