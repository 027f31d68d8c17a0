"""Allocation model and scenarios as a multistage problem of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyomo.environ  # noqa: F401 - before SciPy, see `sddp.engine`

from sddp.allocation.frictionless_growth import frictionless_growth
from sddp.allocation.model import AllocationModel, Holdings, Terms, warn_about_recourse
from sddp.allocation.one_period import OnePeriodDistribution, one_period_distribution
from sddp.allocation.stage import CvarForm, StageInputs, decision_stage, terminal_stage
from sddp.allocation.tail_rows import TailRows
from sddp.arrays import Floats
from sddp.display.shown import Shown, listed
from sddp.engine.model.graph import Node, markov_graph
from sddp.engine.model.problem import Problem
from sddp.engine.presolve.compile import presolve_stage
from sddp.engine.presolve.presolve import PresolvedStage
from sddp.engine.stage.declaration import InitialCut, Stage
from sddp.engine.stage.stage_data import ReadStage, StageData
from sddp.engine.stage.transition import LinearTransition
from sddp.engine.stage.translation import read_stage
from sddp.errors import ModelError
from sddp.labels import CASH, Labels, numbers_by_label
from sddp.scenarios import MarkovScenarios


@dataclass(frozen=True, eq=False, repr=False)
class AllocationProblem(Shown):
    """Allocation problem on which a policy is trained; returned by `allocation_problem`.

    Attributes
    ----------
    model : AllocationModel
    scenarios : MarkovScenarios
    terms : Terms
        The model's numbers per asset and stage.
    growth : array, shape (n_stages + 1, n_states)
        Cost-free growth of wealth to the end: the bound known before training.
    cvar : {"lazy", "explicit"}
    engine : Problem
        Nodes ``(stage, regime)``; stage ``n_stages`` is terminal wealth.
    """

    model: AllocationModel
    scenarios: MarkovScenarios
    terms: Terms
    growth: Floats
    cvar: CvarForm
    engine: Problem
    _prepared: dict[int, PresolvedStage] = field(default_factory=dict, init=False, repr=False)

    @property
    def n_stages(self) -> int:
        """Number of decisions."""
        return int(self.scenarios.returns.shape[0])

    @property
    def asset_names(self) -> Labels:
        """Labels of the risky assets."""
        return tuple(self.scenarios.asset_names or ())

    @property
    def positions(self) -> Labels:
        """Labels of cash and the risky assets, in the order of the engine's state."""
        return (CASH, *self.asset_names)

    @property
    def cash_value(self) -> float:
        """The initial wealth left in cash, payments made: what gains are counted over."""
        first = next(name for name, _ in self.engine.graph.children(self.engine.graph.root))
        wealth = float(self.engine.initial_state(first).sum())
        for stage in range(self.n_stages + 1):
            due = self.terms.due(stage)
            wealth = max(wealth * (1.0 - due.share) - due.money, 0.0)
            if stage < self.n_stages:
                wealth *= 1.0 + float(self.terms.cash_return[stage])
        return wealth

    def distribution(
        self, stage: int, belief: Floats, *, in_limit: bool = True
    ) -> OnePeriodDistribution:
        """Distribution of the returns after a stage, under a belief over regimes.

        As the risk limit measures it, or, without `in_limit`, as the objective expects it.
        """
        return one_period_distribution(
            self.scenarios,
            stage,
            belief,
            float(self.terms.cash_return[stage]),
            in_limit=in_limit,
            margin=self.terms.margin if in_limit else None,
        )

    def stage_before(self, stage: int, distribution: OnePeriodDistribution) -> PresolvedStage:
        """Decision problem of a stage under a distribution of the period after it.

        All but its tail constraints is the same for every distribution, and presolved once.
        """
        ready = self._prepared.get(stage)
        if ready is None:
            inputs = StageInputs(self.model, self.terms, distribution, self.cvar, stage)
            declared = decision_stage(inputs, None, np.zeros(len(self.positions)))
            ready = presolve_stage(declared, f"stage {stage}")
            if self.cvar == "lazy":
                self._prepared[stage] = ready
        rows = ready.compiled.rows
        if isinstance(rows, TailRows):
            return ready.with_rows(replace(rows, distribution=distribution))
        return ready

    def _facts(self) -> dict[str, str]:
        limit = self.model.cvar_limit
        return {
            "assets": listed(self.asset_names),
            "regimes": listed(self.scenarios.state_names or ()),
            "decisions": str(self.n_stages),
            "scenarios": str(self.scenarios.n_scenarios),
            "CVaR limit": "none" if limit is None else f"{limit:.2%}",
        }


def allocation_problem(
    model: AllocationModel,
    scenarios: MarkovScenarios,
    *,
    initial_holdings: Holdings,
    initial_regime: int | str = 0,
    cvar: CvarForm = "lazy",
) -> AllocationProblem:
    """State the problem for the engine; see `train_allocation` for the parameters.

    Warns
    -----
    RecourseWarning
        Selling out may itself break the limit.
    """
    if cvar not in ("lazy", "explicit"):
        raise ModelError(f"cvar = {cvar!r}; give 'lazy' or 'explicit'")
    terms = model.on(scenarios)
    warn_about_recourse(model, terms)
    growth = frictionless_growth(model, terms, scenarios)
    start = money((CASH, *(scenarios.asset_names or ())), initial_holdings)
    build = _Builder(model, scenarios, terms, growth, cvar, start)
    n_stages, regime = scenarios.returns.shape[0], scenarios.state_index(initial_regime)
    first = np.eye(scenarios.n_states)[regime][None, :]
    graph = markov_graph([first, *scenarios.transition_matrix[:n_stages]])
    return AllocationProblem(model, scenarios, terms, growth, cvar, Problem(graph, build))


def money(positions: Labels, holdings: Holdings) -> Floats:
    """Holdings as an array in the order of the positions; missing ones are 0.

    Raises
    ------
    ModelError
        An unknown or repeated position, a negative or non-finite amount, or nothing held at all.
    """
    amounts = numbers_by_label(holdings, positions, "holdings", default=0.0)
    for name, amount in zip(positions, amounts.tolist(), strict=True):
        if not (np.isfinite(amount) and amount >= 0.0):
            raise ModelError(f"holdings of {name!r} are {amount}; give money >= 0")
    if not amounts.sum() > 0.0:
        raise ModelError("holdings are all 0; there is nothing to invest")
    return amounts


class _Builder:
    """Builds the stages; those with the same law of returns share one that is compiled once."""

    def __init__(
        self,
        model: AllocationModel,
        scenarios: MarkovScenarios,
        terms: Terms,
        growth: Floats,
        cvar: CvarForm,
        initial: Floats,
    ) -> None:
        self._model, self._scenarios, self._terms = model, scenarios, terms
        self._growth, self._cvar, self._initial = growth, cvar, initial
        self._shared = scenarios.stationary and terms.stationary
        self._stages: dict[tuple[int, int, bool], StageData] = {}

    def __call__(self, node: Node) -> ReadStage:
        stage, regime = node.stage, node.markov_state
        assert regime is not None
        last = stage == self._scenarios.returns.shape[0]
        key = (0 if self._shared else stage, regime, last)
        if key not in self._stages:
            declared = self._terminal(stage, regime) if last else self._decision(stage, regime)
            self._stages[key] = read_stage(declared, f"node {node.name!r}")
        slope = np.full(self._scenarios.n_assets + 1, self._growth[stage, regime])
        # Terminal wealth is known exactly but for what a payment or floor in money takes off.
        known = last and not self._model.in_money
        return ReadStage(self._stages[key], () if known else (InitialCut(slope),))

    def _decision(self, stage: int, regime: int) -> Stage:
        belief = np.eye(self._scenarios.n_states)[regime]
        cash_return = float(self._terms.cash_return[stage])
        view = one_period_distribution(
            self._scenarios, stage, belief, cash_return, margin=self._terms.margin
        )
        inputs = StageInputs(self._model, self._terms, view, self._cvar, stage)
        # The first stage is entered from the root, where no transition is applied, so a shared
        # model may hold the one that the later stages need.
        arrived_at = 1 if self._shared else stage
        transition = self._arrival(arrived_at, regime) if arrived_at > 0 else None
        return decision_stage(inputs, transition, self._initial)

    def _terminal(self, stage: int, regime: int) -> Stage:
        return terminal_stage(self._model, self._terms, self._arrival(stage, regime))

    def _arrival(self, stage: int, regime: int) -> LinearTransition:
        """Gross returns of the period that ends at a stage."""
        scenarios = self._scenarios
        assert scenarios.probabilities is not None
        risky = scenarios.returns[stage - 1, regime]
        cash = np.full((len(risky), 1), self._terms.cash_return[stage - 1])
        return LinearTransition(
            scale=1.0 + np.hstack([cash, risky]),
            probabilities=scenarios.probabilities[stage - 1, regime],
        )
