"""Growth of wealth under frictionless trading: initial cuts known before training.

Without costs the incoming holdings do not matter, only their sum does, and the best growth per
unit of wealth obeys a recursion with one small LP per stage and regime. It bounds the value
function from above, ``V_t^k(x) <= v_t^k sum(x)``, and is the exact value function of the
strategy that sees costs in the present decision only.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from sddp.allocation.model import AllocationModel, Terms
from sddp.allocation.one_period import OnePeriodDistribution, one_period_distribution
from sddp.arrays import Floats
from sddp.errors import SolverError
from sddp.lp import Arrays, LinearProgram, Scaling, Status
from sddp.scenarios import MarkovScenarios

# Unit of wealth in the LPs, as in the engine's homogeneous problems: tolerances are 1e-12 of it.
UNIT = 2.0**-10
LIMIT_TOLERANCE = 1e-10


def frictionless_growth(model: AllocationModel, terms: Terms, scenarios: MarkovScenarios) -> Floats:
    """Frictionless growth of wealth from each stage and regime to the horizon.

    Returns
    -------
    array, shape (n_stages + 1, n_states)
        Expected terminal wealth per unit of wealth; the last row is 1, less what is paid as a
        share. Payments and floors in money only make it less: it stays a bound with them.
    """
    n_stages = scenarios.returns.shape[0]
    growth = np.ones((n_stages + 1, scenarios.n_states))
    growth[-1] -= terms.due(n_stages).share
    same = scenarios.stationary and terms.stationary
    programs: dict[tuple[int, int], _OneStep] = {}
    for stage in reversed(range(n_stages)):
        cash_return = float(terms.cash_return[stage])
        for regime in range(scenarios.n_states):
            key = (0 if same else stage, regime)
            if key not in programs:
                belief = np.eye(scenarios.n_states)[regime]
                view = one_period_distribution(
                    scenarios, stage, belief, cash_return, margin=terms.margin
                )
                programs[key] = _OneStep(model, terms, view, stage)
            rewards = _rewards(scenarios, stage, regime, cash_return, growth[stage + 1])
            growth[stage, regime] = programs[key].best(rewards)
    return growth


def _rewards(
    scenarios: MarkovScenarios, stage: int, regime: int, cash_return: float, after: Floats
) -> Floats:
    """Expected later wealth per unit of money held in cash and in each asset."""
    arrival = scenarios.transition_matrix[stage, regime] * after
    assert scenarios.probabilities is not None
    gross = 1.0 + np.einsum("js,jsn->jn", scenarios.probabilities[stage], scenarios.returns[stage])
    return np.concatenate([[arrival.sum() * (1.0 + cash_return)], arrival @ gross])


class _OneStep:
    """Largest reward of one unit of wealth under the risk limit and the weight limits.

    Other rewards start from the last basis and from the tails already found.
    """

    def __init__(
        self, model: AllocationModel, terms: Terms, view: OnePeriodDistribution, stage: int
    ) -> None:
        self._model, self._view, self._limit = model, view, terms.limit(stage)
        n = len(terms.purchase_cost) + 1
        upper = np.full(n + 1, np.inf)
        if terms.weight_limit is not None:
            upper[1:n] = terms.weight_limit
        upper[n] = np.inf if model.cvar_penalty is not None else 0.0
        budget = sp.csr_array(np.append(np.ones(n), 0.0)[None, :])
        arrays = Arrays(
            np.append(np.zeros(n), model.cvar_penalty or 0.0),
            budget,
            np.full(1, -np.inf),
            np.full(1, 1.0 - terms.due(stage).share),
            np.zeros(n + 1),
            upper,
        )
        self._lp = LinearProgram(arrays, Scaling.uniform(arrays, UNIT))

    def best(self, rewards: Floats) -> float:
        lp, model = self._lp, self._model
        lp.set_costs(np.arange(len(rewards), dtype=np.int32), -rewards)
        while True:
            status = lp.solve()
            if status is Status.INFEASIBLE:  # no state is feasible here: any finite bound will do
                return float(rewards.max())
            if status is not Status.OPTIMAL:
                raise SolverError(
                    f"cost-free growth: {lp.status_text()}; written to {lp.write('sddp')}"
                )
            value = -lp.objective()
            limit = self._limit
            if limit is None or not _cut_off(lp, model, limit, self._view, lp.primal()):
                return value


def _cut_off(
    lp: LinearProgram,
    model: AllocationModel,
    limit: float,
    view: OnePeriodDistribution,
    primal: Floats,
) -> bool:
    """Add the violated tail constraint; False if the solution meets the limit."""
    cash, assets, breach = primal[0], primal[1:-1], primal[-1]
    losses = view.losses(cash, assets)
    tail = view.tail(losses, model.cvar_confidence)
    if float(tail @ losses) - breach <= limit + LIMIT_TOLERANCE:
        return False
    row = np.concatenate([[-view.cash_return], -view.mean_return_under(tail), [-1.0]])
    lp.add_rows(row[None, :], np.full(1, -np.inf), np.full(1, limit))
    return True
