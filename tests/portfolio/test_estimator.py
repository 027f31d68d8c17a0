"""Optimizers inside scikit-learn and skfolio give the strategy's weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sddp.portfolio import LedoitWolfMoments, MeanVariance, MinimumCVaR, RiskBudget
from sddp.portfolio.moments import Outcomes, SampleMoments

skfolio = pytest.importorskip("skfolio")
from sddp.portfolio.estimator import PortfolioEstimator  # noqa: E402


def returns(n: int = 3, rows: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    common = rng.normal(0.0, 0.01, (rows, 1))
    table = 0.001 + common + rng.normal(0.0, 0.01, (rows, n)) * np.arange(1, n + 1)
    index = pd.date_range("2022-01-03", periods=rows, freq="B")
    return pd.DataFrame(table, index=index, columns=[f"s{i}" for i in range(n)])


def test_a_clone_is_the_same_unfitted():
    estimator = PortfolioEstimator(optimizer=RiskBudget(), moments=LedoitWolfMoments())
    copy = clone(estimator.fit(returns()))
    assert not hasattr(copy, "weights_")
    assert copy.optimizer == RiskBudget()
    assert copy.fit(returns()).weights_ == pytest.approx(estimator.weights_, abs=0.0)
    assert list(copy.feature_names_in_) == ["s0", "s1", "s2"]
    assert copy.n_features_in_ == 3


@pytest.mark.parametrize(
    "optimizer",
    [
        MeanVariance(risk_aversion=3.0, transaction_cost=0.001),
        RiskBudget(),
        MinimumCVaR(confidence=0.9),
    ],
    ids=lambda o: type(o).__name__,
)
def test_skfolios_walk_forward_runs_and_gives_our_weights(optimizer):
    from skfolio.model_selection import WalkForward, cross_val_predict

    X = returns()
    estimator = PortfolioEstimator(optimizer=optimizer)
    walked = cross_val_predict(estimator, X, cv=WalkForward(train_size=60, test_size=20))
    assert len(walked.portfolios) == 3
    for k, portfolio in enumerate(walked.portfolios):
        window = X.iloc[20 * k : 20 * k + 60]
        expected = optimizer.solve(
            SampleMoments().estimate(window),
            current_weights=np.zeros(3),
            outcomes=Outcomes(window),
        ).weights
        assert portfolio.weights == pytest.approx(expected.iloc[1:].to_numpy(), abs=1e-12)
