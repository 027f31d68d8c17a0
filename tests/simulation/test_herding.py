"""Cascades of forced sales: books, closed forms, defaults, and depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sddp.errors import ModelError
from sddp.simulation import Crowd, Impact, cascade_table, run_cascade

ASSETS = ["land", "coin"]


def crowd(seed=0, *, limit="leverage", alpha=0.3, level=3.0, **options):
    rng = np.random.default_rng(seed)
    holdings = rng.dirichlet(np.ones(10)).reshape(5, 2)
    debt = holdings.sum(axis=1) * rng.uniform(0.3, 0.6, 5)
    return Crowd(
        assets=ASSETS,
        holdings=holdings,
        debt=debt,
        limit=limit,
        level=level,
        impact=Impact(alpha=alpha),
        **options,
    )


SHOCK = np.array([-0.12, -0.2])


def test_without_a_limit_it_is_the_plain_shock():
    found = run_cascade(crowd(limit="none"), SHOCK)
    assert found.multiplier == 1.0
    assert found.at_rest
    assert (found.sold == 0.0).all()
    np.testing.assert_array_equal(found.prices[-1], 1.0 + SHOCK)
    assert found.final_loss == pytest.approx(-(crowd().holdings @ SHOCK).sum(), abs=1e-15)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shock", [SHOCK, 2.5 * SHOCK])
@pytest.mark.parametrize("limit", ["leverage", "risk"])
def test_money_is_conserved_and_nothing_is_negative(seed, shock, limit):
    options = {"unit_risk": np.array([0.3, 0.5]), "level": 1.5} if limit == "risk" else {}
    found = run_cascade(crowd(seed, limit=limit, **options), shock)
    c = crowd(seed)
    assert found.conservation < 1e-12
    assert found.at_rest
    assert (found.equity >= 0.0).all()
    assert found.prices.min() >= 0.0
    assert (found.sold >= 0.0).all()
    assert (found.sold <= c.holdings + 1e-15).all()
    assert found.multiplier >= 1.0
    # All that is lost, agents, lenders and buyers together, is the fall of all units.
    fall = float((c.holdings.sum(axis=0) * (1.0 - found.prices[-1])).sum())
    assert found.final_loss - found.providers_gain == pytest.approx(fall, abs=1e-12)


def test_in_a_deep_market_one_round_restores_the_limit():
    one = Crowd(
        assets=["land"],
        holdings=np.array([[1.0]]),
        debt=np.array([0.6]),
        limit="leverage",
        level=2.5,
        impact=Impact(alpha=0.0),
    )
    found = run_cascade(one, np.array([-0.1]))
    # 0.9 held on equity of 0.3: 0.15 too much.
    assert found.sold[0, 0] * 0.9 == pytest.approx(0.15, abs=1e-14)
    assert found.multiplier == pytest.approx(1.0)
    assert found.rounds <= 3


def test_the_cascade_of_one_investor_is_a_fixed_point():
    """At rest holdings are exactly level times equity, in a price that the sales have moved."""
    one = Crowd(
        assets=["land"],
        holdings=np.array([[1.0]]),
        debt=np.array([0.5]),
        limit="leverage",
        level=2.2,
        impact=Impact(alpha=0.2),
    )
    found = run_cascade(one, np.array([-0.1]))
    left, price = 1.0 - found.sold[0, 0], found.prices[-1, 0]
    assert price == pytest.approx(0.9 * (1.0 - 0.2 * found.sold[0, 0]), abs=1e-12)
    assert left * price == pytest.approx(2.2 * found.equity[0], abs=1e-10)
    assert found.multiplier > 1.05
    # Linear impact: however many rounds, the units are sold at the mean of first and last price.
    assert found.providers_gain == pytest.approx(found.sold[0, 0] * (price - 0.9) / 2.0, abs=1e-12)


def test_a_default_is_borne_by_lenders():
    found = run_cascade(crowd(level=2.6), np.array([-0.55, -0.55]))
    assert found.defaulted.any()
    assert found.lenders_loss > 0.0
    assert (found.equity[found.defaulted] == 0.0).all()


def test_for_given_sales_more_depth_never_raises_the_loss():
    """Scenario by scenario: the trades are given, not decided again."""
    rng = np.random.default_rng(2)
    depths = np.geomspace(0.5, 50.0, 12)
    for _ in range(200):
        held, shock = rng.dirichlet(np.ones(2)), rng.uniform(-0.5, 0.2, 2)
        sold = rng.uniform(0.0, 1.0, 2) * held
        losses = [
            held @ (1.0 - (1.0 + shock) * (1.0 + Impact(alpha=0.4 / d).move(-sold, ASSETS)))
            for d in depths
        ]
        assert (np.diff(losses) <= 1e-15).all()


def test_the_table_over_depths():
    table = cascade_table(crowd(), SHOCK, [1.0, 4.0, 1e9])
    assert list(table.index) == [1.0, 4.0, 1e9]
    assert table["multiplier"].iloc[0] > table["multiplier"].iloc[1]
    assert table["multiplier"].iloc[-1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: replace(crowd(), debt=np.ones(5)), "must be below its holdings"),
        (lambda: crowd(level=1.2), "beyond it before any shock"),
        (lambda: crowd(limit="margin"), "limit='margin'"),
        (lambda: crowd(limit="risk"), "unit_risk: must be given"),
        (lambda: replace(crowd(), holdings=-np.ones((5, 2))), "at least 0"),
        (lambda: run_cascade(crowd(), np.array([-2.0, 0.0])), "returns of at least -1"),
        (lambda: run_cascade(crowd(alpha=30.0), SHOCK), "below zero"),
        (lambda: cascade_table(crowd(), SHOCK, [0.0]), "depth=0.0"),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises(ModelError, match=words):
        act()
