"""One-period optimizers beside the multi-stage policy, equal weights and inverse volatility.

``python -m experiments.one_period [--quick] [--data FOLDER]``: weekly decisions on 20 US stocks
(survivors: only differences between strategies mean something) and on digital and real assets of
``FOLDER/digital_rwa/prices.csv`` (by default ``../shared/data``; left out, with a message, where
it is not there). Net of costs, with intervals and deflation; a correlated fall of real estate
through time; which inputs move the weights; what a band around risk budgets is worth; the online
solver beside the exact one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.one_period import inputs, study
from experiments.one_period.figures import plot
from experiments.one_period.inputs import QUICK, Config
from sddp.cli.study import Study, StudyRun


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    parser.add_argument(
        "--data", metavar="FOLDER", default="../shared/data", help="folder of digital_rwa"
    )


def settings(options: argparse.Namespace) -> Config:
    """What is computed."""
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    changes |= {} if options.seed is None else {"seed": options.seed}
    return replace(Config(), **changes)


def run(job: StudyRun) -> dict[str, Any]:
    """Write the tables; headline results."""
    config: Config = job.config
    folder = Path(job.options.data) / "digital_rwa"
    file = folder / "prices.csv"
    cases = [inputs.stocks(config, folder / "vix_daily.csv")]
    left_out = "" if file.is_file() else f"{file} is missing: digital and real assets are left out"
    if not left_out:
        cases.append(inputs.digital(config, file))
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for case in cases:
        job.record.add_input(case.name, case.market.at(case.market.dates[-1]).returns)
        tables = study.tables(case, config, job.store, job.n_jobs, job.progress)
        for name, table in tables.items():
            found.setdefault(name, {})[case.name] = table
    for name, parts in found.items():
        table = pd.concat(parts, names=["case"]).reset_index(level="case")
        job.record.write_table(name, table)
    return {"left_out": left_out, **study.findings(found)}


def text(results: Mapping[str, Any]) -> str:
    """The findings for people."""
    lines = [results["left_out"]] if results["left_out"] else []
    for case, said in results["cases"].items():
        best, policy = said["highest_sharpe"], said["multistage_less_equal_weights"]
        lines += [
            f"{case}: highest Sharpe ratio {best['sharpe']:.2f} ({best['strategy']}), deflated "
            f"probability {best['deflated']:.2f}; the multi-stage policy less equal weights "
            f"{policy['value']:.2f} ({policy['low']:.2f} to {policy['high']:.2f}).",
            f"  Order of inputs, one standard error: {', '.join(said['order_by_error'])}.",
            f"  Order of inputs, 1 %: {', '.join(said['order_by_percent'])}.",
            f"  A band of 5 % around equal risk contributions: Sharpe ratio "
            f"{said['band']['difference']:+.3f}, turnover {said['band']['turnover']:.2f} a year "
            f"instead of {said['band']['turnover_without']:.2f}.",
        ]
    return "\n".join(lines)


STUDY = Study(
    name="one_period",
    description=__doc__,
    settings=settings,
    run=run,
    plot=plot,
    add_options=add_options,
    shown={"summary": ("case", "annualized_return", "volatility", "sharpe", "cvar", "turnover")},
    text=text,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
