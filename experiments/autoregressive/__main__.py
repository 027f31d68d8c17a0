"""The paper's first study: three assets and one autoregressive factor.

``python -m experiments.autoregressive [--quick] [--n-jobs N] [--out DIR] [--replot]``. Policies
under a limit on one-period CVaR, against the dynamic programme that is optimal where trading is
free and against upper bounds where it is not. A study of 12 dates has 11 decisions. Tables, figures
and run.json go to the folder; ``--replot`` draws the figures of a folder anew from its tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.autoregressive.config import QUICK, Config
from experiments.autoregressive.figures import FIGURES
from experiments.autoregressive.study import Results, run
from sddp.cli.exit_codes import guarded
from sddp.errors import DataError
from sddp.studies.record import Run, write_figure

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


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 on success, see `sddp.cli.exit_codes` otherwise."""
    config, replot = _config(arguments)
    work = partial(redraw, Path(config.out)) if replot else partial(write, config)
    return guarded(work, interrupted="nothing was written")


def write(config: Config) -> None:
    """Run the study, and write all of it."""
    with Run(config.out, config) as record:
        results = run(config)
        for name, table in results.items():
            record.write_table(name, table)
        redraw(record.out)
        record.finish("complete", headline(results))
    _print(config, results)


def redraw(folder: Path) -> None:
    """Draw the figures of a finished run from its tables.

    Raises
    ------
    DataError
        A table is missing or is none.
    """
    results = {name: _read(folder / f"{name}.csv") for name in TABLES}
    for name, figure in FIGURES.items():
        write_figure(folder, name, figure(results))


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


def _print(config: Config, results: Results) -> None:
    shown: Mapping[str, list[str]] = {
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
    for name, columns in shown.items():
        print(f"\n{name} ({config.n_decisions} decisions where not said)")
        print(results[name][columns].to_string(index=False, float_format=lambda v: f"{v:.5f}"))
    print(f"\nTables, figures and run.json: {config.out}")


def _config(arguments: list[str] | None) -> tuple[Config, bool]:
    default = Config()
    parser = argparse.ArgumentParser(prog="autoregressive", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small run, some seconds")
    parser.add_argument("--n-jobs", type=int, default=default.n_jobs, help="processes")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--out", default=None, help=f"folder for results ({default.out})")
    parser.add_argument("--replot", action="store_true", help="draw the folder's figures anew")
    options = vars(parser.parse_args(arguments))
    if options["n_jobs"] < 1:
        parser.error(f"--n-jobs {options['n_jobs']}; give at least 1")
    quick, replot = options.pop("quick"), options.pop("replot")
    out = options.pop("out") or (f"{default.out}_quick" if quick else default.out)
    return replace(default, **(QUICK if quick else {}), **options, out=out), replot


if __name__ == "__main__":
    sys.exit(main())
