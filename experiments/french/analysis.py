"""Tables of the backtests: metrics, intervals, differences, risk forecasts, missing cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.french.config import Purpose
from experiments.french.rolling import (
    DETAIL,
    INGREDIENTS,
    LATE,
    SDDP,
    Backtests,
    other_seed,
    settings_of,
)
from sddp.backtest import MultistageStrategy
from sddp.evaluation import deflated_sharpe, sample, summary
from sddp.evaluation.reports.report_data import ReportData, collect
from sddp.evaluation.summary import model_work
from sddp.reporting import ReportOptions
from sddp.studies.streams import stream

# Weights below this are rounding.
NOTHING = 1e-6

Results = dict[str, pd.DataFrame]


def tables(backtests: Backtests) -> Results:
    """All tables, by the name of their file."""
    config, result = backtests.config, backtests.result()
    options = ReportOptions(reference=SDDP, n_draws=config.n_bootstrap)
    known = collect(result, options, stream(config.seed, Purpose.BOOTSTRAP))
    metrics = summary_table(backtests)
    assert known.uncertainty is not None
    assert known.uncertainty.differences is not None
    return {
        "summary": metrics,
        "intervals": known.uncertainty.intervals.reset_index(drop=True),
        "differences": known.uncertainty.differences.reset_index(drop=True),
        "rolling_ingredients": ingredient_table(known.uncertainty.differences),
        "risk": risk_table(known),
        "deflated": deflated_sharpe(sample(result), trial_sharpes=metrics["sharpe"].to_numpy()),
        "missing": missing_table(backtests),
        "wealth": result.wealth,
        "weights": weights_table(backtests),
        "beliefs": beliefs_table(backtests),
    }


def summary_table(backtests: Backtests) -> pd.DataFrame:
    """Settings and metrics of everything that was run, and how its models fared."""
    study, config = backtests.study, backtests.config
    seeds = [other_seed(seed) for seed in config.other_seeds]
    results = (backtests.result(), study.result(seeds), study.result([LATE]))
    parts = [summary(result, confidence=config.cvar_confidence) for result in results]
    table = pd.concat(parts).drop(columns=["confidence"]).rename_axis("strategy")
    models = {name: model_work(study.strategies[name]) for name in table.index}
    table = table.join(pd.DataFrame.from_dict(models, orient="index"))
    return table.assign(
        **settings_of(config),
        warnings=[len(study.warnings[name]) for name in table.index],
        seconds=[study.seconds[name] for name in table.index],
    )


def ingredient_table(differences: pd.DataFrame) -> pd.DataFrame:
    """What the policy has over the one without each ingredient, with intervals of differences."""
    rows = []
    for ingredient, name in INGREDIENTS.items():
        for _, row in differences[differences["strategy"] == name].iterrows():
            rows.append(
                {
                    "ingredient": ingredient,
                    "without": name,
                    "metric": row["metric"],
                    "worth": -row["value"],
                    "low": -row["high"],
                    "high": -row["low"],
                    "p_value": row["p_value"],
                }
            )
    return pd.DataFrame(rows)


def risk_table(known: ReportData) -> pd.DataFrame:
    """Forecast and realized CVaR, and tests of the forecasts."""
    assert known.uncertainty is not None
    table, tests = known.forecasts, known.uncertainty.risk_tests
    if tests is None:
        return table
    return table.join(tests[tests.columns.difference(table.columns, sort=False)])


def missing_table(backtests: Backtests) -> pd.DataFrame:
    """What missing cells did: rows barred from purchase, and holdings they caught.

    Returns
    -------
    DataFrame
        One row per strategy: ``missing_cells`` and ``barred_cells`` (missing now or in the rows
        before) of the rows of the backtest; ``caught``, cells in which the strategy held what went
        missing; ``largest_caught``, the largest such weight; ``carried``, cells in which what was
        barred was still held after the row's trades.
    """
    dates = backtests.dates
    view = backtests.market.at(dates[-1])
    barred = ~view.quoted.loc[dates]
    gone = backtests.data.returns.loc[dates].isna()
    rows: dict[str, dict[str, Any]] = {}
    for name, ledger in backtests.study.ledgers.items():
        after = ledger.weights.drop(columns="cash")
        # What was held into a row is what was held after the trades of the row before.
        into = after.shift(1).fillna(0.0)
        caught = (into > NOTHING) & gone
        rows[name] = {
            "missing_cells": int(gone.to_numpy().sum()),
            "barred_cells": int(barred.to_numpy().sum()),
            "caught": int(caught.to_numpy().sum()),
            "largest_caught": float(np.max(into.where(caught, 0.0).to_numpy(), initial=0.0)),
            "carried": int(((after > NOTHING) & barred).to_numpy().sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def weights_table(backtests: Backtests) -> pd.DataFrame:
    """Weights after each row's trades, rounding left out: tidy, by date, strategy and position."""
    parts = []
    for name in DETAIL:
        weights = backtests.study.ledgers[name].weights
        long = weights.rename_axis("date").reset_index().melt("date", var_name="position")
        held = long[long["value"] > NOTHING].rename(columns={"value": "weight"})
        parts.append(held.sort_values(by="date", kind="stable").assign(strategy=name))
    return pd.concat(parts).round({"weight": 5}).reset_index(drop=True)


def beliefs_table(backtests: Backtests) -> pd.DataFrame:
    """Filtered probabilities of the regimes at each decision, and the market's level."""
    strategy = backtests.study.strategies[SDDP]
    assert isinstance(strategy, MultistageStrategy)
    table = strategy.decision_log_table().filter(regex=r"^regime \d+$")
    factors = backtests.market.at(backtests.dates[-1]).factors
    assert factors is not None
    level = np.exp(factors.iloc[:, 0].loc[backtests.dates].cumsum())
    return table.assign(market=(level / level.iloc[0]).loc[table.index])
