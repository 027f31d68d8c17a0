"""Outcomes with and without others; orders in slices; impact estimated from data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError, ModelError
from sddp.estimation.price_impact import amihud_ratio, kyle_slope
from sddp.portfolio import MeanVariance, Moments
from sddp.simulation import (
    Agent,
    Impact,
    ImpactMarket,
    NormalLaw,
    PotentialGame,
    gain_of_knowing_impact,
    outcomes_with_others,
    sliced_order,
)
from sddp.simulation.agents.equilibrium import BestResponses
from tests.reference_data import reference_path

MOMENTS = Moments.of([0.01, 0.006], np.diag([0.01, 0.0025]), ["coin", "land"])
LAW = NormalLaw(mean=MOMENTS.mean, covariance=MOMENTS.covariance, returns="simple")
WEIGHTS = {"coin": 0.5, "land": 0.3}


def market(count, *, alpha=0.1, permanent=0.3, wealth=1.0):
    model = MeanVariance(risk_aversion=3.0, self_financing=False)
    agents = [
        Agent(name=k, share=wealth / count, optimizer=model, current=[0.4, 0.4])
        for k in range(count)
    ]
    return ImpactMarket(MOMENTS, Impact(alpha=alpha, permanent=permanent), agents)


def outcomes(of, **options):
    given = {"n_scenarios": 200, "noise": 0.02, "alikeness": 0.8, "rng": 3}
    return outcomes_with_others(WEIGHTS, LAW, of, **(given | options))


def test_others_without_impact_change_nothing():
    found = outcomes(market(3, alpha=0.0))
    np.testing.assert_array_equal(found.at_once, found.alone)
    np.testing.assert_array_equal(found.reverted, found.alone)
    assert (found.compared(confidence=0.9)["difference"] == 0.0).all()


def test_the_portfolio_alone_is_the_law():
    found = outcomes(market(2))
    returns = found.alone
    assert abs(returns.mean() - 0.0068) < 4.0 * returns.std() / np.sqrt(200)
    np.testing.assert_allclose(found.price_move, 0.1 * found.demand)
    again = outcomes(market(2))
    np.testing.assert_array_equal(found.at_once, again.at_once)


def test_without_foresight_prices_move_by_what_is_traded_on_the_old_ones():
    """A move in proportion to alpha; in equilibrium it is bounded by the errors of estimates."""
    thin, deep = (outcomes(market(3, alpha=a), foresight=False) for a in (0.5, 0.05))
    np.testing.assert_allclose(thin.demand, deep.demand)
    np.testing.assert_allclose(thin.price_move, 10.0 * deep.price_move)
    foreseen = outcomes(market(3, alpha=0.5), notion="price_taking")
    assert np.abs(foreseen.price_move).max() < 0.3 * np.abs(thin.price_move).max()


@pytest.mark.long
def test_crowds_that_think_alike_move_prices_more():
    spread = {
        a: outcomes(market(5), alikeness=a).price_move.std(axis=0).sum() for a in (0.0, 0.5, 1.0)
    }
    assert spread[0.0] < spread[0.5] < spread[1.0]


def test_what_reverts_is_less_than_what_is_seen_at_once():
    found = outcomes(market(5, alpha=0.5, permanent=0.2), alikeness=1.0)
    seen, left = (np.abs(r - found.alone).mean() for r in (found.at_once, found.reverted))
    assert left == pytest.approx(0.2 * seen, rel=1e-9)
    assert found.at_once.std() > found.reverted.std() > found.alone.std()


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_one_agent_knows_its_impact_and_the_others_do_not(alpha):
    """Nobody would trade otherwise, in thin markets too, where plain iteration does not end."""
    game = market(3, alpha=alpha)
    found = PotentialGame(game, "price_taking", knowing=[1]).solve().weights
    for k, notion in enumerate(("price_taking", "nash", "price_taking")):
        np.testing.assert_allclose(BestResponses(game, notion).of(k, found), found[k], atol=1e-10)


def test_knowing_the_impact_is_worth_something():
    gain = gain_of_knowing_impact(market(2, alpha=0.3))
    assert gain > 1e-6
    small = replace(
        market(2, alpha=0.3),
        agents=[
            replace(a, share=share) for a, share in zip(market(2).agents, (1e-6, 1.0), strict=True)
        ],
    )
    assert abs(gain_of_knowing_impact(small)) < 1e-3 * gain


def test_an_order_in_slices():
    impact = Impact(alpha=0.5, permanent=0.2)
    whole = sliced_order([0.1], impact, ["land"], n_slices=1)
    assert whole["cost"].iloc[-1] == pytest.approx(0.1 * 0.05)
    np.testing.assert_allclose(
        whole["land"].iloc[:3], [0.05, 0.01 + 0.04 * 0.5, 0.01 + 0.04 * 0.25]
    )
    costs = [
        sliced_order({"land": 0.1}, impact, ["land"], n_slices=m)["cost"].iloc[-1]
        for m in (1, 2, 5, 20)
    ]
    assert (np.diff(costs) < 0.0).all()
    late = sliced_order([0.1], impact, ["land"], n_slices=1, delay=3)
    assert (late["land"].iloc[:3] == 0.0).all()
    assert late["cost"].iloc[-1] == whole["cost"].iloc[-1]


def test_impact_is_found_again():
    rng = np.random.default_rng(1)
    volume = rng.normal(0.0, 1e6, 5_000)
    returns = 2e-9 * volume + rng.normal(0.0, 1e-3, 5_000)
    found = kyle_slope(returns, volume)
    assert abs(found.slope - 2e-9) < 3.0 * found.standard_error
    assert found.standard_error == pytest.approx(1e-3 / 1e6 / np.sqrt(5_000), rel=0.05)
    ratio = amihud_ratio([0.01] * 10, [1e6] * 9 + [2e6])
    assert ratio.slope == pytest.approx((9 * 1e-8 + 5e-9) / 10)
    assert ratio.depth == pytest.approx(0.01 / ratio.slope)


def test_depth_in_hourly_data():
    folder = reference_path("data/hourly")
    prices, volume = (
        pd.read_csv(folder / name, index_col=0, parse_dates=True)
        for name in ("prices.csv", "volume_usdt.csv")
    )
    assert volume["btc"].median() == pytest.approx(82e6, rel=0.02)
    assert volume["paxg"].median() == pytest.approx(81e3, rel=0.02)
    returns = prices.pct_change(fill_method=None)
    depth = {name: amihud_ratio(returns[name], volume[name]).depth for name in ("btc", "paxg")}
    assert depth["btc"] > 100.0 * depth["paxg"]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: sliced_order([0.1], Impact(alpha=1.0), ["a"], n_slices=0), "n_slices=0"),
        (lambda: kyle_slope([0.1] * 20, [1.0] * 20), "must vary"),
        (lambda: amihud_ratio([0.1] * 20, [0.0] * 20), "0 rows are positive"),
        (lambda: amihud_ratio([0.1] * 20, [-1.0] * 20), "must be at least 0"),
        (lambda: kyle_slope([0.1] * 5, [1.0] * 5), "5 rows are complete"),
        (
            lambda: outcomes(
                replace(
                    market(1),
                    moments=Moments.of([0.1], [[1.0]]),
                    agents=[
                        Agent(
                            name=0,
                            share=1.0,
                            optimizer=MeanVariance(risk_aversion=1, self_financing=False),
                        )
                    ],
                )
            ),
            "must be those of law",
        ),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises((DataError, ModelError), match=words):
        act()
