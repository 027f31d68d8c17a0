"""``sddp solve``: one allocation instance from a file, solved."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sddp.cli import options as opt
from sddp.cli.output import Result, filled, shown_iterations

if TYPE_CHECKING:
    import numpy as np

    from sddp.allocation.instances import Instance
    from sddp.allocation.training import AllocationResult
    from sddp.engine.training.checkpoints import Checkpoints
    from sddp.engine.training.stopping import StoppingRule

INTERRUPTED = "interrupted"
STATUS = {
    "bound stalled; not certified": "converged",
    "iteration limit": "iteration_limit",
    "time limit": "time_limit",
    INTERRUPTED: INTERRUPTED,
}

# The same for people.
ENDED = {
    "converged": "bound stalled (it moved by less than 1e-9 of wealth over 10 iterations; no gap "
    "is certified)",
    "iteration_limit": "stopped by --iterations",
    "time_limit": "stopped by --seconds",
    INTERRUPTED: "interrupted",
}


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = opt.command(
        commands,
        "solve",
        run=run,
        summary="solve one allocation instance from a JSON file",
        description="Train a policy for the allocation problem that a JSON file states, take its "
        "first decision, and simulate it. The file's format is that of sddp.allocation.instances. "
        "Without --iterations and --seconds, training stops when the bound has moved by less than "
        "1e-9 of wealth over 10 iterations. Ctrl-C ends training; the result is what was learned. "
        "A long training is kept in --store every 50 iterations: interrupted or killed and run "
        "again, it goes on from there to the same numbers.",
        examples=(
            "sddp solve instance.json",
            "sddp solve instance.json --iterations 50 --simulate 1000 --json result.json",
        ),
    )
    parser.add_argument("file", metavar="FILE", help="instance file (JSON)")
    parser.add_argument(
        "--iterations", type=opt.positive, metavar="N", help="stop after N iterations"
    )
    parser.add_argument(
        "--seconds", type=opt.non_negative, metavar="S", help="stop training after S seconds"
    )
    parser.add_argument(
        "--simulate", type=opt.natural, default=0, metavar="N", help="simulate N paths (default 0)"
    )
    parser.add_argument(
        "--cvar",
        choices=("lazy", "explicit"),
        default="lazy",
        help="how the limit enters the LP: rows for tails that are broken (default), or "
        "Rockafellar and Uryasev's form",
    )
    opt.add_seed(parser, default=0)
    opt.add_resume(parser)


def run(options: argparse.Namespace) -> Result:
    """Read, train, decide, simulate."""
    # Training's imports come first, so that once the file is read the work begins.
    from sddp.allocation import instances, training
    from sddp.errors import ConvergenceWarning, RecourseWarning

    instance = instances.read_instance(options.file)
    with warnings.catch_warnings():
        # A limit below the cost is the instance's choice; a truly infeasible one is an error.
        warnings.simplefilter("ignore", RecourseWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)  # `status` says how training ended
        answer = solve(instance, options, training.train_allocation)
    return Result(answer, lambda width: _text(instance, answer, width))


def solve(
    instance: Instance, options: argparse.Namespace, train: Callable[..., AllocationResult]
) -> dict[str, Any]:
    """Answer of the command, as its JSON holds it; `train` is `train_allocation`."""
    import numpy as np

    training_rng, simulation_rng = np.random.default_rng(options.seed).spawn(2)
    checkpoints = _checkpoints(instance, options)
    with shown_iterations(options.iterations, quiet=options.quiet) as on_iteration:
        result = train(
            instance.model,
            instance.scenarios,
            initial_holdings=instance.initial_holdings,
            initial_regime=instance.initial_regime,
            rng=training_rng,
            stopping=_stopping(options),
            cvar=options.cvar,
            progress=False,
            on_iteration=lambda entry: on_iteration(entry.iteration),
            checkpoints=checkpoints,
        )
    decision = result.policy.decide(
        regime=instance.initial_regime, holdings=instance.initial_holdings
    )
    reason = result.stopped_because
    if reason != INTERRUPTED:
        checkpoints.forget()
    status = STATUS.get(reason, reason.replace(" ", "_"))
    try:
        mean, error = _simulated(result, options.simulate, simulation_rng)
    except KeyboardInterrupt:
        mean, error, status = None, None, INTERRUPTED
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


def _checkpoints(instance: Instance, options: argparse.Namespace) -> Checkpoints:
    """Where the training is kept until it ends, by what its numbers depend on."""
    from sddp.cache.fingerprint import describe
    from sddp.cache.store import store_key
    from sddp.engine.training.checkpoints import Checkpoints

    if not options.resume:
        return Checkpoints(None)
    parts = (instance.model, instance.scenarios, dict(instance.initial_holdings))
    about = [*parts, instance.initial_regime, options.cvar, options.seed]
    return Checkpoints(Path(options.store) / "solve" / store_key(describe(about)))


def _simulated(
    result: AllocationResult, n_paths: int, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """Mean terminal wealth and its standard error; None where nothing was simulated."""
    if n_paths == 0:
        return None, None
    table = result.policy.simulate(n_paths, rng=rng)
    wealth = table.groupby(level="path")["wealth"].last()
    error = float(wealth.std(ddof=1) / n_paths**0.5) if n_paths > 1 else None
    return float(wealth.mean()), error


def _stopping(options: argparse.Namespace) -> StoppingRule:
    from sddp.engine.training.stopping import BoundStalling, Iterations, Seconds

    rule: StoppingRule = BoundStalling(10, 1e-9)
    if options.iterations is not None:
        rule = rule | Iterations(options.iterations)
    if options.seconds is not None:
        rule = rule | Seconds(options.seconds)
    return rule


def _text(instance: Instance, answer: dict[str, Any], width: int) -> str:
    """The answer for people."""
    import pandas as pd

    held = pd.DataFrame(
        {"after the first decision": answer["first_stage_holdings"]},
        index=list(instance.initial_holdings),
    )
    lines = [
        f"{ENDED.get(answer['status'], answer['status'])} after {answer['iterations']} iterations, "
        f"{answer['seconds']:.1f} s",
        f"upper bound on expected terminal wealth {answer['bound']:.10g}",
    ]
    if answer["simulated_mean"] is not None:
        error = answer["simulated_standard_error"]
        sampling = "" if error is None else f" (standard error {error:.2g})"
        lines.append(f"simulated mean of terminal wealth {answer['simulated_mean']:.10g}{sampling}")
    held = held[held.iloc[:, 0] > 0.0]
    return f"{filled(lines, width)}\n{held.to_string(line_width=width)}"
