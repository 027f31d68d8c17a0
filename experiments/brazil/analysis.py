"""Tables of a finished study: metrics, differences, forecast and realized risk, sub-periods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

import joblib
import numpy as np
import pandas as pd

from experiments.brazil.common_risk import held_cvar
from experiments.brazil.groups import Group
from experiments.brazil.results import Results
from experiments.brazil.variants import RECEDING, Variant, lengths
from sddp.backtest import BacktestResult, MultistageStrategy
from sddp.dates import periods_per_year
from sddp.evaluation import inference
from sddp.evaluation.inference import Resampling, Sample
from sddp.evaluation.reports.report_data import ReportData
from sddp.evaluation.summary import model_work, sample
from sddp.evaluation.summary import summary as metrics_table

YEARS = 10


def summary(results: Results) -> pd.DataFrame:
    """Settings and metrics of everything that was run, and how its models fared."""
    config, study = results.config, results.study
    tables = []
    for lag in sorted({variant.lag for variant in results.variants.values()}, reverse=True):
        names = [name for name, variant in results.variants.items() if variant.lag == lag]
        tables.append(metrics_table(study.result(names), confidence=config.confidence))
    table = pd.concat(tables).drop(columns=["confidence", "execution"])
    settings = {name: asdict(variant) for name, variant in results.variants.items()}
    models = {name: model_work(study.strategies[name]) for name in table.index}
    told = pd.DataFrame.from_dict(settings, orient="index").loc[table.index]
    counted = pd.DataFrame.from_dict(models, orient="index")
    table = pd.concat([told, table, counted], axis=1).rename_axis("name")
    return table.assign(
        warnings=[len(study.warnings[name]) for name in table.index],
        seconds=[study.seconds[name] for name in table.index],
    )


def intervals(found: Mapping[str, Group], known: Mapping[str, ReportData]) -> pd.DataFrame:
    """Bootstrap intervals of the metrics, by comparison."""
    return pd.concat(
        group.tagged(data.uncertainty.intervals)
        for group, data in _both(found, known)
        if data.uncertainty is not None
    )


def differences(found: Mapping[str, Group], known: Mapping[str, ReportData]) -> pd.DataFrame:
    """Each strategy less the multi-stage policy begun anew at every decision, by comparison."""
    return pd.concat(
        group.tagged(data.uncertainty.differences)
        for group, data in _both(found, known)
        if data.uncertainty is not None and data.uncertainty.differences is not None
    )


def risk(
    results: Results, found: Mapping[str, Group], known: Mapping[str, ReportData]
) -> pd.DataFrame:
    """CVaR ex ante and realized of every strategy, and tests of the risk forecasts."""
    measured = held_cvar(results, {name: group.result for name, group in found.items()})
    tables = []
    for name, group in found.items():
        table = known[name].forecasts.assign(held_cvar=measured[name])
        uncertainty = known[name].uncertainty
        if uncertainty is not None and uncertainty.risk_tests is not None:
            tests = uncertainty.risk_tests
            table = table.join(tests[tests.columns.difference(table.columns, sort=False)])
        tables.append(group.tagged(table))
    return pd.concat(tables)


def _both(
    found: Mapping[str, Group], known: Mapping[str, ReportData]
) -> Iterable[tuple[Group, ReportData]]:
    return ((group, known[name]) for name, group in found.items())


def regimes_worth(
    results: Results, pairs: Iterable[Group], rng: np.random.Generator, *, n_jobs: int
) -> pd.DataFrame:
    """Sharpe ratio with regimes less that without them, at every setting that was tried.

    Returns
    -------
    DataFrame
        One row per pair of backtests: the settings, both ratios, their difference with its
        interval and p-value, and the turnover of the strategy with regimes.
    """
    asked = list(pairs)
    work = (
        joblib.delayed(_worth)(group.result, results.config.n_draws, stream)
        for group, stream in zip(asked, rng.spawn(len(asked)), strict=True)
    )
    rows = joblib.Parallel(n_jobs=n_jobs)(work)
    settings = [asdict(group.settings) for group in asked]
    told = pd.DataFrame(settings).drop(columns="strategy")
    return told.join(pd.DataFrame(list(rows)))


def _worth(result: BacktestResult, n_draws: int, rng: np.random.Generator) -> dict[str, float]:
    table = inference.differences(sample(result), RECEDING, Resampling(rng, n_draws))
    without_less_with = table[table["metric"] == "sharpe"].iloc[0]
    metric = metrics_table(result)
    return {
        "with_regimes": float(metric["sharpe"][RECEDING]),
        "one_regime": float(metric["sharpe"].drop(RECEDING).iloc[0]),
        "difference": -float(without_less_with["value"]),
        "low": -float(without_less_with["high"]),
        "high": -float(without_less_with["low"]),
        "p_value": float(without_less_with["p_value"]),
        "turnover": float(metric["turnover"][RECEDING]),
    }


def accuracy(results: Results) -> pd.DataFrame:
    """What longer trainings found, if they were run: one row per training, by date.

    Returns
    -------
    DataFrame, shape (n_trainings, 4)
        ``bound`` on wealth at the horizon per unit of cash, from which both start; ``longer``,
        the bound after more iterations on the same scenarios; ``cash``, wealth at the horizon if
        nothing is bought;
        ``gap = (bound - longer) / (longer - cash)``.
    """
    config = results.config
    usual, longer = lengths(config)
    if not (results.has(usual) and results.has(longer)):
        return pd.DataFrame(columns=["bound", "longer", "cash", "gap"]).rename_axis("date")
    one, other = (_bounds(results, variant) for variant in (usual, longer))
    rate = results.market.at(one.index[-1]).cash_rate.loc[one.index]
    cash = (1.0 + rate) ** config.n_stages
    gap = (one - other) / (other - cash)
    return pd.DataFrame({"bound": one, "longer": other, "cash": cash, "gap": gap})


def _bounds(results: Results, variant: Variant) -> pd.Series[float]:
    """Bound of each training."""
    strategy = results.study.strategies[variant.name(results.config)]
    assert isinstance(strategy, MultistageStrategy)
    decision_log = strategy.decision_log_table()
    bounds: pd.Series[float] = decision_log["bound"][decision_log["refit"]]
    return bounds


def subperiods(
    result: BacktestResult, results: Results, rng: np.random.Generator, *, n_jobs: int
) -> pd.DataFrame:
    """Metrics of the headline's strategies in parts of the time, with intervals."""
    cuts = _cuts(pd.DatetimeIndex(result.cash_rate.index))
    config = results.config
    work = (
        joblib.delayed(_part)(result, *ends, config.confidence, config.n_draws, stream)
        for ends, stream in zip(cuts.values(), rng.spawn(len(cuts)), strict=True)
    )
    tables: list[pd.DataFrame] = list(joblib.Parallel(n_jobs=n_jobs)(work))
    return pd.concat(
        table.assign(period=name, first=ends[0], last=ends[1])
        for (name, ends), table in zip(cuts.items(), tables, strict=True)
    )


def _cuts(dates: pd.DatetimeIndex) -> dict[str, tuple[pd.Timestamp, pd.Timestamp]]:
    """Halves, and the first and the last ten years, which overlap if there are not twenty."""
    first, last, middle = dates[0], dates[-1], dates[len(dates) // 2]
    halves = {"first half": (first, middle), "second half": (middle, last)}
    years = pd.DateOffset(years=YEARS)
    if first + years >= last:
        return halves
    return halves | {
        f"first {YEARS} years": (first, first + years),
        f"last {YEARS} years": (last - years, last),
    }


def _part(
    result: BacktestResult,
    first: pd.Timestamp,
    last: pd.Timestamp,
    confidence: float,
    n_draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    # A return belongs to the row on which it is known: that of the first row came before.
    rows = result.returns.index[(result.returns.index > first) & (result.returns.index <= last)]
    pace = periods_per_year(pd.DatetimeIndex(result.cash_rate.index))
    part = Sample(result.returns.loc[rows], result.cash_rate[rows], pace)
    one, other = rng.spawn(2)
    table = inference.intervals(part, Resampling(one, n_draws), confidence=confidence)
    apart = inference.differences(part, RECEDING, Resampling(other, n_draws))
    return pd.concat([table.assign(what="value"), apart.assign(what="difference")])
