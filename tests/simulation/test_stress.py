"""Shocks: closed forms, invariants, and the data's own episodes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize

from sddp.display.simulation_figures import tornado_figure
from sddp.errors import DataError, ModelError
from sddp.portfolio import Moments
from sddp.simulation import (
    NormalLaw,
    Shock,
    ShockedLaw,
    conditional_moments,
    replayed,
    reverse_stress,
    standard_shocks,
    stress_table,
    stressed_moments,
)
from tests.reference_data import reference_path

ASSETS = ["bitcoin", "land", "usd"]
VOLATILITY = np.array([0.138, 0.0518, 0.0069])
CORRELATION = np.array([[1.0, 0.3, 0.1], [0.3, 1.0, -0.4], [0.1, -0.4, 1.0]])
MOMENTS = Moments.of([0.01, 0.005, 0.002], CORRELATION * np.outer(VOLATILITY, VOLATILITY), ASSETS)
WEIGHTS = {"bitcoin": 0.5, "land": 0.3, "usd": 0.2}
GROUPS = {"crypto": ["bitcoin"], "real estate": ["land"], "stablecoin": ["usd"]}


def correlations(moments):
    c = moments.covariance.to_numpy()
    d = np.sqrt(np.diag(c))
    return c / np.outer(d, d)


def test_a_target_correlation_is_reached_and_volatilities_stay():
    shock = Shock("x", correlations={("bitcoin", "land"): 0.9})
    after = stressed_moments(MOMENTS, shock)
    found = correlations(after)
    assert found[0, 1] == pytest.approx(0.9, abs=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(after.covariance)), VOLATILITY, rtol=0, atol=1e-12)
    assert np.linalg.eigvalsh(after.covariance)[0] > -1e-15
    # 0.1 and -0.4 do not go with 0.9: they move towards each other, others not at all.
    assert -0.4 < found[1, 2] < found[0, 2] < 0.1
    np.testing.assert_array_equal(after.mean, MOMENTS.mean)


def test_one_correlation_for_all_pairs_and_new_volatilities():
    after = stressed_moments(
        MOMENTS, Shock("x", volatilities={"real estate": 0.1}, correlations=0.9), GROUPS
    )
    np.testing.assert_allclose(correlations(after)[np.triu_indices(3, 1)], 0.9, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.diag(after.covariance)), [0.138, 0.1, 0.0069])
    same = stressed_moments(MOMENTS, Shock("nothing"))
    np.testing.assert_allclose(same.covariance, MOMENTS.covariance, rtol=1e-14)


def test_conditional_moments_are_those_of_a_regression():
    sample = np.random.default_rng(1).multivariate_normal(MOMENTS.mean, MOMENTS.covariance, 200_000)
    found = conditional_moments(MOMENTS, {"land": -0.3})
    x, y = sample[:, 1], sample[:, 0]
    slope = np.cov(x, y)[0, 1] / x.var()
    assert found.mean["bitcoin"] == pytest.approx(y.mean() + slope * (-0.3 - x.mean()), abs=0.005)
    assert found.mean["land"] == -0.3
    rest = 0.138**2 * (1 - 0.3**2)
    assert found.covariance.loc["bitcoin", "bitcoin"] == pytest.approx(rest, rel=1e-12)
    assert (found.covariance.loc["land"] == 0.0).all()
    both = conditional_moments(MOMENTS, dict.fromkeys(ASSETS, -0.1))
    assert (both.mean == -0.1).all()


def test_reverse_stress_is_the_likeliest_scenario():
    found = reverse_stress(WEIGHTS, MOMENTS, loss=0.2)
    w = np.array(list(WEIGHTS.values()))
    assert w @ found.returns == pytest.approx(-0.2, abs=1e-12)
    inverse = np.linalg.inv(MOMENTS.covariance.to_numpy())
    mean = MOMENTS.mean.to_numpy()

    def distance(r):
        return (r - mean) @ inverse @ (r - mean)

    best = minimize(
        distance,
        np.full(3, -0.2),
        constraints={"type": "eq", "fun": lambda r: w @ r + 0.2},
        tol=1e-12,
    )
    np.testing.assert_allclose(found.returns, best.x, atol=1e-4)
    assert found.distance == pytest.approx(np.sqrt(distance(found.returns.to_numpy())), rel=1e-10)
    loss = stats.norm(-w @ mean, np.sqrt(w @ MOMENTS.covariance.to_numpy() @ w))
    assert found.probability == pytest.approx(loss.sf(0.2), rel=1e-9)


def test_nothing_is_expected_to_lose_more_than_all_of_itself():
    """``.9 * .05 / .01 * -.3`` is -1.35; land loses its 30 %."""
    moments = Moments.of([0.0, 0.0], [[0.0025, 0.00045], [0.00045, 0.0001]], ["bitcoin", "land"])
    fall = Shock("fall", {"land": -0.3})
    for weights, loss in (({"bitcoin": 1.0}, 1.0), ({"bitcoin": 0.5, "land": 0.5}, 0.65)):
        table = stress_table(weights, moments, [fall])
        assert table.loc["fall", "conditional loss"] == pytest.approx(loss, rel=1e-12)


def test_the_table_of_shocks():
    shocks = standard_shocks(GROUPS)
    table = stress_table(
        WEIGHTS,
        MOMENTS,
        shocks,
        groups=GROUPS,
        transaction_cost={"bitcoin": 0.001, "land": 0.01, "usd": 0.0005},
        tradable={"land": 0.01},
    )
    none = table.loc["no shock"]
    w = np.array(list(WEIGHTS.values()))
    sigma = np.sqrt(w @ MOMENTS.covariance.to_numpy() @ w)
    assert none["volatility"] == pytest.approx(sigma, rel=1e-12)
    assert none["VaR"] == pytest.approx(stats.norm.ppf(0.95) * sigma - w @ MOMENTS.mean)
    assert none["CVaR"] == pytest.approx(
        stats.norm.pdf(stats.norm.ppf(0.95)) / 0.05 * sigma - w @ MOMENTS.mean
    )
    assert none["periods to sell all"] == pytest.approx(30.0)
    fall = table.loc["real estate -30 %, correlations 0.9"]
    assert fall["instantaneous loss"] == pytest.approx(0.09)
    assert fall["conditional loss"] > 0.09
    assert fall["volatility"] > none["volatility"] * 0.9
    peg = table.loc["stablecoin loses its peg, -9 %"]
    assert peg["instantaneous loss"] == pytest.approx(0.018)
    dear = table.loc["costs times 5, limits to a fifth"]
    assert dear["cost of selling all"] == pytest.approx(5 * none["cost of selling all"])
    assert dear["periods to sell all"] == pytest.approx(150.0)
    assert table.loc["-20 % swing", "instantaneous loss"] == pytest.approx(0.16)
    figure = tornado_figure(
        table["loss and CVaR"].drop("no shock"), base=none["loss and CVaR"], label="loss and CVaR"
    )
    lengths = [abs(bar.get_width()) for bar in figure.axes[0].patches]
    assert lengths == sorted(lengths)


def test_an_episode_is_replayed_from_the_data_with_its_dates():
    prices = pd.read_csv(
        reference_path("data/digital_rwa/prices.csv"), index_col="date", parse_dates=True
    )[["btc", "vnq"]]
    shock = replayed(prices, "March 2020")
    assert shock.name == "March 2020 (2020-02-19 to 2020-03-16)"
    expected = prices.loc["2020-03-16"] / prices.loc["2020-02-19"] - 1.0
    assert shock.returns == pytest.approx(expected.to_dict())
    assert shock.returns["btc"] < -0.4
    assert shock.returns["vnq"] < -0.3
    coins = pd.read_csv(
        reference_path("data/digital_rwa/crypto_daily.csv"), index_col="date", parse_dates=True
    )["usdc_other"]
    peg = replayed(coins.dropna().to_frame(), "USDC loses its peg, March 2023")
    assert peg.returns["usdc_other"] == pytest.approx(-0.044, abs=1e-3)
    names = [s.name for s in standard_shocks({"crypto": ["btc"]}, prices=prices)]
    assert sum("2020" in name or "2022" in name or "2023" in name for name in names) == 4
    with pytest.raises(DataError, match="must reach over"):
        replayed(prices.loc["2021":], "March 2020")


def test_a_law_is_shocked_at_its_period_and_changed_from_there_on():
    base = NormalLaw(mean=MOMENTS.mean, covariance=MOMENTS.covariance, returns="simple")
    shock = Shock("x", {"land": -0.3}, volatilities={"bitcoin": 0.3}, correlations=0.9, period=2)
    law = ShockedLaw(base, shock, MOMENTS)
    plain, found = (np.concatenate(list(it.sample(60_000, 4, rng=3))) for it in (base, law))
    np.testing.assert_array_equal(found[:, :2], plain[:, :2])
    later = found[:, 3]
    np.testing.assert_allclose(later.mean(axis=0), MOMENTS.mean, atol=0.005)
    np.testing.assert_allclose(later.std(axis=0), [0.3, 0.0518, 0.0069], rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(later.T)[np.triu_indices(3, 1)], 0.9, atol=0.01)
    expected = 0.7 * (1.0 + MOMENTS.mean["land"]) - 1.0
    assert found[:, 2, 1].mean() == pytest.approx(expected, abs=0.001)
    quiet = ShockedLaw(base, Shock("none"), MOMENTS)
    np.testing.assert_array_equal(next(quiet.sample(8, 2, rng=1)), next(base.sample(8, 2, rng=1)))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Shock("x", {"a": -1.5}), "x: returns=-1.5: must be"),
        (lambda: Shock("x", correlations=1.1), "correlations=1.1"),
        (lambda: Shock("x", volatilities={"a": -0.1}), "volatilities=-0.1"),
        (lambda: Shock("x", limit_factor=0.0), "limit_factor=0.0"),
        (lambda: stressed_moments(MOMENTS, Shock("x", volatilities={"gold": 1.0})), "'gold' is un"),
        (
            lambda: stressed_moments(
                MOMENTS,
                Shock("x", correlations={("bitcoin", "land"): 0.9, ("land", "bitcoin"): 0.5}),
            ),
            "stated twice",
        ),
        (
            lambda: stressed_moments(MOMENTS, Shock("x", correlations=-0.9)),
            "no correlation matrix has all",
        ),
        (lambda: conditional_moments(MOMENTS, {}), "at least one asset"),
        (lambda: reverse_stress({"bitcoin": 1.0}, MOMENTS, loss=np.nan), "loss=nan: must be"),
        (lambda: reverse_stress({}, MOMENTS, loss=0.1), "has no risk"),
        (lambda: replayed(pd.DataFrame(), "1929"), "episode='1929'"),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises((DataError, ModelError), match=words):
        act()
