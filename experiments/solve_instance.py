"""Solve one allocation instance and print a JSON object.

``python -m experiments.solve_instance FILE.json [--iterations N] [--seconds S] [--simulate M]
[--seed I] [--cvar lazy|explicit]``; the file's format is in `sddp.allocation.instances`. Without
limits training stops when the bound has moved by less than 1e-9 of wealth over 10 iterations.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from typing import Any

import numpy as np

from sddp.allocation.instances import Instance, read_instance
from sddp.allocation.training import AllocationResult, train_allocation
from sddp.engine.stopping import BoundStalling, Iterations, Seconds, StoppingRule
from sddp.engine.training import INTERRUPTED
from sddp.errors import RecourseWarning, SddpError

CONVERGED = BoundStalling(10, 1e-9)
STATUS = {
    "bound stalled": "converged",
    "iteration limit": "iteration_limit",
    "time limit": "time_limit",
    INTERRUPTED: "interrupted",
}


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 on success, 1 where the instance is malformed or infeasible."""
    options = _parser().parse_args(arguments)
    try:
        instance = read_instance(options.file)
        with warnings.catch_warnings():
            # A limit below the cost is the instance's choice; a truly infeasible one exits 1.
            warnings.simplefilter("ignore", RecourseWarning)
            answer = solve(instance, options)
    except SddpError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


def solve(instance: Instance, options: argparse.Namespace) -> dict[str, Any]:
    """Train, decide, simulate."""
    training_rng, simulation_rng = np.random.default_rng(options.seed).spawn(2)
    result = train_allocation(
        instance.model,
        instance.scenarios,
        initial_holdings=instance.initial_holdings,
        initial_regime=instance.initial_regime,
        rng=training_rng,
        stopping=_stopping(options),
        cvar=options.cvar,
        progress=False,
    )
    decision = result.policy.decide(
        regime=instance.initial_regime, holdings=instance.initial_holdings
    )
    status = STATUS[result.stopped_because]
    try:
        mean, error = _simulated(result, options.simulate, simulation_rng)
    except KeyboardInterrupt:
        mean, error, status = None, None, STATUS[INTERRUPTED]
    return {
        "status": status,
        "bound": result.bound,
        "first_stage_holdings": decision.holdings.tolist(),
        "iterations": len(result.log),
        "seconds": float(result.log["seconds"].iloc[-1]) if len(result.log) else 0.0,
        "simulated_mean": mean,
        "simulated_standard_error": error,
        "log": result.log.reset_index()[["iteration", "seconds", "bound"]].to_dict("records"),
    }


def _simulated(
    result: AllocationResult, n_paths: int, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """Mean terminal wealth and its standard error; None where nothing was simulated."""
    if n_paths == 0:
        return None, None
    table = result.policy.simulate(n_paths, rng=rng)
    wealth = table.groupby(level="path")["wealth"].last()
    error = float(wealth.std(ddof=1) / np.sqrt(n_paths)) if n_paths > 1 else None
    return float(wealth.mean()), error


def _stopping(options: argparse.Namespace) -> StoppingRule:
    rule: StoppingRule = CONVERGED
    if options.iterations is not None:
        rule = rule | Iterations(options.iterations)
    if options.seconds is not None:
        rule = rule | Seconds(options.seconds)
    return rule


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="solve_instance", description=__doc__)
    parser.add_argument("file", help="instance file (JSON)")
    parser.add_argument("--iterations", type=_positive, help="stop after this many iterations")
    parser.add_argument("--seconds", type=_seconds, help="stop training after this time")
    parser.add_argument("--simulate", type=_natural, default=0, help="paths of the simulation")
    parser.add_argument("--seed", type=_natural, default=0, help="seed of all random numbers")
    parser.add_argument("--cvar", choices=("lazy", "explicit"), default="lazy")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0.0:
        raise argparse.ArgumentTypeError(f"{value} is no time")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _positive(text: str) -> int:
    value = _natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
