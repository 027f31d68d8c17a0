"""Everything that a finished study leaves behind: tables, figures, the page, `run.json`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.brazil import analysis, figures, series, tables
from experiments.brazil.config import Config
from experiments.brazil.groups import Group, groups, pairs, report_data
from experiments.brazil.results import Results
from experiments.brazil.variants import percent
from sddp.evaluation import deflated_sharpe, sample
from sddp.evaluation.reports.report_data import ReportData
from sddp.evaluation.summary import summary as metrics_table
from sddp.reporting.html import write_page
from sddp.studies.record import Run, RunFiles

TITLE = "Gold, Ibovespa, dollar, euro and CDI: walk-forward of regime-switching policies"
CAVEATS = (
    "Quotes are not taken at one hour: gold and the dollar are fixed hours before the Ibovespa "
    "closes. Decisions are executed a row later; results at the very quotes decided on, which "
    "could not have been had, stand in summary.csv.",
    "Dollar and euro earn no foreign interest here; gold is a London fixing in reais.",
    "Intervals take the policies as they were fitted: another seed or number of regimes gives "
    "other policies, whose results differ from these.",
    "Brazil had no volatility index: the realized volatility of the Ibovespa over 21 rows stands "
    "in for it.",
)


def write(record: Run, results: Results, *, n_jobs: int) -> dict[str, Any]:
    """Write tables and the page; returns the headline numbers.

    Parameters
    ----------
    record : Run
    results : Results
    n_jobs : int
        Comparisons that are resampled at a time.
    """
    config = results.config
    compared, through, parts = np.random.default_rng(config.seed).spawn(3)
    found = groups(results)
    known = report_data(found, compared, n_jobs=n_jobs)
    headline = found["headline"]
    summary = analysis.summary(results)
    record.write_table("summary", summary)
    _write(record, "intervals", analysis.intervals(found, known))
    _write(record, "differences", analysis.differences(found, known))
    record.write_table("risk", analysis.risk(results, found, known))
    worth = analysis.regimes_worth(results, pairs(results), through, n_jobs=n_jobs)
    _write(record, "regimes_worth", worth)
    _write(
        record, "subperiods", analysis.subperiods(headline.result, results, parts, n_jobs=n_jobs)
    )
    record.write_table("accuracy", analysis.accuracy(results))
    deflated = deflated_sharpe(sample(headline.result), trial_sharpes=summary["sharpe"].to_numpy())
    record.write_table("deflated", deflated)
    _write_series(record, results)
    _page(record, results, headline, known["headline"])
    return _headline(results, summary, known["headline"])


def write_figures(record: RunFiles, config: Config) -> None:
    """Draw the figures of a run from its tables."""
    for name, figure in figures.draw(tables.read(record.out), config).items():
        record.write_figure(name, figure)


def _write(record: Run, name: str, table: pd.DataFrame) -> None:
    """A table whose index says nothing."""
    record.write_table(name, table.set_index(table.columns[0]))


def _write_series(record: Run, results: Results) -> None:
    by_asset, rolling = series.asset_cvar(results.market, results.config.confidence)
    record.write_table("asset_cvar", by_asset)
    record.write_table("rolling_cvar", rolling)
    record.write_table("wealth", series.wealth(results))
    record.write_table("weights", series.weights(results))
    record.write_table("beliefs", series.beliefs(results))


def _page(record: Run, results: Results, headline: Group, known: ReportData) -> None:
    provenance: dict[str, Any] = record.provenance()
    settings = provenance.pop("config")
    told = {
        "Settings": settings,
        "Run": provenance,
        "Warnings": {name: texts for name, texts in results.study.warnings.items() if texts},
    }
    caveats = [f"One limit is shown: {percent(results.config.headline)} a row.", *CAVEATS]
    write_page(known, record.out / "report.html", title=TITLE, caveats=caveats, provenance=told)


def _headline(results: Results, summary: pd.DataFrame, known: ReportData) -> dict[str, Any]:
    ratios = metrics_table(known.result, confidence=results.config.confidence)
    forecasts = known.forecasts.loc[:, ["cvar_limit", "binding", "model_cvar", "realized_cvar"]]
    shown = ratios[["annualized_return", "volatility", "sharpe", "maximum_drawdown", "turnover"]]
    return {
        "backtests": len(summary),
        "seconds_of_backtests": float(summary["seconds"].sum()),
        "failed_refits": int(summary["failures"].sum()),
        "warnings": int(summary["warnings"].sum()),
        "headline": shown.join(forecasts).to_dict("index"),
    }
