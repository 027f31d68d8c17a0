"""Least variance, greatest Sharpe ratio, targets: against closed forms and other programs."""

from __future__ import annotations

import clarabel
import numpy as np
import pytest
import scipy.sparse as sp

from sddp.errors import InfeasibleProblem, ModelError, SolverError
from sddp.portfolio import (
    MaximumSharpe,
    MeanVariance,
    MinimumVariance,
    Moments,
    OptimizerType,
    TargetReturn,
    TargetVolatility,
    closed_forms,
    optimizer,
)
from sddp.portfolio.registry import CLASSES
from tests.portfolio.oracles import Numbers, kkt_errors
from tests.portfolio.problems import random_numbers, risky

WIDE = {"min_weights": -10.0, "max_weights": 10.0, "max_cash": 0.0, "self_financing": False}


def moments_of(numbers: Numbers) -> Moments:
    return Moments.of(numbers.mean, numbers.covariance)


def trading(numbers: Numbers) -> dict:
    return {"transaction_cost": numbers.buy, "sale_cost": numbers.sell}


def positive(seed: int, n: int = 6) -> Numbers:
    """Moments with means well above cash, for portfolios without bounds."""
    numbers = random_numbers(seed, n, cash=False, self_financing=False)
    return numbers.with_(mean=np.abs(numbers.mean) + 0.004)


@pytest.mark.parametrize("seed", range(4))
def test_closed_forms_keep_the_conditions_of_an_optimum(seed):
    """Each solves ``S w = combination of the rows``, with the rows kept; written out anew here."""
    p = positive(seed)
    ones, mean, S = np.ones(6), p.mean, p.covariance
    least = closed_forms.minimum_variance(S)
    assert S @ least == pytest.approx(np.full(6, least @ S @ least), rel=1e-12)
    best = closed_forms.tangency(mean, S, 0.002)
    assert (mean - 0.002) * (best @ S @ best) == pytest.approx(
        S @ best * (mean @ best - 0.002), rel=1e-11
    )
    line = closed_forms.target_return(mean, S, 0.013)
    system = np.block(
        [[S, ones[:, None], mean[:, None]], [np.stack([ones, mean]), np.zeros((2, 2))]]
    )
    expected = np.linalg.solve(system, np.append(np.zeros(6), [1.0, 0.013]))[:6]
    assert line == pytest.approx(expected, abs=1e-12)
    two = closed_forms.two_funds(mean, S)
    assert two.base.sum() == pytest.approx(1.0, abs=1e-12)
    assert two.direction.sum() == pytest.approx(0.0, abs=1e-10)
    assert two.at(float(mean @ best)) == pytest.approx(best, abs=1e-11)
    assert closed_forms.utility(mean, S, 3.0) == pytest.approx(
        two.at(float(mean @ closed_forms.utility(mean, S, 3.0))), abs=1e-11
    )


def test_closed_forms_say_where_there_is_none():
    with pytest.raises(ModelError, match="not more than cash_return"):
        closed_forms.tangency(np.array([0.01, 0.02]), np.eye(2), 0.05)
    with pytest.raises(ModelError, match="all are equal"):
        closed_forms.two_funds(np.full(3, 0.01), np.eye(3))


@pytest.mark.parametrize("seed", range(4))
def test_without_bounds_the_optimizers_are_the_closed_forms(seed):
    p = positive(seed)
    now = np.full(6, 1.0 / 6.0)
    given = {"current_weights": now, "cash_return": 0.002}
    wide = {"min_weights": -10.0, "max_weights": 10.0}
    least = MinimumVariance(**wide).solve(moments_of(p), **given)
    assert risky(least) == pytest.approx(closed_forms.minimum_variance(p.covariance), abs=1e-12)
    assert least.objective == pytest.approx(least.variance, rel=1e-14)
    target = least.expected_return + 0.004
    on_line = TargetReturn(target=target, **WIDE).solve(moments_of(p), **given)
    expected = closed_forms.target_return(p.mean, p.covariance, target)
    assert risky(on_line) == pytest.approx(expected, abs=1e-12)
    best = MaximumSharpe(**wide).solve(moments_of(p), **given)
    expected = closed_forms.tangency(p.mean, p.covariance, 0.002)
    assert np.abs(expected).max() < 10.0
    assert risky(best) == pytest.approx(expected, abs=1e-12)
    utility = MeanVariance(risk_aversion=7.0, **WIDE).solve(moments_of(p), **given)
    expected = closed_forms.utility(p.mean, p.covariance, 7.0)
    assert risky(utility) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("self_financing", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_a_target_return_is_met_at_least_variance(seed, self_financing):
    """The multiplier gives the mean-variance problem that has the same answer."""
    p = random_numbers(seed, 8, self_financing=self_financing)
    given = {"current_weights": p.current, "cash_return": 0.002}
    boldest = MeanVariance(risk_aversion=0.0, self_financing=self_financing, **trading(p))
    target = 0.4 * 0.002 + 0.6 * boldest.solve(moments_of(p), **given).expected_return
    model = TargetReturn(target=target, self_financing=self_financing, **trading(p))
    result = model.solve(moments_of(p), **given)
    assert result.expected_return == pytest.approx(target, abs=1e-12)
    assert result.objective == pytest.approx(result.variance, rel=1e-12)
    numbers = p.with_(risk_aversion=result.risk_aversion, lower=np.zeros(8), upper=np.ones(8))
    errors = kkt_errors(numbers, risky(result), result.holdings["cash"], result.duals)
    assert max(errors.values()) < 1e-8, errors


@pytest.mark.parametrize("seed", range(6))
def test_a_target_volatility_is_met_with_the_most_return(seed):
    p = random_numbers(seed, 8)
    model = TargetVolatility(target=0.02, **trading(p))
    result = model.solve(moments_of(p), current_weights=p.current, cash_return=0.002)
    assert np.sqrt(result.variance) == pytest.approx(0.02, rel=1e-10)
    numbers = p.with_(risk_aversion=result.risk_aversion, lower=np.zeros(8), upper=np.ones(8))
    errors = kkt_errors(numbers, risky(result), result.holdings["cash"], result.duals)
    assert max(errors.values()) < 1e-8, errors


def test_a_target_volatility_between_two_optima_is_their_mixture():
    """Two assets without noise between them: the most return jumps from one to the other."""
    S = np.array([[0.0004, 0.0002], [0.0002, 0.0001]])
    moments = Moments.of([0.02, 0.01], S)
    result = TargetVolatility(target=0.015, max_cash=0.0, self_financing=False).solve(
        moments, current_weights=[0.5, 0.5]
    )
    assert risky(result) == pytest.approx([0.5, 0.5], abs=1e-9)


def by_charnes_cooper(p: Numbers) -> float:
    """Greatest Sharpe ratio by Clarabel: ``y = k w``, ``min y'Sy`` at an excess return of 1."""
    n = len(p.mean)
    # Columns: y, purchases, sales, k.
    columns = 3 * n + 1
    P = np.zeros((columns, columns))
    P[:n, :n] = 2.0 * p.covariance
    equal = np.zeros((n + 2, columns))
    equal[:n, :n], equal[:n, n : 2 * n], equal[:n, 2 * n : 3 * n] = np.eye(n), -np.eye(n), np.eye(n)
    equal[:n, -1] = -p.current
    equal[n, :n], equal[n, -1] = 1.0, -1.0
    equal[n + 1, : 3 * n] = np.concatenate([p.mean - p.cash_return, -p.buy, -p.sell])
    caps = np.hstack([np.eye(n), np.zeros((n, 2 * n)), -p.upper[:, None]])
    rows = sp.csc_matrix(np.vstack([equal, caps, -np.eye(columns)]))
    right = np.concatenate([np.zeros(n + 1), [1.0], np.zeros(n + columns)])
    cones = [clarabel.ZeroConeT(n + 2), clarabel.NonnegativeConeT(n + columns)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    found = clarabel.DefaultSolver(
        sp.csc_matrix(np.triu(P)), np.zeros(columns), rows, right, cones, settings
    ).solve()
    assert str(found.status) in ("Solved", "AlmostSolved")
    return 1.0 / np.sqrt(found.obj_val)


@pytest.mark.parametrize("seed", range(8))
def test_the_greatest_sharpe_ratio_is_that_of_charnes_and_cooper(seed):
    p = random_numbers(seed, 7, cash=False, self_financing=False)
    p = p.with_(lower=np.zeros(7), mean=p.mean + 0.003)
    result = MaximumSharpe(max_weights=p.upper, **trading(p)).solve(
        moments_of(p), current_weights=p.current, cash_return=p.cash_return
    )
    assert result.objective == pytest.approx(by_charnes_cooper(p), rel=1e-8)
    earned = result.expected_return - p.cash_return
    assert result.objective == pytest.approx(earned / np.sqrt(result.variance), rel=1e-12)


def test_what_cannot_be_had_is_said():
    moments = Moments.of([0.01, 0.005], np.diag([0.01, 0.02]))
    now = {"current_weights": [0.5, 0.5]}
    with pytest.raises(ModelError, match=r"no portfolio beats cash_return = 0.02"):
        MaximumSharpe().solve(moments, **now, cash_return=0.02)
    with pytest.raises(InfeasibleProblem, match=r"greatest expected return .* is 0.01, 0.04 less"):
        TargetReturn(target=0.05, max_cash=0.0).solve(moments, **now)
    with pytest.raises(InfeasibleProblem, match=r"the least volatility is 0.08"):
        TargetVolatility(target=0.01, max_cash=0.0).solve(moments, **now)
    with pytest.raises(ModelError, match="wasting wealth would lower the variance"):
        MinimumVariance(self_financing=True)
    with pytest.raises(ModelError, match="target = -1"):
        TargetVolatility(target=-1.0)


def test_one_asset_is_held():
    moments = Moments.of([0.01], [[0.04]])
    for kind in (MinimumVariance, MaximumSharpe):
        result = kind(transaction_cost=0.001).solve(moments, current_weights=[1.0])
        assert result.holdings["asset1"] == 1.0
        assert result.residual < 1e-12


def test_every_type_has_a_class_and_names_are_read():
    assert set(CLASSES) == set(OptimizerType)
    assert isinstance(optimizer("MARKOWITZ", risk_aversion=1.0), MeanVariance)
    assert isinstance(optimizer(OptimizerType.MINIMUM_VARIANCE), MinimumVariance)
    assert isinstance(optimizer("target_return", target=0.01), TargetReturn)
    with pytest.raises(ModelError, match=r"kind='nothing': must be one of MARKOWITZ"):
        optimizer("nothing")
    with pytest.raises(ModelError, match="'speed'; give those of MeanVariance"):
        optimizer("MARKOWITZ", speed=1.0)


def test_risk_contributions_sum_to_the_volatility():
    p = random_numbers(3, 6)
    result = MeanVariance(risk_aversion=2.0).solve(moments_of(p), current_weights=p.current)
    assert result.risk_contributions.sum() == pytest.approx(np.sqrt(result.variance), rel=1e-14)


def test_a_kernel_answers_as_solve_does_from_wherever_it_starts():
    """Warm from its last solution: the same to rounding, over a path of changing numbers."""
    p = random_numbers(5, 12)
    model = MeanVariance(risk_aversion=3.0, **trading(p))
    kernel, rng = model.prepare([f"asset{i + 1}" for i in range(12)]), np.random.default_rng(1)
    current = p.current
    for _ in range(30):
        mean = p.mean + rng.normal(0.0, 0.002, 12)
        found = kernel.solve(mean, p.covariance, current).solution
        fresh = model.solve(Moments.of(mean, p.covariance), current_weights=current)
        assert found.kkt_residual < 1e-12
        assert found.weights == pytest.approx(risky(fresh), abs=1e-10)
        current = found.weights


def test_where_all_returns_are_equal_a_volatility_target_takes_the_least_risk():
    """1 / variance each: any risk aversion is below the target, none is on it."""
    inputs = Moments.of([0.001] * 3, np.diag([1e-4, 4e-4, 9e-4]))
    result = TargetVolatility(target=0.01).solve(
        inputs, current_weights=[1.0 / 3.0] * 3, cash_return=1e-4
    )
    inverse = np.array([36.0, 9.0, 4.0])
    assert risky(result) == pytest.approx(inverse / inverse.sum(), abs=1e-9)
    assert np.sqrt(result.variance) < 0.01


@pytest.mark.parametrize("last", [0.0, 1e-30])
def test_no_sharpe_ratio_is_the_greatest_where_what_has_no_risk_beats_cash(last):
    inputs = Moments.of([0.001, 0.0005, 0.0002], np.diag([1e-4, 4e-4, last]))
    with pytest.raises(ModelError, match=r"without risk beats cash_return = 0.0001 by 0.0001"):
        MaximumSharpe().solve(inputs, current_weights=[0.0, 0.0, 1.0], cash_return=1e-4)
    # Below cash it is not wanted: the ratio has its greatest value.
    result = MaximumSharpe().solve(inputs, current_weights=[0.0, 0.0, 1.0], cash_return=3e-4)
    assert result.weights["asset3"] == pytest.approx(0.0, abs=1e-9)


def test_a_solver_failure_leaves_the_problems_numbers(monkeypatch, tmp_path):
    def fails(*_):
        raise SolverError("misses its conditions by 1.0e-03")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sddp.portfolio.optimizers.mean_variance.MeanVarianceKernel.solve", fails)
    p = random_numbers(3, 4)
    model = MeanVariance(risk_aversion=2.0, transaction_cost=0.01)
    with pytest.raises(SolverError, match=r"by 1\.0e-03; the problem's numbers are in ") as caught:
        model.solve(moments_of(p), current_weights=p.current, cash_return=0.002)
    with np.load(str(caught.value).rsplit(" in ", 1)[1]) as kept:
        assert kept["mean"].tobytes() == p.mean.tobytes()
        assert kept["covariance"].shape == (4, 4)
        assert float(kept["cash_return"]) == 0.002
        assert str(kept["optimizer"]) == repr(model)
