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
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.brazil import inputs, report, tables
from experiments.brazil.config import QUICK, Config
from experiments.brazil.results import run
from experiments.brazil.variants import sensitivities, study
from sddp.cli.exit_codes import guarded
from sddp.market import Market
from sddp.studies.record import ROOT, Run, RunFiles

OUT, STORE = "results/brazil", "results/store"
COMMITTED = ROOT / "experiments" / "results"
COLUMNS = ("annualised_return", "volatility", "sharpe", "maximum_drawdown", "turnover")


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 on success, see `sddp.cli.exit_codes` otherwise."""
    options = _options(arguments)
    work = replot if options.replot else write
    return guarded(lambda: work(options), interrupted="nothing was written")


def write(options: argparse.Namespace) -> None:
    """Run what is asked for, and write all of it."""
    config = _config(options)
    market = _market(options, config)
    with Run(options.out, config) as record:
        known = market.at(market.dates[-1])
        record.add_input("prices", known.prices)
        record.add_input("cash rate", known.cash_rate.to_frame())
        chosen = study(config) + (sensitivities(config) if options.sensitivities else [])
        results = run(config, market, chosen, store=options.store, n_jobs=options.jobs)
        headline = report.write(record, results, n_jobs=options.jobs)
        record.finish("complete", headline)
    _print(headline, options.out)


def _config(options: argparse.Namespace) -> Config:
    changes = dict(QUICK) if options.quick else {}
    if options.rows is not None:
        changes["n_rows"] = options.rows
    return replace(Config(), **changes)


def _market(options: argparse.Namespace, config: Config) -> Market:
    if options.quick and options.prices is None:
        return inputs.made_up(config)
    return inputs.read_market(inputs.find_prices(options.prices), config)


def replot(options: argparse.Namespace) -> None:
    """Draw the figures of a finished run anew, from its tables."""
    folder = Path(options.out)
    config = tables.read_config(folder)
    report.write_figures(RunFiles(folder), config)
    print(f"Figures: {folder}")


def _print(headline: dict[str, Any], out: str) -> None:
    table = pd.DataFrame.from_dict(headline["headline"], orient="index")
    print(table.to_string(float_format=lambda value: f"{value:.4f}"))
    print(
        f"{headline['backtests']} backtests, in sum {headline['seconds_of_backtests']:.0f} s; "
        f"{headline['failed_refits']} refits failed."
    )
    print(f"Tables, figures, report.html and run.json: {out}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="brazil", description=__doc__)
    parser.add_argument("--prices", help="CSV file: date, ibov, gold, usd, eur, cdi")
    parser.add_argument("--out", help=f"folder for results ({OUT})")
    parser.add_argument("--store", default=STORE, help="folder where finished work is kept")
    parser.add_argument("--jobs", type=int, default=-1, help="backtests at a time (all cores)")
    parser.add_argument(
        "--sensitivities",
        action="store_true",
        help="also other seeds, daily training, other numbers of regimes, windows and costs",
    )
    parser.add_argument("--rows", type=int, help="only so many rows of the data, from 2008 on")
    parser.add_argument("--quick", action="store_true", help="few rows, of made-up prices or FILE")
    parser.add_argument("--replot", action="store_true", help="only draw the figures of --out anew")
    options = parser.parse_args(arguments)
    options.out = options.out or (f"{OUT}_quick" if options.quick else OUT)
    if options.quick and COMMITTED in (
        Path(options.out).resolve(),
        *Path(options.out).resolve().parents,
    ):
        parser.error(f"--quick does not write under {COMMITTED}; give another --out")
    return options


if __name__ == "__main__":
    sys.exit(main())
