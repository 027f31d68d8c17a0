"""What the main job draws: figures and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from sddp.backtest import BacktestResult, MultistageStrategy
from sddp.cli.backtest_results import SDDP
from sddp.display.training_figures import bound_figure, terminal_wealth_figure
from sddp.reporting import ReportOptions, allocation_figure, wealth_figure, write_html
from sddp.reporting.figures import regime_figure

if TYPE_CHECKING:
    from sddp.cli.backtest import Job
    from sddp.studies.record import Run


def write_figures(
    record: Run, job: Job, result: BacktestResult, trained: MultistageStrategy, terminal: Any
) -> None:
    """Figures of a finished walk-forward."""
    settings, policy = job.settings, trained.policy
    assert trained.training_log is not None
    assert policy is not None
    caveat = "; ".join(job.tables.caveats)
    horizon = f"{settings.n_stages} periods of {settings.period} rows"
    record.write_figure("bound", bound_figure(trained.training_log, initial_wealth=1.0))
    record.write_figure(
        "terminal_wealth",
        terminal_wealth_figure(terminal, 1.0, policy.bound, settings.cvar_confidence, horizon),
    )
    note = f"{result.timing}; {caveat}" if caveat else result.timing
    record.write_figure("wealth", wealth_figure(result.wealth, note))
    record.write_figure("allocation", allocation_figure({SDDP: result.weights(SDDP)}))
    beliefs = trained.decision_log_table().filter(like="regime")
    record.write_figure("regimes", regime_figure(beliefs, _index(job), "equal-weighted prices"))


def _index(job: Job) -> pd.Series[float]:
    """Equal-weighted level of the assets through the backtest."""
    prices = job.market.at(job.end).prices.loc[job.start :]
    index: pd.Series[float] = (prices / prices.bfill().iloc[0]).mean(axis=1)
    return index.rename("equal-weighted prices")


def write_page(record: Run, job: Job, result: BacktestResult, results: Mapping[str, Any]) -> None:
    """``report.html``."""
    provenance = record.provenance()
    told = {"Settings": provenance.pop("config"), "Run": provenance}
    told["Data"] = {str(k + 1): line for k, line in enumerate(job.notes.lines)}
    if results["warnings"]:
        told["Warnings"] = results["warnings"]
    write_html(
        result,
        record.out / "report.html",
        title="Walk-forward of the multi-stage policy",
        options=ReportOptions(detail=[SDDP], market=_index(job), period=job.settings.period),
        caveats=job.tables.cautions,
        provenance=told,
    )
