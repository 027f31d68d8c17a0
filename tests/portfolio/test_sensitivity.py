"""Sensitivities: central differences away from kinks, one-sided at them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.errors import ModelError
from sddp.portfolio import (
    BlackLitterman,
    BlackLittermanProcessor,
    ConstraintSet,
    CVaRMatched,
    GroupLimit,
    InvestorView,
    MeanVariance,
    Moments,
    Turnover,
    VolatilityDriven,
    sensitivity,
)
from sddp.portfolio.sensitivities.sampling_errors import sampling_errors
from sddp.statistics.resampling import standard_error_of_mean
from tests.portfolio.problems import random_numbers, risky

NAMES = [f"asset{i + 1}" for i in range(6)]


def setting(seed, **options):
    p = random_numbers(seed, 6)
    model = MeanVariance(
        **({"risk_aversion": 6.0, "transaction_cost": p.buy, "sale_cost": p.sell} | options)
    )
    given = {"current_weights": p.current, "cash_return": 0.002}
    return p, model, given


def moved(p, group, i, step):
    """Moments with one input changed, written out anew."""
    mean, S = p.mean.copy(), p.covariance.copy()
    if group == "mean":
        mean[i] += step
    if group == "volatility":
        factor = 1.0 + step / np.sqrt(S[i, i])
        S[i, :] *= factor
        S[:, i] *= factor
    if group == "correlation":
        others = np.arange(6) != i
        S[i, others] *= 1.0 - step
        S[others, i] *= 1.0 - step
    return Moments.of(mean, S)


LIMITS = ConstraintSet(
    (GroupLimit(name="g", assets=NAMES[:3], upper=0.4), Turnover(name="t", limit=0.9))
)


@pytest.mark.parametrize("constraints", [ConstraintSet(), LIMITS], ids=["plain", "limits"])
@pytest.mark.parametrize("self_financing", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_derivatives_are_central_differences(seed, self_financing, constraints):
    p, model, given = setting(seed, self_financing=self_financing, constraints=constraints)
    found = sensitivity(model, Moments.of(p.mean, p.covariance), **given)
    compared = 0
    for group in ("mean", "volatility", "correlation"):
        for i, name in enumerate(NAMES):
            step = 1e-6 if group != "correlation" else 1e-5
            up, down = (model.solve(moved(p, group, i, s * step), **given) for s in (1.0, -1.0))
            here = model.solve(Moments.of(p.mean, p.covariance), **given)
            rising, falling = risky(up) - risky(here), risky(here) - risky(down)
            if np.abs(rising - falling).max() > 1e-3 * np.abs(rising).max() + 1e-9:
                continue
            row = (group, name)
            difference = (risky(up) - risky(down)) / (2.0 * step)
            size = max(np.abs(difference).max(), 1.0)
            assert found.weights.loc[row].to_numpy() == pytest.approx(difference, abs=1e-5 * size)
            slope = (up.objective - down.objective) / (2.0 * step)
            assert found.table.loc[row, "utility"] == pytest.approx(slope, abs=1e-7)
            compared += 1
    assert compared > 12


def test_risk_aversion_index_and_costs():
    p, _, given = setting(1)
    driven = VolatilityDriven(base=2.0, sensitivity=0.1)
    options = {"transaction_cost": p.buy, "sale_cost": p.sell}
    model = MeanVariance(risk_aversion=driven, **options)
    inputs = Moments.of(p.mean, p.covariance)
    found = sensitivity(model, inputs, volatility_index=20.0, **given)

    def weights(aversion, factor=1.0):
        options = {"transaction_cost": p.buy * factor, "sale_cost": p.sell * factor}
        return risky(MeanVariance(risk_aversion=aversion, **options).solve(inputs, **given))

    step = 1e-5
    expected = (weights(6.0 + step) - weights(6.0 - step)) / (2.0 * step)
    assert found.weights.loc[("risk aversion", "all")].to_numpy() == pytest.approx(
        expected, abs=1e-6
    )
    by_index = found.weights.loc[("volatility index", "all")].to_numpy()
    assert by_index == pytest.approx(0.2 * expected, abs=1e-6)
    together = sum(
        found.weights.loc[("cost", name)] * found.table.loc[("cost", name), "value"]
        for name in NAMES
        if ("cost", name) in found.weights.index
    )
    all_costs = (weights(6.0, 1.0 + step) - weights(6.0, 1.0 - step)) / (2.0 * step)
    assert together.to_numpy() == pytest.approx(all_costs, abs=1e-5)


def test_at_a_kink_the_derivative_is_one_sided():
    """One asset, bought up to the cost: a higher mean buys more, a lower one changes nothing."""
    cost, variance, aversion = 0.01, 0.04, 5.0
    model = MeanVariance(risk_aversion=aversion, transaction_cost=cost, self_financing=False)
    # The weight 0.3 is the last at which buying stops: mean - cost = aversion * variance * weight.
    mean = cost + aversion * variance * 0.3
    found = sensitivity(model, Moments.of([mean], [[variance]]), current_weights=[0.3])
    rise = found.weights.loc[("mean", "asset1"), "asset1"]
    assert rise == pytest.approx(1.0 / (aversion * variance), rel=1e-6)
    lower = sensitivity(model, Moments.of([mean - 1e-3], [[variance]]), current_weights=[0.3])
    assert lower.weights.loc[("mean", "asset1"), "asset1"] == 0.0


def test_changes_of_one_standard_error():
    rng = np.random.default_rng(1)
    returns = pd.DataFrame(rng.normal(0.001, 0.02, (400, 3)), columns=list("abc"))
    moments = Moments.of(returns.mean(), returns.cov(), list("abc"))
    model = MeanVariance(risk_aversion=4.0, max_cash=0.0, self_financing=False)
    found = sensitivity(model, moments, current_weights={"a": 1.0}, returns=returns)
    # Of independent rows: the textbook's standard errors, to the accuracy of 200 draws.
    assert found.table.loc["mean", "error"].to_numpy() == pytest.approx(
        returns.std().to_numpy() / 20.0, rel=0.3
    )
    assert found.table.loc["volatility", "error"].to_numpy() == pytest.approx(
        returns.std().to_numpy() / np.sqrt(800.0), rel=0.3
    )
    row = found.table.loc[("mean", "b")]
    other = moments.mean.copy()
    other["b"] += row["error"]
    given = {"current_weights": {"a": 1.0}}
    here, there = (
        model.solve(Moments(m, moments.covariance), **given) for m in (moments.mean, other)
    )
    assert row["weights_error"] == pytest.approx(
        (there.trades - here.trades).abs().sum(), abs=1e-12
    )
    w = risky(there)
    value = float(moments.mean @ w - 2.0 * w @ moments.covariance.to_numpy() @ w)
    assert row["loss_error"] == pytest.approx(here.objective - value, abs=1e-14)
    assert row["loss_error"] > 0.0
    groups = found.by_group()
    assert groups.loc["mean", "loss_error"] > groups.loc["volatility", "loss_error"]


def test_bounds_and_limits_have_the_derivatives_of_their_multipliers():
    p, model, given = setting(6, self_financing=False, constraints=LIMITS, max_weights=0.3)
    inputs = Moments.of(p.mean, p.covariance)
    found, here = sensitivity(model, inputs, **given), model.solve(inputs, **given)
    tight = {
        f"max {name}": here.duals.upper[name] for name in NAMES if here.duals.upper[name] > 1e-6
    }
    assert tight
    assert here.constraints.loc["g", "multiplier"] > 1e-6
    for name, dual in {**tight, "g (upper)": here.constraints.loc["g", "multiplier"]}.items():
        row = ("bound", name)
        assert found.table.loc[row, "utility"] == pytest.approx(dual, abs=1e-7)
        assert found.table.loc[row, "utility_fall"] == pytest.approx(dual, abs=1e-7)
    # A slack bound moves nothing.
    slack = [name for name in NAMES if here.weights[name] < 0.29 and here.weights[name] > 1e-6]
    assert found.table.loc[("bound", f"max {slack[0]}"), "turnover"] < 1e-8
    step = 1e-4
    changed = dict.fromkeys(NAMES, 0.3)
    first = next(iter(tight)).removeprefix("max ")
    changed[first] += step
    other = setting(6, self_financing=False, constraints=LIMITS, max_weights=changed)[1]
    quotient = (risky(other.solve(inputs, **given)) - risky(here)) / step
    assert found.weights.loc[("bound", f"max {first}")].to_numpy() == pytest.approx(
        quotient, abs=1e-5
    )


def test_a_bound_at_its_kink_moves_weights_only_where_it_binds():
    """Exactly as much is wanted as is allowed: raised the bound is slack, lowered it binds."""
    model = MeanVariance(risk_aversion=5.0, self_financing=False, max_weights=0.5)
    inputs = Moments.of([5.0 * 0.04 * 0.5], [[0.04]])
    found = sensitivity(model, inputs, current_weights=[0.0])
    row = ("bound", "max asset1")
    assert found.weights.loc[row, "asset1"] == pytest.approx(0.0, abs=1e-9)
    assert found.weights_fall.loc[row, "asset1"] == pytest.approx(1.0, abs=1e-9)
    assert found.table.loc[row, "utility"] == pytest.approx(0.0, abs=1e-9)


def test_a_side_on_which_nothing_is_feasible_has_no_number():
    model = MeanVariance(risk_aversion=5.0, self_financing=False, max_cash=0.0)
    found = sensitivity(model, Moments.of([0.1], [[0.04]]), current_weights=[0.0])
    assert np.isnan(found.table.loc[("bound", "max cash"), "utility_fall"])
    assert np.isfinite(found.table.loc[("bound", "max cash"), "utility"])


def black_litterman(magnitude, variance):
    view = InvestorView(
        kind="relative",
        assets=NAMES[:2],
        magnitude=magnitude,
        horizon=1.0,
        variance=variance,
        confidence=0.5,
        issued_at="2024-01-01",
        valid_until="2024-12-31",
        source="desk",
    )
    return BlackLitterman(
        market_weights=dict.fromkeys(NAMES, 1.0),
        views=[view],
        processor=BlackLittermanProcessor(uncertainty="given"),
        optimizer=MeanVariance(risk_aversion=20.0, transaction_cost=0.001, max_cash=0.0),
    )


def test_views_have_the_derivatives_of_central_differences():
    p, size, error = random_numbers(3, 6), 0.004, 0.006
    inputs = Moments.of(p.mean, p.covariance)
    given = {"current_weights": np.full(6, 1.0 / 6.0)}
    found = sensitivity(black_litterman(size, error**2), inputs, **given)
    step = 1e-7
    for row, changed in (
        ("view", lambda t: black_litterman(size + t, error**2)),
        ("view error", lambda t: black_litterman(size, (error + t) ** 2)),
    ):
        up, down = (risky(changed(s * step).solve(inputs, **given)) for s in (1.0, -1.0))
        slopes = found.weights.loc[row].to_numpy()[0]
        scale = np.abs(slopes).max()
        assert scale > 0.1
        assert slopes == pytest.approx((up - down) / (2.0 * step), abs=1e-5 * scale)
    assert found.table.loc["view", "error"].iloc[0] == pytest.approx(error)
    assert found.table.loc["view", "weights_error"].iloc[0] > 0.0


def test_what_has_no_derivative_here_is_said():
    with pytest.raises(ModelError, match="of a given risk aversion"):
        sensitivity(
            MeanVariance(risk_aversion=CVaRMatched(limit=0.1)),
            Moments.of([0.1], [[0.1]]),
            current_weights=[0.0],
        )


def test_standard_errors_of_means_are_those_of_blocks():
    """Of an AR(1): the closed form of the stationary bootstrap, twice what single rows give."""
    rng = np.random.default_rng(4)
    shocks, rows = rng.normal(size=(600, 2)), [np.zeros(2)]
    for shock in shocks:
        rows.append(0.7 * rows[-1] + shock * np.array([0.01, 0.02]))
    returns = np.array(rows[1:])
    found = sampling_errors(returns, 3)["mean"]
    # 200 draws know a standard deviation to 5 % of it.
    assert found == pytest.approx(standard_error_of_mean(returns, block_length=10.0), rel=0.15)
    assert (found > 1.5 * standard_error_of_mean(returns, block_length=1.0)).all()
