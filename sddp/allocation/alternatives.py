"""What a decision is compared with: keeping what is held, or another limit on risk today.

Both are valued by the policy's cuts, as the decision itself is: what follows is optimal trading
under the limits that the policy was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sddp.allocation.model import AllocationModel, Holdings
from sddp.allocation.policy import AllocationPolicy, Regime, belief_over_regimes
from sddp.allocation.problem import money
from sddp.allocation.stage import StageInputs, decision_stage
from sddp.arrays import Floats
from sddp.engine.model.stage import Stage
from sddp.engine.policy.policy import Decision
from sddp.engine.subproblem.compile import presolve_stage
from sddp.errors import InfeasibleState

# Fraction of wealth by which the limit is moved to find what it costs: the value is piecewise
# linear in it, and the solver's tolerances (1e-9) are far below.
LIMIT_STEP = 1e-5


@dataclass(frozen=True)
class Unchanged:
    """Keeping what is held until the next decision.

    Attributes
    ----------
    value : float or None
        Expected terminal wealth, in money, under the policy's cuts; None where no later decision
        could keep the limit.
    cvar : float
        One-period CVaR of the loss, as a fraction of wealth. It may exceed the limit.
    """

    value: float | None
    cvar: float


def without_trading(
    policy: AllocationPolicy, *, stage: int = 0, regime: Regime, holdings: Holdings
) -> Unchanged:
    """What comes of not trading now.

    Parameters as for `AllocationPolicy.decide`. The limit is not imposed on this decision: what is
    held may exceed it.
    """
    problem = policy.problem
    before = money(problem.positions, holdings)
    belief = belief_over_regimes(problem, regime)
    declared = _stage(policy, stage, replace(problem.model, cvar_limit=None, cvar_penalty=None))
    model = declared.model
    for trade in (*model.purchases.values(), *model.sales.values()):
        trade.fix(0.0)
    loss = problem.distribution(stage, belief).cvar(
        float(before[0]), before[1:], problem.model.cvar_confidence
    )
    cvar = loss / float(before.sum())
    try:
        value = _decide(policy, stage, belief, declared, before).value
    except InfeasibleState:
        value = None
    return Unchanged(value, cvar)


def limit_price(
    policy: AllocationPolicy, *, stage: int = 0, regime: Regime, holdings: Holdings
) -> float:
    """What the limit costs: the dual of the present decision's limit on risk.

    Parameters as for `AllocationPolicy.decide`.

    Returns
    -------
    float
        Expected terminal wealth, in money, that one more unit of `cvar_limit` (a fraction of
        wealth: 0.01 is one percentage point) on this decision alone would add, at the margin;
        0 where the limit does not bind or there is none.

    Raises
    ------
    InfeasibleState
        No decision keeps the limit.
    """
    problem = policy.problem
    if problem.model.cvar_limit is None:
        return 0.0
    before = money(problem.positions, holdings)
    belief = belief_over_regimes(problem, regime)
    values = []
    for step in (0.0, LIMIT_STEP):
        model = replace(problem.model, cvar_limit=problem.model.cvar_limit + step)
        values.append(_decide(policy, stage, belief, _stage(policy, stage, model, belief), before))
    gain = (values[1].value - values[0].value) / LIMIT_STEP
    # Below what the solver's tolerance (1e-9 of wealth) can tell from nothing.
    noise = 1e-9 * float(before.sum()) / LIMIT_STEP
    return gain if gain > noise else 0.0


def _stage(
    policy: AllocationPolicy,
    stage: int,
    model: AllocationModel,
    belief: np.ndarray | None = None,
) -> Stage:
    """The decision problem of a stage with another model."""
    problem = policy.problem
    if belief is None:
        belief = np.full(problem.scenarios.n_states, 1.0 / problem.scenarios.n_states)
    distribution = problem.distribution(stage, belief)
    inputs = StageInputs(model, problem.terms, distribution, problem.cvar)
    return decision_stage(inputs, None, np.zeros(len(problem.positions)))


def _decide(
    policy: AllocationPolicy,
    stage: int,
    belief: np.ndarray,
    declared: Stage,
    before: Floats,
) -> Decision:
    arrival = belief @ policy.problem.scenarios.transition_matrix[stage]
    arcs = [((stage + 1, int(j)), float(arrival[j])) for j in np.flatnonzero(arrival > 0.0)]
    name = f"stage {stage}"
    return policy.engine.decide_before(
        presolve_stage(declared, name),
        arcs,
        {"holdings": before},
        risk=policy.engine.checkpoint.risk[(stage, int(belief.argmax()))],
        name=name,
    )
