"""What the main job writes: tables, figures, the page; and what it says."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sddp.backtest import BacktestResult, MultistageStrategy, Study
from sddp.cli.extras import can_draw, not_drawn
from sddp.cli.output import filled
from sddp.evaluation import summary
from sddp.risk import weighted_cvar

if TYPE_CHECKING:
    from sddp.cli.backtest import Job
    from sddp.studies.record import Run

SDDP = "SDDP"
SHOWN = (
    *("annualized_return", "volatility", "sharpe", "maximum_drawdown"),
    *("turnover", "cost_drag", "average_cash"),
)
HEADLINE = ("annualized_return", "volatility", "sharpe", "cvar")


def write(record: Run, job: Job, study: Study) -> dict[str, Any]:
    """Tables, and where they can be drawn figures and page; returns the headline numbers."""
    result, settings = study.result(), job.settings
    trained = _trained(job, study)
    decision_log = trained.decision_log_table()
    assert trained.training_log is not None
    assert trained.policy is not None
    metrics = summary(result, confidence=settings.cvar_confidence)
    record.write_table("summary", metrics)
    record.write_table("wealth", result.wealth)
    record.write_table("weights", result.weights(SDDP))
    # How long a decision took differs from run to run; the results do not.
    record.write_table("decisions", decision_log.drop(columns="seconds"))
    record.write_table("training", trained.training_log)

    rng = np.random.default_rng(settings.seed).spawn(2)[1]
    paths = trained.policy.simulate(job.n_paths, rng=rng)
    terminal = paths.groupby(level="path")["wealth"].last().to_numpy()
    error = float(terminal.std(ddof=1) / np.sqrt(len(terminal))) if len(terminal) > 1 else None
    results = {
        "market": job.tables.described(),
        "decisions": len(decision_log),
        "share_of_decisions_with_binding_limit": float(decision_log["limit_binds"].mean()),
        "bound": trained.policy.bound,
        "simulated_mean": float(terminal.mean()),
        "simulated_standard_error": error,
        "period_cvar": period_cvar(job, result).to_dict(),
        "summary": metrics[list(HEADLINE)].to_dict("index"),
        "notes": job.notes.lines,
        "warnings": {name: list(texts) for name, texts in study.warnings.items() if texts},
    }
    if can_draw():
        from sddp.cli import backtest_page

        backtest_page.write_figures(record, job, result, trained, terminal)
        backtest_page.write_page(record, job, result, results)
    return results


def period_cvar(job: Job, result: BacktestResult) -> pd.Series[float]:
    """Realised CVaR over periods of the model's length, which is what its limit is about."""
    settings = job.settings
    sampled = result.wealth.iloc[settings.lag :: settings.period]
    returns = sampled.pct_change().iloc[1:]
    if returns.empty:
        return pd.Series(np.nan, index=result.wealth.columns)
    return returns.apply(lambda r: weighted_cvar(-r, confidence=settings.cvar_confidence))


def text(job: Job, study: Study, results: Mapping[str, Any], out: str, width: int) -> str:
    """The results for people."""
    result, settings = study.result(), job.settings
    table = summary(result, confidence=settings.cvar_confidence)[list(SHOWN)]
    table[f"cvar_{settings.period}_rows"] = period_cvar(job, result)
    dates = result.wealth.index
    share = results["share_of_decisions_with_binding_limit"]
    limit = (
        f"No limit on risk; {results['decisions']} decisions."
        if settings.cvar_limit is None
        else f"The limit of {settings.cvar_limit:.1%} over {settings.period} rows binds on "
        f"{share:.0%} of the {results['decisions']} decisions."
    )
    error = results["simulated_standard_error"]
    before = [
        *job.notes.lines,
        f"Walk-forward {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, net of costs; {result.timing}",
    ]
    after = [
        limit,
        f"Last training: bound on expected wealth {results['bound']:.4f}, in-sample simulation "
        f"{results['simulated_mean']:.4f}" + ("." if error is None else f" +- {error:.4f}."),
        *(f"Warning ({name}): {said}" for name, texts in study.warnings.items() for said in texts),
        f"Tables, figures, report.html and run.json: {out}"
        if can_draw()
        else f"Tables and run.json: {out}. {not_drawn('figures and report.html')}",
    ]
    shown = table.to_string(float_format=lambda value: f"{value:.4f}", line_width=width)
    return "\n".join([filled(before, width), shown, filled(after, width)])


def _trained(job: Job, study: Study) -> MultistageStrategy:
    """The strategy of the first seed with its last policy."""
    found = study.strategies[SDDP]
    state = study.final_states[SDDP]
    assert isinstance(found, MultistageStrategy)
    assert state is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the run were noted when it was run
        found.restore_policy(state, job.market.at(job.end))
    return found
