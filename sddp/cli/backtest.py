"""``sddp backtest``: the main job, a walk-forward of the multi-stage policy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sddp.cli import options as opt
from sddp.cli import settings as model_settings
from sddp.cli.market_input import Notes, PriceTables, add_price_options, read_tables
from sddp.cli.output import Result
from sddp.cli.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from sddp.backtest import Cell, Study
    from sddp.market import Market

SDDP = "SDDP"
OUT = "results/backtest"

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
    notes : Notes
    """

    settings: Settings
    tables: PriceTables
    market: Market
    start: pd.Timestamp
    end: pd.Timestamp
    n_seeds: int
    n_paths: int
    notes: Notes


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = opt.command(
        commands,
        "backtest",
        run=run,
        summary="walk forward through past prices: tables, figures, a page",
        description="Trade the multi-stage policy through past prices: every decision uses the "
        "rows up to its date and is executed --lag rows later, net of costs. Beside it run the "
        "same policy with other seeds, equal weights, and cash. Tables, figures, a page "
        "(report.html) and run.json go to the folder --out.\n\n"
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
    model_settings.add_model_options(parser, trading=True)
    group = parser.add_argument_group("walk-forward")
    group.add_argument("--start", type=opt.date, metavar="DATE", help="first decision")
    group.add_argument("--end", type=opt.date, metavar="DATE", help="last date that counts")
    group.add_argument(
        "--seeds",
        type=opt.positive,
        metavar="N",
        help="runs of the policy with seeds from --seed on (default 3, with --quick 1)",
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
    from sddp.cli import backtest_results
    from sddp.studies.record import Run

    job = prepare(options, tables)
    record_settings = model_settings.described(job.settings) | {
        "start": job.start.isoformat(),
        "end": job.end.isoformat(),
        "seeds": job.n_seeds,
        "paths": job.n_paths,
    }
    with Run(options.out, record_settings) as record, opt.store_of(options) as store:
        record.add_input("prices", tables.prices)
        record.add_input("factors", tables.factors)
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
        results = backtest_results.write(record, job, study)
        record.finish("complete", results)
    return Result(
        {"status": "complete", "out": options.out} | results,
        lambda width: backtest_results.text(job, study, results, options.out, width),
    )


def prepare(options: argparse.Namespace, tables: PriceTables) -> Job:
    """Settings, market and dates of the walk-forward, checked; what was decided is noted.

    Raises
    ------
    DataError
        The rows do not suffice for what is asked for; the message names the options.
    """
    notes = tables.notes()
    settings = model_settings.settings_from(options, tables.defaults)
    market = tables.market(settings.cash_rate, options.missing)
    if options.window is None and options.start is None:
        settings = _shorter_window(settings, market, notes)
    end = _end(options, market)
    start = _start(options, market, settings, tables.defaults, end)
    decided = [
        f"{option.replace('_', '-')} {value}"
        for option, value in model_settings.described(settings).items()
        if option in ("window", "period", "stages", "states", "refit_every", "cvar_limit", "cost")
    ]
    notes.add(f"Settings for {tables.frequency} prices: {', '.join(decided)}.")
    return Job(
        settings,
        tables,
        market,
        start,
        end,
        n_seeds=options.seeds or (1 if options.quick else 3),
        n_paths=options.paths or (QUICK_PATHS if options.quick else 500),
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
    """The policy with its seeds, and what it is compared with."""
    from sddp.backtest import Cell, EqualWeight, EveryPeriods, HoldCash, Strategy

    settings = job.settings
    seeds = range(settings.seed, settings.seed + job.n_seeds)
    strategies: dict[str, Strategy] = {
        SDDP if seed == settings.seed else f"{SDDP}, seed {seed}": model_settings.strategy(
            replace(settings, seed=seed), store=store
        )
        for seed in seeds
    }
    strategies |= {"equal weights": EqualWeight(), "cash": HoldCash()}
    every = EveryPeriods(settings.period)
    cost = settings.transaction_cost
    return {name: Cell(s, cost, settings.lag, every) for name, s in strategies.items()}


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
