"""What the main job evaluates and writes: tables, figures, the page; and what it says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest import BacktestResult, CalibratedStrategy, MultistageStrategy, Study
from sddp.cli import backtest
from sddp.cli import settings as model_settings
from sddp.cli.extras import can_draw, not_drawn
from sddp.cli.output import filled
from sddp.evaluation import Resampling, differences, summary
from sddp.evaluation.checks.stability import SOURCES
from sddp.evaluation.checks.stability import stability as compare_decisions
from sddp.evaluation.reports import findings
from sddp.evaluation.reports.report_data import ReportData, ReportOptions, collect
from sddp.evaluation.summary import sample
from sddp.risk import weighted_cvar

if TYPE_CHECKING:
    from sddp.cli.backtest import Job
    from sddp.studies.record import Run

SHOWN = (
    *("annualized_return", "volatility", "sharpe", "maximum_drawdown"),
    *("turnover", "cost_drag", "average_cash"),
)
HEADLINE = ("annualized_return", "volatility", "sharpe", "cvar")
# Columns of the checks that are printed: risk, then returns.
RISK_SHOWN = (
    *("forecast_cvar", "realized_cvar", "ratio", "ratio_low", "ratio_high", "tail_p_value"),
    *("calibration", "clipped_low", "clipped_high"),
)
RETURNS_SHOWN = (
    *("expected", "realized", "difference", "difference_low", "difference_high"),
    *("slope", "slope_low", "slope_high"),
)
REFERENCE = "equal weights"


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A finished walk-forward with everything that is said of it.

    Attributes
    ----------
    study : Study
    main : str
        The strategy that the report is about.
    trained : MultistageStrategy
        That strategy with its last policy.
    data : ReportData
        Of all strategies but those with other steps of calibration.
    stability : DataFrame
        Distances between decisions that differ by chance, see `sddp.evaluation.checks.stability`.
    steps : DataFrame or None
        Checks of calibrated limits by their step.
    calibration : DataFrame or None
        Calibrated less not calibrated, by strategy, on the same periods; None without a limit.
    terminal : array, shape (n_paths,)
        Wealth at the horizon of the last policy, simulated in sample.
    """

    study: Study
    main: str
    trained: MultistageStrategy
    data: ReportData
    stability: pd.DataFrame
    steps: pd.DataFrame | None
    calibration: pd.DataFrame | None
    terminal: Floats

    @property
    def result(self) -> BacktestResult:
        """Of the strategies of the report."""
        return self.data.result


def evaluate(job: Job, study: Study, *, n_jobs: int) -> Evaluated:
    """Intervals, tests of forecasts, how far decisions hang on chance, and a simulation."""
    settings = job.settings
    others = {name for name in study.ledgers if " in steps of " in name}
    result = study.result([name for name in study.ledgers if name not in others])
    main = backtest.SDDP if settings.cvar_limit is None else backtest.calibrated(backtest.SDDP)
    first, second, third, fourth, fifth = np.random.default_rng(settings.seed).spawn(5)
    options = _options(job, result, main)
    distances = _distances(job, result, second, n_jobs)  # other processes begin at once
    data = collect(result, options, first)
    trained = _trained(job, study, main)
    assert trained.policy is not None
    paths = trained.policy.simulate(job.n_paths, rng=fourth)
    steps = _by_step(job, study, options, third) if job.steps else None
    calibration = _calibrated_less_not(result, options, fifth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a redrawn history may hold fewer regimes
        stability = pd.concat(list(distances))
    return Evaluated(
        study=study,
        main=main,
        trained=trained,
        data=data,
        stability=stability,
        steps=steps,
        calibration=calibration,
        terminal=paths.groupby(level="path")["wealth"].last().to_numpy(),
    )


def _options(job: Job, result: BacktestResult, main: str) -> ReportOptions:
    calibrated = backtest.calibrated if job.settings.cvar_limit is not None else str
    wanted = [
        main,
        *map(calibrated, (backtest.HELD, backtest.ONE_STEP, backtest.SCALED)),
        REFERENCE,
    ]
    featured = [name for name in wanted if name in result.ledgers]
    return ReportOptions(
        detail=featured[:-1],
        featured=featured,
        descriptions=backtest.descriptions(job, list(result.ledgers)),
        reference=REFERENCE,
        market=_index(job),
        period=job.settings.period,
    )


def _index(job: Job) -> pd.Series[float]:
    """Equal-weighted level of the assets through the backtest."""
    prices = job.market.at(job.end).prices.loc[job.start :]
    index: pd.Series[float] = (prices / prices.bfill().iloc[0]).mean(axis=1)
    return index.rename("equal-weighted prices")


def _distances(
    job: Job, result: BacktestResult, rng: np.random.Generator, n_jobs: int
) -> Iterator[pd.DataFrame]:
    """Tables of stability on dates spread over the backtest, by source of chance.

    Each source has its own stream of draws.
    """
    dates = result.ledgers[backtest.SDDP].decisions.index
    places = np.linspace(0, len(dates) - 1, job.n_dates + 1).round().astype(int)[1:]
    strategy = model_settings.strategy(job.settings, store=None)
    seed = int(rng.integers(2**31))
    work = (
        joblib.delayed(compare_decisions)(
            strategy,
            job.market,
            [dates[place] for place in places],
            rng=seed,
            n_repetitions=job.n_repetitions,
            sources=(source,),
        )
        for source in SOURCES
    )
    found: Iterator[pd.DataFrame] = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(work)
    return found


def _by_step(
    job: Job, study: Study, options: ReportOptions, rng: np.random.Generator
) -> pd.DataFrame:
    """Checks and Sharpe ratio of every calibrated limit, by strategy and step."""
    steps = sorted((backtest.STEP, *job.steps))
    names = [name for name in study.ledgers if name in backtest.limited_names()]
    found = {}
    for name in names:
        own = {step: backtest.calibrated(name, step) for step in steps}
        result = study.result(list(own.values()))
        few = ReportOptions(period=options.period, n_draws=options.n_draws)
        checks = collect(result, few, rng.spawn(1)[0]).checks()
        sharpe = summary(result, confidence=job.settings.cvar_confidence)["sharpe"]
        table = checks.assign(sharpe=sharpe).loc[list(own.values())]
        found[name] = table.set_axis(pd.Index(steps, name="step"))
    return pd.concat(found, names=["strategy"])


def _calibrated_less_not(
    result: BacktestResult, options: ReportOptions, rng: np.random.Generator
) -> pd.DataFrame | None:
    """What calibrating its limit adds to the Sharpe ratio and mean of each strategy, with tests."""
    series, found = sample(result), []
    for name in backtest.limited_names():
        both = [name, backtest.calibrated(name)]
        if set(both) <= set(result.ledgers):
            own = replace(series, returns=series.returns[both])
            how = Resampling(rng.spawn(1)[0], options.n_draws, options.level)
            # Each pair is a question of its own: nothing is adjusted for the others.
            found.append(differences(own, name, how).drop(columns="adjusted_p_value"))
    return pd.concat(found).set_index("strategy") if found else None


def write(record: Run, job: Job, found: Evaluated) -> dict[str, Any]:
    """Tables, and where they can be drawn figures and page; returns the headline numbers."""
    result, settings, data = found.result, job.settings, found.data
    log = data.decision_logs[found.main]
    trained, terminal, checks = found.trained, found.terminal, data.checks()
    assert trained.training_log is not None
    assert trained.policy is not None
    metrics = summary(result, confidence=settings.cvar_confidence)
    record.write_table("summary", metrics)
    record.write_table("wealth", result.wealth)
    record.write_table("weights", result.weights(found.main))
    # How long a decision took differs from run to run; the results do not.
    record.write_table("decisions", log.drop(columns="seconds"))
    record.write_table("training", trained.training_log)
    record.write_table("checks", checks)
    record.write_table("stability", found.stability)
    if found.steps is not None:
        record.write_table("steps", found.steps)
    if found.calibration is not None:
        record.write_table("calibration", found.calibration)
    assert data.uncertainty is not None
    record.write_table("intervals", data.uncertainty.intervals.set_index("strategy"))
    assert data.uncertainty.differences is not None
    record.write_table("differences", data.uncertainty.differences.set_index("strategy"))

    error = float(terminal.std(ddof=1) / np.sqrt(len(terminal))) if len(terminal) > 1 else None
    results = {
        "finding": findings.finding(data),
        "forecasts": sentences(found),
        "market": job.tables.described(),
        "decisions": len(log),
        "share_of_decisions_with_binding_limit": float(log["limit_binds"].mean()),
        "bound": trained.policy.bound,
        "simulated_mean": float(terminal.mean()),
        "simulated_standard_error": error,
        "period_cvar": period_cvar(job, result).to_dict(),
        "summary": metrics[list(HEADLINE)].to_dict("index"),
        "checks": checks.to_dict("index"),
        "stability": found.stability["distance"].to_dict(),
        "notes": job.notes.lines,
        "warnings": {name: list(texts) for name, texts in found.study.warnings.items() if texts},
    }
    if can_draw():
        from sddp.cli.results import backtest_page

        backtest_page.write_figures(record, job, found)
        backtest_page.write_page(record, job, found, results)
    return results


def sentences(found: Evaluated) -> list[str]:
    """Whether forecasts held, for the strategy in question with a calibrated limit and without."""
    names = list(dict.fromkeys([found.main, backtest.SDDP]))
    said = [findings.risk_sentence(found.data, name) for name in names]
    return [text for text in [*said, findings.return_sentence(found.data, found.main)] if text]


def period_cvar(job: Job, result: BacktestResult) -> pd.Series[float]:
    """Realised CVaR over periods of the model's length, which is what its limit is about."""
    settings = job.settings
    sampled = result.wealth.iloc[settings.lag :: settings.period]
    returns = sampled.pct_change().iloc[1:]
    if returns.empty:
        return pd.Series(np.nan, index=result.wealth.columns)
    return returns.apply(lambda r: weighted_cvar(-r, confidence=settings.cvar_confidence))


def text(job: Job, found: Evaluated, results: Mapping[str, Any], out: str, width: int) -> str:
    """The results for people."""
    result, settings = found.result, job.settings
    table = summary(result, confidence=settings.cvar_confidence)[list(SHOWN)]
    table[f"cvar_{settings.period}_rows"] = period_cvar(job, result)
    dates = result.wealth.index
    share = results["share_of_decisions_with_binding_limit"]
    limit = (
        f"No limit on risk; {results['decisions']} decisions."
        if settings.cvar_limit is None
        else f"The limit of {settings.cvar_limit:.1%} over {settings.period} rows binds on "
        f"{share:.0%} of the {results['decisions']} decisions of {found.main}."
    )
    error = results["simulated_standard_error"]
    before = [
        *job.notes.lines,
        f"Walk-forward {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, net of costs; {result.timing}",
        results["finding"],
    ]
    after = [
        *results["forecasts"],
        limit,
        f"Last training: bound on expected wealth {results['bound']:.4f}, in-sample simulation "
        f"{results['simulated_mean']:.4f}" + ("." if error is None else f" +- {error:.4f}."),
        *(
            f"Warning ({name}): {said}"
            for name, texts in found.study.warnings.items()
            for said in texts
        ),
        f"Tables, figures, report.html and run.json: {out}"
        if can_draw()
        else f"Tables and run.json: {out}. {not_drawn('figures and report.html')}",
    ]
    checks = found.data.checks().dropna(subset=["forecast_cvar"])
    blocks = [
        filled(before, width),
        shown(table, width),
        "Risk of one period: forecast, and realized given the model's VaR\n"
        + shown(checks[list(RISK_SHOWN)], width),
        "Return of one period: expected by the model, and earned\n"
        + shown(checks[list(RETURNS_SHOWN)], width),
        "Distance between decisions of SDDP that differ by chance (share of wealth)\n"
        + shown(found.stability, width),
    ]
    if found.steps is not None:
        columns = ["ratio", "ratio_low", "ratio_high", "tail_p_value", "sharpe", "calibration"]
        blocks.append("Calibrated limits by their step\n" + shown(found.steps[columns], width))
    return "\n\n".join([*blocks, filled(after, width)])


def shown(table: pd.DataFrame, width: int) -> str:
    """A table for people."""
    return table.to_string(float_format=lambda value: f"{value:.4f}", line_width=width)


def _trained(job: Job, study: Study, main: str) -> MultistageStrategy:
    """The strategy in question with its last policy."""
    strategy = study.strategies[main]
    found = strategy.strategy if isinstance(strategy, CalibratedStrategy) else strategy
    state = study.final_states[main]
    assert isinstance(found, MultistageStrategy)
    assert state is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the run were noted when it was run
        found.restore_policy(state, job.market.at(job.end))
    return found
