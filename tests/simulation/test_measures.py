"""Risk figures: closed forms, coverage of standard errors, contributions that add up."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import quad

from sddp.errors import DataError, ModelError, NumericalWarning
from sddp.risk import weighted_cvar
from sddp.simulation import (
    FixedWeights,
    NormalLaw,
    StudentLaw,
    compare_risk,
    control_variate_mean,
    cvar_contributions,
    path_figures,
    risk_figures,
    simulate_portfolio,
    trade_effect,
    volatility_contributions,
)

# The specification's example, a year.
ASSETS = ["bitcoin", "real estate", "stablecoin"]
WEIGHTS = pd.Series([0.5, 0.3, 0.2], index=ASSETS)
MEAN = pd.Series([0.08, 0.05, 0.02], index=ASSETS)
VOLATILITY = np.array([0.40, 0.15, 0.02])
CORRELATION = np.array([[1.0, 0.3, 0.0], [0.3, 1.0, 0.0], [0.0, 0.0, 1.0]])
COVARIANCE = pd.DataFrame(
    CORRELATION * np.outer(VOLATILITY, VOLATILITY), index=ASSETS, columns=ASSETS
)
COSTS = {"bitcoin": 0.001, "real estate": 0.01, "stablecoin": 0.0005}


def of_days(n_days, year):
    mean, covariance = WEIGHTS @ MEAN, WEIGHTS @ COVARIANCE @ WEIGHTS
    return mean * n_days / year, np.sqrt(covariance * n_days / year)


def test_the_specifications_portfolio():
    mean, volatility = of_days(1, 1)
    assert mean == pytest.approx(0.0590, abs=1e-15)
    assert volatility == pytest.approx(0.2178, abs=5e-5)
    table = volatility_contributions(WEIGHTS, COVARIANCE)
    assert table["contribution"].sum() == pytest.approx(volatility, abs=1e-12)
    percent = 100.0 * table["share"]
    assert percent.iloc[:2].round(1).tolist() == [90.0, 10.0]
    assert percent["stablecoin"] == pytest.approx(0.03, abs=0.005)
    grouped = volatility_contributions(
        WEIGHTS, COVARIANCE, {"real estate": "tokens", "stablecoin": "tokens"}
    )
    assert list(grouped.index) == ["bitcoin", "tokens"]
    assert grouped["share"]["tokens"] == pytest.approx(table["share"].iloc[1:].sum(), abs=1e-15)


@pytest.mark.parametrize(
    ("year", "var", "cvar"), [(252, 0.1166, 0.1480), (365, 0.0979, None)], ids=["252", "365"]
)
def test_the_specifications_thirty_days_as_one_period(year, var, cvar):
    mean, volatility = of_days(30, year)
    z = stats.norm.ppf(0.95)
    assert z * volatility - mean == pytest.approx(var, abs=5e-5)
    if cvar is not None:
        assert stats.norm.pdf(z) / 0.05 * volatility - mean == pytest.approx(cvar, abs=5e-5)


def test_the_specifications_minus_twelve_percent():
    """30 of 252 days as one period, and the cost of building from cash, 0.36 %."""
    cost = sum(COSTS[name] * WEIGHTS[name] for name in ASSETS)
    assert cost == pytest.approx(0.0036, abs=1e-15)
    mean, volatility = of_days(30, 252)
    assert mean - stats.norm.ppf(0.95) * volatility - cost == pytest.approx(-0.1202, abs=5e-5)


def test_the_specifications_student_law():
    """Variance-matched t(4): a smaller 95 % VaR than the normal law's, a larger CVaR."""
    mean, volatility = of_days(30, 252)
    t = stats.t(4)
    scale = volatility * np.sqrt(0.5)
    q = t.ppf(0.95)
    assert q * scale - mean == pytest.approx(0.106, abs=1e-3)
    cvar = t.pdf(q) / 0.05 * (4 + q**2) / 3 * scale - mean
    assert cvar == pytest.approx(0.163, abs=2e-3)


def example_losses(law, n, seed, rule=None, n_periods=1):
    rule = rule or FixedWeights(WEIGHTS)
    return simulate_portfolio(rule, law, n_scenarios=n, n_periods=n_periods, rng=seed).losses


def days(kind, periods_per_year):
    moments = {"mean": MEAN / periods_per_year, "covariance": COVARIANCE / periods_per_year}
    if kind == "normal":
        return NormalLaw(**moments, returns="simple")
    return StudentLaw(**moments, returns="simple", degrees_of_freedom=4)


def test_simulated_thirty_days_as_one_period():
    found = risk_figures(example_losses(days("normal", 252 / 30), 200_000, 1))
    assert abs(found.value["VaR 95 %"] - 0.1166) < 3 * found.standard_error["VaR 95 %"] + 5e-5
    assert abs(found.value["CVaR 95 %"] - 0.1480) < 3 * found.standard_error["CVaR 95 %"] + 5e-5
    assert found.value["return's 5 % quantile (minus VaR)"] == -found.value["VaR 95 %"]
    heavy = risk_figures(example_losses(days("student", 252 / 30), 200_000, 1))
    assert abs(heavy.value["VaR 95 %"] - 0.106) < 1.5e-3


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "every", "var", "cvar"),
    [
        ("normal", None, 0.1099, 0.1344),
        ("student", None, 0.1097, 0.1386),
        ("normal", 1, 0.1127, 0.1396),
        ("student", 1, 0.1122, 0.1434),
    ],
)
def test_thirty_compounded_days(kind, every, var, cvar):
    rule = FixedWeights(WEIGHTS, every=every)
    found = risk_figures(example_losses(days(kind, 252), 400_000, 3, rule, 30))
    assert found.value["VaR 95 %"] == pytest.approx(var, abs=6e-4)
    assert found.value["CVaR 95 %"] == pytest.approx(cvar, abs=6e-4)


def closed_forms(nu=None):
    mean, volatility = of_days(30, 252)
    if nu is None:
        q = stats.norm.ppf(0.95)
        return q * volatility - mean, stats.norm.pdf(q) / 0.05 * volatility - mean
    q, scale = stats.t.ppf(0.95, nu), volatility * np.sqrt((nu - 2) / nu)
    return q * scale - mean, stats.t.pdf(q, nu) / 0.05 * (nu + q**2) / (nu - 1) * scale - mean


@pytest.mark.long
@pytest.mark.parametrize(("kind", "nu"), [("normal", None), ("student", 4)])
def test_figures_are_within_three_errors_of_the_closed_forms(kind, nu):
    """In at least 95 of 100 seeds, and in 90 to 99 % of them within two."""
    law, exact = days(kind, 252 / 30), closed_forms(nu)
    off = []
    for seed in range(100):
        found = risk_figures(example_losses(law, 20_000, seed)).loc[["VaR 95 %", "CVaR 95 %"]]
        off.append(np.abs(found["value"] - np.array(exact)) / found["standard_error"])
    off = np.array(off)
    assert ((off < 3.0).mean(axis=0) >= 0.95).all()
    assert ((off < 2.0).mean(axis=0) >= 0.85).all()


@pytest.mark.long
@pytest.mark.parametrize("sampling", ["independent", "antithetic"])
def test_standard_errors_have_their_coverage(sampling):
    """200 repetitions: the spread of the estimates is what the errors say, within a fifth."""
    law = NormalLaw(mean=[0.0], covariance=[[1e-4]], returns="simple", sampling=sampling)
    values, errors = [], []
    for seed in range(200):
        losses = example_losses(law, 8_000, seed, FixedWeights({"asset1": 1.0}))
        table = risk_figures(losses, larger_than=[0.02])
        values.append(table["value"])
        errors.append(table["standard_error"])
    spread, error = pd.DataFrame(values).std(), pd.DataFrame(errors).mean()
    ratio = (error / spread)[spread > 1e-12]
    wide = [name for name in ratio.index if "VaR" in name and "CVaR" not in name]
    close = ratio.drop(wide)
    assert ((close > 0.8) & (close < 1.25)).all(), ratio
    # Order statistics do not know of pairs; their error may only be too large.
    assert (ratio[wide] > 0.8).all()
    assert (ratio[wide] < (1.25 if sampling == "independent" else 2.0)).all()
    exact = pd.Series({"VaR 95 %": 0.01 * stats.norm.ppf(0.95)})
    inside = [
        abs(v["VaR 95 %"] - exact.iloc[0]) < 1.96 * e["VaR 95 %"]
        for v, e in zip(values, errors, strict=True)
    ]
    assert 0.90 <= np.mean(inside) <= 1.0


def test_sums_of_log_normals_against_quadrature():
    """One half each in two independent log-normal assets: the law of the sum by an integral."""
    sigma = np.array([0.2, 0.1])
    law = NormalLaw(mean=[0.0, 0.0], covariance=np.diag(sigma**2), returns="log")
    losses = example_losses(law, 300_000, 2, FixedWeights({"asset1": 0.5, "asset2": 0.5}))

    def below(x):
        def given(z):
            rest = 2.0 * (1.0 + x) - np.exp(sigma[0] * z)
            return stats.norm.pdf(z) * (stats.norm.cdf(np.log(rest) / sigma[1]) if rest > 0 else 0)

        return quad(given, -8.0, np.log(2.0 * (1.0 + x)) / sigma[0], epsabs=1e-10)[0]

    from scipy.optimize import brentq

    exact = -brentq(lambda x: below(x) - 0.05, -0.5, 0.1)
    found = risk_figures(losses)
    assert abs(found.value["VaR 95 %"] - exact) < 3.0 * found.standard_error["VaR 95 %"]
    tail = quad(below, -0.9, -exact, epsabs=1e-9)[0] / 0.05 + exact
    assert abs(found.value["CVaR 95 %"] - tail) < 3.0 * found.standard_error["CVaR 95 %"]


def test_cvar_contributions_are_derivatives_that_add_up():
    rng = np.random.default_rng(4)
    returns, weights = rng.standard_t(4, (5_003, 3)) * 0.02, WEIGHTS.to_numpy()
    table = cvar_contributions(returns * weights, ASSETS, confidence=0.9)
    total = weighted_cvar(-(returns @ weights), confidence=0.9)
    assert table["contribution"].sum() == pytest.approx(total, abs=1e-12)
    assert table["share"].sum() == pytest.approx(1.0, abs=1e-12)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-7
        up, down = (
            weighted_cvar(-(returns @ (weights + s)), confidence=0.9) for s in (step, -step)
        )
        slope = (up - down) / 2e-7
        assert table["contribution"].iloc[i] == pytest.approx(weights[i] * slope, abs=1e-8)
    grouped = cvar_contributions(
        returns * weights, ASSETS, confidence=0.9, groups={"stablecoin": "real estate"}
    )
    assert grouped["contribution"]["real estate"] == pytest.approx(
        table["contribution"].iloc[1:].sum(), abs=1e-15
    )


def test_the_effect_of_a_trade():
    rng = np.random.default_rng(4)
    returns, weights = rng.normal(0.0, 0.02, (4_000, 3)), WEIGHTS.to_numpy()
    trade = np.array([-0.1, 0.1, 0.0])
    effect = trade_effect(returns, weights, trade, confidence=0.9)
    assert effect["after"] == pytest.approx(
        weighted_cvar(-(returns @ (weights + trade)), confidence=0.9)
    )
    assert effect["incremental"] == effect["after"] - effect["before"]
    # CVaR is convex: the derivative is below.
    assert effect["marginal"] <= effect["incremental"]
    small = trade_effect(returns, weights, 1e-7 * trade, confidence=0.9)
    assert small["marginal"] == pytest.approx(small["incremental"], rel=1e-5)


def test_paired_differences_are_known_better_than_the_figures():
    law = days("normal", 252)
    first = example_losses(law, 40_000, 5)
    table = compare_risk(first, first + 1e-3)
    np.testing.assert_allclose(table["difference"].iloc[1:], -1e-3, atol=1e-12)
    assert table["difference"]["mean return"] == pytest.approx(1e-3)
    assert (table["standard_error"] < 1e-9).all()
    other = example_losses(law, 40_000, 5, FixedWeights({"bitcoin": 0.49, "real estate": 0.31}))
    paired = compare_risk(first, other)
    alone = risk_figures(first)["standard_error"]
    for name in ("VaR 95 %", "CVaR 95 %", "mean return"):
        assert paired.standard_error[name] < 0.35 * alone[name]


def test_paths_are_measured():
    paths = np.array([[1.0, 1.2, 0.9, 1.0, 1.3, 1.2], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    with pytest.warns(NumericalWarning):
        table = path_figures(paths, periods_per_month=2)["value"]
    assert table["mean drawdown"] == pytest.approx(0.25 / 2)
    assert table["mean periods under water"] == 1.0
    assert table["mean worst month's loss"] == pytest.approx((1.0 - 1.0 / 1.2) / 2)
    assert table["95 % quantile of drawdown"] == pytest.approx(0.25)


def test_a_control_variate_of_known_mean():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(4_000)
    y = 3.0 + 2.0 * x + 0.1 * rng.standard_normal(4_000)
    mean, error = control_variate_mean(y, x, 0.0)
    assert abs(mean - 3.0) < 4.0 * error
    assert error < 0.1 * y.std() / np.sqrt(4_000)


def test_few_tail_scenarios_warn_with_the_number_needed():
    with pytest.warns(NumericalWarning, match="2000 scenarios would put 20 there"):
        risk_figures(np.linspace(0.0, 1.0, 100), confidence=0.99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        risk_figures(np.linspace(0.0, 1.0, 400), confidence=0.95)


def test_no_risk_is_zero():
    table = risk_figures(np.zeros(500), larger_than=[0.2])
    assert (table["value"] == 0.0).all()
    still = volatility_contributions(pd.Series([1.0], index=["a"]), np.zeros((1, 1)))
    assert still["share"]["a"] == 0.0


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: risk_figures([1.0]), "at least 2 finite"),
        (lambda: risk_figures([1.0, np.nan]), "at least 2 finite"),
        (lambda: risk_figures([1.0, 2.0], confidence=1.0), "confidence=1.0: must be between"),
        (lambda: risk_figures([1.0, 2.0], confidence=[0.9, 0.0]), "confidence=0.0"),
        (lambda: path_figures(np.ones((3, 4)), periods_per_month=4), "periods_per_month=4"),
        (lambda: cvar_contributions(np.ones((3, 2)), ["a"], confidence=0.5), "1 columns"),
        (lambda: compare_risk([1.0, 2.0], [1.0, 2.0, 3.0]), "must be common"),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises((DataError, ModelError), match=words):
        act()
