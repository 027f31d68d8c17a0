"""Train a policy: the call, its arguments and its warnings; the algorithm is in `loop`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.risk_adjusted import default_sampling
from sddp.engine.model.sampling import (
    Historical,
    SamplingScheme,
    check_path,
)
from sddp.engine.policy.files import problem_digest
from sddp.engine.policy.policy import Policy
from sddp.engine.subproblem.subproblems import (
    Subproblems,
    build_subproblems,
    restore_subproblems,
)
from sddp.engine.training.interrupt import deferred_interrupt
from sddp.engine.training.loop import OnIteration, Training
from sddp.engine.training.progress import ProgressLines
from sddp.engine.training.result import TrainingResult
from sddp.engine.training.schedules import (
    PathSchedule,
    SinglePathFirst,
    Tolerances,
    ToleranceSchedule,
)
from sddp.engine.training.stage_solver import (
    Parts,
    StageSolver,
    check_stage_solver,
    parts_of,
)
from sddp.engine.training.stopping import (
    NOT_CERTIFIED,
    STALLED,
    Gap,
    Iterations,
    StoppingRule,
)
from sddp.engine.training.trial_points import AveragedDecisions, TrialPoints
from sddp.engine.training.workers import (
    Replica,
    Replicas,
    Workers,
)
from sddp.engine.value.cost_to_go import CutForm
from sddp.engine.value.cut_forms import LazyAggregation
from sddp.engine.value.value_functions import RiskChoice, risk_by_node
from sddp.errors import BoundWarning, ConvergenceWarning, ModelError
from sddp.risk import RiskMeasure, as_risk_measure
from sddp.rng import Rng, generator
from sddp.threads import one_blas_thread

_log = logging.getLogger("sddp")

# `TrainingResult.stopped_because` after Ctrl-C.
INTERRUPTED = "interrupted"

DEFAULT_STOPPING = Gap(relative=1e-3) | Iterations(1_000)


def start_training(
    problem: Problem,
    *,
    rng: Rng,
    risk: RiskChoice = None,
    root_risk: RiskMeasure | None = None,
    cuts: CutForm | None = None,
    sampling: SamplingScheme | None = None,
    tolerances: ToleranceSchedule | None = None,
    trial_points: TrialPoints | None = None,
    reference: float | None = None,
    start: Policy | None = None,
    n_paths: int | PathSchedule = 2,
    n_jobs: int | Workers = 1,
    stage_solver: StageSolver = "auto",
) -> Training:
    """Compile a problem and bound its cost-to-go: a training before its first iteration.

    Parameters, errors : as for `train`.

    Returns
    -------
    Training
        A context manager: leaving it ends the processes that follow paths.
    """
    paths = n_paths if isinstance(n_paths, PathSchedule) else SinglePathFirst(n_paths)
    check_stage_solver(stage_solver)
    if cuts is not None and (isinstance(cuts, type) or not hasattr(cuts, "attach")):
        raise ModelError(f"cuts = {cuts!r}; give a cut form, such as LazyAggregation()")
    if isinstance(sampling, Historical):  # before anything is solved
        for path in sampling.paths:
            check_path(problem, path)
    tolerances = tolerances or Tolerances()
    forward, backward, checks = generator(rng).spawn(3)
    parts = _parts(stage_solver, problem, risk, cuts, start)
    workers = n_jobs if isinstance(n_jobs, Workers) else parts.workers(n_jobs)
    first, build = _subproblems(problem, risk, cuts, start, tolerances.final, parts.subproblems)
    root_risk = _root_risk(root_risk, start)
    trial_points, streams = trial_points or AveragedDecisions(), backward.spawn(paths.most)
    builder = partial(_replica, parts.replica, build, trial_points, streams)
    here = Replicas(builder)
    here[0] = parts.replica(first, trial_points, streams[0])
    return Training(
        first,
        root_risk,
        reference,
        sampling or default_sampling(*first.value_functions.risk.values(), root_risk),
        tolerances,
        paths,
        workers,
        here,
        builder,
        {"forward": forward, "checks": checks},
        start,
    )


def train(
    problem: Problem,
    *,
    rng: Rng,
    stopping: StoppingRule = DEFAULT_STOPPING,
    risk: RiskChoice = None,
    root_risk: RiskMeasure | None = None,
    cuts: CutForm | None = None,
    sampling: SamplingScheme | None = None,
    tolerances: ToleranceSchedule | None = None,
    trial_points: TrialPoints | None = None,
    reference: float | None = None,
    start: Policy | None = None,
    n_paths: int | PathSchedule = 2,
    n_jobs: int | Workers = 1,
    stage_solver: StageSolver = "auto",
    progress: bool = True,
    on_iteration: OnIteration | None = None,
) -> TrainingResult:
    """Train a policy by stochastic dual dynamic programming.

    Parameters
    ----------
    problem : Problem
    rng : int, SeedSequence or Generator
        Draws the sampled paths; the same generator state gives the same policy.
    stopping : StoppingRule
        Checked after each iteration.
    risk : RiskMeasure or mapping from node name to RiskMeasure, optional
        Taken between each node's decision and the next, jointly over everything that happens
        between them, and nested. Expectation by default.
    root_risk : RiskMeasure, optional
        Over what happens before the first decision. Expectation by default.
    cuts : CutForm, optional
        `LazyAggregation` (default), `MultiCut` or `AverageCut`: the same values, other speeds.
    sampling : SamplingScheme, optional
        Paths of the forward passes; by default `RiskAdjusted`, with ``share=0`` where every
        measure is the expectation.
    tolerances : ToleranceSchedule, optional
        Refinement of rows; `Tolerances` by default.
    trial_points : TrialPoints, optional
        Where cuts are made; `AveragedDecisions` by default.
    reference : float, optional
        A value that can be had without the policy, user's units: relative gaps and moves are
        those of the gain over it. Left out, they are relative to the value itself.
    start : Policy, optional
        Continue where an earlier training of the same problem stopped, with its schedules; a
        homogeneous problem may have other first holdings now. Risk and cut form are the earlier
        ones; `risk`, `root_risk` and `cuts` must be left out.
    n_paths : int or PathSchedule
        Forward paths, and so trial points at each stage, of an iteration; an integer stands for
        ``SinglePathFirst(n_paths)``: the first ten iterations have one.
    n_jobs : int or Workers
        Processes that follow paths side by side; more than `n_paths` are of no use. The numbers
        are the same for every `n_jobs`. Under Linux they are forked; elsewhere they are sent the
        problem, whatever its builder was (classes of the user, such as a risk measure or a row
        generator, must be importable), and a script needs its ``if __name__ == "__main__"``.
    stage_solver : {"auto", "highs", "compiled"}
        Who solves the linear programs of the stages: HiGHS; visits compiled by numba, which raises
        where they cannot take the problem; or those where they can, by the problem's features
        alone, and else HiGHS (the log says why). A compiled solution is verified, what is not
        settled goes to HiGHS, and one visit in 1,000 is solved by both. Jobs are then threads.
    progress : bool
        Lines on standard error once training takes longer than some seconds.
    on_iteration : callable, optional
        Called with the `LogEntry` of each iteration, before `stopping` is asked.

    Returns
    -------
    TrainingResult
        Also after Ctrl-C, with what was found until then and ``stopped_because`` saying so.

    Raises
    ------
    InfeasibleProblem
        No policy keeps all constraints.
    SolverError
        An LP ended neither optimal nor infeasible; the message names the file it was written to.
    ModelError
        A bound on the cost-to-go is needed and was not given.
    """
    if not isinstance(stopping, StoppingRule):
        raise ModelError(f"stopping = {stopping!r}; give a rule, such as Iterations(100)")
    with (
        deferred_interrupt() as interrupt,
        one_blas_thread(),
        _shown(progress) as shown,
        start_training(
            problem,
            rng=rng,
            risk=risk,
            root_risk=root_risk,
            cuts=cuts,
            sampling=sampling,
            tolerances=tolerances,
            trial_points=trial_points,
            reference=reference,
            start=start,
            n_paths=n_paths,
            n_jobs=n_jobs,
            stage_solver=stage_solver,
        ) as training,
    ):
        training.interrupt = interrupt
        try:
            callbacks = [*shown, *([on_iteration] if on_iteration else [])]
            reason = training.run(stopping, callbacks)
        except KeyboardInterrupt:
            reason = INTERRUPTED
        result = training.result(reason)
    if interrupt.requested:  # also where the last check came before the key was pressed
        result = replace(result, stopped_because=INTERRUPTED)
    _log.info("training ended after %d iterations: %s", len(result.log), result.stopped_because)
    _warn_about_bounds(problem, result.active_bounds)
    if result.stopped_because in (STALLED, NOT_CERTIFIED):
        _warn_about_stalling(result.unvisited_mass)
        result = replace(result, stopped_because=NOT_CERTIFIED)
    return result


@contextmanager
def _shown(wanted: bool) -> Iterator[list[OnIteration]]:
    """Progress lines on standard error, where they are wanted."""
    lines = ProgressLines(sys.stderr) if wanted else None
    try:
        yield [] if lines is None else [lines]
    finally:
        if lines is not None:
            lines.close()


def _warn_about_stalling(unvisited_mass: float) -> None:
    warnings.warn(
        f"training ended because its bound stalled, which certifies nothing: outcomes of adjusted "
        f"probability {unvisited_mass:.3g} after one of the last decisions were followed by no "
        "path; train on (start=result.policy) with a longer BoundStalling and compare the bounds",
        ConvergenceWarning,
        stacklevel=3,
    )


def _warn_about_bounds(problem: Problem, active: Sequence[NodeName]) -> None:
    assumed = [name for name in active if problem.given_bound(name) is not None]
    if assumed:
        warnings.warn(
            f"the bound on the cost-to-go is still active at {assumed[:3]}: the result "
            "depends on it; check that it is valid, or train afresh with a looser one",
            BoundWarning,
            stacklevel=3,
        )


def _root_risk(root_risk: RiskMeasure | None, start: Policy | None) -> RiskMeasure:
    if start is None:
        return as_risk_measure(root_risk)
    if root_risk is not None:
        raise ModelError("root_risk is that of the policy given as start; leave it out")
    return start.checkpoint.root_risk


def _replica(
    kind: type[Replica],
    build: Callable[[], Subproblems],
    trial_points: TrialPoints,
    streams: Sequence[np.random.Generator],
    number: int,
) -> Replica:
    """The replica of a path's number."""
    return kind(build(), trial_points, streams[number])


def _parts(
    stage_solver: StageSolver,
    problem: Problem,
    risk: RiskChoice,
    cuts: CutForm | None,
    start: Policy | None,
) -> Parts:
    if start is not None:
        return parts_of(stage_solver, problem, start.checkpoint.risk, start.checkpoint.cuts)
    return parts_of(stage_solver, problem, risk_by_node(problem, risk), cuts or LazyAggregation())


def _subproblems(
    problem: Problem,
    risk: RiskChoice,
    cuts: CutForm | None,
    start: Policy | None,
    tolerance: float,
    kind: type[Subproblems],
) -> tuple[Subproblems, Callable[[], Subproblems]]:
    """The subproblems that training starts from, and how to make others like them."""
    if start is None:
        form = cuts or LazyAggregation()
        first = build_subproblems(problem, risk, form, trains_to=tolerance, kind=kind)
        known = (problem, first.value_functions.risk, form)
        return first, partial(
            build_subproblems,
            *known,
            trains_to=tolerance,
            theta_lower=first.theta_lower,
            kind=kind,
        )
    if risk is not None or cuts is not None:
        raise ModelError("risk and cuts are those of the policy given as start; leave them out")
    if start.problem is not problem and problem_digest(start.problem) != problem_digest(problem):
        raise ModelError(
            "start was trained on another problem (its graph, stage data, noise, transitions "
            "or cost_to_go_bound differ); train afresh"
        )
    build = partial(restore_subproblems, problem, start.checkpoint, trains_to=tolerance, kind=kind)
    return build(), build
