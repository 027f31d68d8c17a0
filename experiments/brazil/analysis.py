"""Tables of a finished study: metrics, differences, risk promised and realised, sub-periods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

import joblib
import numpy as np
import pandas as pd

from experiments.brazil.groups import Group
from experiments.brazil.results import Results
from experiments.brazil.variants import RECEDING, Variant
from experiments.brazil.yardstick import held_cvar
from sddp.backtest import BacktestReport, MeanVarianceStrategy, MultistageStrategy
from sddp.dates import periods_per_year
from sddp.evaluation import inference
from sddp.evaluation.inference import Resampling, Sample
from sddp.reporting.content import Evidence

YEARS = 10


def summary(results: Results) -> pd.DataFrame:
    """Settings and metrics of everything that was run, and how its models fared."""
    config, study = results.config, results.study
    tables = []
    for lag in sorted({variant.lag for variant in results.variants.values()}, reverse=True):
        names = [name for name, variant in results.variants.items() if variant.lag == lag]
        tables.append(study.report(names).summary(confidence=config.confidence))
    table = pd.concat(tables).drop(columns=["confidence", "execution"])
    settings = {name: asdict(variant) for name, variant in results.variants.items()}
    models = {name: _models(study.strategies[name]) for name in table.index}
    told = pd.DataFrame.from_dict(settings, orient="index").loc[table.index]
    counted = pd.DataFrame.from_dict(models, orient="index")
    table = pd.concat([told, table, counted], axis=1).rename_axis("name")
    return table.assign(
        warnings=[len(study.warnings[name]) for name in table.index],
        seconds=[study.seconds[name] for name in table.index],
    )


def _models(strategy: object) -> dict[str, float]:
    if not isinstance(strategy, MultistageStrategy | MeanVarianceStrategy):
        return {}
    journal = strategy.journal_table()
    return {
        "decisions": len(journal),
        "trainings": int(journal["refit"].sum()),
        "failures": int((journal["failure"] != "").sum()),
        "limit_binds": float(journal["limit_binds"].astype(float).mean()),
    }


def intervals(found: Mapping[str, Group], known: Mapping[str, Evidence]) -> pd.DataFrame:
    """Bootstrap intervals of the metrics, by comparison."""
    return pd.concat(
        group.tagged(evidence.uncertainty.intervals)
        for group, evidence in _both(found, known)
        if evidence.uncertainty is not None
    )


def differences(found: Mapping[str, Group], known: Mapping[str, Evidence]) -> pd.DataFrame:
    """Each strategy less the multi-stage policy begun anew at every decision, by comparison."""
    return pd.concat(
        group.tagged(evidence.uncertainty.differences)
        for group, evidence in _both(found, known)
        if evidence.uncertainty is not None and evidence.uncertainty.differences is not None
    )


def risk(
    results: Results, found: Mapping[str, Group], known: Mapping[str, Evidence]
) -> pd.DataFrame:
    """CVaR ex ante and realised of every strategy, and tests of what the models promised."""
    measured = held_cvar(results, {name: group.report for name, group in found.items()})
    tables = []
    for name, group in found.items():
        table = known[name].promised.assign(held_cvar=measured[name])
        uncertainty = known[name].uncertainty
        if uncertainty is not None and uncertainty.risk_tests is not None:
            tests = uncertainty.risk_tests
            table = table.join(tests[tests.columns.difference(table.columns, sort=False)])
        tables.append(group.tagged(table))
    return pd.concat(tables)


def _both(
    found: Mapping[str, Group], known: Mapping[str, Evidence]
) -> Iterable[tuple[Group, Evidence]]:
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
        joblib.delayed(_worth)(group.report, results.config.n_draws, stream)
        for group, stream in zip(asked, rng.spawn(len(asked)), strict=True)
    )
    rows = joblib.Parallel(n_jobs=n_jobs)(work)
    settings = [asdict(group.settings) for group in asked]
    told = pd.DataFrame(settings).drop(columns="strategy")
    return told.join(pd.DataFrame(list(rows)))


def _worth(report: BacktestReport, n_draws: int, rng: np.random.Generator) -> dict[str, float]:
    table = report.differences(RECEDING, rng=rng, n_draws=n_draws)
    without_less_with = table[table["metric"] == "sharpe"].iloc[0]
    metric = report.summary()
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
        ``bound`` on wealth at the horizon per unit of cash; ``longer``, the bound after more
        iterations on the same scenarios; ``cash``, wealth at the horizon if nothing is bought;
        ``gap = (bound - longer) / (longer - cash)``.
    """
    config = results.config
    usual = Variant.of(config, RECEDING, config.headline)
    longer = replace(usual, iterations=config.more_iterations)
    if not results.has(longer):
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
    journal = strategy.journal_table()
    bounds: pd.Series[float] = journal["bound"][journal["refit"]]
    return bounds


def subperiods(
    report: BacktestReport, results: Results, rng: np.random.Generator, *, n_jobs: int
) -> pd.DataFrame:
    """Metrics of the headline's strategies in parts of the time, with intervals."""
    cuts = _cuts(pd.DatetimeIndex(report.cash_rate.index))
    config = results.config
    work = (
        joblib.delayed(_part)(report, *ends, config.confidence, config.n_draws, stream)
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
    report: BacktestReport,
    first: pd.Timestamp,
    last: pd.Timestamp,
    confidence: float,
    n_draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    # A return belongs to the row on which it is known: that of the first row came before.
    rows = report.returns.index[(report.returns.index > first) & (report.returns.index <= last)]
    pace = periods_per_year(pd.DatetimeIndex(report.cash_rate.index))
    sample = Sample(report.returns.loc[rows], report.cash_rate[rows], pace)
    one, other = rng.spawn(2)
    table = inference.intervals(sample, Resampling(one, n_draws), confidence=confidence)
    apart = inference.differences(sample, RECEDING, Resampling(other, n_draws))
    return pd.concat([table.assign(what="value"), apart.assign(what="difference")])
