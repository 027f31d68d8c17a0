"""Independent answers to random one-period problems with constraints.

Every constraint is written out anew from its fields, over explicit weights, purchases, sales and
cash: nothing is eliminated, scaled or turned into bounds, unlike in the code under test. Clarabel
and DAQP solve the problem, scipy's HiGHS the least relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import clarabel
import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from sddp.arrays import Floats, Ints
from sddp.portfolio import (
    CashBounds,
    Constraint,
    ConstraintSet,
    EsgFloor,
    FactorExposure,
    GroupLimit,
    Liquidity,
    PositionLimit,
    TrackingError,
    Turnover,
)

# What is below this is feasible, and what is above it is not.
TOLERANCE = 1e-7

# Of Clarabel, the first that it reaches. At 1e-11 it was off by up to 4e-7 of an objective in 16 of
# 10,000 problems, each time by a hundredth of that at 1e-13.
ACCURACIES = (1e-13, 1e-11)

# Stands for infinity.
NO_BOUND = 1e30


@dataclass(frozen=True, eq=False)
class Problem:
    """Numbers of a mean-variance problem; weights are long-only, at most 1, and so is cash."""

    names: list[str]
    mean: Floats
    covariance: Floats
    risk_aversion: float
    current: Floats
    buy: Floats
    sell: Floats
    cash_return: float
    self_financing: bool
    constraints: ConstraintSet


class Line(NamedTuple):
    """``low <= a_w w + a_b b + a_s s + a_c cash <= high``, as one coefficient vector."""

    row: Floats
    low: float
    high: float
    per_unit: float


def lines_of(p: Problem, c: Constraint) -> list[Line]:
    """Linear rows of a constraint over (w, b, s, cash)."""
    n, at = len(p.names), {name: i for i, name in enumerate(p.names)}
    low = -np.inf if getattr(c, "lower", None) is None else c.lower  # type: ignore[attr-defined]
    high = np.inf if getattr(c, "upper", None) is None else c.upper  # type: ignore[attr-defined]

    def line(entries: dict[int, float], low: float, high: float, unit: float = 1.0) -> Line:
        row = np.zeros(3 * n + 1)
        for place, value in entries.items():
            row[place] += value
        return Line(row, low, high, unit)

    if isinstance(c, PositionLimit):
        chosen = p.names if c.assets is None else c.assets
        return [line({at[str(name)]: 1.0}, low, high) for name in chosen]
    if isinstance(c, GroupLimit):
        return [line({at[str(name)]: 1.0 for name in c.assets}, low, high)]
    if isinstance(c, FactorExposure):
        return [line({at[str(name)]: v for name, v in c.loadings}, low, high)]
    if isinstance(c, EsgFloor):
        entries = {at[str(name)]: v - c.floor for name, v in c.scores}
        if c.cash_score is not None:
            entries[3 * n] = c.cash_score - c.floor
        return [line(entries, 0.0, np.inf)]
    if isinstance(c, Turnover):
        return [line(dict.fromkeys(range(n, 3 * n), 1.0), -np.inf, c.limit)]
    if isinstance(c, Liquidity):
        return [
            line(
                {n + at[str(name)]: 1.0, 2 * n + at[str(name)]: 1.0},
                -np.inf,
                c.share * v / c.portfolio_value,
                v / c.portfolio_value,
            )
            for name, v in c.volume
        ]
    if isinstance(c, CashBounds):
        return [line({3 * n: 1.0}, low, high)]
    return []


def long_only(p: Problem) -> list[Line]:
    """Weights and cash of at least 0; at most 1 follows."""
    n, eye = len(p.names), np.eye(3 * len(p.names) + 1)
    return [Line(eye[i], 0.0, np.inf, 1.0) for i in [*range(n), 3 * n]]


def equations(p: Problem) -> tuple[Floats, Floats]:
    """``w - b + s = current`` and the budget."""
    n = len(p.names)
    eye, paid = np.eye(n), float(p.self_financing)
    moves = np.hstack([eye, -eye, eye, np.zeros((n, 1))])
    budget = np.concatenate([np.ones(n), paid * p.buy, paid * p.sell, [1.0]])
    return np.vstack([moves, budget]), np.append(p.current, 1.0)


class Program(NamedTuple):
    """``min x'Px / 2 + cost'x - constant`` over (w, b, s, cash, breaches of soft lines).

    ``equal x = target``, ``rows x <= right``, and what is in `positive` is at least 0.
    """

    P: Floats
    cost: Floats
    constant: float
    equal: Floats
    target: Floats
    rows: Floats
    right: Floats
    positive: Ints


def program_of(p: Problem) -> Program:
    """The problem without its hard limits on tracking error."""
    n = len(p.names)
    hard = [c for c in p.constraints.constraints if c.penalty is None]
    soft = [(c, q) for c in p.constraints.constraints if (q := c.penalty) is not None]
    lines = long_only(p)
    lines += [x for c in hard for x in lines_of(p, c)]
    priced = [(x, q) for c, q in soft for x in lines_of(p, c)]
    width = 3 * n + 1 + len(priced)
    P, cost = np.zeros((width, width)), np.zeros(width)
    P[:n, :n] = p.risk_aversion * p.covariance
    cost[: 3 * n + 1] = np.concatenate([-p.mean, p.buy, p.sell, [-p.cash_return]])
    cost[3 * n + 1 :] = [q for _, q in priced]
    constant = 0.0
    for c, q in soft:
        if isinstance(c, TrackingError):
            b = _benchmark(p, c)
            P[:n, :n] += q * p.covariance
            cost[:n] -= q * p.covariance @ b
            constant += q / 2.0 * float(b @ p.covariance @ b)
    equal, target = equations(p)
    rows: list[Floats] = []
    right: list[float] = []
    for x in lines:
        _add(rows, right, np.append(x.row, np.zeros(len(priced))), x)
    for k, (x, _) in enumerate(priced):
        slack = np.zeros(len(priced))
        slack[k] = -1.0
        if np.isfinite(x.high):
            rows.append(np.append(x.row, slack))
            right.append(x.high)
        if np.isfinite(x.low):
            rows.append(np.append(-x.row, slack))
            right.append(-x.low)
    wide = np.hstack([equal, np.zeros((n + 1, len(priced)))])
    positive = np.delete(np.arange(n, width), 2 * n)
    return Program(P, cost, constant, wide, target, np.array(rows), np.array(right), positive)


def optimum(p: Problem) -> float | None:
    """Greatest value by Clarabel; None where it says that there is none."""
    x = program_of(p)
    width = len(x.cost)
    blocks = [
        (x.equal, x.target, clarabel.ZeroConeT),
        (x.rows, x.right, clarabel.NonnegativeConeT),
        (-np.eye(width)[x.positive], np.zeros(len(x.positive)), clarabel.NonnegativeConeT),
    ]
    blocks += [_cone(p, c, width) for c in _hard_trackers(p)]
    found = _clarabel(x.P, x.cost, blocks)
    return None if found is None else -float(found.obj_val) - x.constant


def optimum_by_active_set(p: Problem) -> float | None:
    """Greatest value by DAQP; None where a hard limit on tracking error is no row for it."""
    import daqp  # with the extra `test`

    if _hard_trackers(p):
        return None
    x = program_of(p)
    unit = max(float(np.abs(x.cost).max()), float(np.abs(x.P).max()))
    least = np.full(len(x.cost), -NO_BOUND)
    least[x.positive] = 0.0
    low = np.concatenate([least, np.full(len(x.right), -NO_BOUND), x.target])
    high = np.concatenate([np.full(len(x.cost), NO_BOUND), x.right, x.target])
    kinds = np.repeat(np.array([0, 5], dtype=np.int32), [len(low) - len(x.target), len(x.target)])
    z, _, flag, _ = daqp.solve(
        x.P / unit,
        x.cost / unit,
        np.ascontiguousarray(np.vstack([x.rows, x.equal])),
        high,
        low,
        kinds,
        primal_tol=1e-11,
        dual_tol=1e-11,
        # Its own choice, 1, does not come to an end on some problems with costs.
        eps_prox=1e-2,
        iter_limit=100_000,
    )
    assert flag > 0, f"DAQP ended with {flag}"
    z = np.asarray(z)
    return -float(x.cost @ z + 0.5 * z @ x.P @ z) - x.constant


def _hard_trackers(p: Problem) -> list[TrackingError]:
    found = (c for c in p.constraints.constraints if isinstance(c, TrackingError))
    return [c for c in found if c.penalty is None]


def least_total(p: Problem, wanted: list[str] | None = None) -> float:
    """Least total relaxation of hard linear constraints (of some names only), each by its size."""
    groups = {c.name: lines_of(p, c) for c in p.constraints.constraints if c.penalty is None}
    sizes = {c.name: c.size for c in p.constraints.constraints}
    names = [name for name in groups if wanted is None or name in wanted]
    width, m = 3 * len(p.names) + 1, len(names)
    rows: list[Floats] = []
    right: list[float] = []
    for k, name in enumerate(names):
        for x in groups[name]:
            for side, sign, limit in ((m + k, 1.0, x.high), (k, -1.0, -x.low)):
                if np.isfinite(limit):
                    row = np.append(sign * x.row, np.zeros(2 * m))
                    row[width + side] = -x.per_unit
                    rows.append(row)
                    right.append(limit)
    equal, target = equations(p)
    n = len(p.names)
    cost = np.append(np.zeros(width), np.tile([1.0 / sizes[name] for name in names], 2))
    found = linprog(
        cost,
        A_ub=np.array(rows) if rows else None,
        b_ub=right if rows else None,
        A_eq=np.hstack([equal, np.zeros((len(target), 2 * m))]),
        b_eq=target,
        bounds=[(0, None)] * n + [(0, 1)] * (2 * n) + [(0, None)] * (2 * m + 1),
        method="highs",
    )
    assert found.status == 0, found.message
    return float(found.fun or 0.0)


def least_excess(p: Problem, wanted: list[str]) -> float:
    """Least total excess, a year, over limits on tracking error, all other wanted rows kept."""
    groups = {c.name: lines_of(p, c) for c in p.constraints.constraints if c.penalty is None}
    given = [
        c
        for c in p.constraints.constraints
        if isinstance(c, TrackingError) and c.penalty is None and c.name in wanted
    ]
    if not given:
        return 0.0
    n, q = len(p.names), len(given)
    width = 3 * n + 1 + q
    rows: list[Floats] = []
    right: list[float] = []
    # Clarabel calls a set that is a point infeasible.
    for name in wanted:
        for x in groups.get(name, []):
            loose = x._replace(low=x.low - TOLERANCE, high=x.high + TOLERANCE)
            _add(rows, right, np.append(x.row, np.zeros(q)), loose)
    equal, target = equations(p)
    blocks = [
        (np.hstack([equal, np.zeros((n + 1, q))]), target, clarabel.ZeroConeT),
        (-np.eye(width), np.zeros(width), None),
    ]
    if rows:
        blocks.append((np.array(rows), np.array(right), None))
    for k, c in enumerate(given):
        matrix, side, kind = _cone(p, c, width)
        matrix[0, 3 * n + 1 + k] = -1.0 / np.sqrt(c.periods_per_year)
        blocks.append((matrix, side, kind))
    blocks = [(a, b, kind or clarabel.NonnegativeConeT) for a, b, kind in blocks]
    cost = np.append(np.zeros(3 * n + 1), np.ones(q))
    found = _clarabel(np.zeros((width, width)), cost, blocks)
    return np.inf if found is None else float(found.obj_val)


def _add(rows: list[Floats], right: list[float], row: Floats, x: Line) -> None:
    if np.isfinite(x.high):
        rows.append(row)
        right.append(x.high)
    if np.isfinite(x.low):
        rows.append(-row)
        right.append(-x.low)


def _benchmark(p: Problem, c: TrackingError) -> Floats:
    weights = dict(c.benchmark)
    return np.array([weights.get(name, 0.0) for name in p.names])


def _cone(p: Problem, c: TrackingError, width: int) -> tuple[Floats, Floats, Any]:
    factor = np.linalg.cholesky(p.covariance + 1e-18 * np.eye(len(p.names))).T
    matrix = np.zeros((len(factor) + 1, width))
    matrix[1:, : len(factor)] = -factor
    side = np.append(c.limit / np.sqrt(c.periods_per_year), -factor @ _benchmark(p, c))
    return matrix, side, clarabel.SecondOrderConeT


def _clarabel(P: Floats, cost: Floats, blocks: list[tuple[Floats, Floats, Any]]) -> Any:
    unit = max(float(np.abs(cost).max()), 1e-300)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    for accuracy in ACCURACIES:
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = accuracy
        found = clarabel.DefaultSolver(
            sp.csc_matrix(np.triu(P) / unit),
            cost / unit,
            sp.csc_matrix(np.vstack([a for a, _, _ in blocks])),
            np.concatenate([b for _, b, _ in blocks]),
            [kind(len(b)) for _, b, kind in blocks],
            settings,
        ).solve()
        if str(found.status) == "Solved":
            break
    if str(found.status) not in ("Solved", "AlmostSolved"):
        return None

    class Found(NamedTuple):
        obj_val: float
        x: Floats

    return Found(float(found.obj_val) * unit, np.array(found.x))
