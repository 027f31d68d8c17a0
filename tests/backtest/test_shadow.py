"""Shadow accounts: a policy run through to its horizon is the run-through strategy itself."""

from __future__ import annotations

import numpy as np
import pytest

from sddp.backtest import EveryPeriods, backtest
from sddp.backtest.checks import ShadowedStrategy
from sddp.errors import ModelError
from tests.backtest.test_multistage import small_strategy, two_regime_market

COST, STAGES, EVERY = 0.002, 3, 2


def ran(strategy, market, *, lag, n_rows=20):
    return backtest(
        market,
        {"tested": strategy},
        start=market.dates[-n_rows],
        transaction_cost=COST,
        lag=lag,
        rebalance=EveryPeriods(EVERY),
    )


@pytest.mark.parametrize("lag", [0, 1])
def test_the_first_shadow_is_the_strategy_that_runs_through(lag):
    """Both start in cash, train the same policy on the first date and follow its three stages."""
    market = two_regime_market(195)
    receding = small_strategy(n_stages=STAGES, refit_every=2)
    through = small_strategy(n_stages=STAGES, refit_every=STAGES, mode="run-through")
    shadowed = ran(ShadowedStrategy(receding, COST), market, lag=lag)
    wealth = ran(through, market, lag=lag).ledger("tested").wealth
    found = shadowed.strategies["tested"].horizons()
    first = found.iloc[0]
    end = wealth.iloc[lag + STAGES * EVERY]
    assert first["realized"] == pytest.approx(end / wealth.iloc[lag] - 1.0, rel=1e-10)
    own = shadowed.ledger("tested").wealth
    earned = own.iloc[lag + STAGES * EVERY] / own.iloc[lag] - 1.0
    assert first["receding"] == pytest.approx(earned, rel=1e-12)
    log = shadowed.strategies["tested"].decision_log_table()
    assert first["expected"] == log["horizon_mean"].iloc[0]
    assert found.index.isin(log.index[log["refit"]]).all()
    assert len(found) > 2
    assert (found["expected"] <= found["bound"] + 1e-9).all()
    assert np.ptp(found["realized"] - found["receding"]) > 0.0


def test_a_shadow_changes_nothing():
    market = two_regime_market(195)
    plain = ran(small_strategy(n_stages=STAGES, refit_every=2), market, lag=1)
    shadowed = ran(
        ShadowedStrategy(small_strategy(n_stages=STAGES, refit_every=2), COST), market, lag=1
    )
    assert shadowed.ledger("tested").decisions.equals(plain.ledger("tested").decisions)


def test_a_strategy_that_runs_through_has_no_shadow():
    with pytest.raises(ModelError, match="must be 'receding'"):
        ShadowedStrategy(small_strategy(mode="run-through", refit_every=2), COST)
