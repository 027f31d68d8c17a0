"""From a Pyomo stage to arrays: done once, so that no pass ever touches Pyomo again.

Everything is turned into a minimisation. Coefficients that hold noise parameters stay as Pyomo
expressions beside the arrays and are evaluated for each realisation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pyomo.environ as pyo
import scipy.sparse as sp
from pyomo.core.expr import identify_mutable_parameters
from pyomo.repn import generate_standard_repn

from sddp.arrays import Floats, Ints, checked_probabilities, read_only
from sddp.engine.stage import Noise, Stage, State
from sddp.engine.state_space import StateSpace
from sddp.engine.transition import StateMap, compile_transition
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

# Places where noise can enter a linear programme.
PLACES = ("cost", "offset", "row_lower", "row_upper", "column_lower", "column_upper", "matrix")


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """Numbers that change with the noise, for each realisation.

    Attributes
    ----------
    names : tuple of str
        The parameters.
    support : array, shape (n_realisations, n_parameters)
    probabilities : array, shape (n_realisations,)
    positions : mapping from place to integer array
        Columns, rows, or (for the matrix) pairs of row and column; see `PLACES`.
    values : mapping from place to array, shape (n_realisations, n_entries)
    """

    names: tuple[str, ...]
    support: Floats
    probabilities: Floats
    positions: Mapping[str, Ints]
    values: Mapping[str, Floats]

    @property
    def n_realisations(self) -> int:
        """Number of realisations; 1 where there is no noise."""
        return len(self.probabilities)


@dataclass(frozen=True, eq=False)
class CompiledStage:
    """The stage as a minimisation over columns: ``row_lower <= matrix @ z <= row_upper``.

    `sign` is -1 where the user maximises: values inside the engine are ``sign`` times theirs.
    `incoming` and `outgoing` are column positions of the state components; `outgoing` is empty
    where nothing is handed on. `generator_columns` are those of the row generator's variables.
    """

    sign: float
    column_names: tuple[str, ...]
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
    stage: Stage
    evaluator: NoiseEvaluator

    @property
    def n_columns(self) -> int:
        """Number of Pyomo variables, incoming ones among them."""
        return len(self.cost)


class NoiseEvaluator:
    """Evaluates noise-dependent entries at any parameter values, in the support or not."""

    def __init__(self, parameters: Sequence[Any], entries: Mapping[str, list[Any]]) -> None:
        self._parameters = list(parameters)
        self._entries = entries
        self.names = tuple(parameter.name for parameter in parameters)

    def at(self, realisation: Sequence[float]) -> dict[str, Floats]:
        """Entries of each place; the parameters keep the values they had."""
        before = [parameter.value for parameter in self._parameters]
        try:
            for parameter, value in zip(self._parameters, realisation, strict=True):
                parameter.set_value(float(value))
            return {
                place: np.array([float(pyo.value(e)) for e in expressions])
                for place, expressions in self._entries.items()
            }
        finally:
            for parameter, value in zip(self._parameters, before, strict=True):
                parameter.set_value(value)


class _Assembly:
    """Collects columns, rows and noise entries while walking the Pyomo model."""

    def __init__(self, stage: Stage, where: str) -> None:
        self.where = where
        self.parameters = _noise_parameters(stage, where)
        self._noisy = {id(parameter) for parameter in self.parameters}
        self.columns: dict[int, int] = {}
        self.variables: list[Any] = []
        self.positions: dict[str, list[Any]] = {place: [] for place in PLACES}
        self.entries: dict[str, list[Any]] = {place: [] for place in PLACES}

    def column(self, variable: Any) -> int:
        """Position of a variable, added at first sight."""
        position = self.columns.get(id(variable))
        if position is None:
            if not variable.is_continuous():
                raise ModelError(
                    f"{self.where}: variable {variable.name} is integer; stages are linear "
                    "programmes with continuous variables"
                )
            position = self.columns[id(variable)] = len(self.variables)
            self.variables.append(variable)
        return position

    def number(self, expression: Any, place: str, position: Any) -> float:
        """Value of an expression; remembered as a noise entry if it holds noise."""
        if self.holds_noise(expression):
            self.positions[place].append(position)
            self.entries[place].append(expression)
        try:
            value = float(pyo.value(expression))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{self.where}: an entry of {place} has no value: {error}") from error
        if np.isnan(value):
            raise ModelError(f"{self.where}: an entry of {place} is NaN")
        return value

    def holds_noise(self, expression: Any) -> bool:
        """Whether a noise parameter occurs in the expression."""
        if not self._noisy or isinstance(expression, (int, float)):
            return False
        return any(id(p) in self._noisy for p in identify_mutable_parameters(expression))

    def linear(self, expression: Any, name: str) -> Any:
        """Standard representation with coefficients left as expressions."""
        form = generate_standard_repn(expression, compute_values=False)
        if not form.is_linear():
            raise ModelError(f"{self.where}: {name} is not linear in the variables")
        return form


def compile_stage(stage: Stage, where: str) -> CompiledStage:
    """Translate a `Stage`; `where` names the node in error messages.

    Raises
    ------
    ModelError
        The model is not linear and continuous, states are declared twice or missing, noise
        realisations disagree, or probabilities do not sum to 1.
    """
    _check_stage(stage, where)
    assembly = _Assembly(stage, where)
    incoming, outgoing, states = _states(stage, assembly)
    sign, cost_entries, offset = _objective(stage.model, assembly)
    rows = _rows(stage.model, assembly)
    generator_columns = [assembly.column(v) for v in stage.rows.variables] if stage.rows else []
    lower, upper = _column_bounds(assembly, set(incoming))
    n_columns = len(assembly.variables)
    cost = np.zeros(n_columns)
    for column, value in cost_entries:
        cost[column] += value
    matrix = sp.csr_array(
        (rows["value"], (rows["row"], rows["column"])), shape=(len(rows["name"]), n_columns)
    )
    evaluator = NoiseEvaluator(assembly.parameters, assembly.entries)
    return CompiledStage(
        sign=sign,
        column_names=tuple(v.name for v in assembly.variables),
        row_names=tuple(rows["name"]),
        cost=read_only(sign * cost),
        offset=sign * offset,
        matrix=matrix,
        row_lower=read_only(rows["lower"]),
        row_upper=read_only(rows["upper"]),
        column_lower=lower,
        column_upper=upper,
        states=states,
        incoming=np.array(incoming, dtype=np.int64),
        outgoing=np.array(outgoing, dtype=np.int64),
        initial=_initial(stage, states, where),
        noise=_noise_table(stage.noise, assembly, evaluator, sign),
        transition=compile_transition(stage.transition, states.sizes, where),
        generator_columns=np.array(generator_columns, dtype=np.int64),
        stage=stage,
        evaluator=evaluator,
    )


def noise_values(compiled: CompiledStage, realisation: Mapping[str, float]) -> dict[str, Floats]:
    """Entries at given parameter values, in engine units; names must match the declared ones."""
    names = compiled.evaluator.names
    if set(realisation) != set(names):
        raise ModelError(f"noise has {sorted(realisation)}; it needs values for {sorted(names)}")
    for name, value in realisation.items():
        if not np.isfinite(value):
            raise ModelError(f"noise {name} = {value} is not finite; give a number")
    return _signed(compiled.evaluator.at([realisation[name] for name in names]), compiled.sign)


def arrays_at(compiled: CompiledStage, noise: Mapping[str, Floats]) -> Arrays:
    """Arrays of a stage, over the declared columns, with noise entries written in."""
    positions = compiled.noise.positions
    cost = compiled.cost.copy()
    cost[positions["cost"]] = noise["cost"]
    offset = float(noise["offset"][0]) if len(noise["offset"]) else compiled.offset
    sides = {
        side: getattr(compiled, side).copy()
        for side in ("row_lower", "row_upper", "column_lower", "column_upper")
    }
    matrix = compiled.matrix.tolil(copy=True)
    for side, values in sides.items():
        values[positions[side]] = noise[side]
    for (row, column), value in zip(
        positions["matrix"].reshape(-1, 2), noise["matrix"], strict=True
    ):
        matrix[row, column] = value
    return Arrays(cost, sp.csr_array(matrix), **sides, offset=offset)


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
    parameters = [_parameter(stage.model, key, where) for key in keys]
    for parameter, value in zip(parameters, stage.noise.realisations[0].values(), strict=True):
        if pyo.value(parameter, exception=False) is None:
            parameter.set_value(float(value))
    return parameters


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
    if len(set(incoming + outgoing)) < len(incoming) + len(outgoing):
        raise ModelError(f"{assembly.where}: one variable serves two states or directions")
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
        raise ModelError(f"{assembly.where}: the model has {len(objectives)} objectives; give one")
    form = assembly.linear(objectives[0].expr, "the objective")
    costs = []
    for variable, coefficient in zip(form.linear_vars, form.linear_coefs, strict=True):
        column = assembly.column(variable)
        costs.append((column, assembly.number(coefficient, "cost", column)))
    offset = assembly.number(form.constant, "offset", 0)
    return (1.0 if objectives[0].is_minimizing() else -1.0), costs, offset


def _rows(model: Any, assembly: _Assembly) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {
        key: [] for key in ("name", "lower", "upper", "row", "column", "value")
    }
    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        form = assembly.linear(constraint.body, f"constraint {constraint.name}")
        row = len(rows["name"])
        for variable, coefficient in zip(form.linear_vars, form.linear_coefs, strict=True):
            column = assembly.column(variable)
            rows["row"].append(row)
            rows["column"].append(column)
            rows["value"].append(assembly.number(coefficient, "matrix", (row, column)))
        rows["name"].append(constraint.name)
        for side, missing in (("lower", -np.inf), ("upper", np.inf)):
            bound = getattr(constraint, side)
            value = (
                missing
                if bound is None
                else assembly.number(bound - form.constant, f"row_{side}", row)
            )
            rows[side].append(value)
    return rows


def _column_bounds(assembly: _Assembly, given: Collection[int]) -> tuple[Floats, Floats]:
    """Both bounds of each column; those of `given` ones are no constraints, so hold no noise."""
    sides: dict[str, list[float]] = {"lower": [], "upper": []}
    for position, variable in enumerate(assembly.variables):
        for side, missing in (("lower", -np.inf), ("upper", np.inf)):
            bound = variable.value if variable.fixed else getattr(variable, side)
            if bound is None:
                value = missing
            elif position in given:
                value = float(pyo.value(bound))
            else:
                value = assembly.number(bound, f"column_{side}", position)
            sides[side].append(value)
    return read_only(sides["lower"]), read_only(sides["upper"])


def _initial(stage: Stage, states: StateSpace, where: str) -> Floats | None:
    given = {name: s.initial for name, s in stage.states.items() if s.initial is not None}
    if not given:
        return None
    if len(given) < len(stage.states):
        missing = sorted(set(stage.states) - set(given))
        raise ModelError(f"{where}: states {missing} have no initial value but others do")
    return read_only(states.flatten(given))


def _noise_table(
    noise: Noise | None, assembly: _Assembly, evaluator: NoiseEvaluator, sign: float
) -> NoiseTable:
    positions = {place: np.array(p, dtype=np.int64) for place, p in assembly.positions.items()}
    if noise is None:
        empty = {place: np.zeros((1, 0)) for place in PLACES}
        return NoiseTable((), np.zeros((1, 0)), read_only([1.0]), positions, empty)
    n = len(noise.realisations)
    probabilities = checked_probabilities(noise.probabilities, n, assembly.where)
    possible = np.flatnonzero(probabilities).tolist()
    support = [[float(v) for v in noise.realisations[i].values()] for i in possible]
    try:
        evaluated = [_signed(evaluator.at(realisation), sign) for realisation in support]
    except ValueError as error:
        raise ModelError(f"{assembly.where}: a noise value is refused by Pyomo: {error}") from error
    values = {place: read_only([e[place] for e in evaluated]) for place in PLACES}
    for place, table in values.items():
        if np.isnan(table).any():
            raise ModelError(f"{assembly.where}: noise makes an entry of {place} NaN")
    probabilities = read_only(probabilities[possible])
    return NoiseTable(evaluator.names, read_only(support), probabilities, positions, values)


def _signed(entries: dict[str, Floats], sign: float) -> dict[str, Floats]:
    return {
        place: sign * values if place in ("cost", "offset") else values
        for place, values in entries.items()
    }
