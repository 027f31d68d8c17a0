"""An instance as a user would state it: Pyomo models, parameters that hold the noise, units."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pyomo.environ as pyo

import sddp
from experiments.fuzz.instances import Instance, Place
from sddp.risk import AVaR, Entropic, RiskMeasure


def stated_problem(instance: Instance, places: Mapping[Hashable, Place]) -> sddp.Problem:
    """The problem; `places` are the instance's, in its units."""
    sign = -1.0 if instance.maximizes else 1.0
    initial = instance.initial * instance.state_units

    def build(node: sddp.Node) -> sddp.Stage:
        return _stage(places[node.name], initial, sign)

    return sddp.Problem(sddp.Graph(list(places), instance.arcs), build)


def stated_measure(instance: Instance) -> RiskMeasure:
    """The risk measure, in the instance's unit of money."""
    if isinstance(instance.measure, float):
        return Entropic(instance.measure / instance.money)
    parts: list[RiskMeasure] = [weight * AVaR(tail) for weight, tail in instance.measure]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _stage(place: Place, initial: Any, sign: float) -> sddp.Stage:
    model = pyo.ConcreteModel()
    n, n_columns = len(initial), len(place.programs[0].cost)
    model.noise = pyo.Param(range(200), mutable=True, initialize=0.0)
    table: list[list[float]] = []

    def number(name: str, *at: int) -> Any:
        """A constant, or a parameter where the realizations differ."""
        values = [float(np.asarray(getattr(p, name))[at]) for p in place.programs]
        if len(set(values)) == 1:
            return values[0]
        table.append(values)
        return model.noise[len(table) - 1]

    def bound(side: str, j: int) -> Any:
        value = number(side, j)
        return value if not isinstance(value, float) or np.isfinite(value) else None

    bounds = [(bound("lower", j), bound("upper", j)) for j in range(n_columns)]
    model.x = pyo.Var(range(n))
    model.y = pyo.Var(range(n), bounds=lambda m, j: bounds[j])
    model.z = pyo.Var(range(n, n_columns), bounds=lambda m, j: bounds[j])
    columns = [*(model.y[j] for j in range(n)), *(model.z[j] for j in range(n, n_columns))]

    def row(model: Any, i: int) -> Any:
        used_in = [j for j in range(n) if any(p.rows_in[i, j] for p in place.programs)]
        used = [j for j in range(n_columns) if any(p.rows[i, j] for p in place.programs)]
        body = sum(number("rows_in", i, j) * model.x[j] for j in used_in)
        body += sum(number("rows", i, j) * columns[j] for j in used)
        side = number("rhs", i)
        return body == side if place.programs[0].equal[i] else body <= side

    model.rows = pyo.Constraint(range(len(place.programs[0].rhs)), rule=row)
    cost = sum(number("cost", j) * columns[j] for j in range(n_columns))
    model.objective = pyo.Objective(
        expr=sign * (cost + number("fixed")),
        sense=pyo.maximize if sign < 0.0 else pyo.minimize,
    )
    noise = None
    if table:
        names = [f"noise[{k}]" for k in range(len(table))]
        realizations = [dict(zip(names, v, strict=True)) for v in zip(*table, strict=True)]
        noise = sddp.Noise(realizations, place.probabilities)
    states = {"s": sddp.State(model.x, model.y, initial=initial.tolist())}
    return sddp.Stage(model, states, noise=noise, transition=_transition(place))


def _transition(place: Place) -> sddp.LinearTransition | None:
    if len(place.arrivals) == 1:
        return None
    return sddp.LinearTransition(
        scale=np.array([scale for scale, _ in place.arrivals]),
        shift=np.array([shift for _, shift in place.arrivals]),
        probabilities=place.arrival_probabilities,
    )
