"""The policies that are compared in sample, each followed along simulated paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.french.config import Config, Purpose
from experiments.french.law import Law, LawKey, TrueTail
from sddp.allocation.frictionless_growth import frictionless_growth
from sddp.allocation.model import AllocationModel
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.training import AllocationResult, frictionless_policy, train_allocation
from sddp.arrays import Floats
from sddp.engine.training.stopping import Iterations
from sddp.evaluation.rollout import (
    PolicyRule,
    RegimeControl,
    Rollout,
    Rule,
    paying_costs,
    rollout,
    within_limit,
)
from sddp.labels import CASH
from sddp.scenarios import MarkovScenarios
from sddp.studies.streams import stream

SDDP = "SDDP"
RECEDING = "SDDP, begun anew each month"
MOST_LIKELY = "SDDP in the most likely regime"
COSTS_IGNORED = "SDDP that ignores costs"
COST_FREE = "one step, cost-free future"
MYOPIC = "myopic"


@dataclass(frozen=True)
class Cell:
    """One policy in one setting.

    Attributes
    ----------
    policy : str
        One of the names above.
    cvar_limit, cost : float
    n_decisions : int
        That the policy looks ahead.
    followed : int
        Decisions that it is followed for.
    n_states, n_scenarios, sampling, moment_matching :
        Of the model that it decides on.
    tightening : float
        Share by which it is trained and asked to stay below the limit.
    excess : bool
        Whether portfolios earn what they earned over bills.
    hidden : bool
        Whether the regime is not seen but filtered from the factors.
    n_draws, n_paths, n_checked : int
        Scenario draws; paths of each that are followed; those of them on which decisions are
        checked under the true law, and followed a second time, moved towards cash wherever the
        true limit is broken.
    """

    policy: str
    cvar_limit: float
    cost: float
    n_decisions: int
    followed: int
    n_states: int
    n_scenarios: int
    sampling: str
    moment_matching: bool = False
    tightening: float = 0.0
    excess: bool = False
    hidden: bool = False
    n_draws: int = 1
    n_paths: int = 1
    n_checked: int = 0

    @classmethod
    def of(cls, config: Config, policy: str = SDDP, **changes: object) -> Cell:
        """With the settings of the study but for the changes."""
        settings: dict[str, object] = {
            "cvar_limit": config.cvar_limit,
            "cost": config.transaction_cost,
            "n_decisions": config.n_decisions,
            "followed": config.n_decisions,
            "n_states": config.n_states,
            "n_scenarios": config.n_scenarios,
            "sampling": config.sampling,
            "n_draws": config.n_draws,
            "n_paths": config.n_paths,
        }
        return cls(policy, **(settings | changes))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class World:
    """What all cells share.

    Attributes
    ----------
    config : Config
    laws : mapping
        By number of regimes, and whether in excess of cash.
    """

    config: Config
    laws: Mapping[LawKey, Law]

    def truth(self, cell: Cell) -> Law:
        """What paths are drawn from."""
        return self.laws[self.config.n_states, cell.excess]


def train(world: World, cell: Cell, draw: int) -> AllocationPolicy:
    """The policy of one scenario draw."""
    model, scenarios = problem(world, cell, draw)
    # Where trading is free the first cuts are exact, and wealth at the end is worth itself.
    if cell.policy in (COST_FREE, MYOPIC, COSTS_IGNORED):
        return frictionless_policy(model, scenarios)
    iterations = world.config.iterations if cell.n_decisions > 1 else 1
    return trained(world, cell, draw, iterations).policy


def trained(world: World, cell: Cell, draw: int, iterations: int) -> AllocationResult:
    """What comes of so many iterations from cash; fewer are the beginning of more."""
    model, scenarios = problem(world, cell, draw)
    return train_allocation(
        model,
        scenarios,
        initial_holdings={CASH: 1.0},
        initial_regime=world.laws[cell.n_states, cell.excess].first,
        stopping=Iterations(iterations),
        rng=stream(world.config.seed, Purpose.TRAINING, draw),
        progress=False,
    )


def problem(world: World, cell: Cell, draw: int) -> tuple[AllocationModel, MarkovScenarios]:
    """Model and scenarios of a cell."""
    config = world.config
    model = AllocationModel(
        transaction_cost=0.0 if cell.policy == COSTS_IGNORED else cell.cost,
        cvar_confidence=config.cvar_confidence,
        cvar_limit=cell.cvar_limit * (1.0 - cell.tightening),
    )
    n_stages = 1 if cell.policy == MYOPIC else cell.n_decisions
    return model, sample(config, cell, world.laws[cell.n_states, cell.excess], n_stages, draw)


def sample(config: Config, cell: Cell, law: Law, n_stages: int, draw: int) -> MarkovScenarios:
    """Scenarios of a law as a cell samples them."""
    return law.scenarios(
        cell.n_scenarios,
        n_stages,
        sampling=cell.sampling,
        moment_matching=cell.moment_matching,
        rng=stream(config.seed, Purpose.SCENARIOS, draw),
    )


def follow_cell(world: World, cell: Cell, draw: int) -> dict[str, Floats]:
    """Train a policy and follow it along the paths of its draw.

    Returns
    -------
    dict of arrays
        ``value`` and ``wealth``, shape (n_paths,): terminal wealth, with its control variate and
        without; ``paid``, shape (n_paths,): costs; ``bound``, shape (1,): upper bound of the
        sampled problem; ``first``, shape (1 + n_assets,): weights after the first decision of the
        first path. Where decisions are checked, ``risk``, shape (n_checked, followed): true CVaR
        with costs over the limit; ``scaled_value``, shape (n_checked,); and ``first_risk``,
        shape (1,).
    """
    config, truth = world.config, world.truth(cell)
    policy = train(world, cell, draw)
    start = truth.start if cell.hidden else np.eye(config.n_states)[truth.first]
    paths = truth.paths(start, config.n_paths, config.n_decisions, config.seed, draw)
    beliefs = paths.beliefs(truth.regimes, start)
    if not cell.hidden:
        beliefs = np.eye(config.n_states)[paths.regimes[:, :-1]]
    rule = policy_rule(policy, cell, asked(cell, beliefs))
    run = rollout(rule, paths.returns[: cell.n_paths], cell.followed)
    growth = _growth(world, cell, policy, draw)
    control = RegimeControl(beliefs, truth.regimes.transition_matrix, truth.gross, growth)
    found = {
        "value": control.value(run),
        "wealth": run.terminal,
        "paid": run.paid.sum(axis=1),
        "bound": np.array([policy.bound]),
        "first": run.holdings[0, 0] / run.holdings[0, 0].sum(),
    }
    return found | (
        _checked(world, cell, run, rule, control, paths.returns) if cell.n_checked else {}
    )


def asked(cell: Cell, beliefs: Floats) -> Floats:
    """What a policy is told of the regime: shape (n_paths, n_decisions, its own n_states)."""
    if cell.n_states == 1:
        return np.ones((*beliefs.shape[:2], 1))
    if cell.policy == MOST_LIKELY:
        certain: Floats = np.eye(beliefs.shape[2])[beliefs.argmax(axis=2)]
        return certain
    return beliefs


def policy_rule(policy: AllocationPolicy, cell: Cell, beliefs: Floats) -> Rule:
    """Decisions of a policy for many paths."""
    first = cell.policy == RECEDING or policy.problem.n_stages == 1
    blocks = np.zeros(len(beliefs), dtype=np.intp)
    rule = PolicyRule([policy], beliefs, blocks, stage=0 if first else None)
    return paying_costs(rule, cell.cost) if cell.policy == COSTS_IGNORED else rule


def _growth(world: World, cell: Cell, policy: AllocationPolicy, draw: int) -> Floats:
    """Growth of wealth over what is followed, were trading free, by date and regime."""
    config, own = world.config, policy.problem.growth
    if own.shape == (cell.followed + 1, config.n_states):
        return own
    scenarios = sample(config, cell, world.truth(cell), cell.followed, draw)
    model = policy.problem.model
    return frictionless_growth(model, model.on(scenarios), scenarios)


def _checked(
    world: World, cell: Cell, run: Rollout, rule: Rule, control: RegimeControl, returns: Floats
) -> dict[str, Floats]:
    """True CVaR of decisions, and the policy moved towards cash until the true limit holds."""
    config, n = world.config, cell.n_checked
    tail = TrueTail(
        world.truth(cell),
        config.cvar_confidence,
        config.n_tail,
        rng=stream(config.seed, Purpose.TAIL),
    )

    def cvar(stage: int, after: Floats) -> Floats:
        """Of distinct decisions only: the first one is that of all paths."""
        ahead = control.arrival(stage)[: len(after)]
        rows, of_path = np.unique(np.hstack([ahead, after]), axis=0, return_inverse=True)
        k = ahead.shape[1]
        values = [tail.cvar(row[k + 1 :], row[:k]) for row in rows]
        return np.array(values)[of_path.ravel()]

    limited = within_limit(rule, cvar, limit=cell.cvar_limit, cost=cell.cost)
    risk = np.column_stack([cvar(t, run.holdings[:n, t]) for t in range(cell.followed)])
    ratios = (risk + run.paid[:n]) / (cell.cvar_limit * run.wealth[:n, :-1])
    scaled = rollout(limited, returns[:n], cell.followed)
    return {"risk": ratios, "scaled_value": control.value(scaled), "first_risk": ratios[:1, 0]}
