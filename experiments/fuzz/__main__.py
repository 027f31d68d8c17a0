"""Random campaigns against the package.

``python -m experiments.fuzz engine [--problems N] [--seed S] [--first K]`` trains
random multistage problems (units of states 1e-6 to 1e6, of money 1e-3 to 1e11, chains of equality
rows, branches of 1e-3, every risk measure and cut form, feasibility cuts, noise before and after
decisions, Markovian and general graphs, both senses) and compares with an independent program over
the scenario tree. Its table holds each problem; it ends with exit code 1 when one is wrong by more
than 1e-6 without saying so.

``python -m experiments.fuzz constraints [--problems N] [--seed S] [--first K]`` gives the
one-period optimizer random sets of constraints of all kinds, hard and soft, and compares optima
with Clarabel on a form of its own; where there is none, the named conflict must be minimal and the
stated relaxation feasible and the least. It ends with exit code 1 when one is wrong or takes over
2 s.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from experiments.fuzz import constraints, engine
from sddp.cli import options as opt
from sddp.cli.exit_codes import DONE, WRONG_INPUT
from sddp.cli.study import Study, StudyRun
from sddp.studies.tasks import Task

PROBLEMS, QUICK = 200, 5
CAMPAIGNS = {"engine": engine.check, "constraints": constraints.check}
# Verdicts that need no line.
USUAL = ("agrees", "optimum", "conflict")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the campaign."""
    parser.add_argument("campaign", choices=list(CAMPAIGNS))
    parser.add_argument(
        "--problems",
        type=opt.positive,
        metavar="N",
        help=f"how many (default {PROBLEMS}, with --quick {QUICK})",
    )
    parser.add_argument(
        "--first", type=opt.natural, default=0, metavar="K", help="number of the first problem"
    )
    parser.add_argument("--verbose", action="store_true", help="list problems that agree too")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Which problems."""
    return {
        "campaign": options.campaign,
        "problems": options.problems or (QUICK if options.quick else PROBLEMS),
        "first": options.first,
        "seed": 1 if options.seed is None else options.seed,
    }


def write(job: StudyRun) -> dict[str, Any]:
    """Run the campaign; counts of the verdicts, and every problem that does not agree."""
    first, seed = job.config["first"], job.config["seed"]
    numbers = range(first, first + job.config["problems"])
    campaign = job.config["campaign"]
    check = CAMPAIGNS[campaign]
    tasks = [Task(check, (number, seed), [campaign, number, seed]) for number in numbers]
    outcomes = job.tasks.run("problem", tasks)
    table = pd.DataFrame([asdict(outcome) for outcome in outcomes]).set_index("number")
    job.record.write_table("outcomes", table)
    listed = [o for o in outcomes if job.options.verbose or o.verdict not in USUAL]
    return {
        "verdicts": dict(sorted(Counter(outcome.verdict for outcome in outcomes).items())),
        "problems": [asdict(outcome) for outcome in listed],
    }


def code(results: Mapping[str, Any]) -> int:
    """Whether a problem is wrong without saying so."""
    return WRONG_INPUT if "wrong" in results["verdicts"] else DONE


def text(results: Mapping[str, Any]) -> str:
    """Problems that do not agree, and the counts."""
    lines = [f"{o['number']} {o['verdict']}: {o['text']}" for o in results["problems"]]
    counts = ", ".join(f"{verdict}: {n}" for verdict, n in results["verdicts"].items())
    return "\n".join([*lines, counts])


STUDY = Study(
    name="fuzz",
    description=__doc__,
    settings=settings,
    run=write,
    add_options=add_options,
    text=text,
    code=code,
    measures_code=True,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
