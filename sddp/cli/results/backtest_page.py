"""What the main job draws: figures and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sddp.cli.results.backtest_results import Evaluated
from sddp.display.training_figures import bound_figure, terminal_wealth_figure
from sddp.reporting import allocation_figure, wealth_figure
from sddp.reporting.figures import regime_figure
from sddp.reporting.html import write_page as write_report_page

if TYPE_CHECKING:
    from sddp.cli.backtest import Job
    from sddp.studies.record import Run


def write_figures(record: Run, job: Job, found: Evaluated) -> None:
    """Figures of a finished walk-forward."""
    settings, trained, result = job.settings, found.trained, found.result
    policy = trained.policy
    assert trained.training_log is not None
    assert policy is not None
    caveat = "; ".join(job.tables.caveats)
    horizon = f"{settings.n_stages} periods of {settings.period} rows"
    record.write_figure("bound", bound_figure(trained.training_log, initial_wealth=1.0))
    record.write_figure(
        "terminal_wealth",
        terminal_wealth_figure(
            found.terminal, 1.0, policy.bound, settings.cvar_confidence, horizon
        ),
    )
    note = f"{result.timing}; {caveat}" if caveat else result.timing
    record.write_figure("wealth", wealth_figure(result.wealth, note, found.data.featured))
    record.write_figure("allocation", allocation_figure({found.main: result.weights(found.main)}))
    beliefs = found.data.decision_logs[found.main].filter(regex=r"^regime \d+$")
    index = found.data.options.market
    record.write_figure("regimes", regime_figure(beliefs, index, "equal-weighted prices"))


def write_page(record: Run, job: Job, found: Evaluated, results: Mapping[str, Any]) -> None:
    """``report.html``."""
    provenance = record.provenance()
    told = {"Settings": provenance.pop("config"), "Run": provenance}
    told["Data"] = {str(k + 1): line for k, line in enumerate(job.notes.lines)}
    if results["warnings"]:
        told["Warnings"] = results["warnings"]
    write_report_page(
        found.data,
        record.out / "report.html",
        title="Walk-forward of the multi-stage policy",
        caveats=job.tables.cautions,
        provenance=told,
    )
