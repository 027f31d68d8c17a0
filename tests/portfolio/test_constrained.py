"""Optimizers under constraints: against other solvers, by hand, and where nothing is feasible."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from experiments.fuzz import constraints as fuzz
from sddp.errors import DataError, InfeasibleConstraints, ModelError
from sddp.portfolio import (
    CashBounds,
    ConstraintSet,
    EsgFloor,
    GroupLimit,
    Liquidity,
    MaximumSharpe,
    MeanVariance,
    MinimumVariance,
    Moments,
    PositionLimit,
    TargetReturn,
    TargetVolatility,
    TrackingError,
    Turnover,
)
from tests.portfolio.problems import random_numbers

NAMES = ["a", "b", "c", "d"]


def problem(seed: int = 3, n: int = 4):
    p = random_numbers(seed, n)
    return p, Moments.of(p.mean, p.covariance, NAMES[:n])


def solve(*constraints, model=MeanVariance, seed=3, **options):
    p, moments = problem(seed)
    if model is MeanVariance:
        options = {"risk_aversion": 2.0} | options
    made = model(
        transaction_cost=p.buy, sale_cost=p.sell, constraints=ConstraintSet(constraints), **options
    )
    return made.solve(moments, current_weights=p.current, cash_return=0.002)


def test_random_sets_have_a_verified_optimum_or_a_minimal_conflict():
    """The campaign of ``python -m experiments.fuzz constraints``, its first 300 problems."""
    start = time.process_time()
    outcomes = [fuzz.check(number, 1) for number in range(300)]
    assert [o for o in outcomes if o.verdict == "wrong"] == []
    verdicts = [o.verdict for o in outcomes]
    assert verdicts.count("optimum") > 150
    assert verdicts.count("conflict") > 80
    assert time.process_time() - start < 10.0


@pytest.mark.parametrize("other", ["optimum", "optimum_by_active_set"])
def test_an_objective_wrong_by_a_part_in_ten_million_is_found(other, monkeypatch):
    """Each of the two solvers alone finds it."""
    found = getattr(fuzz, other)
    assert fuzz.check(1, 1).verdict == "optimum"
    monkeypatch.setattr(fuzz, other, lambda p: (1.0 + 1e-7) * found(p))
    assert fuzz.check(1, 1).verdict == "wrong"


@pytest.mark.parametrize(
    "constraint",
    [
        PositionLimit(name="x", assets=("a",), upper=0.5),
        GroupLimit(name="x", assets=("b", "c"), lower=0.3),
        Turnover(name="x", limit=0.1),
        Liquidity(name="x", volume=dict.fromkeys(NAMES, 1e6), portfolio_value=1e6, share=0.03),
        CashBounds(name="x", lower=0.4),
        TrackingError(name="x", benchmark={"c": 0.8}, limit=0.05, periods_per_year=12),
        EsgFloor(name="x", scores={"a": 10.0, "b": 90.0, "c": 30.0, "d": 60.0}, floor=40.0),
    ],
    ids=lambda c: type(c).__name__,
)
def test_multipliers_are_derivatives_of_the_objective(constraint):
    """Each constraint relaxed by a little, in its own unit (a score: times what it is an average
    over), raises the objective by its multiplier."""
    step = 1e-5
    field, sign = {
        PositionLimit: ("upper", 1.0),
        GroupLimit: ("lower", -1.0),
        Turnover: ("limit", 1.0),
        Liquidity: ("share", 1.0),
        CashBounds: ("lower", -1.0),
        TrackingError: ("limit", 1.0),
        EsgFloor: ("floor", -1.0),
    }[type(constraint)]
    result = solve(constraint)
    multiplier = result.constraints.loc["x", "multiplier"]
    moved = fuzz.replace(constraint, **{field: getattr(constraint, field) + sign * step})
    back = fuzz.replace(constraint, **{field: getattr(constraint, field) - sign * step})
    rise = (solve(moved).objective - solve(back).objective) / (2.0 * step)
    if isinstance(constraint, EsgFloor):
        rise /= 1.0 - result.holdings["cash"] - result.cost
    assert rise > 1e-6
    assert multiplier == pytest.approx(rise, rel=1e-3)
    assert result.constraints.loc["x", "breach"] == 0.0


def test_a_soft_constraint_is_broken_where_its_price_is_lower_than_its_worth():
    hard = solve(GroupLimit(name="x", assets=("b", "c"), lower=0.3))
    worth = hard.constraints.loc["x", "multiplier"]
    dear = solve(GroupLimit(name="x", assets=("b", "c"), lower=0.3, penalty=1.01 * worth))
    cheap = solve(GroupLimit(name="x", assets=("b", "c"), lower=0.3, penalty=0.5 * worth))
    assert dear.holdings.to_numpy() == pytest.approx(hard.holdings.to_numpy(), abs=1e-12)
    broken = cheap.constraints.loc["x", "breach"]
    assert broken > 0.01
    assert cheap.holdings[["b", "c"]].sum() == pytest.approx(0.3 - broken, abs=1e-12)
    assert cheap.constraints.loc["x", "multiplier"] == pytest.approx(0.5 * worth, rel=1e-12)


def test_a_tracking_error_is_kept_exactly_and_softly_by_a_quadratic():
    p, moments = problem()
    benchmark = np.array([0.1, 0.2, 0.5, 0.2])
    given = dict(zip(NAMES, benchmark.tolist(), strict=True))
    limit = TrackingError(name="x", benchmark=given, limit=0.02, periods_per_year=12)
    result = solve(limit)
    off = result.holdings.iloc[1:].to_numpy() - benchmark
    assert np.sqrt(12.0 * off @ p.covariance @ off) == pytest.approx(0.02, rel=1e-10)
    soft = solve(fuzz.replace(limit, penalty=3.0))
    off = soft.holdings.iloc[1:].to_numpy() - benchmark
    plain = soft.expected_return - soft.variance - 1.5 * off @ p.covariance @ off
    assert soft.objective == pytest.approx(plain, rel=1e-12)
    assert moments.mean.index.tolist() == NAMES


@pytest.mark.parametrize("seed", range(3))
def test_other_optimizers_keep_constraints_too(seed):
    p, _ = problem(seed)
    equal = dict.fromkeys(NAMES, 0.25)
    limits = (
        GroupLimit(name="group", assets=("a", "b"), upper=0.5),
        Turnover(name="turnover", limit=1.5),
        TrackingError(name="index", benchmark=equal, limit=0.1, periods_per_year=12),
    )
    now = dict(zip(NAMES, p.current.tolist(), strict=True))
    covariance = pd.DataFrame(p.covariance, index=NAMES, columns=NAMES)
    options = {"seed": seed}
    results = [
        solve(*limits, model=MinimumVariance, **options),
        solve(*limits, model=TargetVolatility, target=0.03, **options),
        solve(*limits, model=TargetReturn, target=0.0, **options),
    ]
    if p.mean.max() > 0.01:
        results.append(solve(*limits, model=MaximumSharpe, min_weights=0.0, **options))
    for result in results:
        kept = ConstraintSet(limits)
        assert kept.check(result.holdings, current_weights=now, covariance=covariance) == []


def test_a_conflict_is_named_with_the_least_relaxation():
    with pytest.raises(InfeasibleConstraints) as caught:
        solve(
            GroupLimit(name="tech", assets=("a", "b"), lower=0.6),
            PositionLimit(name="single", assets=("a", "b"), upper=0.2),
            Turnover(name="turnover", limit=2.0),
        )
    error = caught.value
    assert error.conflict == ("tech", "single")
    # One tenth on each of two assets costs less than two tenths on their sum.
    assert error.relaxation["single"][1] == pytest.approx(0.1, abs=1e-8)
    assert "raise the upper side of single by 0.1 of wealth" in str(error)
    assert "tech (weight of 'a', 'b' together at least 0.6)" in str(error)


def test_a_conflict_with_the_optimizers_own_bounds_names_them():
    with pytest.raises(InfeasibleConstraints) as caught:
        solve(GroupLimit(name="tech", assets=("a", "b"), lower=0.6), max_weights=0.2)
    assert caught.value.conflict == ("max_weights", "tech")


def test_a_benchmark_too_far_away_is_named_with_the_least_excess():
    with pytest.raises(InfeasibleConstraints) as caught:
        solve(
            TrackingError(name="index", benchmark={"a": 1.0}, limit=0.01, periods_per_year=12),
            PositionLimit(name="cap", assets=("a",), upper=0.2),
        )
    assert caught.value.conflict == ("index", "cap")
    (name, (low, high)), *rest = caught.value.relaxation.items()
    assert (name, low, rest) == ("index", 0.0, [])
    enough = TrackingError(
        name="index", benchmark={"a": 1.0}, limit=0.01 + high + 1e-5, periods_per_year=12
    )
    cap = PositionLimit(name="cap", assets=("a",), upper=0.2)
    assert solve(enough, cap).residual < 1e-8
    with pytest.raises(InfeasibleConstraints):
        solve(fuzz.replace(enough, limit=0.01 + high - 1e-4), cap)


def test_names_are_checked_against_the_assets():
    with pytest.raises(DataError, match="tech: asset 'xyz' is unknown"):
        solve(GroupLimit(name="tech", assets=("a", "xyz"), upper=0.6))
    with pytest.raises(DataError, match="esg: no score of 'd'"):
        solve(EsgFloor(name="esg", scores={"a": 1.0, "b": 1.0, "c": 1.0}, floor=1.0))
    with pytest.raises(ModelError, match="must be a ConstraintSet"):
        MeanVariance(risk_aversion=1.0, constraints=("x",))
