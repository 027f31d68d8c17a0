"""Random multistage problems as plain arrays, in units of size one and in any others.

A base instance has numbers of ordinary size; `in_units` states the same problem in other units of
states, decisions, rows and money. Its value is then the base value times the unit of money, so
that an oracle in base units answers for all of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sddp.arrays import Floats

# What may come after what.
Arcs = Mapping[tuple[Hashable, Hashable], float]

LINEAR: Arcs = {("root", 0): 1.0, (0, 1): 1.0, (1, 2): 1.0}
LONG: Arcs = {**LINEAR, (2, 3): 1.0}
STOPPING: Arcs = {("root", 0): 1.0, (0, 1): 0.8, (1, 2): 0.7}
MARKOV: Arcs = {
    ("root", "a"): 0.4,
    ("root", "b"): 0.6,
    ("a", "c"): 0.3,
    ("a", "d"): 0.7,
    ("b", "c"): 0.999,
    ("b", "d"): 0.001,
}
GENERAL: Arcs = {("root", 0): 1.0, (0, 1): 0.5, (0, 2): 0.3, (1, 2): 0.9}
GRAPHS: dict[str, Arcs] = {
    "linear": LINEAR, "long": LONG, "stopping": STOPPING, "markov": MARKOV, "general": GENERAL
}  # fmt: skip

RARE = 1e-3


@dataclass(frozen=True)
class Program:
    """``min cost.z + fixed`` over ``rows_in x + rows z (<=, =) rhs`` and bounds.

    `x` is the incoming state; the first ``len(x)`` entries of `z` are the outgoing one.
    """

    cost: Floats
    fixed: float
    rows_in: Floats
    rows: Floats
    rhs: Floats
    equal: np.ndarray
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class Place:
    """A node: programs by noise, and arrivals ``x = scale * y + shift`` of what was handed on."""

    programs: list[Program]
    probabilities: Floats
    arrivals: list[tuple[Floats, Floats]]
    arrival_probabilities: Floats


@dataclass(frozen=True)
class Instance:
    """A problem in base units, and the units in which it is to be stated.

    `measure` is a list of (weight, tail mass), or a risk aversion (entropic), over what follows
    each decision and, if `root_risk`, over what comes before the first one.
    """

    kind: str
    places: Mapping[Hashable, Place]
    arcs: Arcs
    initial: Floats
    measure: list[tuple[float, float]] | float
    root_risk: bool
    maximizes: bool
    state_units: Floats
    money: float

    @property
    def n_states(self) -> int:
        """Number of state components."""
        return len(self.initial)


def random_instance(rng: np.random.Generator) -> Instance:
    """One of every kind: graph, noise, chains, recourse, risk, sense and units are drawn."""
    n_states = int(rng.integers(1, 4))
    kind = str(rng.choice(list(GRAPHS)))
    arcs = GRAPHS[kind]
    names = list(dict.fromkeys(target for _, target in arcs))
    entropic = rng.random() < 0.08
    most = 2 if entropic or kind == "long" else 3
    hard = rng.random() < 0.3
    n_chain = int(rng.integers(0, 6))
    after = rng.random() < 0.4
    places = {
        name: _random_place(rng, n_states, most, n_chain, hard and i > 0, after and i > 0)
        for i, name in enumerate(names)
    }
    units = 10.0 ** rng.uniform(-6.0, 6.0, n_states) if rng.random() < 0.8 else np.ones(n_states)
    return Instance(
        kind,
        places,
        arcs,
        rng.uniform(1.0, 6.0, n_states),
        float(rng.uniform(0.01, 0.2)) if entropic else _random_mixture(rng),
        bool(rng.random() < 0.3),
        bool(rng.random() < 0.4),
        units,
        float(10.0 ** rng.uniform(-3.0, 11.0)) if rng.random() < 0.8 else 1.0,
    )


def in_units(instance: Instance, rng: np.random.Generator) -> dict[Hashable, Place]:
    """The places in the instance's units of state and money, decisions and rows in units drawn."""
    changed = {}
    for name, place in instance.places.items():
        n_rows, n_columns = place.programs[0].rows.shape
        others = n_columns - instance.n_states
        spread = 4.0 if instance.money != 1.0 else 0.0
        own = 10.0 ** rng.uniform(-spread, spread, others)
        columns = np.concatenate([instance.state_units, own])
        rows = 10.0 ** rng.uniform(-spread, spread, n_rows)
        units = instance.state_units
        changed[name] = replace(
            place,
            programs=[_scaled(p, units, columns, rows, instance.money) for p in place.programs],
            arrivals=[(scale, shift * units) for scale, shift in place.arrivals],
        )
    return changed


def _scaled(p: Program, states: Floats, columns: Floats, rows: Floats, money: float) -> Program:
    return Program(
        p.cost * money / columns,
        p.fixed * money,
        p.rows_in * rows[:, None] / states,
        p.rows * rows[:, None] / columns,
        p.rhs * rows,
        p.equal,
        p.lower * columns,
        p.upper * columns,
    )


def _random_mixture(rng: np.random.Generator) -> list[tuple[float, float]]:
    choice = int(rng.integers(5))
    tail = float(rng.choice([0.02, 0.1, 0.35, 0.5]))
    share = float(rng.uniform(0.2, 0.8))
    return [
        [(1.0, 1.0)],
        [(1.0, 1.0)],
        [(1.0, tail)],
        [(share, 1.0), (1.0 - share, tail)],
        [(share, 1.0), (1.0 - share, 0.0)],
    ][choice]


def _random_place(
    rng: np.random.Generator, n: int, most: int, n_chain: int, hard: bool, after: bool
) -> Place:
    base = _random_program(rng, n, n_chain, hard)
    n_programs = int(rng.integers(1, most + 1))
    programs = [base, *(_varied(base, rng, n) for _ in range(n_programs - 1))]
    n_arrivals = 2 if after else 1
    arrivals = [(rng.uniform(0.8, 1.1, n), rng.uniform(0.0, 0.5, n)) for _ in range(n_arrivals)]
    if not after:
        arrivals = [(np.ones(n), np.zeros(n))]
    return Place(programs, _weights(rng, n_programs), arrivals, _weights(rng, n_arrivals))


def _weights(rng: np.random.Generator, n: int) -> Floats:
    """Probabilities, now and then with a rare one."""
    weights: Floats = rng.uniform(0.3, 1.0, n)
    if n > 1 and rng.random() < 0.3:
        weights[-1] = RARE * weights[:-1].sum() / (1.0 - RARE)
    weights /= weights.sum()
    return weights


def _random_program(rng: np.random.Generator, n: int, n_chain: int, hard: bool) -> Program:
    """Stores that are filled, used and spilled to meet a demand, with a chain of equality rows.

    Columns: outgoing (n), use (n), buy (n), spill (n), thermal, shortage, excess, chain.
    """
    use, buy, spill = (n + np.arange(n), 2 * n + np.arange(n), 3 * n + np.arange(n))
    thermal, shortage, excess = 4 * n, 4 * n + 1, 4 * n + 2
    n_columns, n_rows = 4 * n + 3 + n_chain, 2 * n + n_chain + 2
    rows_in, rows, rhs = np.zeros((n_rows, n)), np.zeros((n_rows, n_columns)), np.zeros(n_rows)
    equal = np.zeros(n_rows, dtype=bool)
    for j in range(n):  # balance; and buying is limited by what is there
        rows_in[j, j] = -1.0
        rows[j, [j, use[j], spill[j], buy[j]]] = 1.0, 1.0, 1.0, -1.0
        rhs[j], equal[j] = rng.uniform(0.0, 2.0), True
        rows_in[n + j, j], rows[n + j, buy[j]], rhs[n + j] = -rng.uniform(0.0, 0.5), 1.0, 1.5
    demand, limit = 2 * n, 2 * n + 1
    rows[demand, use], rows[demand, [thermal, shortage]] = -rng.uniform(0.5, 1.5, n), -1.0
    rhs[demand] = -rng.uniform(3.0, 5.0) * n
    last = thermal
    for k in range(n_chain):  # v_k = c v_(k-1) + d z, in thirds and sevenths that do not add up
        row, column = 2 * n + 2 + k, 4 * n + 3 + k
        other = int(rng.integers(0, 4 * n + 1))
        rows[row, column], equal[row] = -1.0, True
        rows[row, last] += rng.choice([1.0, -1.0, 1.0 / 3.0, 3.0, -7.0, 1.0 / 7.0])
        rows[row, other] += rng.normal()
        last = column
    rows[limit, last] += 1.0
    rows[limit, excess], rhs[limit] = -1.0, rng.uniform(0.0, 10.0)
    cost = np.zeros(n_columns)
    cost[:n], cost[buy], cost[spill] = rng.uniform(-0.1, 0.2, n), rng.uniform(0.5, 3.0, n), 0.1
    cost[[thermal, shortage, excess]] = rng.uniform(1.0, 2.0), 50.0, 3.0
    cost[4 * n + 3 :] = 0.01 * rng.normal(size=n_chain)
    lower, upper = np.zeros(n_columns), np.full(n_columns, np.inf)
    upper[:n], upper[use], upper[buy], upper[thermal] = 10.0, 8.0, 3.0, 4.0
    lower[4 * n + 3 :] = -np.inf
    if hard:
        upper[shortage], upper[thermal] = 0.0, 5.0 * n
        rhs[demand] *= 1.2
    return Program(cost, float(rng.normal()), rows_in, rows, rhs, equal, lower, upper)


def _varied(base: Program, rng: np.random.Generator, n: int) -> Program:
    """Another realization: inflow, demand, a price, a yield and a capacity differ."""
    cost, rhs = base.cost.copy(), base.rhs.copy()
    rows, upper = base.rows.copy(), base.upper.copy()
    rhs[:n] = rng.uniform(0.0, 2.0, n) * (rng.random() < 0.7)
    rhs[2 * n] *= rng.uniform(0.8, 1.2)
    if rng.random() < 0.5:
        cost[4 * n] *= rng.uniform(0.5, 2.0)
    if rng.random() < 0.5:
        rows[2 * n, n] *= rng.uniform(0.7, 1.3)
    if rng.random() < 0.5:
        upper[0] = rng.uniform(6.0, 10.0)
    return replace(base, cost=cost, rhs=rhs, rows=rows, upper=upper, fixed=float(rng.normal()))
