"""Portfolios from which the inner bound is combined: those that the policy holds along paths."""

from __future__ import annotations

import numpy as np

from sddp.allocation.policy import AllocationPolicy
from sddp.arrays import Floats, Ints
from sddp.errors import InfeasibleState

# Weights nearer to each other than this are one point: a difference far below any gap.
DIGITS = 10

# Lines of descent that are drawn together.
BATCH = 10

ByRegime = dict[int, Floats]


def visited_portfolios(
    policy: AllocationPolicy, n_points: int, rng: np.random.Generator
) -> tuple[Floats, ...]:
    """What the policy holds at each stage, beside everything in one position.

    Every regime gets `n_points` draws at every stage, so that rare ones are known too. The state
    in which it is entered is drawn with the probabilities of what comes before: portfolios that
    mostly follow from unlikely regimes would leave the likely paths without support. Draws come
    in batches with random numbers of their own: with the same `rng`, the portfolios of whole
    batches stay when more are drawn.

    Parameters
    ----------
    policy : AllocationPolicy
    n_points : int
        Draws for each stage and regime; decisions that coincide count once.
    rng : Generator

    Returns
    -------
    tuple of arrays, one per stage, shape (n_distinct, n_assets + 1)
        Weights after trading, cash first; the first rows are the unit vectors.
    """
    sizes = [min(BATCH, n_points - i) for i in range(0, n_points, BATCH)]
    streams = rng.spawn(len(sizes))
    batches = [_batch(policy, n, own) for n, own in zip(sizes, streams, strict=True)]
    return tuple(_distinct(stage) for stage in zip(*batches, strict=True))


def _batch(policy: AllocationPolicy, n_points: int, rng: np.random.Generator) -> list[ByRegime]:
    """Decisions drawn for each stage and regime, each from those of the stage before."""
    problem = policy.problem
    transition = problem.scenarios.transition_matrix
    regimes = range(problem.scenarios.n_states)
    first = next(k for k in regimes if problem.engine.graph.reaches((0, k)))
    chance = np.eye(len(regimes))[first]
    start = problem.engine.initial_state((0, first))
    held: ByRegime = {first: _decided(policy, 0, first, start[None, :])}
    stages = [held]
    for stage in range(1, problem.n_stages):
        moves = chance[:, None] * transition[stage - 1]
        held = {
            k: _decided(
                policy, stage, k, _arrived(policy, stage, k, stages[-1], moves[:, k], n_points, rng)
            )
            for k in np.flatnonzero(moves.sum(axis=0) > 0.0).tolist()
        }
        stages.append(held)
        chance = moves.sum(axis=0)
    return stages


def _arrived(
    policy: AllocationPolicy,
    stage: int,
    regime: int,
    before: ByRegime,
    weights: Floats,
    n_points: int,
    rng: np.random.Generator,
) -> Floats:
    """Holdings on arrival in a regime, from portfolios held one stage earlier."""
    problem = policy.problem
    scenarios = problem.scenarios
    known = [i for i, portfolios in before.items() if weights[i] > 0.0 and len(portfolios)]
    if not known:
        return np.zeros((0, scenarios.n_assets + 1))
    portfolios = np.vstack([before[i] for i in known])
    chance = np.concatenate([np.full(len(before[i]), weights[i] / len(before[i])) for i in known])
    parents = portfolios[_evenly(chance, n_points, rng)]
    assert scenarios.probabilities is not None
    outcomes = _evenly(scenarios.probabilities[stage - 1, regime], n_points, rng)
    gross = np.empty(parents.shape)
    gross[:, 0] = 1.0 + problem.terms.cash_return[stage - 1]
    gross[:, 1:] = 1.0 + scenarios.returns[stage - 1, regime, rng.permutation(outcomes)]
    arrived = gross * parents
    alive: Floats = arrived[arrived.sum(axis=1) > 0.0]
    return alive


def _evenly(weights: Floats, n: int, rng: np.random.Generator) -> Ints:
    """`n` positions, each as often as its weight says up to less than one (systematic sampling).

    With independent draws lines of descent die out by chance from stage to stage; once in a
    while the interval was then five times as wide.
    """
    ends = np.cumsum(weights)
    at = (rng.random() + np.arange(n)) / n * ends[-1]
    chosen: Ints = np.minimum(np.searchsorted(ends, at, side="right"), len(weights) - 1)
    return chosen


def _decided(policy: AllocationPolicy, stage: int, regime: int, states: Floats) -> Floats:
    """Weights after the policy's decision in each state; infeasible states are left out."""
    distinct, place = np.unique(states, axis=0, return_inverse=True)
    weights = np.full(distinct.shape, np.nan)
    for i, state in enumerate(distinct):
        try:
            solution, _ = policy.engine.solve_step((stage, regime), state, None)
        except InfeasibleState:
            continue
        held = np.maximum(solution.outgoing, 0.0)
        weights[i] = held / held.sum()
    drawn = weights[place.ravel()]
    feasible: Floats = drawn[np.isfinite(drawn).all(axis=1)]
    return feasible


def _distinct(batches: tuple[ByRegime, ...]) -> Floats:
    """Unit vectors and all portfolios of a stage, each once."""
    held = [portfolios for batch in batches for portfolios in batch.values()]
    portfolios = np.vstack([np.eye(held[0].shape[1]), *held])
    _, first = np.unique(portfolios.round(DIGITS), axis=0, return_index=True)
    distinct: Floats = portfolios[np.sort(first)]
    return distinct
