"""Shared estimates: what they hold, what they depend on, and that caches move no bit."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from sddp.errors import ModelError, StoreWarning
from sddp.estimation import FitCache, RegimeEstimator, RollingEstimate
from sddp.statistics import GaussianRegimes
from tests.backtest.test_lookahead import FUTURES, LAST_KNOWN
from tests.backtest.test_multistage import small_estimator, two_regime_market

TWO = GaussianRegimes(n_states=2, n_starts=2)


def bits(estimate) -> list[bytes]:
    arrays = [*estimate.fit.arrays.values(), estimate.scenarios.returns]
    return [np.ascontiguousarray(a).tobytes() for a in arrays]


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """Number of rows of each fit that was really made."""
    fits: list[int] = []
    fit = GaussianRegimes.fit_quietly

    def counting(self, table, **options):
        fits.append(len(table))
        return fit(self, table, **options)

    monkeypatch.setattr(GaussianRegimes, "fit_quietly", counting)
    return fits


def two_regimes(**changes) -> RegimeEstimator:
    return small_estimator(**({"window": 120, "regimes": TWO} | changes))


@pytest.fixture(scope="module")
def market():
    return two_regime_market()


# --- what it holds ---


def test_outcomes_carry_the_belief_one_transition_on(market):
    estimator = two_regimes(n_scenarios=8)
    view = market.at(market.dates[-1])
    estimate = estimator.estimate(view)
    ahead = estimate.one_period_distribution(view)
    arrival = estimate.belief(view) @ estimate.regimes.transition_matrix
    expected = np.repeat(arrival, 8) / 8
    np.testing.assert_allclose(ahead.probabilities, expected, atol=1e-6, rtol=0.0)
    np.testing.assert_array_equal(ahead.returns, estimate.over(5).returns[3].reshape(16, 2))
    assert estimate.over(5).n_stages == 5


def test_the_belief_is_the_filter_of_the_window_that_ends_today(market):
    estimate = two_regimes().estimate(market.at(market.dates[180]))
    later = market.at(market.dates[200])
    rows = later.factors.iloc[-120:]
    expected = estimate.regimes.filter(rows)[-1]
    np.testing.assert_allclose(estimate.belief(later), expected, rtol=1e-12)


def test_no_change_of_regime_is_impossible_to_the_scenarios(market):
    """A first regime that is left for good: the fitted chain has a zero, the scenarios none."""
    estimate = two_regimes(window=100).estimate(market.at(market.dates[100]))
    assert estimate.regimes.transition_matrix.min() < 1e-6
    assert estimate.scenarios.transition_matrix.min() >= 0.4e-6


def test_cash_compounds_todays_rate_over_a_period(market):
    view = market.at(market.dates[-1])
    assert two_regimes().cash_return(view) == 0.0
    rate = np.linspace(0.0, 0.001, len(view.dates))
    view = replace(view, arrays={**view.arrays, "cash_rate": rate})
    assert two_regimes(period=5).cash_return(view) == pytest.approx(1.001**5 - 1.0, rel=1e-13)


@pytest.mark.parametrize(("expanding", "rows"), [(False, 120), (True, 200)])
def test_sliding_and_expanding_windows(expanding, rows, market, counted):
    two_regimes(expanding=expanding).estimate(market.at(market.dates[200]))
    assert counted == [rows]


# --- what it depends on ---


def test_nothing_asked_before_moves_an_estimate(market):
    first, second = (market.at(market.dates[row]) for row in (180, 200))
    alone = two_regimes().estimate(second)
    estimator = two_regimes()
    estimator.estimate(first)
    assert bits(estimator.estimate(second)) == bits(alone)
    other = two_regimes(seed=4).estimate(second)
    assert bits(other)[-1] != bits(alone)[-1]


def test_without_carry_the_schedule_does_not_matter_and_with_it_the_last_fit_is_a_start(market):
    def last_of(carry: bool, rows: tuple[int, ...]):
        rolling = RollingEstimate(two_regimes(carry=carry))
        return [rolling.refresh(market.at(market.dates[row])) for row in rows][-1]

    assert bits(last_of(False, (180, 200))) == bits(last_of(False, (200,)))
    carried = last_of(True, (180, 200))
    assert carried.start is not None
    assert last_of(False, (180, 200)).start is None
    again = two_regimes().estimate(market.at(market.dates[200]), start=carried.start)
    assert bits(again) == bits(carried)


@pytest.mark.long
@pytest.mark.parametrize("future", sorted({*FUTURES} - {"emptied"}))
def test_estimates_through_a_shared_cache_do_not_look_ahead(future, data, other_data, tmp_path):
    """The cache has seen the true future when the other market asks, and the other way round."""
    estimator = small_estimator(cache=FitCache(tmp_path))
    known, altered = data.market(), FUTURES[future](data, other_data).market()
    for row in range(15, len(known.dates)):
        estimator.estimate(known.at(known.dates[row]))
    for row in range(15, LAST_KNOWN + 1):
        date = known.dates[row]
        shared, alone = estimator.estimate(altered.at(date)), small_estimator()
        assert bits(shared) == bits(alone.estimate(altered.at(date)))
        assert bits(shared) == bits(alone.estimate(known.at(date)))


# --- caches ---


def test_what_shares_a_window_shares_the_fit(market, counted):
    view = market.at(market.dates[200])
    estimator = two_regimes()
    first = estimator.estimate(view)
    for other in (copy.deepcopy(estimator), replace(estimator, n_scenarios=5)):
        assert other.estimate(view).fit is first.fit
    assert len(counted) == 1
    changes = [
        {"window": 121},
        {"seed": 9},
        {"regimes": replace(TWO, n_states=1)},
    ]
    for change in changes:
        replace(estimator, **change).estimate(view)
    estimator.estimate(market.at(market.dates[199]))
    estimator.estimate(view, start=first.fit)
    factors = 1.01 * view.arrays["factors"]
    factors.flags.writeable = False
    estimator.estimate(replace(view, arrays={**view.arrays, "factors": factors}))
    assert len(counted) == 7


def test_the_disk_gives_back_the_same_bits_also_to_another_process(market, counted, tmp_path):
    view = market.at(market.dates[200])
    estimator = two_regimes(cache=FitCache(tmp_path))
    made = estimator.estimate(view)
    sent = pickle.loads(pickle.dumps(estimator))
    assert bits(sent.estimate(view)) == bits(made) == bits(two_regimes().estimate(view))
    assert len(counted) == 2  # the last has no disk


def test_a_damaged_fit_is_made_again(market, counted, tmp_path):
    view = market.at(market.dates[200])
    made = two_regimes(cache=FitCache(tmp_path)).estimate(view)
    [path] = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.warns(StoreWarning, match="computed again"):
        again = two_regimes(cache=FitCache(tmp_path)).estimate(view)
    assert bits(again) == bits(made)
    assert bits(two_regimes(cache=FitCache(tmp_path)).estimate(view)) == bits(made)
    assert len(counted) == 2


# --- schedule ---


def test_refits_come_after_so_many_decisions_and_are_resumed_bit_by_bit(market):
    views = [market.at(market.dates[row]) for row in range(180, 190)]
    whole = RollingEstimate(two_regimes(), refit_every=4)
    dates, states = [], []
    for view in views:
        dates.append(whole.refresh(view).date)
        states.append(whole.checkpoint())
    assert dates == [views[4 * (i // 4)].date for i in range(10)]
    assert [state is not None for state in states] == [False, False, False, True] * 2 + [False] * 2
    for cut in (3, 7):
        resumed = RollingEstimate(two_regimes(), refit_every=4)
        resumed.resume(states[cut], views[cut])
        assert resumed.estimate.date == dates[cut]
        for view in views[cut + 1 :]:
            last = resumed.refresh(view)
        assert bits(last) == bits(whole.estimate)


@pytest.mark.parametrize("every", [0, -1])
def test_an_impossible_schedule_is_rejected(every):
    with pytest.raises(ModelError, match=f"refit_every = {every}; give 1 or more"):
        RollingEstimate(two_regimes(), refit_every=every)


def test_a_seed_is_no_generator():
    with pytest.raises(ModelError, match=r"seed = Generator.*: must be an integer"):
        two_regimes(seed=np.random.default_rng(1))
