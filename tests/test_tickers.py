"""The corpus of labels through every public call: labels move no number and come back as given.

Each call is made twice, on the same numbers: with `LABELS` and with the names asset1, asset2, ...
"""

from __future__ import annotations

import csv
import datetime
import html
import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import sddp
from sddp.allocation.training import AllocationResult, frictionless_policy
from sddp.backtest import (
    BacktestResult,
    BuyAndHold,
    Cell,
    EqualWeight,
    EveryPeriods,
    InverseVolatility,
    MultistageStrategy,
    OneStageStrategy,
    backtest,
    run_study,
)
from sddp.backtest.today import TrainedModel, decide_today
from sddp.bounds.inner import inner_bound
from sddp.display.fonts import drawable
from sddp.errors import DataError, ModelError
from sddp.estimation import RegimeEstimator, RegimeForecaster, WindowForecaster
from sddp.estimation.fit_cache import FitCache
from sddp.evaluation import summary
from sddp.labels import label_index
from sddp.market import Market
from sddp.portfolio import ExponentialMoments, LedoitWolfMoments, Moments, SampleMoments
from sddp.reporting import (
    ReportOptions,
    allocation_figure,
    trading_figure,
    wealth_figure,
    write_html,
)
from sddp.statistics import FactorModel, GaussianRegimes, markov_scenarios
from sddp.studies.record import RunFiles
from sddp.tables import SHOWN
from tests.tickers import LABELS, TEXTS

PLAIN = tuple(f"asset{i + 1}" for i in range(len(LABELS)))
N = len(LABELS)
KINDS = {"odd": LABELS, "plain": PLAIN}
# Neither is a name that a formula or a format would take as it is.
FACTORS = {"odd": (None, ("$mkt", 1)), "plain": ("one", "two")}
STRATEGIES = ("_hidden $x_1$", "<b>%s</b>", "1/N", "windows", "regimes", "policy")


def numbers(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.002, 0.03, shape)


def scenarios(labels: Sequence) -> sddp.MarkovScenarios:
    return sddp.MarkovScenarios(
        numbers(2, 8, N), [[0.8, 0.2], [0.4, 0.6]], n_stages=3, asset_names=labels
    )


@cache
def trained(kind: str) -> AllocationResult:
    labels = KINDS[kind]
    model = sddp.AllocationModel(
        transaction_cost={label: 0.001 + 1e-5 * i for i, label in enumerate(labels)},
        sale_cost=pd.Series(np.linspace(0.001, 0.003, N), label_index(labels)),
        cvar_limit=0.03,
        weight_limit=dict.fromkeys(labels[::2], 0.05),
    )
    return sddp.train_allocation(
        model,
        scenarios(labels),
        initial_holdings={"cash": 1.0, labels[3]: 0.5, labels[10]: 0.25},
        rng=np.random.default_rng(1),
        stopping=sddp.Iterations(3),
        progress=False,
    )


def same(odd: pd.Series | pd.DataFrame, plain: pd.Series | pd.DataFrame) -> None:
    """Numbers equal to the bit."""
    np.testing.assert_array_equal(odd.to_numpy(), plain.to_numpy())


def same_types(labels: Sequence, expected: Sequence) -> None:
    """Labels as they were given: ``1.0`` is not ``1``, None not NaN."""
    assert list(labels) == list(expected)
    assert [type(label) for label in labels] == [type(label) for label in expected]


# --- scenarios, training, policies ---------------------------------------------------------------


def test_scenarios_keep_labels():
    same_types(scenarios(LABELS).asset_names, LABELS)
    frame = pd.DataFrame(numbers(8, N), columns=label_index(LABELS))
    one = sddp.MarkovScenarios(frame, [[1.0]], n_stages=2)
    same_types(one.asset_names, LABELS)
    assert one.returns.shape == (2, 1, 8, N)
    with pytest.raises(DataError, match=r"asset_names: label 7203 .* label '7203' .* same text"):
        sddp.MarkovScenarios(numbers(1, 8, 2), [[1.0]], n_stages=2, asset_names=[7203, "7203"])


def test_labels_move_no_number_of_a_training():
    odd, plain = trained("odd"), trained("plain")
    assert odd.bound == plain.bound
    assert odd.log["bound"].tolist() == plain.log["bound"].tolist()


@pytest.mark.parametrize("regime", [1, (0.3, 0.7)], ids=["regime", "belief"])
@pytest.mark.parametrize("form", ["mapping", "series"])
def test_decisions_are_by_label(regime, form):
    answers = {}
    for kind, labels in KINDS.items():
        held = {labels[i]: 0.01 * i for i in range(0, N, 7)}
        if form == "series":
            held = pd.Series(list(held.values()), index=label_index(held))
        answers[kind] = trained(kind).policy.decide(stage=1, regime=regime, holdings=held)
    odd, plain = answers["odd"], answers["plain"]
    same_types(odd.trades.index, LABELS)
    for name in ("holdings", "weights", "marginal_value"):
        same_types(getattr(odd, name).index, ("cash", *LABELS))
        same(getattr(odd, name), getattr(plain, name))
    same(odd.trades, plain.trades)
    assert (odd.cost, odd.cvar, odd.value) == (plain.cost, plain.cvar, plain.value)
    # One label at a time, as a user reads it.
    assert [odd.holdings[label] for label in LABELS] == odd.holdings.tolist()[1:]
    # Holdings of a decision can be given back as they are.
    trained("odd").policy.decide(stage=2, regime=0, holdings=odd.holdings)


def test_simulations_name_positions_by_text():
    odd, plain = (trained(k).policy.simulate(4, rng=np.random.default_rng(2)) for k in KINDS)
    same(odd.drop(columns="regime"), plain.drop(columns="regime"))
    held = [f"holdings[{label}]" for label in ("cash", *LABELS)]
    assert list(odd.columns) == ["regime", "wealth", "cost", *held]
    assert odd.columns.is_unique


def test_other_policies_know_the_labels_too():
    model = sddp.AllocationModel(transaction_cost=0.002, cvar_limit=0.03)
    odd, plain = (
        frictionless_policy(model, scenarios(labels)).decide(regime=0, holdings={"cash": 1.0})
        for labels in KINDS.values()
    )
    same_types(odd.trades.index, LABELS)
    same(odd.trades, plain.trades)


def test_policy_files_give_the_same_decisions(tmp_path):
    """Files open by themselves; labels come back equal: text, numbers, None, dates, tuples."""
    kinds = (str, int, float, type(None), tuple, datetime.date)
    labels = tuple(label for label in LABELS if isinstance(label, kinds))
    assert len(labels) > 190
    drawn = sddp.MarkovScenarios(
        numbers(1, 8, len(labels)), [[1.0]], n_stages=2, asset_names=labels
    )
    model = sddp.AllocationModel(
        transaction_cost=dict.fromkeys(labels, 0.001),
        sale_cost=pd.Series(0.002, label_index(labels)),
        weight_limit=dict.fromkeys(labels[::3], 0.1),
    )
    policy = frictionless_policy(model, drawn)
    policy.save(tmp_path / "policy.json")
    loaded = sddp.load_allocation_policy(tmp_path / "policy.json")
    same_types(loaded.problem.asset_names, labels)
    held = {"cash": 1.0, **dict.fromkeys(labels[:40], 0.1)}
    again, first = (p.decide(regime=0, holdings=held) for p in (loaded, policy))
    pd.testing.assert_series_equal(again.holdings, first.holdings, check_exact=True)


@pytest.mark.long
def test_inner_bounds_and_pictures_are_by_label():
    own = trained("odd").policy
    odd, plain = (
        inner_bound(trained(kind).policy, rng=1, n_points=2).decide(
            regime=0, holdings={"cash": 1.0, labels[5]: 1.0}
        )
        for kind, labels in KINDS.items()
    )
    same_types(odd.holdings.index, ("cash", *LABELS))
    same(odd.holdings, plain.holdings)
    figure = own.plot("value", assets=[None], stage=1)
    assert figure.axes[0].get_xlabel().startswith("share of wealth in None")
    for thing in (own, own.problem, trained("odd"), scenarios(LABELS)):
        assert len(repr(thing)) < 400
        assert "<script>alert" not in thing._repr_html_()


def test_one_call_decides_on_every_label():
    decisions = {}
    for kind, labels in KINDS.items():
        prices = np.exp(frames(kind)[0].cumsum())
        decisions[kind] = sddp.allocate(
            prices,
            {labels[1]: 1.0, "cash": 1.0},
            model=sddp.AllocationModel(transaction_cost=0.001, cvar_limit=0.05),
            regimes=GaussianRegimes(1, n_starts=1),
            n_stages=2,
            n_scenarios=8,
            stopping=sddp.Iterations(2),
        )
    same_types(decisions["odd"].trades.index, LABELS)
    same(decisions["odd"].holdings, decisions["plain"].holdings)


@pytest.mark.long
def test_todays_orders_are_by_label():
    tables = {}
    for kind, labels in KINDS.items():
        data = market(kind)
        view = data.at(data.dates[96])
        model = TrainedModel.of(strategies(labels)["policy"], view)
        held = {labels[0]: 1.0, labels[20]: 2.0, "cash": 3.0}
        tables[kind] = decide_today(model, view, held, lot=0.001).orders
    same_types(tables["odd"].index, LABELS)
    same(tables["odd"], tables["plain"])


def test_unknown_labels_are_named():
    with pytest.raises(ModelError, match=r"^holdings: unknown assets \['7203'\]"):
        trained("odd").policy.decide(regime=0, holdings={"7203": 1.0})
    costs = {6759 if label == 6758 else label: 0.0 for label in LABELS}
    model = sddp.AllocationModel(transaction_cost=costs)
    with pytest.raises(ModelError, match=r"^transaction_cost: unknown assets \[6759\]"):
        model.on(scenarios(LABELS))


# --- statistics and one period -------------------------------------------------------------------


@cache
def frames(kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Log returns of the assets and of two factors."""
    dates = pd.bdate_range("2020-01-01", periods=120)
    factors = pd.DataFrame(numbers(120, 2, seed=3), dates, label_index(FACTORS[kind]))
    loadings = np.random.default_rng(4).uniform(0.2, 1.5, (2, N))
    assets = factors.to_numpy() @ loadings + 0.3 * numbers(120, N, seed=5)
    return pd.DataFrame(assets, dates, label_index(KINDS[kind])), factors


def test_statistics_keep_labels():
    drawn = {}
    for kind in KINDS:
        assets, factors = frames(kind)
        regimes = GaussianRegimes(2, n_starts=1).fit(factors, rng=np.random.default_rng(1))
        same_types(regimes.variable_names, FACTORS[kind])
        # In a file labels are text: what comes out of one can be filtered with.
        texts = [str(name) for name in FACTORS[kind]]
        replace_names = sddp.statistics.Regimes(
            regimes.means,
            regimes.covariances,
            regimes.transition_matrix,
            regimes.start_probabilities,
            texts,
        )
        np.testing.assert_array_equal(replace_names.belief(factors), regimes.belief(factors))
        fitted = FactorModel().fit(assets, factors)
        drawn[kind] = markov_scenarios(
            regimes, fitted, n_stages=2, n_scenarios=8, rng=np.random.default_rng(2)
        )
        same_types(drawn[kind].asset_names, KINDS[kind])
    np.testing.assert_array_equal(drawn["odd"].returns, drawn["plain"].returns)


@pytest.mark.parametrize(
    "moments", [SampleMoments(), ExponentialMoments(half_life=30), LedoitWolfMoments()], ids=repr
)
def test_one_stage_is_by_label(moments):
    answers = {}
    for kind, labels in KINDS.items():
        returns = np.expm1(frames(kind)[0].iloc[:, :40])
        estimate = moments.estimate(returns)
        shuffled = np.random.default_rng(6).permutation(40)
        answers[kind] = sddp.MeanVariance(
            risk_aversion=4.0,
            transaction_cost=dict.fromkeys(labels[:40], 0.001),
            max_weights=dict.fromkeys(labels[:40:3], 0.1),
        ).solve(
            Moments(estimate.mean, estimate.covariance.iloc[shuffled, shuffled]),
            current_weights={labels[2]: 0.3, "cash": 0.7},
        )
    odd, plain = answers["odd"], answers["plain"]
    same_types(odd.trades.index, LABELS[:40])
    same_types(odd.weights.index, ("cash", *LABELS[:40]))
    for name in ("weights", "holdings", "trades"):
        same(getattr(odd, name), getattr(plain, name))
    same(odd.duals.marginal_cost, plain.duals.marginal_cost)


# --- backtests -----------------------------------------------------------------------------------


def market(kind: str) -> Market:
    assets, factors = frames(kind)
    prices = 100.0 * np.exp(assets.cumsum())
    prices.iloc[:70, 5] = np.nan  # one late start
    prices.iloc[100:110, 8] = np.nan  # and one gap
    return Market(prices, factors=factors, missing="carry", cash_rate=0.0001)


def strategies(labels: Sequence) -> dict:
    estimator = RegimeEstimator(
        seed=7,
        window=60,
        regimes=GaussianRegimes(2, n_starts=1),
        n_scenarios=8,
    )
    model = sddp.AllocationModel(
        transaction_cost=dict.fromkeys(labels, 0.001),
        cvar_limit=0.05,
        weight_limit={labels[1]: 0.1, labels[5]: 0.2},
    )
    matched = sddp.MeanVariance(risk_aversion=6.0, transaction_cost=0.001)
    return dict(
        zip(
            STRATEGIES,
            (
                BuyAndHold({labels[0]: 0.5, labels[10]: 0.25, labels[11]: 0.125}),
                InverseVolatility(window=20),
                EqualWeight(include_cash=True),
                OneStageStrategy(matched, WindowForecaster(window=50)),
                OneStageStrategy(matched, RegimeForecaster(estimator, refit_every=2)),
                MultistageStrategy(
                    model,
                    8,
                    estimator,
                    n_stages=2,
                    stopping=sddp.Iterations(2),
                    refit_every=2,
                ),
            ),
            strict=True,
        )
    )


@cache
def report(kind: str) -> BacktestResult:
    data = market(kind)
    return backtest(
        data,
        strategies(KINDS[kind]),
        start=data.dates[80],
        end=data.dates[112],
        transaction_cost=dict.fromkeys(KINDS[kind], 0.001),
        rebalance=EveryPeriods(8),
    )


@pytest.mark.long
def test_labels_move_no_number_of_a_backtest():
    odd, plain = report("odd"), report("plain")
    same(odd.wealth, plain.wealth)
    for name in STRATEGIES:
        ledger, other = odd.ledger(name), plain.ledger(name)
        same_types(ledger.executed.columns, LABELS)
        same_types(ledger.holdings_after.columns, ("cash", *LABELS))
        for table in ("executed", "costs", "holdings_after", "decisions"):
            same(getattr(ledger, table), getattr(other, table))
        assert ledger.imbalance().max() < 1e-12
        assert ledger.executed.abs().sum().sum() > 0.0, name


@pytest.mark.long
def test_a_study_is_resumed_from_its_store_with_its_labels(tmp_path):
    data = market("odd")
    cells = {"policy": Cell(strategies(LABELS)["policy"], transaction_cost=0.001)}
    when = {"start": data.dates[100], "end": data.dates[106]}
    run = {}
    for again in ("first", "again"):
        estimator = replace(cells["policy"].strategy.estimator, cache=_fits(tmp_path))
        strategy = replace(cells["policy"].strategy, estimator=estimator)
        cell = replace(cells["policy"], strategy=strategy)
        store = tmp_path / again  # the second run finds the fits, but not the finished cell
        run[again] = run_study(data, {"policy": cell}, **when, store=store, progress=False)
        run[again].check()
    first, second = (study.ledgers["policy"] for study in run.values())
    pd.testing.assert_frame_equal(first.holdings_after, second.holdings_after, check_exact=True)
    same_types(second.executed.columns, LABELS)
    finished = run_study(data, {"policy": cell}, **when, store=tmp_path / "first", progress=False)
    pd.testing.assert_frame_equal(finished.ledgers["policy"].executed, first.executed)


def _fits(folder):
    return FitCache(folder / "fits")


def test_a_market_rejects_labels_that_files_cannot_tell_apart():
    prices = pd.DataFrame([[1.0, 2.0]], [pd.Timestamp("2020-01-01")])
    for columns in ([7203, "7203"], [1, True], [None, "None"], ["a", float("nan")]):
        with pytest.raises(DataError, match=r"^prices: label .* at position"):
            Market(prices.set_axis(pd.Index(columns, dtype=object), axis=1))
    pairs = pd.MultiIndex.from_tuples([("Close", "AAPL"), ("Close", "MSFT")])
    assert list(Market(prices.set_axis(pairs, axis=1)).assets) == list(pairs)


# --- what a reader sees --------------------------------------------------------------------------


def legend_texts(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.long
@pytest.mark.parametrize("start", range(0, N, 30))
def test_figures_show_every_label(start):
    """None is read as a formula, swallowed for a leading underscore, or an empty box."""
    labels = ("cash", *LABELS[start : start + 30])
    dates = pd.bdate_range("2020-01-01", periods=3)
    weights = pd.DataFrame(1.0 / len(labels), dates, label_index(labels))
    figure = allocation_figure({"$a_b$ _x": weights}, largest=30)
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    shown = ["".join(text.split()) for text in legend_texts(figure)]
    assert shown[::-1] == ["".join(drawable(str(label)).split()) for label in labels]
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())


@pytest.mark.long
def test_figures_of_a_report_can_be_drawn():
    whole = report("odd")
    for figure in (
        wealth_figure(whole.wealth, whole.timing),
        allocation_figure({STRATEGIES[0]: whole.weights(STRATEGIES[0])}),
        trading_figure(whole.turnover, whole.costs, whole.timing),
    ):
        figure.savefig(io.BytesIO(), format="png", dpi=30)
    names = [
        text.replace("\n", " ") for text in legend_texts(wealth_figure(whole.wealth, whole.timing))
    ]
    assert sorted(names) == sorted(STRATEGIES)


@pytest.mark.long
def test_the_page_shows_labels_and_names_as_text(tmp_path):
    options = ReportOptions(reference=STRATEGIES[0], n_draws=100)
    path = write_html(
        report("odd"), tmp_path / "page.html", options=options, rng=np.random.default_rng(1)
    )
    page = path.read_bytes().decode("utf-8")  # a label may hold a carriage return
    assert "<script>alert" not in page
    assert "<b>%s" not in page
    plain = html.unescape(page)
    for label in LABELS:
        assert str(label) in plain
    for name in STRATEGIES:
        assert html.escape(name) in page


@pytest.mark.long
def test_tables_of_a_run_are_written_by_text(tmp_path):
    whole = report("odd")
    RunFiles(tmp_path).write_table("weights", whole.weights("policy"))
    with (tmp_path / "weights.csv").open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    assert header[1:] == ["cash", *(str(label) for label in LABELS)]
    RunFiles(tmp_path).write_table("summary", summary(whole))
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == list(STRATEGIES)


def test_a_message_names_a_few_labels_only():
    with pytest.raises(ModelError) as caught:
        sddp.AllocationModel(transaction_cost={"x": 0.0}).on(scenarios(TEXTS))
    assert len(str(caught.value)) < 600
    assert f"and {len(TEXTS) - SHOWN} more" in str(caught.value)
