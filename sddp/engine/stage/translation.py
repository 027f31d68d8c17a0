"""From a Pyomo stage to a compiled one: done once, so that no pass ever touches Pyomo again.

Everything is turned into a minimisation. Coefficients that hold noise become arrays where they are
affine in it, and plain code (`expressions`) where they are not. Nothing of the result refers to
the model.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
import pyomo.environ as pyo
import scipy.sparse as sp

from sddp.arrays import Floats, Ints, checked_probabilities, read_only
from sddp.engine.stage.declaration import Noise, RowGenerator, Stage, State
from sddp.engine.stage.expressions import Coefficient, Value, add, multiply
from sddp.engine.stage.linear_forms import Form, FormReader, NotLinear
from sddp.engine.stage.noise_table import (
    PLACES,
    SIDES,
    Entries,
    NoiseTable,
    entry_label,
    no_noise,
    noise_label,
    values_at,
)
from sddp.engine.stage.stage_data import StageData, with_entries
from sddp.engine.stage.state_space import StateSpace
from sddp.engine.stage.transition import compile_transition
from sddp.errors import ModelError
from sddp.lp import Arrays

# Components that a compiled stage takes in, or that hold no constraint of their own.
TRANSLATED = frozenset(
    (
        pyo.Var,
        pyo.Constraint,
        pyo.Objective,
        pyo.Param,
        pyo.Set,
        pyo.RangeSet,
        pyo.SetOf,
        pyo.Expression,
        pyo.Block,
        pyo.Suffix,
        pyo.BuildAction,
        pyo.BuildCheck,
    )
)


class _Assembly:
    """Collects columns, rows and noise entries while reading the Pyomo model."""

    def __init__(self, stage: Stage, where: str) -> None:
        self.where = where
        self.parameters = _noise_parameters(stage, where)
        positions = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        self.reader = FormReader(positions, self.column)
        self.columns: dict[int, int] = {}
        self.variables: list[Any] = []
        self.column_names: list[str] = []
        self.row_names: list[str] = []
        self.positions: dict[str, list[tuple[int, ...]]] = {place: [] for place in PLACES}
        self.entries: dict[str, list[Coefficient]] = {place: [] for place in PLACES}

    def column(self, variable: Any) -> int:
        """Position of a variable, added at first sight."""
        position = self.columns.get(id(variable))
        if position is None:
            if not variable.is_continuous():
                raise ModelError(
                    f"{self.where}: variable {variable.name} is integer; stages are linear "
                    "programs with continuous variables"
                )
            position = self.columns[id(variable)] = len(self.variables)
            self.variables.append(variable)
            self.column_names.append(variable.name)
        return position

    def form(self, expression: Any, name: str) -> Form:
        """An expression as an affine function of the columns."""
        with self._reading(name):
            return self.reader.form(expression)

    def bound(self, expression: Any, name: str) -> Value:
        """An expression without variables."""
        with self._reading(name):
            return self.reader.value(expression)

    def number(self, value: Value, place: str, *position: int) -> float:
        """A number of the program; remembered as a noise entry if it holds noise (then 0)."""
        if isinstance(value, Coefficient):
            self.positions[place].append(position)
            self.entries[place].append(value)
            return 0.0
        if not isfinite(value) and value != SIDES.get(place):
            label = self.label(place, position)
            raise ModelError(f"{self.where}: {label} is {value}; give a finite number")
        return value

    def label(self, place: str, position: Sequence[int]) -> str:
        """What an entry is, in words."""
        return entry_label(place, position, self.column_names, self.row_names)

    def free_bound(self, expression: Any, name: str, missing: float) -> float:
        """A bound that is no constraint; noise in it does not count as an occurrence."""
        seen = set(self.reader.seen)
        value = self.bound(expression, name)
        self.reader.seen = seen
        return missing if isinstance(value, Coefficient) else value

    def check_occurrence(self) -> None:
        """Raise for a noise parameter that the program does not hold."""
        for position, parameter in enumerate(self.parameters):
            if position not in self.reader.seen:
                raise ModelError(
                    f"{self.where}: noise sets {parameter.name}, which occurs in no active "
                    "constraint, no objective and no bound of a decision, so it has no effect; "
                    "use it there or remove it from the noise"
                )

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except NotLinear as error:
            raise ModelError(
                f"{self.where}: {name} is not linear in the variables, whatever values the "
                f"parameters have: {error}; write it as linear constraints"
            ) from error
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise ModelError(
                f"{self.where}: a number in {name} has no value: {error}; set it before the "
                "builder returns"
            ) from error


def read_stage(stage: Stage, where: str) -> StageData:
    """Translate a `Stage`; `where` names the node in error messages.

    Raises
    ------
    ModelError
        The model is not linear and continuous, states are declared twice or missing, a number is
        NaN, noise realisations disagree or set a parameter that occurs nowhere, or probabilities
        do not sum to 1.
    """
    _check_stage(stage, where)
    assembly = _Assembly(stage, where)
    incoming, outgoing, states = _states(stage, assembly)
    sign, cost_entries, offset = _objective(stage.model, assembly)
    rows = _rows(stage.model, assembly)
    generator_columns = [assembly.column(v) for v in stage.row_variables] if stage.rows else []
    lower, upper = _column_bounds(assembly, set(incoming))
    assembly.check_occurrence()
    noise = _noise_table(stage.noise, assembly, sign)
    cost = np.zeros(len(assembly.variables))
    for column, value in cost_entries:
        cost[column] = sign * value
    arrays = Arrays(
        cost=cost,
        matrix=_matrix(rows, len(cost)),
        row_lower=np.array(rows["lower"]),
        row_upper=np.array(rows["upper"]),
        column_lower=lower,
        column_upper=upper,
        offset=sign * offset,
    )
    arrays = with_entries(arrays, noise, {p: values[0] for p, values in noise.values.items()})
    return StageData(
        sign=sign,
        column_names=tuple(assembly.column_names),
        column_groups=tuple(v.parent_component().name for v in assembly.variables),
        row_names=tuple(assembly.row_names),
        cost=read_only(arrays.cost),
        offset=arrays.offset,
        matrix=arrays.matrix,
        row_lower=read_only(arrays.row_lower),
        row_upper=read_only(arrays.row_upper),
        column_lower=read_only(arrays.column_lower),
        column_upper=read_only(arrays.column_upper),
        states=states,
        incoming=np.array(incoming, dtype=np.int64),
        outgoing=np.array(outgoing, dtype=np.int64),
        initial=_initial(stage, states, where),
        noise=noise,
        transition=compile_transition(stage.transition, states.sizes, where),
        generator_columns=np.array(generator_columns, dtype=np.int64),
        rows=_sealed(stage.rows, where),
        homogeneous=bool(stage.homogeneous),
    )


def _sealed(rows: RowGenerator | None, where: str) -> RowGenerator | None:
    """A row generator that nobody else can change."""
    try:
        return copy.deepcopy(rows)
    except Exception as error:  # whatever a user's class raises
        raise ModelError(
            f"{where}: rows={rows!r} cannot be copied: {error}; a row generator holds plain data"
        ) from error


def _matrix(rows: Mapping[str, list[Any]], n_columns: int) -> sp.csr_array:
    """Entries by row and column in order; 0 where an entry holds noise."""
    n_rows = len(rows["lower"])
    counts = np.bincount(np.array(rows["row"], dtype=np.int64), minlength=n_rows)
    pointer = np.concatenate([[0], np.cumsum(counts)])
    data = (np.array(rows["value"], dtype=float), np.array(rows["column"], dtype=np.int64), pointer)
    matrix = sp.csr_array(data, shape=(n_rows, n_columns))
    matrix.sort_indices()
    return matrix


def _check_stage(stage: Any, where: str) -> None:
    if not isinstance(stage, Stage):
        raise ModelError(f"{where}: the builder returned {type(stage).__name__}, not a Stage")
    if not stage.states:
        raise ModelError(f"{where}: states is empty; declare what one decision hands to the next")
    for name, state in stage.states.items():
        pair = (getattr(state, "incoming", None), getattr(state, "outgoing", None))
        wrong = [v for v in pair if v is not None and getattr(v, "ctype", None) is not pyo.Var]
        if not isinstance(state, State) or pair[0] is None or wrong:
            raise ModelError(
                f"{where}: state {name!r} is {state!r}; give State(incoming, outgoing) with "
                "Pyomo variables"
            )
    if stage.rows is not None and not len(stage.row_variables):
        raise ModelError(
            f"{where}: rows={stage.rows!r} is given without row_variables; give the variables in "
            "which it writes its rows"
        )
    for ctype in stage.model.collect_ctypes(active=True, descend_into=True):
        if ctype not in TRANSLATED:
            found = next(iter(stage.model.component_objects(ctype, active=True)))
            raise ModelError(
                f"{where}: {found.name} is a {ctype.__name__}, which a linear stage cannot hold; "
                "write it as linear constraints or deactivate it"
            )


def _noise_parameters(stage: Stage, where: str) -> list[Any]:
    if stage.noise is None:
        return []
    if not stage.noise.realisations:
        raise ModelError(f"{where}: noise has no realisations")
    keys = list(stage.noise.realisations[0])
    for i, realisation in enumerate(stage.noise.realisations):
        for key, value in realisation.items():
            if not isinstance(value, Real) or not np.isfinite(value):
                raise ModelError(
                    f"{where}: noise realisation {i} sets {key} to {value!r}; give a finite "
                    "number, not NaN, infinity or text"
                )
        if list(map(str, realisation)) != list(map(str, keys)):
            raise ModelError(
                f"{where}: noise realisation {i} sets {list(map(str, realisation))}, the first "
                f"sets {list(map(str, keys))}; all must set the same parameters in the same order"
            )
    return [_parameter(stage.model, key, where) for key in keys]


def _parameter(model: Any, key: Any, where: str) -> Any:
    found = model.find_component(key) if isinstance(key, str) else key
    if not _is_mutable_value(found) or found.model() is not model.model():
        raise ModelError(
            f"{where}: noise key {str(key)!r} is not one mutable parameter of the model; use "
            "Param(mutable=True), and 'rain[1]' for a member of an indexed one"
        )
    return found


def _is_mutable_value(component: Any) -> bool:
    if getattr(component, "ctype", None) is not pyo.Param or component.is_indexed():
        return False
    return bool(component.parent_component().mutable)


def _states(stage: Stage, assembly: _Assembly) -> tuple[list[int], list[int], StateSpace]:
    incoming: list[int] = []
    outgoing: list[int] = []
    indices: dict[str, tuple[Any, ...]] = {}
    for name, state in stage.states.items():
        index = _index(state.incoming)
        if state.outgoing is not None and _index(state.outgoing) != index:
            raise ModelError(
                f"{assembly.where}: state {name!r} has incoming index {index} but outgoing "
                f"index {_index(state.outgoing)}"
            )
        for key in index:
            if _component(state.incoming, key).fixed:
                raise ModelError(
                    f"{assembly.where}: incoming variable {_component(state.incoming, key).name} "
                    "is fixed, so the state would have no effect; unfix it"
                )
        indices[name] = index
        incoming += [assembly.column(_component(state.incoming, key)) for key in index]
        if state.outgoing is not None:
            outgoing += [assembly.column(_component(state.outgoing, key)) for key in index]
    used = incoming + outgoing
    for position in used:
        if used.count(position) > 1:
            raise ModelError(
                f"{assembly.where}: variable {assembly.column_names[position]} is used twice: "
                "one variable serves two states or directions; give each state variables of its own"
            )
    if outgoing and len(outgoing) < len(incoming):
        raise ModelError(f"{assembly.where}: give every state an outgoing variable, or none")
    return incoming, outgoing, StateSpace(indices)


def _index(variable: Any) -> tuple[Any, ...]:
    return tuple(variable.keys()) if variable.is_indexed() else (None,)


def _component(variable: Any, key: Any) -> Any:
    return variable if key is None and not variable.is_indexed() else variable[key]


def _objective(model: Any, assembly: _Assembly) -> tuple[float, list[tuple[int, float]], float]:
    objectives = list(model.component_data_objects(pyo.Objective, active=True))
    if len(objectives) != 1:
        named = f" ({', '.join(o.name for o in objectives[:5])})" if objectives else ""
        raise ModelError(
            f"{assembly.where}: the model has {len(objectives)} active objectives{named}; give "
            "exactly one"
        )
    form = assembly.form(objectives[0].expr, "the objective")
    costs = [
        (column, assembly.number(value, "cost", column)) for column, value in form.terms.items()
    ]
    offset = assembly.number(form.constant, "offset", 0)
    return (1.0 if objectives[0].is_minimizing() else -1.0), costs, offset


def _rows(model: Any, assembly: _Assembly) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {key: [] for key in ("lower", "upper", "row", "column", "value")}
    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        name = f"constraint {constraint.name}"
        form = assembly.form(constraint.body, name)
        assembly.row_names.append(constraint.name)
        row = len(rows["lower"])
        for column, value in form.terms.items():
            rows["row"].append(row)
            rows["column"].append(column)
            rows["value"].append(assembly.number(value, "matrix", row, column))
        for side, missing in (("lower", -np.inf), ("upper", np.inf)):
            bound, place = getattr(constraint, side), f"row_{side}"
            value = missing
            if bound is not None:
                shifted = add(assembly.bound(bound, name), multiply(-1.0, form.constant))
                value = assembly.number(shifted, place, row)
            rows[side].append(value)
    return rows


def _column_bounds(assembly: _Assembly, given: Collection[int]) -> tuple[Floats, Floats]:
    """Both bounds of each column; those of `given` ones are no constraints."""
    sides: dict[str, list[float]] = {"lower": [], "upper": []}
    for position, variable in enumerate(assembly.variables):
        for side, missing in (("lower", -np.inf), ("upper", np.inf)):
            bound = variable.value if variable.fixed else getattr(variable, side)
            name = f"the {side} bound of {assembly.column_names[position]}"
            if bound is None and variable.fixed:
                raise ModelError(f"{assembly.where}: {variable.name} is fixed without a value")
            if bound is None:
                value = missing
            elif position in given:
                value = assembly.free_bound(bound, name, missing)
            else:
                read = assembly.bound(bound, name)
                value = assembly.number(read, f"column_{side}", position)
            sides[side].append(value)
    return np.array(sides["lower"]), np.array(sides["upper"])


def _initial(stage: Stage, states: StateSpace, where: str) -> Floats | None:
    given = {name: s.initial for name, s in stage.states.items() if s.initial is not None}
    if not given:
        return None
    if len(given) < len(stage.states):
        missing = sorted(set(stage.states) - set(given))
        raise ModelError(f"{where}: states {missing} have no initial value but others do")
    return read_only(states.flatten(given))


def _noise_table(noise: Noise | None, assembly: _Assembly, sign: float) -> NoiseTable:
    if noise is None:
        return no_noise()
    positions = {place: _positions(place, p) for place, p in assembly.positions.items()}
    where, names = assembly.where, tuple(p.name for p in assembly.parameters)
    n = len(noise.realisations)
    probabilities = checked_probabilities(noise.probabilities, n, where)
    possible = np.flatnonzero(probabilities).tolist()
    support = np.array([[float(v) for v in noise.realisations[i].values()] for i in possible])
    for parameter, values in zip(assembly.parameters, support.T, strict=True):
        _check_domain(parameter, values, where)
    entries = {place: Entries.of(c) for place, c in assembly.entries.items()}

    def describe(place: str, entry: int, at: int) -> str:
        label = assembly.label(place, assembly.positions[place][entry])
        return f"{where}: noise {noise_label(names, support[at])} makes {label}"

    return NoiseTable(
        names=names,
        limits=read_only([_limits(parameter) for parameter in assembly.parameters]),
        support=read_only(support),
        probabilities=read_only(probabilities[possible]),
        positions=positions,
        entries=entries,
        values=values_at(entries, support, sign, describe),
    )


def _positions(place: str, positions: list[tuple[int, ...]]) -> Ints:
    """Pairs of row and column for the matrix, else columns or rows."""
    array = np.array(positions, dtype=np.int64)
    return array.reshape(-1, 2) if place == "matrix" else array.ravel()


def _check_domain(parameter: Any, values: Floats, where: str) -> None:
    """Let Pyomo check values against the parameter's domain and validation; it keeps its own."""
    before = pyo.value(parameter, exception=False)
    try:
        for value in values.tolist():
            parameter.set_value(value)
    except ValueError as error:
        raise ModelError(
            f"{where}: noise {parameter.name} = {value} is outside the domain of its parameter: "
            f"{error}"
        ) from error
    finally:
        if before is None:
            parameter.clear()
        else:
            parameter.set_value(before)


def _limits(parameter: Any) -> tuple[float, float]:
    """Bounds of the parameter's domain, for noise outside the support."""
    least, greatest = parameter.parent_component().domain.bounds()
    return (-np.inf if least is None else least, np.inf if greatest is None else greatest)
