"""Train an allocation policy: one call from model and scenarios to decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from sddp.allocation.model import AllocationModel, Holdings
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.problem import allocation_problem
from sddp.allocation.stage import CvarForm
from sddp.display.shown import Shown
from sddp.engine.certificate.certificate import Certificate
from sddp.engine.policy.policy import Policy
from sddp.engine.subproblem.subproblems import build_subproblems
from sddp.engine.training.checkpoints import Checkpoints
from sddp.engine.training.loop import OnIteration
from sddp.engine.training.result import TrainingResult
from sddp.engine.training.schedules import PathSchedule, Tolerances, ToleranceSchedule
from sddp.engine.training.stage_solver import StageSolver
from sddp.engine.training.stopping import Gap, Iterations, StoppingRule
from sddp.engine.training.train import train
from sddp.engine.training.trial_points import TrialPoints
from sddp.engine.training.workers import Workers
from sddp.engine.value.cost_to_go import CutForm
from sddp.engine.value.cut_forms import LazyAggregation
from sddp.errors import ModelError
from sddp.labels import CASH
from sddp.risk import Expectation, RiskMeasure
from sddp.rng import Rng
from sddp.scenarios import MarkovScenarios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_STOPPING = Gap(relative=1e-3) | Iterations(500)


@dataclass(frozen=True, eq=False, repr=False)
class AllocationResult(Shown):
    """Result of `train_allocation`.

    Attributes
    ----------
    policy : AllocationPolicy
    training : TrainingResult
        The engine's result, in money.
    """

    policy: AllocationPolicy
    training: TrainingResult

    @property
    def bound(self) -> float:
        """Upper bound on expected terminal wealth (of the sampled problem), in money."""
        return self.training.bound

    @property
    def certificate(self) -> Certificate:
        """Certified gap of the policy, relative to the gain over cash."""
        return self.training.certificate

    @property
    def log(self) -> pd.DataFrame:
        """One row per iteration."""
        return self.training.log

    @property
    def stopped_because(self) -> str:
        """Why training ended."""
        return self.training.stopped_because

    def plot(self) -> Figure:
        """The bound on expected growth by iteration, and how far it still moved."""
        from sddp.display.training_figures import bound_figure

        engine = self.policy.problem.engine
        first = engine.first_outcomes()[0][0]
        wealth = float(engine.initial_state(first).sum())
        certified = self.training.certified
        known = None if certified is None else certified.value
        return bound_figure(self.log, known=known, initial_wealth=wealth)

    def _facts(self) -> dict[str, str]:
        return self.policy._facts() | self.training._facts()

    def _tables(self) -> dict[str, pd.DataFrame]:
        return self.training._tables()


def train_allocation(
    model: AllocationModel,
    scenarios: MarkovScenarios,
    *,
    initial_holdings: Holdings,
    rng: Rng,
    initial_regime: int | str = 0,
    risk: RiskMeasure | None = None,
    stopping: StoppingRule = DEFAULT_STOPPING,
    cuts: CutForm | None = None,
    cvar: CvarForm = "lazy",
    tolerances: ToleranceSchedule | None = None,
    trial_points: TrialPoints | None = None,
    start: AllocationPolicy | None = None,
    n_paths: int | PathSchedule = 2,
    n_jobs: int | Workers = 1,
    stage_solver: StageSolver = "auto",
    progress: bool = True,
    on_iteration: OnIteration | None = None,
    checkpoints: Checkpoints | None = None,
) -> AllocationResult:
    """Train a multi-stage allocation policy.

    Parameters
    ----------
    model : AllocationModel
    scenarios : MarkovScenarios
    initial_holdings : mapping or Series from position to money
        With ``"cash"``; positions left out are 0.
    rng : int, SeedSequence or Generator
        Draws the sampled paths.
    initial_regime : int or str
        Regime at the first decision.
    risk : RiskMeasure, optional
        Replaces the expectation of terminal wealth by a nested, positively homogeneous measure.
        The one-period limit is the model's and stays.
    stopping, cuts, tolerances, trial_points, n_paths, n_jobs, progress, on_iteration :
        As in `sddp.train`.
    stage_solver : {"auto", "highs", "compiled"}
        As in `sddp.train`.
    cvar : {"lazy", "explicit"}
        The limit as tail rows added when broken, or as Rockafellar and Uryasev's LP: the same
        decisions, but the second grows with the number of scenarios.
    start : AllocationPolicy, optional
        Continue an earlier training of the same problem.
    checkpoints : Checkpoints, optional
        Train in parts, each of which is kept: a training that was interrupted or killed goes on
        from the last one when it is run again.

    Raises
    ------
    InfeasibleProblem
        No first decision keeps the limit now and later.
    ModelError
        Parameters do not fit each other, or `risk` is not positively homogeneous.

    Warns
    -----
    RecourseWarning
        Selling out may itself break the limit.
    """
    if risk is not None and not risk.positively_homogeneous:
        raise ModelError(
            f"risk = {risk!r} is not positively homogeneous, so decisions would depend on the "
            "size of wealth and cuts could not be shared; use CVaR, or the engine's train"
        )
    problem = allocation_problem(
        model,
        scenarios,
        initial_holdings=initial_holdings,
        initial_regime=initial_regime,
        cvar=cvar,
    )
    result = (train if checkpoints is None else checkpoints.train)(
        problem.engine,
        rng=rng,
        stopping=stopping,
        risk=risk,
        cuts=cuts,
        tolerances=tolerances,
        trial_points=trial_points,
        reference=problem.cash_value,
        start=None if start is None else start.engine,
        n_paths=n_paths,
        n_jobs=n_jobs,
        stage_solver=stage_solver,
        progress=progress,
        on_iteration=on_iteration,
    )
    return AllocationResult(AllocationPolicy(problem, result.policy), result)


def frictionless_policy(model: AllocationModel, scenarios: MarkovScenarios) -> AllocationPolicy:
    """One-step policy with the frictionless value function after the first period.

    Costs and limits of the present decision are exact; wealth W at the next stage t in regime j
    is worth ``v_t^j W``, v being the growth of wealth without costs. These are the cuts that
    training starts from, so this is the policy before the first iteration.

    Parameters
    ----------
    model : AllocationModel
    scenarios : MarkovScenarios
    """
    problem = allocation_problem(model, scenarios, initial_holdings={CASH: 1.0})
    untrained = build_subproblems(problem.engine, None, LazyAggregation())
    known = untrained.checkpoint(Expectation(), Tolerances().final)
    return AllocationPolicy(problem, Policy(problem.engine, known))
