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
from typing import Any

import pandas as pd

from experiments.french import analysis, in_sample, inputs, results, rolling
from experiments.french.config import DAILY, QUICK, SINCE_1984, Config
from sddp.cli import options as opt
from sddp.cli.study import Study, StudyRun

PARTS = ("in-sample", "rolling")

SHOWN = {
    "speed": ["what", "iterations", "seconds"],
    "gap": ["n_scenarios", "variant", "gap", "gap_low", "gap_high", "true_cvar_over_limit"],
    "ingredients": ["ingredient", "in_excess_of_bills", "worth", "worth_low", "worth_high"],
    "summary": [
        *("annualized_return", "volatility", "sharpe", "maximum_drawdown", "cvar"),
        *("turnover", "average_cash", "limit_binds", "seconds"),
    ],
    "rolling_ingredients": ["ingredient", "metric", "worth", "low", "high", "p_value"],
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    parser.add_argument("--returns", metavar="FILE", help="CSV file of portfolio returns by date")
    parser.add_argument("--factors", metavar="FILE", help="CSV file of factors and rf by date")
    parser.add_argument("--only", choices=PARTS, help="one part of the study")
    parser.add_argument("--since-1984", action="store_true", help="246 months of training")
    parser.add_argument("--daily", action="store_true", help="settings of 25 portfolios daily")
    parser.add_argument(
        "--rows", type=opt.positive, metavar="N", help="only so many rows out of sample"
    )


def settings(options: argparse.Namespace) -> Config:
    """What the numbers depend on."""
    changes: dict[str, Any] = {}
    for wanted, chosen in (
        (options.daily, DAILY),
        (options.since_1984, SINCE_1984),
        (options.quick, QUICK),
    ):
        changes |= dict(chosen) if wanted else {}
    for field, value in (("n_rows", options.rows), ("seed", options.seed)):
        changes |= {} if value is None else {field: value}
    return replace(Config(), **changes)


def write(job: StudyRun) -> dict[str, Any]:
    """Run what is asked for, part by part; the headline results."""
    config, options, record = job.config, job.options, job.record
    if options.quick and options.returns is None:
        data = inputs.made_up(config)
    else:
        data = inputs.read(options.returns, options.factors, config)
    record.add_input("returns", data.returns)
    record.add_input("factors", data.factors)
    record.add_input("bills", data.rf.to_frame())
    seconds = {}
    for part in PARTS if options.only is None else (options.only,):
        started = time.perf_counter()
        for name, table in run_part(part, data, job).items():
            record.write_table(name, table)
        seconds[part] = round(time.perf_counter() - started, 1)
        job.finished.update(headline(record.tables), seconds=seconds)
    return job.finished


def run_part(part: str, data: inputs.FrenchData, job: StudyRun) -> dict[str, pd.DataFrame]:
    """Tables of one part of the study."""
    if part == "in-sample":
        return in_sample.run(job.config, data, job.tasks)
    backtests = rolling.run(
        job.config, data, store=job.store, n_jobs=job.n_jobs, progress=job.progress
    )
    return analysis.tables(backtests)


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
        shown = ["annualized_return", "volatility", "sharpe", "maximum_drawdown", "turnover"]
        found["backtests"] = summary[shown].to_dict("index")
        found["core_seconds"] = float(summary["seconds"].sum())
    return found


STUDY = Study(
    name="french",
    description=__doc__,
    settings=settings,
    run=write,
    plot=results.draw,
    add_options=add_options,
    shown=SHOWN,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
