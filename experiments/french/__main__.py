"""The paper's second study: 100 portfolios, five factors in a Markov chain, monthly.

``python -m experiments.french --returns FILE --factors FILE``. The files are those of
``sddp data fetch french --out FOLDER`` (``size_bm_100_monthly.csv`` and ``ff5_monthly.csv``; the
other set of 100, ``size_op_100_monthly.csv``, is run the same way). Two parts, of which ``--only``
runs one: in sample, after 618 months, and out of sample from there on. A study of 12 dates has 11
decisions. What is finished is kept in the store: an interrupted run goes on from there.

On request: ``--since-1984``, out of sample from 1984 on, with 246 months at the first decision;
``--daily``, 25 portfolios day by day (``size_bm_25_daily.csv`` and ``ff5_daily.csv``), 22 dates, a
limit of 2 % and a cost of 0.5 %, refitted every 21 days and executed a day after the decision.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.french import analysis, in_sample, inputs, results, rolling
from experiments.french.config import DAILY, QUICK, SINCE_1984, Config
from sddp.cli.exit_codes import guarded
from sddp.studies.record import ROOT, Run, RunFiles

OUT, STORE = "results/french", "results/store"
COMMITTED = ROOT / "experiments" / "results"
PARTS = ("in-sample", "rolling")


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 on success, see `sddp.cli.exit_codes` otherwise."""
    options = _options(arguments)
    work = replot if options.replot else write
    return guarded(lambda: work(options), interrupted="what is finished is kept")


def write(options: argparse.Namespace) -> None:
    """Run what is asked for, and write all of it."""
    config = config_of(options)
    if options.quick and options.returns is None:
        data = inputs.made_up(config)
    else:
        data = inputs.read(options.returns, options.factors, config)
    # A part alone is written beside what the folder holds of the other one.
    with Run(options.out, config, keep=options.only is not None) as record:
        record.add_input("returns", data.returns)
        record.add_input("factors", data.factors)
        record.add_input("bills", data.rf.to_frame())
        tables: dict[str, pd.DataFrame] = {}
        seconds = {}
        for part in PARTS if options.only is None else (options.only,):
            started = time.perf_counter()
            tables |= run_part(part, config, data, options)
            seconds[part] = round(time.perf_counter() - started, 1)
        results.write(record, tables)
        found = headline(tables) | {"seconds": seconds}
        record.finish("complete", found)
    _print(config, tables, found, options.out)


def replot(options: argparse.Namespace) -> None:
    """Draw the figures of a finished run anew, from its tables."""
    results.draw(RunFiles(options.out))
    print(f"Figures: {options.out}")


def run_part(
    part: str, config: Config, data: inputs.FrenchData, options: argparse.Namespace
) -> dict[str, pd.DataFrame]:
    """Tables of one part of the study."""
    if part == "in-sample":
        return in_sample.run(config, data, store=options.store, n_jobs=options.jobs)
    backtests = rolling.run(config, data, store=options.store, n_jobs=options.jobs)
    return analysis.tables(backtests)


def config_of(options: argparse.Namespace) -> Config:
    """Settings of what is asked for."""
    changes: dict[str, Any] = {}
    for wanted, settings in (
        (options.daily, DAILY),
        (options.since_1984, SINCE_1984),
        (options.quick, QUICK),
    ):
        changes |= dict(settings) if wanted else {}
    if options.rows is not None:
        changes["n_rows"] = options.rows
    return replace(Config(), **changes)


def headline(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The numbers that the study is about."""
    found: dict[str, Any] = {}
    if "gap" in tables:
        gap = tables["gap"]
        found["gap_share_of_gain"] = {
            f"S = {n}, {name}": share
            for n, name, share in zip(
                gap["n_scenarios"], gap["variant"], gap["gap_share_of_gain"], strict=True
            )
        }
        found["training_seconds"] = dict(
            zip(tables["speed"]["what"], tables["speed"]["seconds"], strict=True)
        )
    if "summary" in tables:
        summary = tables["summary"]
        shown = ["annualised_return", "volatility", "sharpe", "maximum_drawdown", "turnover"]
        found["backtests"] = summary[shown].to_dict("index")
        found["core_seconds"] = float(summary["seconds"].sum())
    return found


def _print(
    config: Config, tables: Mapping[str, pd.DataFrame], found: Mapping[str, Any], out: str
) -> None:
    shown = {
        "speed": ["what", "iterations", "seconds"],
        "gap": ["n_scenarios", "variant", "gap", "gap_low", "gap_high", "true_cvar_over_limit"],
        "ingredients": ["ingredient", "in_excess_of_bills", "worth", "worth_low", "worth_high"],
        "summary": [
            *("annualised_return", "volatility", "sharpe", "maximum_drawdown", "cvar"),
            *("turnover", "average_cash", "limit_binds", "seconds"),
        ],
        "rolling_ingredients": ["ingredient", "metric", "worth", "low", "high", "p_value"],
    }
    for name, columns in shown.items():
        if name in tables:
            print(f"\n{name} ({config.n_decisions} decisions)")
            print(tables[name][columns].to_string(float_format=lambda v: f"{v:.4f}"))
    print(f"\nSeconds: {found['seconds']}. Tables, figures and run.json: {out}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="french", description=__doc__)
    parser.add_argument("--returns", help="CSV file of portfolio returns by date")
    parser.add_argument("--factors", help="CSV file of factors and rf by date")
    parser.add_argument("--only", choices=PARTS, help="one part of the study")
    parser.add_argument("--since-1984", action="store_true", help="246 months of training")
    parser.add_argument("--daily", action="store_true", help="settings of 25 portfolios daily")
    parser.add_argument("--rows", type=int, help="only so many rows out of sample")
    parser.add_argument("--out", help=f"folder for results ({OUT})")
    parser.add_argument("--store", default=STORE, help="folder where finished work is kept")
    parser.add_argument("--jobs", type=int, default=-1, help="processes (all cores)")
    parser.add_argument("--quick", action="store_true", help="small run on made-up data")
    parser.add_argument("--replot", action="store_true", help="only draw the figures of --out anew")
    options = parser.parse_args(arguments)
    if options.rows is not None and options.rows < 1:
        parser.error(f"--rows {options.rows}; give at least 1")
    options.out = options.out or (f"{OUT}_quick" if options.quick else OUT)
    within = Path(options.out).resolve()
    if options.quick and COMMITTED in (within, *within.parents):
        parser.error(f"--quick does not write under {COMMITTED}; give another --out")
    return options


if __name__ == "__main__":
    sys.exit(main())
