"""Distances between decisions that differ by chance alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sddp.backtest import MultistageStrategy
from sddp.engine.training.stopping import Iterations
from sddp.errors import ModelError
from sddp.estimation import GivenScenarios, RegimeEstimator
from sddp.evaluation.checks import stability
from sddp.statistics import GaussianRegimes
from tests.backtest.test_multistage import two_regime_market
from tests.backtest.test_opponents import MODEL, Paying


@pytest.fixture(scope="module")
def market():
    return two_regime_market()


def strategy(n_scenarios: int = 20, **changes) -> MultistageStrategy:
    estimator = RegimeEstimator(
        seed=3,
        window=120,
        regimes=GaussianRegimes(n_states=2, n_starts=2),
        n_scenarios=n_scenarios,
        means=Paying(),
    )
    settings = {"model": MODEL, "seed": 5, "estimator": estimator, "n_stages": 2}
    return MultistageStrategy(**(settings | {"stopping": Iterations(3)} | changes))


def test_each_source_is_varied_alone(market):
    dates = [market.dates[-40], market.dates[-1]]
    table = stability(strategy(), market, dates, rng=1, n_repetitions=3)
    assert table.index.tolist() == ["draw", "fit", "training", "history"]
    assert table.columns.tolist() == ["distance", "largest", *(f"{d:%Y-%m-%d}" for d in dates)]
    per_date = table.iloc[:, 2:].to_numpy()
    np.testing.assert_allclose(table["distance"], per_date.mean(axis=1))
    assert (table["largest"] >= per_date.max(axis=1) - 1e-12).all()
    assert table.loc["draw", "distance"] > 0.01
    assert table.loc["history", "distance"] > 0.01
    # Two iterations on a problem of two stages find the same decision from any paths.
    assert table.loc["training", "distance"] < 0.1 * table.loc["draw", "distance"]
    assert table.to_numpy().max() <= 1.0


def test_more_scenarios_hang_less_on_the_draw(market):
    def distance(n_scenarios: int) -> float:
        table = stability(
            strategy(n_scenarios),
            market,
            [market.dates[-1]],
            rng=1,
            n_repetitions=6,
            sources=["draw"],
        )
        return float(table.loc["draw", "distance"])

    assert distance(256) < 0.5 * distance(16)


def test_the_same_seed_gives_the_same_table_and_leaves_the_strategy_alone(market):
    own = strategy()
    tables = [
        stability(own, market, [market.dates[-1]], rng=2, n_repetitions=2, sources=["draw"])
        for _ in range(2)
    ]
    assert tables[0].equals(tables[1])
    assert own.decision_log == []
    assert own.policy is None


def test_the_seed_of_the_scenarios_moves_them_alone(market):
    view, plain = market.at(market.dates[-1]), strategy().estimator
    other = replace(plain, scenario_seed=9)
    same = replace(plain, scenario_seed=plain.seed)
    one, two, three = (e.estimate(view) for e in (plain, other, same))
    assert one.fit.arrays["means"].tobytes() == two.fit.arrays["means"].tobytes()
    assert one.scenarios.returns.tobytes() != two.scenarios.returns.tobytes()
    assert one.scenarios.returns.tobytes() == three.scenarios.returns.tobytes()


def nothing(view):
    return None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ["luck"]}, r"sources=\['luck'\]: must be some of draw, fit"),
        ({"n_repetitions": 1}, "n_repetitions=1: must be at least 2"),
        ({"dates": []}, r"dates=\[\]"),
    ],
)
def test_what_makes_no_sense_raises(market, changes, message):
    arguments = {"dates": [market.dates[-1]], "rng": 1} | changes
    with pytest.raises(ModelError, match=message):
        stability(strategy(), market, **arguments)
    with pytest.raises(ModelError, match="must be a RegimeEstimator"):
        stability(strategy(estimator=GivenScenarios(nothing)), market, **arguments)
