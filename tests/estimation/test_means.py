"""Estimators of means: against closed forms, against the null, and inside estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.model import AllocationModel
from sddp.allocation.one_period import one_period_distribution
from sddp.allocation.training import train_allocation
from sddp.engine.training.stopping import Iterations
from sddp.errors import DataError, ModelError
from sddp.estimation import (
    BayesStein,
    BlackLittermanMeans,
    EquilibriumMeans,
    GivenMeans,
    MeanInputs,
    PooledMeans,
    RegimeForecaster,
    SampleMeans,
    WindowForecaster,
    null_mean_distances,
)
from sddp.estimation.means import jorion_means, mean_distances
from sddp.labels import CASH
from sddp.portfolio import MeanVariance
from sddp.portfolio.views.posterior import BlackLittermanProcessor
from sddp.portfolio.views.view import InvestorView
from sddp.statistics import GaussianRegimes, Regimes, simulate_regimes
from tests.backtest.test_estimation import two_regimes
from tests.backtest.test_multistage import two_regime_market

NAMES = ("a", "b", "c")


def inputs(rng=None, n_regimes=2, **changes) -> MeanInputs:
    rng = np.random.default_rng(4) if rng is None else rng
    root = rng.normal(size=(3, 3)) * 0.03
    facts = {
        "names": NAMES,
        "pooled": rng.normal(0.004, 0.004, 3),
        "by_regime": rng.normal(0.004, 0.01, (n_regimes, 3)),
        "shares": np.full(n_regimes, 1.0 / n_regimes),
        "covariance": root @ root.T + 1e-4 * np.eye(3),
        "n_independent": 120.0,
        "distances": np.full(n_regimes, 10.0),
    }
    return MeanInputs(**(facts | changes))


@pytest.fixture(scope="module")
def market():
    return two_regime_market()


@pytest.fixture(scope="module")
def view(market):
    return market.at(market.dates[-1])


# --- closed forms ---


def test_sample_and_pooled_means_are_what_they_say():
    given = inputs()
    assert SampleMeans().means(given) is given.by_regime
    np.testing.assert_array_equal(PooledMeans().means(given), [given.pooled] * 2)


def test_equilibrium_means_make_the_weights_optimal():
    """Maximizing mean less variance with the implied risk aversion gives the weights back."""
    given, wanted = inputs(), {"a": 0.2, "b": 0.5, "c": 0.3}
    means = EquilibriumMeans(wanted, premium=0.01).means(given)
    w = np.array([0.2, 0.5, 0.3])
    assert means[0] @ w == pytest.approx(0.01, rel=1e-12)
    np.testing.assert_array_equal(means[0], means[1])
    aversion = 0.01 / (w @ given.covariance @ w)
    solved = MeanVariance(risk_aversion=aversion, max_weights=1.0).solve(
        # The objective is mean'w - risk_aversion / 2 w'Sw, or its like without the half.
        _moments(means[0], given.covariance),
        current_weights=pd.Series({CASH: 1.0}),
        cash_return=0.0,
    )
    found = solved.weights[list(NAMES)].to_numpy()
    np.testing.assert_allclose(found / found.sum(), w, atol=1e-6)


def _moments(mean, covariance):
    from sddp.portfolio import Moments

    return Moments.of(mean, covariance, NAMES)


def test_equilibrium_premium_of_the_window_is_not_negative():
    given = inputs(pooled=np.array([-0.01, -0.02, 0.01]))
    assert not EquilibriumMeans().means(given).any()
    rising = inputs(pooled=np.array([0.01, 0.02, 0.03]))
    w = np.full(3, 1.0 / 3.0)
    assert EquilibriumMeans().means(rising)[0] @ w == pytest.approx(0.02, rel=1e-12)


def test_jorion_weight_against_the_formula_written_out():
    """Two uncorrelated assets: every term can be written down."""
    mean, variances, n = np.array([0.01, 0.03]), np.array([0.04, 0.01]), 50.0
    scale = (n - 1.0) / (n - 4.0)
    precision = 1.0 / (variances * scale)
    target = (precision * mean).sum() / precision.sum()
    distance = (precision * (mean - target) ** 2).sum()
    weight = 4.0 / (4.0 + n * distance)
    expected = (1.0 - weight) * mean + weight * target
    np.testing.assert_allclose(jorion_means(mean, np.diag(variances), n), expected, rtol=1e-12)


def test_regimes_keep_what_exceeds_the_null():
    given = inputs(distances=np.array([8.0, 40.0]))
    estimator = BayesStein((10.0, 10.0))
    np.testing.assert_allclose(estimator.kept(given.distances), [0.0, 0.75])
    means = estimator.means(given)
    center = given.shares @ given.by_regime
    np.testing.assert_allclose(means[1] - means[0], 0.75 * (given.by_regime[1] - center), rtol=1e-9)


def test_another_number_of_regimes_keeps_no_differences():
    means = BayesStein((10.0, 10.0)).means(inputs(n_regimes=3, distances=np.full(3, 1e9)))
    assert np.ptp(means, axis=0).max() == 0.0


def test_distances_against_the_formula():
    regimes = Regimes(
        [[0.0, 0.0], [0.1, 0.2]],
        [np.diag([0.04, 0.01]), np.diag([0.09, 0.04])],
        [[0.9, 0.1], [0.1, 0.9]],
        [0.5, 0.5],
    )
    found = mean_distances(regimes, np.array([0.5, 0.5]), 100.0)
    deviation = np.array([0.05, 0.1])
    expected = [50.0 * (deviation**2 / v).sum() for v in ([0.04, 0.01], [0.09, 0.04])]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# --- the null ---

EQUAL = Regimes(
    [[0.005, 0.004], [0.005, 0.004]],
    [np.diag([0.03, 0.02]) ** 2, np.diag([0.08, 0.07]) ** 2],
    [[0.95, 0.05], [0.08, 0.92]],
    [0.6, 0.4],
)
FITS = GaussianRegimes(n_states=2, n_starts=4)


def _kept(truth: Regimes, seed: int, null: tuple[float, ...]) -> float:
    rng = np.random.default_rng(seed)
    law = truth.start_probabilities
    table = simulate_regimes(truth, start=law, n_paths=1, n_periods=240, rng=rng).factors[0]
    fitted = FITS.fit_quietly(table, rng=rng)
    shares = fitted.filter(table).mean(axis=0)
    return float(BayesStein(null).kept(mean_distances(fitted, shares, 240.0)).mean())


@pytest.fixture(scope="module")
def null() -> tuple[float, ...]:
    shares = np.array([0.6, 0.4])
    return null_mean_distances(EQUAL, FITS, shares=shares, n_rows=240, rng=5, n_refits=40)


@pytest.mark.long
def test_on_equal_means_little_is_kept_and_the_usual_null_keeps_much(null):
    kept = [_kept(EQUAL, seed, null) for seed in range(20)]
    assert np.mean(kept) <= 0.2
    usual = [_kept(EQUAL, seed, (1e-9, 1e-9)) for seed in range(2)]
    assert min(usual) > 0.9  # what is kept does depend on the null


@pytest.mark.long
def test_far_means_are_kept(null):
    apart = replace(EQUAL, means=[[0.03, 0.03], [-0.09, -0.09]])
    kept = [_kept(apart, seed, null) for seed in range(3)]
    assert min(kept) > 0.85


# --- views ---


def spoken(kind="absolute", assets=("a",), magnitude=0.06, **changes) -> InvestorView:
    facts = {
        "horizon": 6.0,
        "returns": "excess",
        "confidence": 0.5,
        "issued_at": "2020-01-01",
        "valid_until": "2020-12-31",
        "source": "test",
    }
    return InvestorView(kind=kind, assets=assets, magnitude=magnitude, **(facts | changes))


TODAY = pd.Timestamp("2020-06-30")


def test_views_move_the_prior_by_the_formula_and_all_regimes_alike():
    """Two views against the formula with the inverse, tau 0.05, proportional errors."""
    views = (spoken(), spoken("relative", ("b", "c"), 0.012, returns="total"))
    given = inputs(shares=np.array([0.25, 0.75]), date=TODAY)
    found = BlackLittermanMeans(views, SampleMeans()).means(given)
    prior, s = given.by_regime, given.covariance
    p, q = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]]), np.array([0.01, 0.002])
    omega = np.diag(np.diag(0.05 * p @ s @ p.T))
    pooled = given.shares @ prior
    gain = 0.05 * s @ p.T @ np.linalg.inv(0.05 * p @ s @ p.T + omega)
    np.testing.assert_allclose(found, prior + gain @ (q - p @ pooled), rtol=1e-10)


def test_views_count_while_they_are_held_and_no_earlier():
    equilibrium = EquilibriumMeans()
    certain = BlackLittermanMeans(
        (spoken(confidence=1.0),), processor=BlackLittermanProcessor(uncertainty="idzorek")
    )
    for date, held in (("2019-12-31", False), ("2020-06-30", True), ("2021-01-01", False)):
        given = inputs(date=pd.Timestamp(date))
        means, without = certain.means(given), equilibrium.means(given)
        assert np.array_equal(means, without) == (not held)
    np.testing.assert_allclose(certain.means(inputs(date=TODAY))[:, 0], 0.01, rtol=1e-10)


def test_views_that_are_none():
    with pytest.raises(ModelError, match="must be 'excess'"):
        BlackLittermanMeans((spoken(returns="total"),))
    with pytest.raises(ModelError, match="must be InvestorViews"):
        BlackLittermanMeans(("up",))
    with pytest.raises(DataError, match="date=None"):
        BlackLittermanMeans((spoken(),)).means(inputs())
    with pytest.raises(DataError, match="'gold' is unknown"):
        BlackLittermanMeans((spoken(assets=("gold",)),)).means(inputs(date=TODAY))


def test_views_inside_estimates(view):
    """Both kinds of estimator know the date."""
    up = spoken(assets=("bold",), issued_at="2021-01-01", valid_until="2022-12-31", confidence=1.0)
    means = BlackLittermanMeans((up,), processor=BlackLittermanProcessor(uncertainty="idzorek"))
    scenarios = two_regimes(means=means).estimate(view).scenarios
    cash = two_regimes().cash_return(view)
    np.testing.assert_allclose(scenarios.returns[0, :, :, 0].mean(axis=1) - cash, 0.01, rtol=1e-9)
    forecast = WindowForecaster(60, means=means).forecast(view)
    assert forecast.moments.mean["bold"] == pytest.approx(0.01, rel=1e-9)


# --- inside estimates ---


@dataclass(frozen=True)
class Doubled:
    """A user's own estimator of means."""

    def means(self, inputs: MeanInputs) -> np.ndarray:
        return 2.0 * inputs.by_regime


def test_sample_means_are_the_numbers_of_before_bit_for_bit(view):
    before = two_regimes().estimate(view)
    after = two_regimes(means=SampleMeans()).estimate(view)
    assert after.scenarios.returns.tobytes() == before.scenarios.returns.tobytes()
    assert after.scenarios.limit_shift is None


@pytest.mark.parametrize("means", [PooledMeans(), EquilibriumMeans(), Doubled()], ids=repr)
def test_scenarios_are_shifted_and_keep_their_shape(view, means):
    plain = two_regimes().estimate(view).scenarios.returns[0]
    moved = two_regimes(means=means).estimate(view).scenarios.returns[0]
    shift = moved - plain
    assert np.ptp(shift, axis=1).max() < 1e-15
    if isinstance(means, Doubled):
        np.testing.assert_allclose(moved.mean(axis=1), 2.0 * plain.mean(axis=1), atol=1e-15)
    else:
        assert np.ptp(moved.mean(axis=1), axis=0).max() < 1e-15
        assert np.abs(shift).max() > 1e-5


def test_pooled_means_are_those_of_the_window_over_cash(view):
    scenarios = two_regimes(means=PooledMeans()).estimate(view).scenarios
    expected = view.returns.iloc[-120:].mean().to_numpy()
    np.testing.assert_allclose(scenarios.returns[0].mean(axis=1)[0], expected, rtol=1e-12)


def test_zero_means_in_the_limit_leave_the_objective_as_it_is(view):
    estimate = two_regimes(limit_means="zero").estimate(view)
    plain = two_regimes().estimate(view)
    assert estimate.scenarios.returns.tobytes() == plain.scenarios.returns.tobytes()
    in_limit = estimate.one_period_distribution(view)
    objective = estimate.one_period_distribution(view, in_limit=False)
    assert np.abs(in_limit.probabilities @ in_limit.returns).max() < 1e-15
    assert np.abs(objective.probabilities @ objective.returns).min() > 1e-4


def test_the_limit_is_kept_under_its_own_means(view):
    """The decision's CVaR is measured on the shifted outcomes, by the LP and by what it reports."""
    pays, fears = {"bold": 0.01, "meek": 0.005}, {"bold": -0.01, "meek": -0.005}
    means = {"means": GivenMeans(pays), "limit_means": GivenMeans(fears)}
    estimate = two_regimes(**means).estimate(view)
    model = AllocationModel(transaction_cost=0.001, cvar_limit=0.01)
    result = train_allocation(
        model,
        estimate.over(2),
        initial_holdings={CASH: 1.0},
        rng=1,
        stopping=Iterations(3),
        progress=False,
    )
    decision = result.policy.decide(regime=[0.5, 0.5], holdings={CASH: 1.0})
    held = decision.holdings.to_numpy()
    law = estimate.over(2)
    ahead = one_period_distribution(law, 0, np.array([0.5, 0.5]), 0.0)
    shifted = law.returns[0] + law.limit_shift[:, None]
    losses = -(shifted.reshape(-1, 2) @ held[1:])
    weights = ((np.array([0.5, 0.5]) @ law.transition_matrix[0])[:, None] / 20).repeat(20, 1)
    order = np.argsort(-losses)
    mass = np.clip(0.1 - (np.cumsum(weights.ravel()[order]) - weights.ravel()[order]), 0.0, None)
    mass = np.minimum(mass, weights.ravel()[order])
    by_hand = mass @ losses[order] / 0.1 + decision.cost
    assert decision.cvar == pytest.approx(by_hand, abs=1e-12)
    assert decision.cvar == pytest.approx(0.01, abs=1e-8)
    assert ahead.returns.min() < law.returns.min()


def test_a_saved_policy_keeps_the_means_of_its_limit(view, tmp_path):
    from sddp.allocation.policy import load_allocation_policy

    estimate = two_regimes(limit_means="zero").estimate(view)
    model = AllocationModel(transaction_cost=0.001, cvar_limit=0.01)
    scenarios = estimate.over(2)
    result = train_allocation(
        model,
        scenarios,
        initial_holdings={CASH: 1.0},
        rng=1,
        stopping=Iterations(2),
        progress=False,
    )
    result.policy.save(tmp_path / "policy.json")
    loaded = load_allocation_policy(tmp_path / "policy.json")
    np.testing.assert_array_equal(loaded.problem.scenarios.limit_shift, scenarios.limit_shift)
    mine = result.policy.decide(regime=[0.5, 0.5], holdings={CASH: 1.0})
    theirs = loaded.decide(regime=[0.5, 0.5], holdings={CASH: 1.0})
    assert mine.weights.tolist() == theirs.weights.tolist()


def test_forecasts_expect_by_the_means_and_measure_risk_by_the_limits(view):
    forecast = RegimeForecaster(two_regimes(means=Doubled(), limit_means="zero")).forecast(view)
    plain = RegimeForecaster(two_regimes()).forecast(view)
    np.testing.assert_allclose(forecast.moments.mean, 2.0 * plain.moments.mean, rtol=1e-9)
    law, weights = forecast.outcomes
    assert np.abs(np.asarray(weights) @ np.asarray(law)).max() < 1e-15


def test_a_window_forecast_takes_means_too(view):
    given = GivenMeans({"bold": 0.01, "meek": 0.02})
    forecast = WindowForecaster(60, means=given, limit_means="zero", period=2).forecast(view)
    np.testing.assert_allclose(forecast.moments.mean, [0.01, 0.02], rtol=1e-12)
    assert np.abs(np.asarray(forecast.outcomes.returns).mean(axis=0)).max() < 1e-15
    plain = WindowForecaster(60, period=2).forecast(view)
    np.testing.assert_allclose(forecast.moments.covariance, plain.moments.covariance, rtol=1e-12)


# --- what is refused ---


@dataclass(frozen=True)
class Answers:
    answer: tuple

    def means(self, inputs: MeanInputs) -> np.ndarray:
        return np.array(self.answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (((0.1, 0.1),), r"shape \(1, 2\): must be \(2, 2\)"),
        (((0.1, np.nan), (0.1, 0.1)), "'meek' is not finite"),
    ],
)
def test_means_that_are_none_are_rejected(view, answer, message):
    with pytest.raises(DataError, match=message):
        two_regimes(means=Answers(answer)).estimate(view)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GivenMeans({"bold": np.nan}), "mean of 'bold' = nan"),
        (lambda: GivenMeans({"bold": 1.2}), "give 0.01 for 1 %"),
        (lambda: EquilibriumMeans(premium=4.0), "premium = 4.0"),
        (lambda: EquilibriumMeans({"bold": -1.0}), "weights of 'bold' = -1.0"),
        (lambda: BayesStein((0.0, 1.0)), "null_distances"),
        (lambda: two_regimes(means="zero"), "means='zero'"),
        (lambda: two_regimes(limit_means="none"), "must be 'same' or 'zero'"),
        (lambda: WindowForecaster(60, means=SampleMeans), "an object with a method means"),
    ],
)
def test_settings_that_make_no_sense_are_rejected(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_means_of_other_assets_are_rejected(view):
    with pytest.raises(ModelError, match=r"lack \['meek'\]"):
        two_regimes(means=GivenMeans({"bold": 0.01})).estimate(view)


def test_bayes_stein_of_regimes_asks_for_its_null(view):
    with pytest.raises(ModelError, match="null_mean_distances"):
        two_regimes(means=BayesStein()).estimate(view)


def test_bayes_stein_needs_rows():
    with pytest.raises(DataError, match="5 independent rows; Bayes-Stein means of 3 assets"):
        BayesStein((1.0, 1.0)).means(inputs(n_independent=5.0))


# --- kinds of scenarios ---


def test_filtered_history_keeps_the_moments_of_the_regimes(view):
    """Nothing is drawn: another seed of the scenarios gives the same ones."""
    settings = {"scenarios": "filtered_history", "n_scenarios": 500}
    estimate = two_regimes(**settings).estimate(view)
    plain = two_regimes().estimate(view)
    assert estimate.scenarios.n_scenarios == 120
    assert estimate.fit.arrays["means"].tobytes() == plain.fit.arrays["means"].tobytes()
    widths = estimate.scenarios.returns[0].std(axis=1)
    gaussian = two_regimes(n_scenarios=512, moment_matching=True).estimate(view).scenarios
    np.testing.assert_allclose(widths, gaussian.returns[0].std(axis=1), rtol=0.1)


def test_predictive_scenarios_are_wider(view):
    def spread(kind: str) -> float:
        made = two_regimes(scenarios=kind, n_scenarios=500).estimate(view).scenarios
        return float(made.returns[0].std())

    assert spread("predictive") > 1.01 * spread("filtered_history")


def test_moment_matching_can_be_asked_of_an_estimator(view):
    estimate = two_regimes(n_scenarios=64, moment_matching=True).estimate(view)
    logs = np.log1p(estimate.scenarios.returns[0])
    rough = np.log1p(two_regimes(n_scenarios=64).estimate(view).scenarios.returns[0])
    law = two_regimes(n_scenarios=4096).estimate(view).scenarios.returns[0]
    expected = np.log1p(law).std(axis=1)
    exact = np.abs(logs.std(axis=1) / expected - 1.0).max()
    assert exact < 0.5 * np.abs(rough.std(axis=1) / expected - 1.0).max()


def test_another_kind_of_scenarios_raises():
    with pytest.raises(ModelError, match="scenarios='historic': must be one of 'gaussian'"):
        two_regimes(scenarios="historic")
