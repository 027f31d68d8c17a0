"""What a horizon is worth: multi-stage policies against rules of one decision, the truth known.

``python -m experiments.horizon [--quick] [--jobs N] [--out DIR] [--replot]``. Three assets are
predicted by one factor (Brown and Smith 2011) and traded eleven times under a limit on one-period
CVaR; costs, the factor's half-life, the months that parameters are estimated from and the holdings
at first vary. The multi-stage policy meets the best trade of one period, the portfolio held to the
horizon, trades planned on conditional means, and an upper bound on every policy. A second part has
what one decision does not look at: payments, a floor, a limit that tightens, an exit that costs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from experiments.horizon.config import QUICK, Config
from experiments.horizon.figures import label, plot
from experiments.horizon.study import HELD, MULTI, run
from sddp.cli.study import Study, StudyRun


def settings(options: argparse.Namespace) -> Config:
    """What the numbers depend on."""
    config = replace(Config(), **(QUICK if options.quick else {}))
    return config if options.seed is None else replace(config, seed=options.seed)


def write(job: StudyRun) -> dict[str, Any]:
    """Run the study and write its tables; the headline results."""
    tables = run(job.config, job.tasks)
    for name, table in tables.items():
        job.record.write_table(name, table)
    return headline(tables["gains"], tables["differences"], tables["terms"])


def headline(gains: pd.DataFrame, differences: pd.DataFrame, terms: pd.DataFrame) -> dict[str, Any]:
    """Gains at the paper's settings by cost, and where the horizon certainly pays or costs."""
    plain = gains[(gains["months"] == 0) & (gains["start"] == "cash")]
    paper = plain[plain["half_life"] == Config().settings[0].half_life]
    by_cost = {
        name: dict(zip(own["cost"], own["gain"].round(4), strict=True))
        for name in (MULTI, HELD)
        for own in [paper[paper["rule"] == name]]
    }
    best = differences[differences["best_rule"]]
    others = terms[terms["rule"] != MULTI].groupby("terms", sort=False)
    ahead = others["below_multi_stage_low"].min() > 0.0
    return {
        "gain_in_percent": by_cost,
        "settings": len(best),
        "above_the_best_rule": _named(best[best["difference_low"] > 0.0]),
        "below_the_best_rule": _named(best[best["difference_high"] < 0.0]),
        "terms_above_all_rules": [str(name) for name in ahead.index[ahead]],
    }


def _named(rows: pd.DataFrame) -> list[str]:
    return [label(row) for _, row in rows.iterrows()]


def text(results: Mapping[str, Any]) -> str:
    """The finding for people."""
    n, above = results["settings"], results["above_the_best_rule"]
    below = results["below_the_best_rule"]

    def where(names: list[str]) -> str:
        return f"{len(names)} of {n} settings" + (f" ({'; '.join(names)})" if names else "")

    return (
        f"The multi-stage policy is above the best rule of one decision in {where(above)}, "
        f"below it in {where(below)}; elsewhere the interval holds 0.\n"
        f"It is above all of them under: {'; '.join(results['terms_above_all_rules']) or 'none'}."
    )


STUDY = Study(
    name="horizon",
    description=__doc__,
    settings=settings,
    run=write,
    plot=plot,
    shown={
        "gains": [
            *("cost", "half_life", "months", "start", "rule", "gain", "gain_low", "gain_high"),
            "risk_over_limit",
        ],
        "differences": [
            *("cost", "half_life", "months", "start", "less", "best_rule", "difference"),
            *("difference_low", "difference_high"),
        ],
        "terms": [
            *("terms", "rule", "gain", "gain_low", "gain_high", "shortfall_probability"),
            *("below_multi_stage", "below_multi_stage_low", "below_multi_stage_high"),
        ],
    },
    text=text,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
