"""Black-Litterman: published digits, skfolio, limits, views that are refused, and explanations."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError, ModelError
from sddp.portfolio import (
    BlackLitterman,
    BlackLittermanProcessor,
    ConstraintSet,
    InvestorView,
    MarketImplied,
    MeanVariance,
    Moments,
    MomentumViews,
    OptimizerType,
    Outcomes,
    PositionLimit,
    RegimeViews,
    TrackRecord,
    optimizer,
    regime_moments,
)
from sddp.portfolio.views.posterior import posterior
from sddp.statistics import Regimes

# He and Litterman (1999), The Intuition Behind Black-Litterman Model Portfolios, Goldman Sachs:
# tables 1, 2 and 4 to 8 as printed on pages 18 to 25 (read from reference/He_Litterman_1999.pdf of
# the repository moyixinqing/Black_Litterman_COP at 5fda571).
COUNTRIES = ["Australia", "Canada", "France", "Germany", "Japan", "UK", "USA"]
MARKET = [0.016, 0.022, 0.052, 0.055, 0.116, 0.124, 0.615]
VOLATILITY = np.array([0.160, 0.203, 0.248, 0.271, 0.210, 0.200, 0.187])
CORRELATION = np.array(
    [
        [1.000, 0.488, 0.478, 0.515, 0.439, 0.512, 0.491],
        [0.488, 1.000, 0.664, 0.655, 0.310, 0.608, 0.779],
        [0.478, 0.664, 1.000, 0.861, 0.355, 0.783, 0.668],
        [0.515, 0.655, 0.861, 1.000, 0.354, 0.777, 0.653],
        [0.439, 0.310, 0.355, 0.354, 1.000, 0.405, 0.306],
        [0.512, 0.608, 0.783, 0.777, 0.405, 1.000, 0.652],
        [0.491, 0.779, 0.668, 0.653, 0.306, 0.652, 1.000],
    ]
)
S = np.outer(VOLATILITY, VOLATILITY) * CORRELATION
EQUILIBRIUM = [3.9, 6.9, 8.4, 9.0, 4.3, 6.8, 7.6]
WORLD = Moments.of(np.zeros(7), S, COUNTRIES)
WEIGHTS = dict(zip(COUNTRIES, MARKET, strict=True))

TODAY = datetime.date(2024, 6, 3)
HELD = {"issued_at": "2024-01-01", "valid_until": "2024-12-31", "source": "desk"}
# Germany against the other two by their capitalization, printed there as -29.5 % and -70.5 %.
EUROPE = {"Germany": 1.0, "France": -5.2 / 17.6, "UK": -12.4 / 17.6}


def view(kind, assets, magnitude, **changes) -> InvestorView:
    options = {"horizon": 1.0, "confidence": 0.5, "returns": "excess"} | HELD | changes
    return InvestorView(kind=kind, assets=assets, magnitude=magnitude, **options)


GERMANY = view("relative", EUROPE, 0.05)
CANADA = view("relative", ["Canada", "USA"], 0.03)


def process(*views, **options):
    return BlackLittermanProcessor(**options).process(views, WEIGHTS, WORLD)


def means(found) -> np.ndarray:
    return found.moments.mean.to_numpy()


def unconstrained(found) -> np.ndarray:
    return np.linalg.solve(2.5 * found.moments.covariance.to_numpy(), means(found))


def test_equilibrium_returns_of_seven_countries():
    assert (100.0 * means(process())).round(1).tolist() == EQUILIBRIUM


# By table: size of the view on Canada over the USA (None: no such view), factor of the first view's
# variance; then as printed, in percent: means, optimal weights, their deviation from the scaled
# market; omega / tau and lambda of each view.
PRINTED = {
    "table 4": (
        (None, 1.0),
        [4.3, 7.6, 9.3, 11.0, 4.5, 7.0, 8.1],
        [1.5, 2.1, -4.0, 35.4, 11.0, -9.5, 58.6],
        [0.0, 0.0, -8.9, 30.2, 0.0, -21.3, 0.0],
        [0.021],
        [0.317],  # The text prints lambda / (1 + tau) = 0.302.
    ),
    "table 5": (
        (0.03, 1.0),
        [4.4, 8.7, 9.5, 11.2, 4.6, 7.0, 7.5],
        [1.5, 41.9, -3.4, 33.6, 11.0, -8.2, 18.8],
        [0.0, 39.8, -8.4, 28.4, 0.0, -20.0, -39.8],
        [0.021, 0.017],
        [0.298, 0.418],
    ),
    "table 6": (
        (0.04, 1.0),
        [4.4, 9.1, 9.5, 11.3, 4.6, 7.0, 7.3],
        [1.5, 53.3, -3.3, 33.1, 11.0, -7.8, 7.3],
        [0.0, 51.3, -8.2, 27.8, 0.0, -19.6, -51.3],
        [0.021, 0.017],
        [0.292, 0.538],
    ),
    "table 7": (
        (0.04, 2.0),
        [4.3, 8.9, 9.3, 10.6, 4.6, 6.9, 7.2],
        [1.5, 53.9, -0.5, 23.6, 11.0, -1.1, 6.8],
        [0.0, 51.8, -5.4, 18.4, 0.0, -13.0, -51.8],
        [0.043, 0.017],
        [0.193, 0.544],
    ),
}


def printed_views(canada, doubled):
    """Views of a table, each with its variance ``factor * tau p S p'``."""
    views = [GERMANY] if canada is None else [GERMANY, replace(CANADA, magnitude=canada)]
    variances = process(*views).variances * np.array([doubled, 1.0][: len(views)])
    return [replace(v, variance=float(o)) for v, o in zip(views, variances, strict=True)]


@pytest.mark.parametrize("table", PRINTED)
def test_the_seven_countries_have_the_digits_printed(table):
    setting, mean, weights, deviation, uncertainty, tilts = PRINTED[table]
    found = process(*printed_views(*setting), uncertainty="given")
    assert (100.0 * means(found)).round(1).tolist() == mean
    optimal = unconstrained(found)
    assert (100.0 * optimal).round(1).tolist() == weights
    scaled = np.array(MARKET) / 1.05
    assert (100.0 * (optimal - scaled)).round(1).tolist() == pytest.approx(deviation, abs=1e-9)
    assert (found.variances / 0.05).round(3).tolist() == uncertainty
    # w* (1 + tau) - w_eq is a combination of the views: lambda.
    combined, *_ = np.linalg.lstsq(found.rows.T, optimal * 1.05 - np.array(MARKET), rcond=None)
    assert combined.round(3).tolist() == tilts


def test_a_view_at_which_it_has_no_weight_leaves_the_portfolio_as_in_table_eight():
    """Weights, lambda and omega as printed. The means printed there repeat table 7; with the third
    view equation (8) gives 0.03 points less for Canada, 0.02 less for France and the USA."""
    views = printed_views(0.04, 2.0)
    before = process(*views, uncertainty="given")
    third = view("relative", ["Canada", "Japan"], 0.0412)
    (omega,) = process(third).variances
    assert (omega / 0.05).round(3) == 0.059
    after = process(*views, replace(third, variance=float(omega)), uncertainty="given")
    assert (100.0 * unconstrained(after)).round(1).tolist() == [
        *(1.5, 53.9, -0.5, 23.6, 11.0, -1.1, 6.8)
    ]
    tilt = unconstrained(after) * 1.05 - np.array(MARKET)
    combined, *_ = np.linalg.lstsq(after.rows.T, tilt, rcond=None)
    assert combined.round(3).tolist() == [0.193, 0.544, 0.0]
    assert means(after) == pytest.approx(means(before), abs=5e-4)


def test_skfolio_has_the_same_posterior():
    """Both Omegas. (PyPortfolioOpt 1.6.0, run apart: 0 and 1e-19 off.)"""
    skfolio = pytest.importorskip("skfolio")
    from skfolio.moments import EmpiricalCovariance, EquilibriumMu
    from skfolio.prior import BlackLitterman as Peer
    from skfolio.prior import EmpiricalPrior

    assert skfolio.__version__
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(4, 4)) * 0.02
    returns = pd.DataFrame(rng.normal(size=(300, 4)) @ mixing, columns=list("abcd"))
    returns.index = pd.date_range("2020-01-01", periods=300)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    moments = Moments.of(np.zeros(4), returns.cov().to_numpy(), list("abcd"))
    given = dict(zip("abcd", weights, strict=True))
    views = [
        view("absolute", ["a"], 0.002, confidence=0.3),
        view("relative", ["b", "c"], 0.001, confidence=0.8),
    ]
    for confidences, kind in ((None, "proportional"), ([0.3, 0.8], "idzorek")):
        peer = Peer(
            views=["a == 0.002", "b - c == 0.001"],
            tau=0.07,
            view_confidences=confidences,
            prior_estimator=EmpiricalPrior(
                mu_estimator=EquilibriumMu(risk_aversion=3.0, weights=weights),
                covariance_estimator=EmpiricalCovariance(),
            ),
        ).fit(returns)
        processor = BlackLittermanProcessor(
            tau=0.07, prior=MarketImplied(risk_aversion=3.0), uncertainty=kind
        )
        found = processor.process(views, given, moments)
        law = peer.return_distribution_
        assert means(found) == pytest.approx(law.mu, abs=1e-15, rel=1e-12)
        assert found.moments.covariance.to_numpy() == pytest.approx(law.covariance, rel=1e-12)


def test_the_precision_form_is_the_same():
    """The textbook's form with inverses, written out here."""
    rng = np.random.default_rng(1)
    rows, stated, variances = rng.normal(size=(3, 7)), rng.normal(size=3), rng.uniform(0.01, 0.1, 3)
    prior = rng.normal(size=7) * 0.05
    mean, covariance = posterior(prior, S, rows, stated, variances, 0.1)
    precision = np.linalg.inv(0.1 * S) + rows.T @ np.diag(1.0 / variances) @ rows
    expected = np.linalg.solve(
        precision, np.linalg.solve(0.1 * S, prior) + rows.T @ (stated / variances)
    )
    assert mean == pytest.approx(expected, abs=1e-13)
    assert covariance == pytest.approx(S + np.linalg.inv(precision), abs=1e-14)


def test_without_views_the_prior_stands():
    found = process()
    assert means(found) == pytest.approx(2.5 * S @ MARKET, abs=1e-15)
    assert found.moments.covariance.to_numpy() == pytest.approx(1.05 * S, rel=1e-15)
    sample = process(covariance="sample")
    assert sample.moments.covariance.to_numpy() == pytest.approx(S, rel=1e-15)
    assert unconstrained(found) * 1.05 == pytest.approx(MARKET, abs=1e-14)


def test_a_certain_view_is_what_happens():
    sure = replace(GERMANY, confidence=1.0)
    found = process(sure, uncertainty="idzorek")
    assert found.rows[0] @ means(found) == pytest.approx(0.05, abs=1e-15)
    twice = process(sure, sure, uncertainty="idzorek")
    assert means(twice) == pytest.approx(means(found), abs=1e-12)
    with pytest.raises(ModelError, match="certain ones contradict each other, by"):
        process(sure, replace(sure, magnitude=0.04), uncertainty="idzorek")


def test_with_proportional_errors_the_mean_does_not_depend_on_tau():
    one, other = (process(GERMANY, CANADA, tau=tau) for tau in (0.01, 0.9))
    assert means(one) == pytest.approx(means(other), abs=1e-15)
    given = [replace(v, variance=0.001) for v in (GERMANY, CANADA)]
    one, other = (process(*given, tau=tau, uncertainty="given") for tau in (0.01, 0.9))
    assert np.abs(means(one) - means(other)).max() > 1e-3


def test_a_reversed_view_reverses_the_tilt():
    neutral = process()
    implied = float(GERMANY.weights(COUNTRIES) @ means(neutral))
    up, down = (process(replace(GERMANY, magnitude=implied + d)) for d in (0.02, -0.02))
    assert means(up) - means(neutral) == pytest.approx(means(neutral) - means(down), abs=1e-16)
    assert (means(up) - means(neutral))[3] > 0.001


def test_confidence_is_the_share_of_the_way_to_certainty():
    """Idzorek's measure for one view, in Walters' closed form."""
    prior = float(GERMANY.weights(COUNTRIES) @ means(process()))
    for confidence in (0.2, 0.7):
        found = process(replace(GERMANY, confidence=confidence), uncertainty="idzorek")
        reached = float(found.rows[0] @ means(found))
        assert (reached - prior) / (0.05 - prior) == pytest.approx(confidence, abs=1e-12)


def test_units_of_views():
    """8 % a year in total is 8/12 % a month less cash in excess; cash cancels in relative ones."""
    yearly = view("absolute", ["Japan"], 0.08, horizon=12.0, returns="total")
    monthly = view("absolute", ["Japan"], 0.08 / 12.0 - 0.002, returns="excess")
    processor = BlackLittermanProcessor()
    one, other = (
        processor.process([v], WEIGHTS, WORLD, cash_return=0.002) for v in (yearly, monthly)
    )
    assert means(one) == pytest.approx(means(other), abs=1e-15)
    total = process(replace(GERMANY, returns="total"))
    assert means(total) == pytest.approx(means(process(GERMANY)), abs=1e-15)
    assert processor.process([], WEIGHTS, WORLD, cash_return=0.002).prior_mean.to_numpy() == (
        pytest.approx(2.5 * S @ MARKET + 0.002, abs=1e-15)
    )


def test_a_track_record_gives_the_error():
    record = TrackRecord({"desk": [0.02, -0.04, 0.03]})
    found = process(GERMANY, uncertainty=record)
    assert found.variances[0] == pytest.approx((4.0 + 16.0 + 9.0) * 1e-4 / 3.0)
    with pytest.raises(DataError, match="its source has no track record"):
        process(replace(GERMANY, source="other"), uncertainty=record)
    with pytest.raises(DataError, match="at least two"):
        TrackRecord({"desk": [0.1]})


def test_views_go_through_json_and_keep_their_hash():
    back = InvestorView.from_json(GERMANY.to_json())
    assert (back, hash(back), back.content_hash) == (GERMANY, hash(GERMANY), GERMANY.content_hash)
    changed = [
        replace(GERMANY, magnitude=0.051),
        replace(GERMANY, confidence=0.6),
        replace(GERMANY, valid_until="2025-01-01"),
        replace(GERMANY, version="2"),
        replace(GERMANY, variance=0.1),
    ]
    assert len({v.content_hash for v in [GERMANY, *changed]}) == 6


def test_the_optimizer_holds_the_market_without_views_and_explains_views():
    model = BlackLitterman(
        market_weights=WEIGHTS,
        views=[GERMANY, CANADA],
        processor=BlackLittermanProcessor(covariance="sample"),
    )
    plain = replace(model, views=()).solve(WORLD, current_weights=WEIGHTS)
    assert plain.holdings.iloc[1:].to_numpy() == pytest.approx(MARKET, abs=1e-12)
    table = model.explain(WORLD, current_weights=WEIGHTS)
    assert list(table.columns[:4]) == ["prior", "view", "posterior", "standard_error"]
    assert table["view"].tolist() == [0.05, 0.03]
    assert ((table["posterior"] - table["prior"]) * (table["view"] - table["prior"]) > 0.0).all()
    assert table["Germany"].iloc[0] > 0.05
    assert table["Canada"].iloc[1] > 0.05
    everything = model.solve(WORLD, current_weights=WEIGHTS).weights
    less = replace(model, views=(CANADA,)).solve(WORLD, current_weights=WEIGHTS).weights
    assert table.iloc[0, 4:].to_numpy(dtype=float) == pytest.approx(
        (everything - less).to_numpy(), abs=1e-12
    )


def test_constraints_and_the_registry():
    limits = ConstraintSet((PositionLimit(name="cap", upper=0.3),))
    model = optimizer(
        OptimizerType.BLACK_LITTERMAN,
        market_weights=WEIGHTS,
        views=[GERMANY],
        optimizer=MeanVariance(risk_aversion=2.5, constraints=limits, max_cash=0.0),
    )
    result = model.solve(WORLD, current_weights=WEIGHTS)
    assert limits.check(result.holdings) == []
    kernel = model.prepare(COUNTRIES)
    found = kernel.solve(np.zeros(7), S, np.array(MARKET)).solution
    assert found.weights == pytest.approx(result.holdings.iloc[1:].to_numpy(), abs=1e-12)


def test_bad_input_is_rejected():
    cases = [
        (lambda: view("sideways", ["a"], 0.1), ModelError, "must be 'absolute' or 'relative'"),
        (lambda: view("absolute", ["a", "b"], 0.1), ModelError, r"has 1 label\(s\)"),
        (lambda: view("absolute", {"a": 0.5}, 0.1), ModelError, "must sum to 1"),
        (lambda: view("relative", {"a": 1.0, "b": -0.5}, 0.1), ModelError, "must sum to 0"),
        (lambda: view("absolute", ["a"], 8.0 * 10.0), ModelError, "give 0.08 for 8 %"),
        (lambda: view("absolute", ["a"], 0.1, confidence=0.0), ModelError, "confidence=0.0"),
        (lambda: view("absolute", ["a"], 0.1, confidence=1.5), ModelError, "confidence=1.5"),
        (lambda: view("absolute", ["a"], 0.1, horizon=0), ModelError, "horizon=0.0"),
        (lambda: view("absolute", ["a"], 0.1, valid_until="2023-01-01"), ModelError, "swap them"),
        (lambda: BlackLittermanProcessor(tau=0.0), ModelError, "tau=0.0"),
        (lambda: BlackLittermanProcessor(uncertainty="wide"), ModelError, "uncertainty='wide'"),
        (lambda: MarketImplied(risk_aversion=-1.0), ModelError, "risk_aversion=-1.0"),
        (lambda: process(view("absolute", ["xyz"], 0.1)), DataError, "asset 'xyz' is unknown"),
        (lambda: process(GERMANY, uncertainty="given"), ModelError, "variance=None"),
    ]
    for make, error, words in cases:
        with pytest.raises(error, match=words):
            make()
    processor = BlackLittermanProcessor()
    for date, words in (("2025-01-01", "expired on 2024-12-31"), ("2023-12-31", "not known on")):
        with pytest.raises(DataError, match=words):
            processor.process([GERMANY], WEIGHTS, WORLD, as_of=date)
    processor.process([GERMANY], WEIGHTS, WORLD, as_of=TODAY)
    with pytest.raises(ModelError, match="missing assets"):
        processor.process([], {"USA": 1.0}, WORLD)


def test_momentum_measures_its_own_error():
    rng = np.random.default_rng(2)
    returns = pd.DataFrame(rng.normal(0.001, 0.01, (200, 2)), columns=["a", "b"])
    made = MomentumViews(lookback=20, shrinkage=0.4).generate(Outcomes(returns), TODAY)
    assert [v.assets[0][0] for v in made] == ["a", "b"]
    assert made[0].per_period == pytest.approx(0.4 * returns["a"].iloc[-20:].mean(), abs=1e-12)
    rule = 0.4 * returns["a"].rolling(20).mean().shift(1)
    errors = (rule - returns["a"]).dropna()
    assert made[0].variance == pytest.approx(float((errors**2).mean()), rel=1e-10)
    model = BlackLitterman(
        market_weights={"a": 0.5, "b": 0.5},
        generator=MomentumViews(lookback=20),
        processor=BlackLittermanProcessor(uncertainty="given"),
    )
    moments = Moments.of(np.zeros(2), returns.cov().to_numpy(), ["a", "b"])
    given = {"current_weights": {"a": 0.5, "b": 0.5}, "outcomes": Outcomes(returns)}
    assert model.solve(moments, as_of=TODAY, **given).residual < 1e-8
    with pytest.raises(ModelError, match="needs outcomes and as_of"):
        model.solve(moments, **given)


def test_regimes_give_their_means():
    regimes = Regimes(
        transition_matrix=np.array([[0.9, 0.1], [0.2, 0.8]]),
        means=np.array([[0.001, 0.002], [-0.002, 0.0]]),
        covariances=np.stack([np.eye(2) * 1e-4, np.eye(2) * 4e-4]),
        start_probabilities=np.array([0.5, 0.5]),
        variable_names=("a", "b"),
    )
    made = RegimeViews(regimes, [1.0, 0.0], 500).generate(Outcomes(np.zeros((1, 2))), TODAY)
    expected = regime_moments(regimes, [1.0, 0.0])
    assert [v.per_period for v in made] == pytest.approx(expected.mean.tolist(), abs=1e-15)
    like = 500.0 * (0.81 + 0.01)
    assert made[0].variance == pytest.approx(expected.covariance.iloc[0, 0] / like, rel=1e-12)
