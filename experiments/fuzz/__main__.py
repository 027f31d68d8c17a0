"""Random campaigns against the package.

``python -m experiments.fuzz engine [--problems N] [--seed S] [--first K] [--verbose]`` trains
random multistage problems (units of states 1e-6 to 1e6, of money 1e-3 to 1e11, chains of equality
rows, branches of 1e-3, every risk measure and cut form, feasibility cuts, noise before and after
decisions, Markovian and general graphs, both senses) and compares with an independent program over
the scenario tree. It prints each problem that is wrong, or said to be, and ends with status 1 when
one is wrong by more than 1e-6 without saying so.
"""

from __future__ import annotations

import argparse
import sys

from experiments.fuzz import engine


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign; 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m experiments.fuzz", description=__doc__)
    parser.add_argument("campaign", choices=["engine"])
    parser.add_argument("--problems", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first problem")
    parser.add_argument("--verbose", action="store_true", help="print problems that agree too")
    options = parser.parse_args(arguments)
    outcomes = []
    for outcome in engine.run(options.problems, options.seed, options.first):
        outcomes.append(outcome)
        if options.verbose or outcome.verdict != "agrees":
            print(f"{outcome.number} {outcome.verdict}: {outcome.text}", flush=True)
    print(engine.summary(outcomes))
    return int(any(outcome.verdict == "wrong" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
