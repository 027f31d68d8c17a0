"""The specification's portfolio: its risk under several laws, and what a crowd adds to it.

``python -m experiments.agents [--quick] [--data FOLDER]``. The folder holds ``digital_rwa`` and
``hourly``; without it the part on real prices is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from experiments.agents import study
from experiments.agents.config import CLAIM, QUICK, Config
from experiments.agents.figures import plot
from sddp.cli.study import Study, StudyRun

# Paths that are kept for the figure.
SHOWN_PATHS = 2_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    parser.add_argument("--data", metavar="FOLDER", help="folder of digital_rwa and hourly")


def settings(options: argparse.Namespace) -> Config:
    """What is computed."""
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    changes |= {} if options.seed is None else {"seed": options.seed}
    return replace(Config(), data=options.data, **changes)


def run(job: StudyRun) -> dict[str, Any]:
    """Write the tables; headline results."""
    config, record = job.config, job.record
    example, returns, paths = study.example(config)
    record.write_table("example", example)
    record.write_table("returns", returns)
    record.write_table("paths", pd.DataFrame(paths[:SHOWN_PATHS]))
    record.write_table("contributions", study.contributions())
    record.write_table("stress", study.stress())
    record.write_table("cascade", study.cascade(config))
    record.write_table("impact_paths", study.impact_paths())
    crowds, region = study.crowds(config, job.tasks)
    record.write_table("crowds", crowds)
    record.write_table("region", region)
    for name, table in study.real_prices(config).items():
        record.write_table(name, table)
    reached = region[region["at once"] >= -CLAIM]
    chance = example[example["figure"] == "probability of losing more than 20 %"]
    base = "30 of 252 days as one period"
    by_law = chance[chance["convention"] == base].set_index("law")["value"]
    var = example[(example["convention"] == base) & (example["figure"] == "VaR 95 %")]
    return {
        "value_at_risk_by_law": var.set_index("law")["value"].to_dict(),
        "chance_of_losing_20_percent": by_law.to_dict(),
        "settings": len(region),
        "settings_that_lose_15_percent": len(reached),
        "deepest_market_that_does": float(reached["depth"].max()) if len(reached) else None,
    }


def text(results: Mapping[str, Any]) -> str:
    """The findings for people."""
    var, chance = results["value_at_risk_by_law"], results["chance_of_losing_20_percent"]
    deepest = results["deepest_market_that_does"]
    where = (
        "no setting" if deepest is None else f"{results['settings_that_lose_15_percent']} settings"
    )
    return (
        f"95 % VaR over 30 of 252 days: {var['normal']:.2%} normal, {var['Student-t (4)']:.2%} "
        "Student-t of the same variance.\n"
        f"Chance of losing more than 20 %: {chance['normal']:.2%} and "
        f"{chance['Student-t (4)']:.2%}.\n"
        f"The agents bring the 95 % VaR to 15 % in {where} of {results['settings']}"
        + (
            "."
            if deepest is None
            else f"; the deepest of them moves by 1 % for {deepest:.3g} of their wealth."
        )
    )


STUDY = Study(
    name="agents",
    description=__doc__,
    settings=settings,
    run=run,
    plot=plot,
    add_options=add_options,
    shown={"contributions": ("contribution", "share"), "stress": ("instantaneous loss", "CVaR")},
    text=text,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
