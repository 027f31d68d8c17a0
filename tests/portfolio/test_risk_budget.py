"""Risk budgets: residuals, closed forms, three algorithms, bounds and costs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sddp.errors import DataError, ModelError
from sddp.portfolio import (
    ConstraintSet,
    GroupLimit,
    Liquidity,
    MeanVariance,
    Moments,
    OptimizerType,
    PositionLimit,
    RiskBudget,
    optimizer,
)
from sddp.portfolio.optimizers.risk_parity import risk_budget_weights

ALGORITHMS = ("newton", "successive_qp", "naive")


def covariance_of(seed: int, n: int, common: float = 0.02) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(3 * n + 20, n)) * rng.uniform(0.005, 0.06, n)
    return np.cov((rows + common * rng.normal(size=(3 * n + 20, 1)) * rng.normal(size=n)).T)


def shares_of(covariance, weights):
    contributions = weights * (covariance @ weights)
    return contributions / contributions.sum()


def solve(covariance, current=None, **options):
    n = len(covariance)
    now = np.full(n, 1.0 / n) if current is None else current
    return RiskBudget(**options).solve(Moments.of(np.zeros(n), covariance), current_weights=now)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n", [2, 10, 60])
def test_contributions_are_the_budgets(n, seed):
    """Correlations of both signs; budgets that differ by a factor of hundreds."""
    covariance = covariance_of(seed, n)
    budgets = np.random.default_rng(seed).dirichlet(np.full(n, 1.0)) + 1e-3
    budgets /= budgets.sum()
    for wanted in (np.full(n, 1.0 / n), budgets):
        weights = risk_budget_weights(covariance, wanted)
        assert shares_of(covariance, weights) / wanted == pytest.approx(np.ones(n), abs=1e-12)
        assert weights.min() > 0.0
        assert weights.sum() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_three_algorithms_agree(seed):
    covariance = covariance_of(seed, 12)
    budgets = np.random.default_rng(seed).dirichlet(np.full(12, 5.0))
    newton, qp, naive = (risk_budget_weights(covariance, budgets, a) for a in ALGORITHMS)
    assert qp == pytest.approx(newton, abs=1e-8)
    assert naive == pytest.approx(newton, abs=1e-8)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_at_equal_correlations_it_is_inverse_volatility(algorithm):
    volatility = np.array([0.01, 0.02, 0.05, 0.1])
    correlation = np.full((4, 4), 0.4) + 0.6 * np.eye(4)
    result = solve(np.outer(volatility, volatility) * correlation, algorithm=algorithm)
    expected = (1.0 / volatility) / (1.0 / volatility).sum()
    assert result.holdings.iloc[1:].to_numpy() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.5, 0.99])
def test_two_assets_do_not_depend_on_their_correlation(correlation):
    off = correlation * 0.02 * 0.05
    result = solve(np.array([[0.0004, off], [off, 0.0025]]))
    assert result.holdings.iloc[1:].to_numpy() == pytest.approx([5.0 / 7.0, 2.0 / 7.0], abs=1e-13)


def test_contributions_sum_to_the_volatility():
    result = solve(covariance_of(1, 9))
    assert result.risk_contributions.sum() == pytest.approx(np.sqrt(result.variance), rel=1e-15)
    assert result.residual <= 1e-12
    assert result.objective <= 1e-12
    assert result.risk_contributions.to_numpy() == pytest.approx(
        np.full(9, np.sqrt(result.variance) / 9.0), rel=1e-12
    )


def test_groups_share_their_budget_equally():
    groups = {"metal": ["asset1", "asset3"], "rest": ["asset2", "asset4", "asset5"]}
    covariance = covariance_of(4, 5)
    result = solve(covariance, groups=groups, budgets={"metal": 0.7, "rest": 0.3})
    shares = shares_of(covariance, result.holdings.iloc[1:].to_numpy())
    assert shares == pytest.approx([0.35, 0.1, 0.35, 0.1, 0.1], rel=1e-12)
    equal = shares_of(covariance, solve(covariance, groups=groups).holdings.iloc[1:].to_numpy())
    assert equal == pytest.approx([0.25, 1 / 6, 0.25, 1 / 6, 1 / 6], rel=1e-12)


def test_a_target_volatility_is_reached_with_cash():
    covariance = covariance_of(2, 6)
    full = solve(covariance)
    half = solve(covariance, volatility=0.5 * np.sqrt(full.variance))
    assert half.holdings["cash"] == pytest.approx(0.5, abs=1e-12)
    assert half.variance == pytest.approx(0.25 * full.variance, rel=1e-12)
    assert solve(covariance, volatility=1.0).holdings["cash"] == pytest.approx(0.0, abs=1e-15)


def loss(covariance, weights, current, cost):
    errors = len(weights) * shares_of(covariance, weights) - 1.0
    return errors @ errors + cost * np.abs(weights - current).sum()


@pytest.mark.parametrize("seed", range(6))
def test_under_bounds_it_is_a_local_minimum(seed):
    """No better than it by scipy's SLSQP from there, nor by small feasible moves."""
    n = 6
    covariance, current = covariance_of(seed, n), np.full(n, 1.0 / n)
    exact = solve(covariance).holdings.iloc[1:].to_numpy()
    cap = max(float(exact.max()) * 0.8, 1.1 / n)
    result = solve(
        covariance,
        constraints=ConstraintSet((PositionLimit(name="cap", upper=cap),)),
        transaction_cost=0.01,
        cost_weight=1.0,
    )
    weights = result.holdings.iloc[1:].to_numpy()
    assert weights.max() <= cap + 1e-12
    reached = loss(covariance, weights, current, 0.01)
    assert result.objective == pytest.approx(
        np.abs(n * shares_of(covariance, weights) - 1.0).max(), rel=1e-10
    )
    # SLSQP on purchases and sales, which it needs apart: a kink stops it.
    moves = np.concatenate([np.maximum(weights - current, 0.0), np.maximum(current - weights, 0.0)])

    def split(z):
        w = current + z[:n] - z[n:]
        errors = n * shares_of(covariance, w) - 1.0
        return errors @ errors + 0.01 * z.sum()

    found = minimize(
        split,
        moves,
        bounds=[(0.0, cap - 1.0 / n)] * n + [(0.0, 1.0 / n)] * n,
        constraints={"type": "eq", "fun": lambda z: z[:n].sum() - z[n:].sum()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert reached <= found.fun + 1e-8
    rng = np.random.default_rng(seed)
    for _ in range(200):
        other = np.clip(weights + 1e-4 * rng.normal(size=n), 0.0, cap)
        other /= other.sum()
        if other.max() <= cap:
            assert loss(covariance, other, current, 0.01) >= reached - 1e-9


def test_liquidity_and_groups_are_kept():
    covariance, now = covariance_of(7, 5), np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    names = [f"asset{i + 1}" for i in range(5)]
    limits = ConstraintSet(
        (
            Liquidity(name="volume", volume=dict.fromkeys(names, 1e6), portfolio_value=1e6),
            GroupLimit(name="group", assets=names[:2], upper=0.55),
        )
    )
    result = solve(covariance, now, constraints=limits)
    assert result.trades.abs().max() <= 0.1 + 1e-12
    assert limits.check(result.holdings, current_weights=dict(zip(names, now, strict=True))) == []
    assert result.objective > 0.01


def test_bad_input_is_rejected():
    with pytest.raises(DataError, match="'asset2' has no risk"):
        solve(np.diag([0.01, 0.0]))
    for budgets, words in (
        ({"asset1": -0.5, "asset2": 1.5}, "must be positive"),
        ({"asset1": 0.5, "asset2": 0.4}, "budgets sum to 0.9"),
        ({"asset1": 0.5, "xyz": 0.5}, r"unknown assets \['xyz'\]"),
    ):
        with pytest.raises(ModelError, match=words):
            solve(np.eye(2), budgets=budgets)
    for groups, words in (
        ({"g": ["asset1"]}, "'asset2' is in none"),
        ({"g": ["asset1", "asset1", "asset2"]}, "each in one group only"),
        ({"g": ["asset1", "nothing"]}, "'nothing', which is no asset"),
    ):
        with pytest.raises(ModelError, match=words):
            solve(np.eye(2), groups=groups)
    with pytest.raises(ModelError, match="fully invested"):
        RiskBudget(max_cash=0.5)
    with pytest.raises(ModelError, match="algorithm='fast'"):
        RiskBudget(algorithm="fast")
    with pytest.raises(ModelError, match="volatility: not offered"):
        solve(np.diag([1.0, 4.0]), volatility=5.0, max_weights=0.55)


def test_one_asset_and_the_registry():
    assert solve(np.array([[0.04]])).holdings["asset1"] == 1.0
    assert isinstance(optimizer(OptimizerType.ERC), RiskBudget)


def test_weights_that_are_all_fixed_are_the_answer():
    """The program without a free column once ended in an error of numpy."""
    rng = np.random.default_rng(7)
    root = rng.standard_normal((3, 3))
    names = ["a", "b", "c"]
    moments = Moments.of(rng.standard_normal(3) / 100.0, root @ root.T / 100.0, names)
    held = dict(zip(names, (0.2, 0.3, 0.5), strict=True))
    result = RiskBudget(min_weights=held, max_weights=held).solve(moments, current_weights=held)
    assert result.weights[names].to_dict() == pytest.approx(held, abs=1e-12)


def test_contributions_as_volatility_share_and_money():
    """Two assets of correlation -0.5, by hand: the smaller one hedges."""
    inputs = Moments.of([0.0, 0.0], [[0.04, -0.01], [-0.01, 0.01]], ["a", "b"])
    model = MeanVariance(risk_aversion=1.0, max_cash=0.0, min_weights={"a": 0.8, "b": 0.2})
    table = model.solve(inputs, current_weights={"a": 0.8, "b": 0.2}).risk_table(1e6)
    variance = 0.64 * 0.04 - 2.0 * 0.16 * 0.01 + 0.04 * 0.01
    shares = np.array([0.8 * 0.03, 0.2 * -0.006]) / variance
    assert table["share"].to_numpy() == pytest.approx(shares, rel=1e-12)
    assert table["share"]["b"] < 0.0
    assert table["volatility"].sum() == pytest.approx(np.sqrt(variance), rel=1e-14)
    assert table["money"].to_numpy() == pytest.approx(1e6 * np.sqrt(variance) * shares, rel=1e-12)
    cash = MeanVariance(risk_aversion=1e9).solve(inputs, current_weights={}).risk_table()
    assert cash["share"].isna().all()
    assert (cash["money"] == 0.0).all()
