"""The specification's portfolio: its risk under several laws, and what a crowd adds to it.

``python -m experiments.agents [--quick] [--data FOLDER]``. The folder holds ``digital_rwa`` and
``hourly``; without it the part on real prices is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.agents import study
from experiments.agents.config import CLAIM, QUICK, Config
from experiments.agents.figures import plot
from sddp.cli.study import Study, StudyRun
from sddp.display.simulation_figures import wealth_quantiles


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    parser.add_argument("--data", metavar="FOLDER", help="folder of digital_rwa and hourly")


def settings(options: argparse.Namespace) -> Config:
    """What is computed."""
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    changes |= {} if options.seed is None else {"seed": options.seed}
    return replace(Config(), **changes)


def run(job: StudyRun) -> dict[str, Any]:
    """Write the tables; headline results."""
    config, record = job.config, job.record
    inputs = study.read_prices(Path(job.options.data)) if job.options.data is not None else {}
    for name, table in inputs.items():
        record.add_input(name, table)
    example, returns, paths = study.example(config)
    record.write_table("example", example)
    record.write_table("returns", returns)
    record.write_table("wealth", wealth_quantiles(paths))
    record.write_table("contributions", study.contributions())
    record.write_table("stress", study.shocked(study.moments_of(30)))
    record.write_table("cascade", study.cascade(config))
    record.write_table("impact_paths", study.impact_paths())
    record.write_table("slicing", study.slicing())
    record.write_table("crowding", study.crowding_table(config))
    record.write_table("knowing", study.knowing(config))
    known = study.known_numbers(config)
    record.write_table("known", known)
    crowds, region = study.crowds(config, job.tasks)
    record.write_table("crowds", crowds)
    record.write_table("region", region)
    judged = study.claims(config, region)
    record.write_table("claims", judged)
    real = study.real_prices(config, inputs) if inputs else {}
    for name, table in real.items():
        record.write_table(name, table)
    reached = region[region["at once"] >= -CLAIM]
    blind = reached[~reached["foresight"]]
    deepest = float(blind["depth"].max()) if len(blind) else None
    data = real.get("depth_in_data")
    return {
        "known_numbers": len(known),
        "known_numbers_that_agree": int(known["agrees"].sum()),
        "claims": dict(zip(judged["claim"], judged["holds"].tolist(), strict=True)),
        "settings": len(region),
        "settings_that_lose_15_percent": len(reached),
        "settings_in_equilibrium_that_do": int(reached["foresight"].sum()),
        "of_these_all_impact_permanent": int(
            (reached["foresight"] & (reached["permanent"] == 1.0)).sum()
        ),
        "settings_where_a_price_would_fall_below_zero": int(region["at once"].isna().sum()),
        "deepest_market_that_does": deepest,
        "wealth_of_the_agents_in_a_market_as_deep_as": (
            {} if data is None or deepest is None else (data["money per 1 %"] / deepest).to_dict()
        ),
    }


def text(results: Mapping[str, Any]) -> str:
    """The findings for people."""
    lines = [
        f"{results['known_numbers_that_agree']} of {results['known_numbers']} known numbers agree.",
        *(
            f"{'holds' if held else 'does not hold'}: {claim}"
            for claim, held in results["claims"].items()
        ),
        f"The agents bring the 95 % VaR to 15 % in {results['settings_that_lose_15_percent']} of "
        f"{results['settings']} settings, {results['settings_in_equilibrium_that_do']} of them in "
        f"equilibrium, {results['of_these_all_impact_permanent']} of these with impact that is "
        "permanent as a whole.",
    ]
    deepest = results["deepest_market_that_does"]
    if deepest is not None:
        lines.append(
            f"Without foresight the deepest such market moves by 1 % for {deepest:.3g} of the "
            "agents' wealth."
        )
    for name, wealth in results["wealth_of_the_agents_in_a_market_as_deep_as"].items():
        lines.append(f"If it is as deep as {name}, their wealth is {wealth:.3g} dollars.")
    return "\n".join(lines)


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
