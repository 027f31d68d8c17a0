"""The paper's first study: three assets and one autoregressive factor.

``python -m experiments.autoregressive [--quick] [--jobs N] [--out DIR] [--replot]``. Policies
under a limit on one-period CVaR, against the dynamic program that is optimal where trading is
free and against upper bounds where it is not. A study of 12 dates has 11 decisions. Tables, figures
and run.json go to the folder; ``--replot`` draws the figures of a folder anew from its tables.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.autoregressive.config import QUICK, Config
from experiments.autoregressive.figures import FIGURES
from experiments.autoregressive.study import Results, run
from sddp.cli.study import Study, StudyRun
from sddp.errors import DataError
from sddp.studies.record import RunFiles

TABLES = (
    "regimes",
    "reference",
    "policies",
    "frontier",
    "scenarios",
    "states",
    "gap",
    "ingredients",
)

SHOWN = {
    "reference": ["quantity", "cvar_limit", "decisions", "reference", "ours", "agrees"],
    "policies": [
        *("policy", "known_regimes", "cvar_limit", "n_states", "n_scenarios", "oracle"),
        *("over_oracle", "over_oracle_low", "over_oracle_high", "true_cvar_over_limit"),
    ],
    "frontier": [
        *("policy", "cvar_limit", "cost", "wealth", "wealth_low", "wealth_high"),
        *("below_sddp", "below_bound", "true_cvar_over_limit"),
    ],
    "gap": [
        *("cost", "n_scenarios", "variant", "gap", "gap_low", "gap_high"),
        *("scaled_gap", "true_cvar_over_limit", "share_over_limit"),
    ],
    "scenarios": [
        *("cvar_limit", "candidate", "wealth_p_value", "wealth_chosen", "value_p_value"),
        *("draws_that_choose_it", "step", "step_low", "step_high", "margin", "step_equivalent"),
    ],
    "states": [
        *("cvar_limit", "candidate", "wealth_p_value", "value_p_value", "within_p_value"),
        *("over_oracle", "over_oracle_equivalent", "scaled_over_oracle", "margin"),
        "true_cvar_over_limit",
    ],
    "ingredients": [
        *("ingredient", "cvar_limit", "cost", "worth", "worth_low", "worth_high"),
        *("worth_within", "worth_within_low", "worth_within_high"),
    ],
}


def settings(options: argparse.Namespace) -> Config:
    """What the numbers depend on."""
    config = replace(Config(), **(QUICK if options.quick else {}))
    return config if options.seed is None else replace(config, seed=options.seed)


def write(job: StudyRun) -> dict[str, Any]:
    """Run the study and write its tables; the headline results."""
    results = run(job.config, job.tasks)
    for name, table in results.items():
        job.record.write_table(name, table)
    return headline(results)


def plot(files: RunFiles) -> None:
    """Draw the figures of a finished run from its tables.

    Raises
    ------
    DataError
        A table is missing or is none.
    """
    results = {name: _read(files.out / f"{name}.csv") for name in TABLES}
    for name, figure in FIGURES.items():
        files.write_figure(name, figure(results))


def headline(results: Results) -> dict[str, Any]:
    """The numbers that the study is about."""
    reference, gaps = results["reference"], results["gap"]
    costly = gaps[gaps["cost"] > 0.0]
    choice = results["scenarios"].groupby("cvar_limit")["wealth_chosen"].first()
    states = results["states"].groupby("cvar_limit")["wealth_chosen"].first()
    return {
        "reference_numbers": len(reference),
        "reference_numbers_met": int(reference["agrees"].sum()),
        "scenarios_chosen_by_limit": choice.to_dict(),
        "states_chosen_by_limit": states.to_dict(),
        "gap_share_of_gain_with_costs": dict(
            zip(costly["variant"], costly["gap_share_of_gain"], strict=True)
        ),
    }


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, index_col=0)
    except (OSError, ValueError) as error:
        raise DataError(f"--replot: {path} cannot be read: {error}; run without it") from error


STUDY = Study(
    name="autoregressive",
    description=__doc__,
    settings=settings,
    run=write,
    plot=plot,
    shown=SHOWN,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
