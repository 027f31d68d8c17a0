"""The policies that are compared, as rules for all paths at once."""

from __future__ import annotations

import numpy as np

from experiments.autoregressive.config import N_NODES
from experiments.autoregressive.sample import Sample
from sddp.arrays import Floats
from sddp.bounds.frictionless import FrictionlessPolicy
from sddp.bounds.one_step import (
    best_holdings,
    cost_free_rewards,
    held_rewards,
    myopic_rewards,
)
from sddp.evaluation.rollout import Rule


def most_likely(beliefs: Floats) -> Floats:
    """All of the belief on its most likely regime."""
    certain: Floats = np.eye(beliefs.shape[-1])[beliefs.argmax(axis=-1)]
    return certain


def one_step(program: FrictionlessPolicy, sample: Sample, cost: float, *, future: bool) -> Rule:
    """The best trade of one period; `future`: with the value function of free trading after it."""
    expectation = program.process.quadrature(N_NODES)

    def rule(stage: int, before: Floats) -> Floats:
        factors = sample.paths.factors[:, stage, 0]
        rewards = (
            cost_free_rewards(program, expectation, stage, factors)
            if future
            else myopic_rewards(program.process, factors)
        )
        return best_holdings(before, factors, rewards, program, cost)

    return rule


def held_to_horizon(program: FrictionlessPolicy, sample: Sample, cost: float) -> Rule:
    """The best trade of one period for money that is then held to the horizon."""
    n_decisions = len(program.growth) - 1

    def rule(stage: int, before: Floats) -> Floats:
        factors = sample.paths.factors[:, stage, 0]
        rewards = held_rewards(program.process, factors, n_decisions - stage)
        return best_holdings(before, factors, rewards, program, cost)

    return rule


def frictionless(program: FrictionlessPolicy, sample: Sample) -> Rule:
    """The dynamic program without costs."""

    def rule(stage: int, before: Floats) -> Floats:
        weights = program.weights(stage, sample.paths.factors[:, stage, 0])
        shares = np.column_stack([1.0 - weights.sum(axis=1), weights])
        holdings: Floats = shares * before.sum(axis=1)[:, None]
        return holdings

    return rule
