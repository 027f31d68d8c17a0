"""``sddp backtest``: the main job, a walk-forward of the multi-stage policy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sddp.cli import options as opt
from sddp.cli import settings as model_settings
from sddp.cli.inputs.market import Notes, PriceTables, add_price_options, read_tables
from sddp.cli.output import Result
from sddp.cli.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from sddp.backtest import Cell, Strategy, Study
    from sddp.market import Market

SDDP, CALIBRATED = "SDDP", "calibrated"
OUT = "results/backtest"

# Steps of a calibrated limit: the one in use, fixed before any result was seen, and others that
# --steps sets beside it.
STEP, OTHER_STEPS = 0.02, (0.005, 0.01, 0.05)

# Repetitions of each source of chance in the table of stability, and dates that it looks at.
REPETITIONS, STABILITY_DATES = 4, 2
QUICK_REPETITIONS, QUICK_STABILITY_DATES = 2, 1

# Settings that are said before the run.
SAID = (
    *("window", "period", "stages", "states", "means", "refit_every"),
    *("cvar_limit", "cost", "lag"),
)

# The smallest backtest that a default leaves, in decisions.
FEWEST_DECISIONS = 4

# Of a quick run.
QUICK_YEARS, QUICK_PERIODS, QUICK_PATHS = 0.15, 7, 50


@dataclass(frozen=True, eq=False)
class Job:
    """A walk-forward that is ready to run.

    Attributes
    ----------
    settings : Settings
    tables : PriceTables
    market : Market
    start : Timestamp
        From which decisions are taken.
    end : Timestamp
        Last row that counts.
    n_seeds : int
        Trainings on other draws: how much hangs on the seed.
    n_paths : int
        Of the simulation of the last policy.
    n_repetitions, n_dates : int
        Of the table of stability.
    steps : tuple of float
        Further steps of the calibrated limits.
    notes : Notes
    """

    settings: Settings
    tables: PriceTables
    market: Market
    start: pd.Timestamp
    end: pd.Timestamp
    n_seeds: int
    n_paths: int
    n_repetitions: int
    n_dates: int
    steps: tuple[float, ...]
    notes: Notes


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = opt.command(
        commands,
        "backtest",
        run=run,
        summary="walk forward through past prices: tables, figures, a page",
        description="Trade the multi-stage policy through past prices: every decision uses the "
        "rows up to its date and is executed --lag rows later, net of costs. Beside it run "
        "one-period rules on the same scenarios, equal weights, and cash; where risk is limited "
        "each also with a limit that its realized losses calibrate. Forecast risks and expected "
        "returns are tested against what happened. Tables, figures, a page (report.html) and "
        "run.json go to the folder --out.\n\n"
        "PRICES is a table of prices: dates, then one column per asset; daily, weekly, monthly. "
        "Without it the command runs on made-up prices.",
        examples=(
            "sddp backtest prices.csv",
            "sddp backtest prices.csv --cvar-limit 0.02 --cost 0.002 --start 2015-01-01",
            "sddp backtest prices.csv --quick --out results/first",
        ),
    )
    parser.add_argument("prices", nargs="?", metavar="PRICES", help="file of prices")
    add_options(parser, out=OUT)


def add_options(parser: argparse.ArgumentParser, *, out: str | None) -> None:
    """All options but those of every command, and the file of prices."""
    add_price_options(parser)
    add_walk_options(parser, out=out)


def add_walk_options(parser: argparse.ArgumentParser, *, out: str | None) -> None:
    """Options of the model and the walk-forward, for data that are not read from a file."""
    model_settings.add_model_options(parser, trading=True)
    group = parser.add_argument_group("walk-forward")
    group.add_argument("--start", type=opt.date, metavar="DATE", help="first decision")
    group.add_argument("--end", type=opt.date, metavar="DATE", help="last date that counts")
    group.add_argument(
        "--seeds",
        type=opt.positive,
        metavar="N",
        help="runs of the policy with seeds from --seed on (default 1)",
    )
    group.add_argument(
        "--steps",
        action="store_true",
        help="run calibrated limits with steps of 0.005, 0.01 and 0.05 too, beside 0.02",
    )
    group.add_argument(
        "--paths",
        type=opt.positive,
        metavar="N",
        help="simulated paths of the last policy (default 500)",
    )
    group.add_argument(
        "--jobs", type=opt.positive, default=1, metavar="N", help="runs at a time (default 1)"
    )
    opt.add_out(group, out)
    opt.add_resume(group)


def run(options: argparse.Namespace) -> Result:
    """The main job on the user's prices."""
    return walk_forward(options, read_tables(options))


def walk_forward(options: argparse.Namespace, tables: PriceTables) -> Result:
    """The main job: walk forward, and write what came of it."""
    from sddp.backtest import run_study
    from sddp.cli.results import backtest_results
    from sddp.studies.record import Run

    job = prepare(options, tables)
    record_settings = model_settings.described(job.settings) | {
        "start": job.start.isoformat(),
        "end": job.end.isoformat(),
        "seeds": job.n_seeds,
        "paths": job.n_paths,
        "steps": [STEP, *job.steps],
        "repetitions": job.n_repetitions,
    }
    with Run(options.out, record_settings) as record, opt.store_of(options) as store:
        record.add_input("prices", tables.prices)
        record.add_input("factors", tables.factors)
        if tables.cash is not None:
            record.add_input("cash", tables.cash.to_frame())
        study = run_study(
            job.market,
            cells(job, store),
            start=job.start,
            end=job.end,
            n_jobs=options.jobs,
            store=store,
            progress=not options.quiet,
        )
        check(study)
        found = backtest_results.evaluate(job, study, n_jobs=options.jobs)
        results = backtest_results.write(record, job, found)
        record.finish("complete", results)
    return Result(
        {"status": "complete", "out": options.out} | results,
        lambda width: backtest_results.text(job, found, results, options.out, width),
    )


def prepare(options: argparse.Namespace, tables: PriceTables) -> Job:
    """Settings, market and dates of the walk-forward, checked; what was decided is noted.

    Raises
    ------
    DataError
        The rows do not suffice for what is asked for; the message names the options.
    """
    from sddp.errors import DataError

    if tables.cash is not None and options.cash_rate is not None:
        raise DataError(
            f"--cash-rate {options.cash_rate}: these data bring the return of cash; leave it out"
        )
    notes = tables.notes()
    settings = model_settings.settings_from(options, tables.defaults)
    market = tables.market(settings.cash_rate, getattr(options, "missing", "raise"))
    if options.window is None and options.start is None:
        settings = _shorter_window(settings, market, notes)
    end = _end(options, market)
    start = _start(options, market, settings, tables.defaults, end)
    decided = [
        f"{option.replace('_', '-')} {value}"
        for option, value in model_settings.described(settings).items()
        if option in SAID
    ]
    notes.add(f"Settings for {tables.frequency} prices: {', '.join(decided)}.")
    return Job(
        settings,
        tables,
        market,
        start,
        end,
        n_seeds=options.seeds or 1,
        n_paths=options.paths or (QUICK_PATHS if options.quick else 500),
        n_repetitions=QUICK_REPETITIONS if options.quick else REPETITIONS,
        n_dates=QUICK_STABILITY_DATES if options.quick else STABILITY_DATES,
        steps=OTHER_STEPS if options.steps else (),
        notes=notes,
    )


def _shorter_window(settings: Settings, market: Market, notes: Notes) -> Settings:
    """A default window that leaves rows for decisions after it."""
    from sddp.errors import DataError

    n_returns = len(market.dates) - 1
    if n_returns < 2 * settings.period + settings.lag + 1:
        raise DataError(
            f"--period {settings.period}: {n_returns + 1} rows of prices hold no decision after a "
            "window of two periods; give a smaller --period or more prices"
        )
    needed = FEWEST_DECISIONS * settings.period + settings.lag + 1
    if n_returns - settings.window >= needed:
        return settings
    window = min(max(2 * n_returns // 3, 2 * settings.period), n_returns - settings.lag - 1)
    notes.add(
        f"There are {len(market.dates)} rows: the window is {window} instead of "
        f"{settings.window} rows, to leave some for the backtest (--window sets it)."
    )
    return replace(settings, window=window)


def _end(options: argparse.Namespace, market: Market) -> pd.Timestamp:
    import pandas as pd

    from sddp.errors import DataError

    first, last = market.dates[0], market.dates[-1]
    end = last if options.end is None else pd.Timestamp(options.end)
    if end <= first:
        raise DataError(
            f"--end {options.end}: must lie after the first row of prices, {first:%Y-%m-%d}"
        )
    return min(end, last)


def _start(
    options: argparse.Namespace,
    market: Market,
    settings: Settings,
    defaults: Mapping[str, Any],
    end: pd.Timestamp,
) -> pd.Timestamp:
    import pandas as pd

    from sddp.errors import DataError

    dates = market.dates[market.dates <= end]
    first = dates[min(settings.window, len(dates) - 1)]
    if options.start is not None:
        start = pd.Timestamp(options.start)
        rows = int((dates < start).sum())
        if rows < settings.window:
            raise DataError(
                f"--start {options.start}: needs --window {settings.window} rows of returns "
                f"before it, and {max(rows - 1, 0)} are there; start on {first:%Y-%m-%d} or later, "
                "or give a smaller --window"
            )
    elif options.quick:
        # Of months and weeks, so many periods as make a handful of decisions.
        days = pd.Timedelta(days=round(365.25 * QUICK_YEARS))
        by_periods = dates[-min(QUICK_PERIODS * settings.period, len(dates) - 1)]
        start = max(first, min(dates[-1] - days, by_periods))
    else:
        start = max(first, dates[-1] - pd.Timedelta(days=round(365.25 * defaults["test_years"])))
    n_rows = int((dates >= start).sum())
    if n_rows < settings.lag + 2:
        raise DataError(
            f"--start {start:%Y-%m-%d} and --end {end:%Y-%m-%d}: leave {n_rows} rows; with --lag "
            f"{settings.lag} at least {settings.lag + 2} are needed: give a smaller --window, an "
            "earlier --start or more prices"
        )
    return start


def cells(job: Job, store: str) -> dict[str, Cell]:
    """The policy, its opponents and benchmarks; with a limit also under calibrated ones."""
    from sddp.backtest import Cell, EqualWeight, EveryPeriods, HoldCash

    settings = job.settings
    plain: dict[str, Strategy] = _limited(settings, store)
    strategies: dict[str, Strategy] = {}
    if settings.cvar_limit is not None:
        strategies = {calibrated(name): _calibrated(s, STEP) for name, s in plain.items()}
    # Those that train come apart: of two that run side by side one finds the fits of the other.
    strategies |= plain
    strategies |= {
        f"{SDDP}, seed {seed}": model_settings.strategy(replace(settings, seed=seed), store=store)
        for seed in range(settings.seed + 1, settings.seed + job.n_seeds)
    }
    strategies |= {"equal weights": EqualWeight(), "cash": HoldCash()}
    if settings.cvar_limit is not None:
        strategies |= {
            calibrated(name, step): _calibrated(strategy, step)
            for step in job.steps
            for name, strategy in _limited(settings, store).items()
        }
    every = EveryPeriods(settings.period)
    cost = settings.transaction_cost
    return {name: Cell(s, cost, settings.lag, every) for name, s in strategies.items()}


def _calibrated(strategy: Any, step: float) -> Strategy:
    from sddp.backtest.limits import CalibratedLimit, CalibratedStrategy

    return CalibratedStrategy(strategy, CalibratedLimit(step=step))


def calibrated(name: str, step: float = STEP) -> str:
    """Name of a strategy under a calibrated limit."""
    return f"{name}, {CALIBRATED}" + ("" if step == STEP else f" in steps of {step:g}")


# What strategies are, in words; H is the number of decisions looked ahead.
HELD, CONTROL, ONE_STEP, SCALED = (
    *("held to the horizon", "predictive control", "one-step"),
    "equal weights at the limit",
)
WORDS = {
    SDDP: "The multi-stage policy: looks {H} decisions ahead, with the cost of each trade and the "
    "limit on the risk of every period, under the regimes believed in today.",
    HELD: "One period's rule: holdings valued by their expected return summed over {H} periods, "
    "less the cost of this trade; no later trade.",
    CONTROL: "Trades planned for {H} periods on expected returns, the first executed.",
    ONE_STEP: "Expected wealth after one period, less the cost of this trade.",
    SCALED: "Equal weights, scaled towards cash until the model's CVaR is the limit.",
    "equal weights": "The same weight in every asset, without a limit, traded back at each "
    "decision.",
    "cash": "Cash alone.",
}
IS_CALIBRATED = " The limit used is a multiple of the limit asked that follows its own losses."


def limited_names() -> tuple[str, ...]:
    """Strategies whose limit can be calibrated."""
    return (SDDP, HELD, CONTROL, ONE_STEP, SCALED)


def descriptions(job: Job, names: list[str]) -> dict[str, str]:
    """What each strategy is, in words."""
    found = {}
    for name in names:
        base = name.split(",")[0]
        said = WORDS[base].format(H=job.settings.n_stages)
        found[name] = said + (IS_CALIBRATED if name.endswith(CALIBRATED) else "")
    return found


def _limited(settings: Settings, store: str) -> dict[str, Any]:
    """Strategies with scenarios of their own; the limit, where there is one, is theirs."""
    from sddp.backtest import myopic
    from sddp.backtest.limits import HeldToHorizon, PredictiveControl, ScaledToLimit

    policy = model_settings.strategy(settings, store=store)
    shared = (policy.model, policy.estimator, settings.refit_every)
    found = {
        SDDP: policy,
        HELD: HeldToHorizon(*shared, n_stages=settings.n_stages),
        CONTROL: PredictiveControl(*shared, n_stages=settings.n_stages),
        ONE_STEP: myopic(policy),
    }
    if settings.cvar_limit is not None:
        found[SCALED] = ScaledToLimit(*shared)
    return found


def check(study: Study) -> None:
    """Raise where a run failed, with the reason of the first.

    Raises
    ------
    StudyError
        The data or the model do not carry the run.
    RuntimeError
        The reason is a fault of the package.
    """
    import sddp.errors

    if not study.failures:
        return
    first, n = study.failures[0], len(study.failures)
    total = len(study.configs)
    others = f" ({n} of {total} runs failed; the others are kept)" if 1 < n < total else ""
    if not hasattr(sddp.errors, first.reason.split(":")[0]):
        raise RuntimeError(f"{first}\n{first.trace}")
    raise sddp.errors.StudyError(f"{first}{others}")
