"""The slide deck's study: gold, Ibovespa, dollar, euro and cash, out of sample from 2008 on.

``python -m experiments.brazil [--prices FILE.csv] [--sensitivities] [--quick] [--replot]``. The
prices are those of ``sddp data fetch brazil --out data/brazil/prices.csv``, or any CSV file with
the columns date, ibov, gold, usd, eur, cdi. What is finished is kept in the store: an interrupted
run goes on from there, and a finished one is written anew in a minute or two.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from experiments.brazil import inputs, report
from experiments.brazil.config import QUICK, Config
from experiments.brazil.results import run
from experiments.brazil.variants import sensitivities, study
from sddp.cli import options as opt
from sddp.cli.study import Study, StudyRun
from sddp.market import Market
from sddp.studies.record import RunFiles

COLUMNS = ("annualized_return", "volatility", "sharpe", "maximum_drawdown", "turnover")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    parser.add_argument(
        "--prices", metavar="FILE", help="CSV file: date, ibov, gold, usd, eur, cdi"
    )
    parser.add_argument(
        "--sensitivities",
        action="store_true",
        help="also other seeds, daily training, other numbers of regimes, windows and costs",
    )
    parser.add_argument(
        "--rows", type=opt.positive, metavar="N", help="only so many rows of the data, from 2008 on"
    )


def settings(options: argparse.Namespace) -> Config:
    """What the numbers depend on; ``--seed`` is the first of three."""
    changes = dict(QUICK) if options.quick else {}
    if options.rows is not None:
        changes["n_rows"] = options.rows
    config = replace(Config(), **changes)
    if options.seed is None:
        return config
    return replace(config, seeds=tuple(options.seed + k for k in range(len(config.seeds))))


def write(job: StudyRun) -> dict[str, Any]:
    """Run what is asked for, and write all of it; the headline results."""
    config, options = job.config, job.options
    market = _market(options, config)
    known = market.at(market.dates[-1])
    job.record.add_input("prices", known.prices)
    job.record.add_input("cash rate", known.cash_rate.to_frame())
    chosen = study(config) + (sensitivities(config) if options.sensitivities else [])
    results = run(config, market, chosen, store=job.store, n_jobs=job.n_jobs, progress=job.progress)
    return report.write(job.record, results, n_jobs=job.n_jobs)


def plot(files: RunFiles) -> None:
    """Draw the figures of a run from its tables."""
    report.write_figures(files, config_of(files))


def config_of(files: RunFiles) -> Config:
    """Settings of a run."""
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in files.settings.items()
    }
    return Config(**settings)


def _market(options: argparse.Namespace, config: Config) -> Market:
    if options.quick and options.prices is None:
        return inputs.made_up(config)
    return inputs.read_market(inputs.find_prices(options.prices), config)


STUDY = Study(
    name="brazil",
    description=__doc__,
    settings=settings,
    run=write,
    plot=plot,
    add_options=add_options,
    shown={"summary": COLUMNS},
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
