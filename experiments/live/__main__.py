"""A portfolio that runs on replayed rows: paper trading, row by row.

``python -m experiments.live [--quick] [--replay FILE [--speed X]] [--strategy NAME] [--state FILE]
[--bus nats://...] [--dashboard PORT] [--export FILE] [--from-backtest] [--updating] [--drill]``.
Without a file the rows are drawn. ``page.html`` among the results is the page of the dashboard at
the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.live import study
from experiments.live.config import STRATEGIES, Config
from experiments.live.drill import drill
from sddp.cli import options as opt
from sddp.cli.study import Study, StudyRun
from sddp.errors import ModelError

QUICK = {"rows": 200, "history": 50}
KILLS, QUICK_KILLS = 1_000, 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--replay", metavar="FILE", help="CSV file of times and prices")
    parser.add_argument("--speed", type=float, metavar="X", help="60: an hour in a minute")
    parser.add_argument("--rows", type=opt.positive, metavar="N", help="take the first N rows")
    parser.add_argument("--strategy", choices=STRATEGIES, default="mean-variance")
    parser.add_argument("--state", metavar="FILE", help="state file; a run goes on from it")
    parser.add_argument("--bus", metavar="URL", help="publish on a NATS server")
    parser.add_argument("--dashboard", type=opt.natural, metavar="PORT", help="serve the page")
    parser.add_argument(
        "--export", metavar="FILE", help="write the log of --state at --export-at and at the end"
    )
    parser.add_argument(
        "--export-at", metavar="CRON", default="0 2 * * *", help="in UTC; default %(default)s"
    )
    parser.add_argument(
        "--from-backtest", action="store_true", help="compare with a backtest of the same rows"
    )
    parser.add_argument(
        "--updating", action="store_true", help="backtest rules of updating at two costs"
    )
    parser.add_argument(
        "--drill", action="store_true", help="kill, delay, corrupt and duplicate, and compare"
    )


def settings(options: argparse.Namespace) -> Config:
    """What is computed."""
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    changes |= {} if options.seed is None else {"seed": options.seed}
    changes |= {} if options.rows is None else {"rows": options.rows}
    kills = (QUICK_KILLS if options.quick else KILLS) if options.drill else 0
    return replace(
        Config(), replay=options.replay, strategy=options.strategy, kills=kills, **changes
    )


def run(job: StudyRun) -> dict[str, Any]:
    """Write the tables and the page; headline results."""
    config, record, options = job.config, job.record, job.options
    results: dict[str, Any] = {}
    if options.export is not None and options.state is None:
        raise ModelError("--export: needs a state file; give --state FILE")
    if config.kills:
        with tempfile.TemporaryDirectory() as folder:
            lines = list(drill(config.kills, Path(folder), seed=config.seed))
        record.write_table("drill", pd.DataFrame({"what happened": lines}))
        results["drill"] = lines
    market = study.market_of(config)
    connections = study.Connections(
        speed=options.speed,
        state=options.state,
        bus=options.bus,
        dashboard=options.dashboard,
        export=options.export,
        export_at=options.export_at,
    )
    ran = study.run_loop(config, market, connections)
    record.write_table("events", ran.counts())
    record.write_table("latency", ran.latency())
    ran.page.write(record.out / "page.html")
    last = ran.figures[-1] if ran.figures else None
    results |= {
        "rows": len(ran.figures),
        "wealth": None if last is None else last.wealth,
        "milliseconds_a_row": ran.latency().iloc[0].to_dict(),
    }
    if options.from_backtest:
        compared = study.equal_to_backtest(config, market, ran)
        record.write_table("compared", compared)
        results["equal_to_backtest"] = bool(compared["equal"].all())
    if options.updating:
        for name, table in study.updating_tables(config, market).items():
            record.write_table(name, table)
    return results


def text(results: Mapping[str, Any]) -> str:
    """The findings for people."""
    lines = list(results.get("drill", []))
    if results["wealth"] is not None:
        lines.append(f"{results['rows']} rows; wealth {results['wealth']:.4f} of 1.")
    if "equal_to_backtest" in results:
        same = "equal to" if results["equal_to_backtest"] else "DIFFERENT from"
        lines.append(f"Events and wealth are {same} those of a backtest of the same rows.")
    return "\n".join(lines)


STUDY = Study(
    name="live",
    description=__doc__,
    settings=settings,
    run=run,
    add_options=add_options,
    shown={
        "latency": ("rows", "p50", "p95", "max"),
        "updating": (
            *("cost", "start", "rule", "less every row", "half-width", "sharpe", "turnover"),
            "rows traded",
        ),
    },
    text=text,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
