"""One policy at one limit and cost, followed along the paths: what runs in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from experiments.autoregressive import policies
from experiments.autoregressive.config import N_NODES, Config, Purpose
from experiments.autoregressive.process import START
from experiments.autoregressive.sample import Sample
from experiments.autoregressive.tail import TrueTail
from sddp.allocation.model import AllocationModel
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.training import frictionless_policy, train_allocation
from sddp.arrays import Floats
from sddp.bounds.frictionless import FrictionlessPolicy, factor_grid, solve_frictionless
from sddp.bounds.information_relaxation import information_relaxation, laws_along
from sddp.bounds.martingales import controlled_wealth, value_differences
from sddp.engine.training.stopping import Iterations
from sddp.estimation.process_regimes import RegimeModel
from sddp.evaluation.rollout import (
    PolicyRule,
    Rollout,
    Rule,
    paying_costs,
    rollout,
    within_limit,
)
from sddp.statistics import Shocks, brown_smith
from sddp.statistics.paths import Pairing
from sddp.studies.streams import stream

SDDP = "SDDP"
MOST_LIKELY = "SDDP in the most likely regime"
COSTS_IGNORED = "SDDP that ignores costs"
MYOPIC = "myopic on the same scenarios"
COST_FREE_FUTURE = "cost-free future on the same scenarios"
ONE_STEP = "one-step"
ONE_STEP_FUTURE = "one-step, cost-free future"
ORACLE = "program without costs"

# Without costs the first cuts are exact: an iteration finds the tails, the next has them.
FREE_ITERATIONS = 2


@dataclass(frozen=True)
class Cell:
    """One policy in one setting.

    Attributes
    ----------
    policy : str
        One of the names above.
    cvar_limit, cost : float
    n_states, n_scenarios, sampling, moment_matching, pairing :
        Of the regimes and scenarios that it decides on, where it does.
    known : bool
        Returns of the regimes as the process has them, not as they were fitted.
    tightening : float
        Share by which it is trained and asked to stay below the limit.
    thin : bool
        Follow few paths of each block only.
    scaled : bool
        Follow few paths a second time, moved towards cash wherever the true limit is broken.
    """

    policy: str
    cvar_limit: float
    cost: float
    n_states: int = 3
    n_scenarios: int = 750
    sampling: str = "latin hypercube"
    moment_matching: bool = False
    pairing: Pairing = "same date"
    known: bool = False
    tightening: float = 0.0
    thin: bool = True
    scaled: bool = False

    @property
    def on_scenarios(self) -> bool:
        """Whether it decides on regimes and scenarios; the others know the process."""
        return self.policy not in (ORACLE, ONE_STEP, ONE_STEP_FUTURE)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a cell.

    Attributes
    ----------
    wealth : array, shape (n_paths,)
        Terminal wealth.
    value : array, shape (n_paths,)
        The same less a control variate of mean 0: what the cost-free value function did not
        expect of the holdings.
    risk : array, shape (n_paths, n_decisions)
        True one-period CVaR with the cost of trading, over the limit.
    paid : array, shape (n_paths,)
        Costs of trading.
    scaled_value : array, shape (n_thin_paths,), or None
        `value` of the policy moved towards cash, on the first paths of each block.
    bounds : array, shape (n_draws,), or None
        Of the trainings: upper bounds of the sampled problems, not of the process.
    """

    wealth: Floats
    value: Floats
    risk: Floats
    paid: Floats
    scaled_value: Floats | None
    bounds: Floats | None


@dataclass(frozen=True, eq=False)
class World:
    """What all cells share."""

    config: Config
    sample: Sample
    tail: TrueTail
    regimes: Mapping[tuple[int, Pairing], RegimeModel]

    @property
    def thin(self) -> Sample:
        """The first paths of each block."""
        return self.sample.thinned(self.config.n_thin)

    def sample_of(self, cell: Cell) -> Sample:
        """The paths that a cell follows."""
        return self.thin if cell.thin else self.sample


@lru_cache(maxsize=16)
def program(config: Config, limit: float) -> FrictionlessPolicy:
    """The dynamic program without costs: limit on the points of the law, exact expectations."""
    process = brown_smith()
    law = process.shocks(config.law_points, rng=stream(config.seed, Purpose.LAW))
    return _solve(config, limit, law, process.quadrature(N_NODES))


def sampled_program(config: Config, limit: float, shocks: Shocks) -> FrictionlessPolicy:
    """The program whose law and expectations are both a sample."""
    return _solve(config, limit, shocks, None)


def _solve(
    config: Config, limit: float, shocks: Shocks, expectation: Shocks | None
) -> FrictionlessPolicy:
    process = brown_smith()
    return solve_frictionless(
        process,
        shocks,
        factor_grid(process, config.n_grid),
        n_decisions=config.n_decisions,
        cvar_limit=limit,
        cvar_confidence=config.cvar_confidence,
        expectation=expectation,
    )


def follow_cell(world: World, cell: Cell) -> Outcome:
    """Train what has to be trained and follow the policy along its paths."""
    config, sample = world.config, world.sample_of(cell)
    free = program(world.config, cell.cvar_limit)
    rule = _rule(world, cell, sample, free)
    run = rollout(_charged(cell, rule), sample.paths.excess_returns, config.n_decisions)
    bounds = None
    scaled_value = None
    if isinstance(rule, PolicyRule):
        bounds = np.array([policy.bound for policy in rule.policies])
        if cell.scaled:
            scaled_value = _scaled_value(world, cell, rule, free)
    return Outcome(
        wealth=run.terminal,
        value=_value(free, sample, run),
        risk=_risk(world.tail, sample, run, cell.cvar_limit),
        paid=run.paid.sum(axis=1),
        scaled_value=scaled_value,
        bounds=bounds,
    )


def relax(world: World, limit: float, cost: float, penalized: bool) -> Floats:
    """Upper bounds with perfect foresight, one per path of the thinned sample."""
    sample, free = world.thin, program(world.config, limit)
    n = world.config.n_decisions
    return information_relaxation(
        sample.paths.excess_returns[:, :n],
        laws_along(free, sample.paths),
        _differences(free, sample) if penalized else None,
        transaction_cost=cost,
        cvar_limit=limit,
    )


def _scaled_value(world: World, cell: Cell, rule: PolicyRule, free: FrictionlessPolicy) -> Floats:
    """Value of a policy that is moved towards cash wherever it breaks the true limit."""
    sample = world.sample_of(cell)
    few = sample.thinned(world.config.n_thin)
    charged = _charged(cell, rule.on(sample.first(world.config.n_thin)))

    def cvar(stage: int, after: Floats) -> Floats:
        return world.tail.cvar(after[:, 1:], few.paths.factors[:, stage, 0])

    limited = within_limit(charged, cvar, limit=cell.cvar_limit, cost=cell.cost)
    run = rollout(limited, few.paths.excess_returns, world.config.n_decisions)
    return _value(free, few, run)


def _charged(cell: Cell, rule: Rule) -> Rule:
    """The rule in its market: who does not know of costs pays them all the same."""
    ignorant = cell.cost > 0.0 and cell.policy in (ORACLE, COSTS_IGNORED)
    return paying_costs(rule, cell.cost) if ignorant else rule


def _rule(world: World, cell: Cell, sample: Sample, free: FrictionlessPolicy) -> Rule:
    if cell.policy == ORACLE:
        return policies.frictionless(free, sample)
    if cell.policy in (ONE_STEP, ONE_STEP_FUTURE):
        return policies.one_step(free, sample, cell.cost, future=cell.policy == ONE_STEP_FUTURE)
    model = world.regimes[cell.n_states, cell.pairing]
    if cell.known:
        model = model.with_known_moments(brown_smith())
    beliefs = model.beliefs(sample.paths, world.config.n_decisions)
    first = int(beliefs[0, 0].argmax())
    if cell.policy == MOST_LIKELY:
        beliefs = policies.most_likely(beliefs)
    trained = [_policy(world.config, cell, model, draw, first) for draw in range(sample.n_draws)]
    return PolicyRule(
        trained,
        beliefs,
        sample.draws,
        stage=-1 if cell.policy == MYOPIC else None,
        proportional=all(policy.problem.model.transaction_cost == 0.0 for policy in trained),
    )


def _policy(
    config: Config, cell: Cell, model: RegimeModel, draw: int, regime: int
) -> AllocationPolicy:
    """The policy of one scenario draw."""
    cost = 0.0 if cell.policy == COSTS_IGNORED else cell.cost
    allocation = AllocationModel(
        transaction_cost=cost,
        cvar_confidence=config.cvar_confidence,
        cvar_limit=cell.cvar_limit * (1.0 - cell.tightening),
    )
    scenarios = model.scenarios(
        cell.n_scenarios,
        config.n_decisions,
        rng=stream(config.seed, Purpose.SCENARIOS, draw),
        sampling=cell.sampling,
        moment_matching=cell.moment_matching,
    )
    # What is worth 1 per unit of wealth next month needs no cuts that were trained.
    if cell.policy in (COST_FREE_FUTURE, MYOPIC):
        return frictionless_policy(allocation, scenarios)
    return train_allocation(
        allocation,
        scenarios,
        initial_holdings={"cash": 1.0},
        initial_regime=regime,
        stopping=Iterations(config.iterations if cost > 0.0 else FREE_ITERATIONS),
        rng=stream(config.seed, Purpose.TRAINING, draw),
        progress=False,
    ).policy


def _differences(free: FrictionlessPolicy, sample: Sample) -> Floats:
    return value_differences(free, sample.paths, free.process.quadrature(N_NODES))


def _value(free: FrictionlessPolicy, sample: Sample, run: Rollout) -> Floats:
    return controlled_wealth(run.terminal, run.holdings, _differences(free, sample))


def _risk(tail: TrueTail, sample: Sample, run: Rollout, limit: float) -> Floats:
    n = run.holdings.shape[1]
    cvar = tail.cvar(run.holdings[:, :, 1:], sample.paths.factors[:, :n, 0])
    risk: Floats = (cvar + run.paid) / (limit * run.wealth[:, :-1])
    return risk


def out_of_sample(config: Config) -> Sample:
    """Paths from the exact law."""
    # The reference numbers are for 11 decisions, whatever the study's horizon.
    paths = brown_smith().simulate(
        config.n_paths,
        max(config.n_decisions, 11),
        rng=stream(config.seed, Purpose.PATHS),
        start=START,
    )
    return Sample(paths, config.n_draws)
