"""Independent answers for the allocation: scipy's LPs, enumeration, control variates.

Nothing here uses the package's stages, cuts, tails or LPs. The mathematics is transcribed from
section 1 of the design's mathematics (Valladao, Silva and Poggi, 2019, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from tests.allocation.problems import Case

# HiGHS's least; at 1e-7 values of daily returns are off in the seventh digit.
LP_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
EXPECTATION = ((1.0, 1.0),)

Terms = dict[int, float]


def cvar_by_lp(losses: Any, probabilities: Any, confidence: float) -> float:
    """``min_q q + E[loss - q]^+ / (1 - confidence)``: Rockafellar and Uryasev (2000), theorem 1."""
    losses, p = np.asarray(losses, dtype=float), np.asarray(probabilities, dtype=float)
    n = len(losses)
    result = linprog(
        np.concatenate([[1.0], p / (1.0 - confidence)]),
        A_ub=np.hstack([-np.ones((n, 1)), -np.eye(n)]),
        b_ub=-losses,
        bounds=[(None, None)] + [(0.0, None)] * n,
        method="highs",
        options=LP_OPTIONS,
    )
    assert result.status == 0, result.message
    return float(result.fun)


def outcomes(case: Case, stage: int, belief: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regimes, weights and returns of everything that can happen after a stage's decision."""
    arrival = np.asarray(belief, dtype=float) @ case.all_transitions[stage]
    weights = arrival[:, None] * case.all_probabilities[stage]
    regimes = np.repeat(np.arange(case.n_states), weights.shape[1])
    returns = case.all_returns[stage].reshape(-1, case.n_assets)
    possible = weights.ravel() > 0.0
    return regimes[possible], weights.ravel()[possible], returns[possible]


def one_period_cvar(
    case: Case, stage: int, belief: Any, before: Any, after: Any, cost: float
) -> float:
    """CVaR of a decision's loss, costs included, as a share of the wealth before trading."""
    _, weights, returns = outcomes(case, stage, belief)
    after = np.asarray(after, dtype=float)
    losses = cost - returns @ after[1:] - case.cash[stage] * after[0]
    return cvar_by_lp(losses, weights, case.confidence) / float(np.sum(before))


class Program:
    """Collects a maximization, column by column and row by row."""

    def __init__(self) -> None:
        self.bounds: list[tuple[float | None, float | None]] = []
        self.rows: dict[str, list[tuple[Terms, float]]] = {"eq": [], "ub": []}

    def column(self, lower: float | None = 0.0) -> int:
        self.bounds.append((lower, None))
        return len(self.bounds) - 1

    def columns(self, n: int, lower: float | None = 0.0) -> list[int]:
        return [self.column(lower) for _ in range(n)]

    def row(self, kind: str, terms: Terms, side: float) -> int:
        """``terms == side`` ("eq") or ``terms <= side`` ("ub"); returns the row's position."""
        self.rows[kind].append((terms, side))
        return len(self.rows[kind]) - 1

    def maximize(self, column: int) -> Any:
        cost = np.zeros(len(self.bounds))
        cost[column] = -1.0
        matrices = {kind: self._matrix(rows) for kind, rows in self.rows.items()}
        return linprog(
            cost,
            A_ub=matrices["ub"],
            b_ub=[side for _, side in self.rows["ub"]],
            A_eq=matrices["eq"],
            b_eq=[side for _, side in self.rows["eq"]],
            bounds=self.bounds,
            method="highs",
            options=LP_OPTIONS,
        )

    def _matrix(self, rows: list[tuple[Terms, float]]) -> sp.csr_array:
        entries = [(i, j, v) for i, (terms, _) in enumerate(rows) for j, v in terms.items()]
        i, j, v = zip(*entries, strict=True)
        return sp.csr_array((v, (i, j)), shape=(len(rows), len(self.bounds)))


@dataclass(frozen=True)
class Affine:
    """``sum of terms + constant``."""

    terms: Terms = field(default_factory=dict)
    constant: float = 0.0

    def __add__(self, other: Affine) -> Affine:
        terms = dict(self.terms)
        for column, value in other.terms.items():
            terms[column] = terms.get(column, 0.0) + value
        return Affine(terms, self.constant + other.constant)

    def __mul__(self, factor: float) -> Affine:
        return Affine({c: factor * v for c, v in self.terms.items()}, factor * self.constant)

    __rmul__ = __mul__

    def __sub__(self, other: Affine) -> Affine:
        return self + (-1.0) * other


def total(parts: Sequence[Affine]) -> Affine:
    result = Affine()
    for part in parts:
        result = result + part
    return result


@dataclass(frozen=True)
class Vertex:
    """Columns and rows of one decision; the rows named are the ones that hold the state."""

    value: int
    after: list[int]
    rows: dict[str, list[int]]


@dataclass(frozen=True)
class TreeSolution:
    """Optimum of a whole scenario tree.

    `duals` are the derivatives of the value with respect to the right-hand sides of the first
    decision's rows: ``balance`` (cash first), ``risk``, ``cap``, ``short``.
    """

    value: float
    after: np.ndarray
    duals: dict[str, np.ndarray]


class InfeasibleTree(Exception):
    """The oracle's LP has no solution."""


def solve_tree(
    case: Case,
    *,
    holdings: Any = None,
    belief: Any = None,
    stage: int = 0,
    risk: tuple[tuple[float, float], ...] = EXPECTATION,
    literal: bool = False,
) -> TreeSolution:
    """The extensive form from a stage on, with Rockafellar-Uryasev rows, by scipy.

    `belief` is about the first regime only; later ones are seen. `risk` are (weight, tail mass)
    pairs, nested between stages. `literal` leaves out ``sales <= holdings``, which is no row of
    the paper's model.
    """
    start = np.asarray(case.holdings if holdings is None else holdings, dtype=float)
    belief = np.eye(case.n_states)[case.regime] if belief is None else np.asarray(belief)
    lp = Program()
    incoming = [Affine(constant=float(amount)) for amount in start]
    root = _grow(lp, case, stage, belief, incoming, risk, literal)
    result = lp.maximize(root.value)
    if result.status == 2:
        raise InfeasibleTree(result.message)
    assert result.status == 0, result.message
    marginals = {"eq": result.eqlin.marginals, "ub": result.ineqlin.marginals}
    kinds = {"balance": "eq", "risk": "ub", "cap": "ub", "short": "ub"}
    duals = {name: -marginals[kind][root.rows[name]] for name, kind in kinds.items()}
    return TreeSolution(-float(result.fun), result.x[root.after], duals)


def _grow(
    lp: Program,
    case: Case,
    stage: int,
    belief: Any,
    incoming: Sequence[Affine],
    risk: tuple[tuple[float, float], ...],
    literal: bool,
) -> Vertex:
    regimes, weights, returns = outcomes(case, stage, belief)
    after = lp.columns(case.n_assets + 1)
    breach, rows = _trade(lp, case, stage, incoming, after, literal, weights, returns)
    values = []
    for regime, outcome in zip(regimes, returns, strict=True):
        gross = 1.0 + np.concatenate([[case.cash[stage]], outcome])
        arrived = [Affine({column: g}) for column, g in zip(after, gross, strict=True)]
        if stage + 1 == case.n_stages:
            values.append(total([k * a for k, a in zip(case.keeps, arrived, strict=True)]))
            continue
        known = np.eye(case.n_states)[regime]
        child = _grow(lp, case, stage + 1, known, arrived, risk, literal)
        values.append(Affine({child.value: 1.0}))
    value = lp.column(None)
    ahead = _risk_adjusted(lp, values, weights, risk)
    _at_most(lp, Affine({value: 1.0}), ahead - (case.penalty or 0.0) * breach)
    return Vertex(value, after, rows)


def _trade(
    lp: Program,
    case: Case,
    stage: int,
    incoming: Sequence[Affine],
    after: list[int],
    literal: bool,
    weights: np.ndarray,
    returns: np.ndarray,
) -> tuple[Affine, dict[str, list[int]]]:
    """Balances, caps and the risk limit of one decision; returns the breach and the rows."""
    n = case.n_assets
    bought, sold = lp.columns(n), lp.columns(n)
    wealth = total(incoming)
    paid = total([Affine({b: 1.0 + c}) for b, c in zip(bought, case.purchase, strict=True)])
    got = total([Affine({d: 1.0 - c}) for d, c in zip(sold, case.sale, strict=True)])
    rows: dict[str, list[int]] = {"balance": [], "risk": [], "cap": [], "short": []}
    rows["balance"].append(_equal(lp, Affine({after[0]: 1.0}) + paid - got, incoming[0]))
    for i in range(n):
        held = Affine({after[i + 1]: 1.0, bought[i]: -1.0, sold[i]: 1.0})
        rows["balance"].append(_equal(lp, held, incoming[i + 1]))
        if not literal:
            rows["short"].append(_at_most(lp, Affine({sold[i]: 1.0}), incoming[i + 1]))
        if case.cap is not None:
            rows["cap"].append(_at_most(lp, Affine({after[i + 1]: 1.0}), case.cap[i] * wealth))
    breach = Affine() if case.penalty is None else Affine({lp.column(): 1.0})
    if case.limit is None:
        return breach, rows
    cost = total(
        [Affine({b: c}) for b, c in zip(bought, case.purchase, strict=True)]
        + [Affine({d: c}) for d, c in zip(sold, case.sale, strict=True)]
    )
    periods = np.column_stack([np.full(len(returns), case.cash[stage]), returns])
    losses = [
        cost - total([Affine({u: r}) for u, r in zip(after, period, strict=True)])
        for period in periods
    ]
    cvar = _tail_mean(lp, losses, weights, 1.0 - case.confidence)
    rows["risk"].append(_at_most(lp, cvar - breach, case.limit * wealth))
    return breach, rows


def _risk_adjusted(
    lp: Program,
    values: Sequence[Affine],
    weights: np.ndarray,
    risk: tuple[tuple[float, float], ...],
) -> Affine:
    """Weighted sum of means of the worst (least) values."""
    parts = []
    for weight, tail in risk:
        if tail == 1.0:
            parts.append(weight * total([w * v for w, v in zip(weights, values, strict=True)]))
            continue
        worst = _tail_mean(lp, [-1.0 * v for v in values], weights, tail)
        parts.append((-weight) * worst)
    return total(parts)


def _tail_mean(lp: Program, losses: Sequence[Affine], weights: np.ndarray, tail: float) -> Affine:
    """An upper bound on the mean of the worst losses that is tight at the optimum."""
    quantile = Affine({lp.column(None): 1.0})
    parts = [quantile]
    for loss, weight in zip(losses, weights, strict=True):
        excess = Affine({lp.column(): 1.0})
        _at_most(lp, loss - quantile, excess)
        parts.append((weight / tail) * excess)
    return total(parts)


def _equal(lp: Program, left: Affine, right: Affine) -> int:
    difference = left - right
    return lp.row("eq", difference.terms, -difference.constant)


def _at_most(lp: Program, left: Affine, right: Affine) -> int:
    difference = left - right
    return lp.row("ub", difference.terms, -difference.constant)


def slope_of(case: Case, solution: TreeSolution) -> np.ndarray:
    """Derivative of the value: balance duals, and of every row whose side moves with wealth."""
    slope = solution.duals["balance"].copy()
    if case.limit is not None:
        slope += case.limit * solution.duals["risk"][0]
    if case.cap is not None:
        slope += case.cap @ solution.duals["cap"]
    if len(solution.duals["short"]):
        slope[1:] += solution.duals["short"]
    return slope


def growth_without_costs(case: Case) -> np.ndarray:
    """Best growth of wealth to the end by backward recursion of one-period LPs, no cost.

    ``v_t^k = max_u sum_js P_kj p_js v_{t+1}^j (gross_js . u)``, ``sum u = 1``, CVaR limit, caps.
    """
    growth = np.ones((case.n_stages + 1, case.n_states))
    for stage in reversed(range(case.n_stages)):
        for regime in range(case.n_states):
            growth[stage, regime] = _one_period_growth(case, stage, regime, growth[stage + 1])
    return growth


def _one_period_growth(case: Case, stage: int, regime: int, later: np.ndarray) -> float:
    regimes, weights, returns = outcomes(case, stage, np.eye(case.n_states)[regime])
    period = np.column_stack([np.full(len(returns), case.cash[stage]), returns])
    lp = Program()
    held = lp.columns(case.n_assets + 1)
    lp.row("eq", dict.fromkeys(held, 1.0), 1.0)
    for i in range(case.n_assets if case.cap is not None else 0):
        lp.row("ub", {held[i + 1]: 1.0}, float(case.cap[i]))
    reward = (weights * later[regimes]) @ (1.0 + period)
    breach = Affine() if case.penalty is None else Affine({lp.column(): 1.0})
    if case.limit is not None:
        losses = [Affine(dict(zip(held, (-outcome).tolist(), strict=True))) for outcome in period]
        cvar = _tail_mean(lp, losses, weights, 1.0 - case.confidence)
        _at_most(lp, cvar - breach, Affine(constant=case.limit))
    value = lp.column(None)
    gain = Affine(dict(zip(held, reward.tolist(), strict=True)))
    _at_most(lp, Affine({value: 1.0}), gain - (case.penalty or 0.0) * breach)
    result = lp.maximize(value)
    assert result.status == 0, result.message
    return -float(result.fun)


def enumerated_policy_value(case: Case, policy: Any) -> float:
    """Expected terminal wealth of a policy, by asking it at every vertex of the tree."""

    def worth(stage: int, regime: int, amounts: np.ndarray) -> float:
        if stage == case.n_stages:
            return float(case.keeps @ amounts)
        decision = policy.decide(stage=stage, regime=regime, holdings=case.as_holdings(amounts))
        after = decision.holdings.to_numpy()
        regimes, weights, returns = outcomes(case, stage, np.eye(case.n_states)[regime])
        gross = 1.0 + np.column_stack([np.full(len(returns), case.cash[stage]), returns])
        later = [worth(stage + 1, j, g * after) for j, g in zip(regimes, gross, strict=True)]
        return float(weights @ later)

    return worth(0, case.regime, np.asarray(case.holdings, dtype=float))


def certified_value(
    case: Case, policy: Any, n_paths: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean terminal wealth of simulated paths and its standard error, variance reduced.

    ``V(x_{t+1}) - E[V(x_{t+1}) | decision at t]`` has mean 0 for *any* function V; with V the
    minimum of the policy's cuts, subtracting it removes nearly all noise. So the result is
    unbiased whatever the cuts are worth, and every decision met is checked to be feasible.
    """
    raw = policy.engine.simulate(n_paths, rng=rng, record=["purchases", "sales"])
    names = policy.problem.engine.labels
    arrived = raw[[f"{n}.in" for n in names]].to_numpy()
    after = raw[[f"{n}.out" for n in names]].to_numpy()
    traded = raw[[c for c in raw if c.startswith(("purchases[", "sales["))]].to_numpy()
    cost = traded @ np.concatenate([case.purchase, case.sale])
    nodes, paths = list(raw["node"]), raw.index.get_level_values("path").to_numpy()
    worth = _cut_values(policy)
    totals = raw["objective"].groupby(level="path").sum().to_numpy(copy=True)
    for i, (stage, regime) in enumerate(nodes):
        if stage >= case.n_stages - 1:
            continue
        expected = _expected(case, worth, stage, regime, after[i])
        totals[paths[i]] -= worth(*nodes[i + 1], arrived[i + 1]) - expected
    last = [i for i, (stage, _) in enumerate(nodes) if stage == case.n_stages - 1]
    for i in last:  # the last period's mean is exact
        totals[paths[i]] -= raw["objective"].iloc[i + 1]
        totals[paths[i]] += _expected(case, None, *nodes[i], after[i])
    _check_feasible(case, nodes, arrived, after, cost)
    return float(totals.mean()), float(totals.std(ddof=1) / np.sqrt(n_paths))


def _cut_values(policy: Any) -> Any:
    slopes = {
        node: -np.asarray(memory.pools[0].slopes)  # engine units are costs
        for node, memory in policy.engine.checkpoint.nodes.items()
    }

    def worth(stage: int, regime: int, amounts: np.ndarray) -> np.ndarray:
        return (amounts @ slopes[(stage, regime)].T).min(axis=-1)

    return worth


def _expected(case: Case, worth: Any, stage: int, regime: int, after: np.ndarray) -> float:
    regimes, weights, returns = outcomes(case, stage, np.eye(case.n_states)[regime])
    gross = 1.0 + np.column_stack([np.full(len(returns), case.cash[stage]), returns])
    arriving = gross * after
    if worth is None:
        return float(weights @ (arriving @ case.keeps))
    values = np.empty(len(weights))
    for j in np.unique(regimes):
        values[regimes == j] = worth(stage + 1, int(j), arriving[regimes == j])
    return float(weights @ values)


def _check_feasible(
    case: Case, nodes: Any, arrived: np.ndarray, after: np.ndarray, cost: np.ndarray
) -> None:
    """Every decision of a simulation balances and keeps the limit, to 1e-8 of wealth."""
    for i, (stage, regime) in enumerate(nodes):
        if stage == case.n_stages:
            continue
        wealth = arrived[i].sum()
        assert after[i].min() >= -1e-9 * wealth
        assert abs(after[i].sum() + cost[i] - wealth) <= 1e-9 * wealth
        if case.limit is not None:
            _, weights, returns = outcomes(case, stage, np.eye(case.n_states)[regime])
            losses = cost[i] - returns @ after[i][1:] - case.cash[stage] * after[i][0]
            assert sorted_cvar(losses, weights, case.confidence) <= (case.limit + 1e-8) * wealth


def sorted_cvar(losses: np.ndarray, weights: np.ndarray, confidence: float) -> float:
    """Mean of the worst tail, losses taken one by one from the largest."""
    left, mean = 1.0 - confidence, 0.0
    for i in np.argsort(-losses):
        taken = min(left, weights[i])
        mean += taken * losses[i]
        left -= taken
        if left <= 0.0:
            break
    return float(mean / (1.0 - confidence))
