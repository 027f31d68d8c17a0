"""Training: forward, backward, bound, log, stop."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from numbers import Integral
from typing import TYPE_CHECKING

import pandas as pd

from sddp.display.shown import Shown, number
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.risk_adjusted import default_sampling
from sddp.engine.model.sampling import Historical, SamplingScheme, check_path
from sddp.engine.policy.certificate import Certificate
from sddp.engine.policy.files import problem_digest
from sddp.engine.policy.policy import Policy
from sddp.engine.subproblem.network import Network, RiskChoice
from sddp.engine.subproblem.subproblem import Work
from sddp.engine.training.display import Display
from sddp.engine.training.interrupt import deferred_interrupt
from sddp.engine.training.parallel import Crew
from sddp.engine.training.session import Session, Tolerances
from sddp.engine.training.stopping import (
    NOT_CERTIFIED,
    STALLED,
    Gap,
    Iterations,
    LogEntry,
    StoppingRule,
)
from sddp.engine.value.cost_to_go import CutForm, LazyAggregation
from sddp.errors import BoundWarning, ConvergenceWarning, ModelError
from sddp.risk import RiskMeasure, as_risk_measure
from sddp.rng import Rng, generator
from sddp.threads import one_blas_thread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger("sddp")

# `TrainingResult.stopped_because` after Ctrl-C.
INTERRUPTED = "interrupted"

DEFAULT_STOPPING = Gap(relative=1e-3) | Iterations(1_000)

# Draws for the certificate of a training whose stopping rule asked for none.
LEAST_EFFORT = 10


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult(Shown):
    """What came out of `train`.

    Attributes
    ----------
    policy : Policy
    log : DataFrame
        One row per iteration; see `LogEntry` for the columns and their units. Each bound is valid;
        the last one is all that the cuts say, unless training was interrupted.
    stopped_because : str
        In the words of the stopping rule, or ``"interrupted"``.
    unvisited_mass : float
        `LogEntry.unvisited_mass` of the last iteration; 1 where there was none.
    active_bounds : tuple
        Nodes at which the bound on the cost-to-go, not the cuts, set the value of the last
        forward pass. Where the bound was computed it is valid, and training stopped early; where
        it was given (then a `BoundWarning` says so too) the result stands and falls with it.
    work : Work
        Where the time went: linear programmes, cost-to-go, generated rows.
    certified : Certificate or None
        The one that the stopping rule was told; see `certificate`.
    reference : float or None
        As given to `train`.
    """

    policy: Policy
    log: pd.DataFrame
    stopped_because: str
    unvisited_mass: float
    active_bounds: tuple[NodeName, ...]
    work: Work
    certified: Certificate | None = None
    reference: float | None = None

    @cached_property
    def certificate(self) -> Certificate:
        """How far from the optimum the policy can be at most; its `gap` is None where unknown.

        What the stopping rule was told, where it asked (`Gap` does); else made when first looked
        at, with little effort. `Policy.certificate` refines it.
        """
        if self.certified is not None:
            return self.certified
        found = self.policy.certificate(effort=LEAST_EFFORT, reference=self.reference)
        return replace(found, unvisited_mass=self.unvisited_mass)

    @property
    def bound(self) -> float:
        """Bound on the optimal value, user's units: optimistic; by rows refined to `final`."""
        return self.policy.bound

    def plot(self) -> Figure:
        """The bound by iteration, and what is known to be attained where training asked."""
        from sddp.display.figures import bound_figure

        known = None if self.certified is None else self.certified.value
        return bound_figure(self.log, known)

    def _facts(self) -> dict[str, str]:
        seconds = float(self.log["seconds"].iloc[-1]) if len(self.log) else 0.0
        known = "not asked" if self.certified is None else str(self.certified)
        return {
            "bound": number(self.bound),
            "iterations": str(len(self.log)),
            "stopped because": self.stopped_because,
            "certificate": known,
            "seconds": f"{seconds:.1f}",
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"Last iterations": self.log.iloc[-5:]}


def train(
    problem: Problem,
    *,
    rng: Rng,
    stopping: StoppingRule = DEFAULT_STOPPING,
    risk: RiskChoice = None,
    root_risk: RiskMeasure | None = None,
    cuts: CutForm | None = None,
    sampling: SamplingScheme | None = None,
    tolerances: Tolerances | None = None,
    reference: float | None = None,
    start: Policy | None = None,
    n_paths: int = 2,
    n_jobs: int = 1,
    progress: bool = True,
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
    tolerances : Tolerances, optional
        Refinement of rows.
    reference : float, optional
        A value that can be had without the policy, user's units: relative gaps and moves are
        those of the gain over it. Left out, they are relative to the value itself.
    start : Policy, optional
        Continue where an earlier training of the same problem stopped; a homogeneous one may
        have other first holdings now. Risk and cut form are the earlier ones; `risk`, `root_risk`
        and `cuts` must be left out.
    n_paths : int
        Forward paths, and so trial points at each stage, of an iteration; the first ten
        have one.
    n_jobs : int
        Processes that follow paths side by side; more than `n_paths` are of no use. The numbers
        are the same for every `n_jobs`. Under Linux they are forked; elsewhere they are sent the
        problem, whatever its builder was (classes of the user, such as a risk measure or a row
        generator, must be importable), and a script wants its ``if __name__ == "__main__"``.
    progress : bool
        Lines on standard error once training takes longer than some seconds.

    Returns
    -------
    TrainingResult
        Also after Ctrl-C, with what was learnt until then and ``stopped_because`` saying so.

    Raises
    ------
    InfeasibleProblem
        No policy keeps all constraints.
    SolverError
        An LP ended neither optimal nor infeasible; the message names the file it was written to.
    ModelError
        A bound on the cost-to-go is needed and was not given.
    """
    _check_arguments(stopping, cuts, n_paths, n_jobs)
    if isinstance(sampling, Historical):  # before anything is solved
        for path in sampling.paths:
            check_path(problem, path)
    tolerances = tolerances or Tolerances()
    display = Display(progress, sys.stderr)
    forward, backward, checks = generator(rng).spawn(3)
    with deferred_interrupt() as interrupt, one_blas_thread():
        first, build = _network(problem, risk, cuts, start, tolerances.final)
        root_risk = _root_risk(root_risk, start)
        with Crew(first, build, backward.spawn(n_paths), n_jobs) as crew:
            session = Session(
                crew,
                root_risk,
                reference,
                sampling or default_sampling(*first.risk.values(), root_risk),
                tolerances,
                int(n_paths),
                (forward, checks),
                interrupt,
            )
            reason = _run(session, stopping, display, goes_on=start is not None)
            policy = Policy.from_network(first, session.root_risk, tolerances.final)
            policy.trial_states = session.certifier.latest()
            policy.attained_cost = session.certifier.cost
        if interrupt.requested:  # also where the last check came before the key was pressed
            reason = INTERRUPTED
    _log.info("training ended after %d iterations: %s", len(session.log), reason)
    active = session.active_bounds()
    _warn_about_bounds(problem, active)
    unvisited = session.log[-1].unvisited_mass if session.log else 1.0
    reason = _with_certificate(reason, unvisited)
    columns = list(LogEntry.__dataclass_fields__)
    log = pd.DataFrame([asdict(entry) for entry in session.log], columns=columns)
    return TrainingResult(
        policy,
        log.set_index("iteration"),
        reason,
        unvisited,
        active,
        crew.work(),
        session.certified,
        reference,
    )


def _check_arguments(
    stopping: StoppingRule,
    cuts: CutForm | None,
    n_paths: int,
    n_jobs: int,
) -> None:
    for name, value in (("n_paths", n_paths), ("n_jobs", n_jobs)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ModelError(f"{name} = {value!r}; give a whole number of at least 1")
    if n_jobs > 1 and multiprocessing.current_process().daemon:
        raise ModelError(
            f"n_jobs = {n_jobs} inside a process that may have none of its own (a worker of "
            "multiprocessing.Pool); give n_jobs=1, or use joblib around it"
        )
    if not isinstance(stopping, StoppingRule):
        raise ModelError(f"stopping = {stopping!r}; give a rule, such as Iterations(100)")
    if cuts is not None and (isinstance(cuts, type) or not hasattr(cuts, "attach")):
        raise ModelError(f"cuts = {cuts!r}; give a cut form, such as LazyAggregation()")


def _with_certificate(reason: str, unvisited_mass: float) -> str:
    """Why training ended, and a warning where it only stalled."""
    if reason not in (STALLED, NOT_CERTIFIED):
        return reason
    warnings.warn(
        f"training ended because its bound stalled, which certifies nothing: outcomes of adjusted "
        f"probability {unvisited_mass:.3g} after one of the last decisions were followed by no "
        "path; train on (start=result.policy) with a longer BoundStalling and compare the bounds",
        ConvergenceWarning,
        stacklevel=3,
    )
    return NOT_CERTIFIED


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
    return start.snapshot.root_risk


def _network(
    problem: Problem,
    risk: RiskChoice,
    cuts: CutForm | None,
    start: Policy | None,
    tolerance: float,
) -> tuple[Network, Callable[[], Network]]:
    """The network that training starts from, and how to make another like it."""
    if start is None:
        first = Network(problem, risk, cuts or LazyAggregation(), trains_to=tolerance)
        snapshot = None
    else:
        if risk is not None or cuts is not None:
            raise ModelError("risk and cuts are those of the policy given as start; leave them out")
        digests_differ = problem_digest(start.problem) != problem_digest(problem)
        if start.problem is not problem and digests_differ:
            raise ModelError(
                "start was trained on another problem (its graph, stage data, noise, transitions "
                "or cost_to_go_bound differ); train afresh"
            )
        snapshot = start.snapshot
        first = Network.restored(problem, snapshot, trains_to=tolerance)
    known = (first.problem, first.risk, first.cuts, snapshot)
    return first, partial(Network, *known, trains_to=tolerance, theta_lower=first.theta_lower)


def _run(session: Session, stopping: StoppingRule, display: Display, *, goes_on: bool) -> str:
    """Iterate until a rule gives a reason or Ctrl-C is pressed."""
    tolerance = session.tolerances.start
    try:
        if goes_on:  # there are cuts already
            session.find_bound(session.tolerances.final)
        while True:
            entry = session.iterate(tolerance)
            display.show(entry)
            _log.debug("iteration %d: bound %.8g", entry.iteration, entry.bound)
            reason = stopping.reason(session.progress())
            if reason:
                session.settle()
                return reason
            tolerance = session.next_tolerance(tolerance)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        display.close(session.log)
