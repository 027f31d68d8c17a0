"""Decision problem of one stage as a Pyomo model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyomo.environ as pyo

from sddp.allocation.model import AllocationModel, Due, Terms
from sddp.allocation.one_period import OnePeriodDistribution
from sddp.allocation.tail_rows import TailRows
from sddp.arrays import Floats
from sddp.engine.stage.declaration import Stage, State
from sddp.engine.stage.transition import LinearTransition

CvarForm = Literal["lazy", "explicit"]

# Positions are numbers: cash is the first one, asset ``i`` of the scenarios is position ``i + 1``.
# Labels stay outside of the model, whatever they are.
CASH_POSITION = 0


@dataclass(frozen=True, eq=False)
class StageInputs:
    """Inputs of the stage model.

    Attributes
    ----------
    model, terms :
        The allocation model and its numbers per asset.
    distribution : OnePeriodDistribution
        Outcomes until the next decision, for the risk limit.
    cvar : {"lazy", "explicit"}
    stage : int
        Whose payments, floor and limit count.
    """

    model: AllocationModel
    terms: Terms
    distribution: OnePeriodDistribution
    cvar: CvarForm
    stage: int = 0

    @property
    def limit(self) -> float | None:
        """On one-period CVaR, as a fraction of wealth."""
        return None if self.model.cvar_limit is None else self.terms.limit(self.stage)


def decision_stage(
    inputs: StageInputs, transition: LinearTransition | None, initial: Floats
) -> Stage:
    """Stage of a trading decision, before the next period's returns and regime are known.

    `transition` is how holdings arrived here; `initial` enters where this stage is the first.
    """
    m = _trading_model(inputs)
    rows, row_variables = None, []
    if inputs.limit is not None:
        if inputs.cvar == "explicit":
            _add_explicit_limit(m, inputs)
        else:
            rows, row_variables = _tail_rows(inputs), _traded(m)
    return Stage(
        m,
        states={"holdings": State(incoming=m.incoming, outgoing=m.holdings, initial=initial)},
        transition=transition,
        rows=rows,
        row_variables=row_variables,
        homogeneous=not inputs.model.in_money,
    )


def terminal_stage(model: AllocationModel, terms: Terms, transition: LinearTransition) -> Stage:
    """Terminal stage: wealth at the horizon, no decision."""
    n = len(terms.sale_cost)
    m = pyo.ConcreteModel()
    m.positions = pyo.Set(initialize=range(n + 1))
    m.incoming = pyo.Var(m.positions)
    keeps = [1.0] * (n + 1)
    if model.terminal_value == "liquidated":
        keeps[1:] = (1.0 - terms.sale_cost).tolist()
    worth = pyo.quicksum(keeps[i] * m.incoming[i] for i in m.positions)
    due = terms.due(len(terms.cash_return))
    paid, short = _add_due(m, due)
    if due.money > 0.0:
        m.payable = pyo.Constraint(expr=paid <= worth)
    m.wealth = pyo.Objective(expr=worth - paid - model.shortfall_price * short, sense=pyo.maximize)
    return Stage(
        m,
        states={"holdings": State(incoming=m.incoming)},
        transition=transition,
        homogeneous=not model.in_money,
    )


def _add_due(m: Any, due: Due) -> tuple[Any, Any]:
    """Payment and floor of a stage: what is paid, and the shortfall; 0 where nothing is due."""
    paid: Any = 0.0
    short: Any = 0.0
    wealth = pyo.quicksum(m.incoming[i] for i in m.positions)
    if due.share > 0.0:
        paid += due.share * wealth
    if due.money > 0.0:
        m.unpaid = pyo.Var(bounds=(0.0, due.money))
        paid += due.money - m.unpaid
        short += m.unpaid
    if due.floor > 0.0:
        m.below = pyo.Var(domain=pyo.NonNegativeReals)
        m.floor = pyo.Constraint(expr=m.below >= due.floor - wealth)
        short += m.below
    return paid, short


def _trading_model(inputs: StageInputs) -> Any:
    """Balances, costs and weight limits of one decision."""
    terms = inputs.terms
    assets = range(1, len(terms.purchase_cost) + 1)
    purchase_cost = dict(zip(assets, terms.purchase_cost, strict=True))
    sale_cost = dict(zip(assets, terms.sale_cost, strict=True))

    m = pyo.ConcreteModel()
    m.assets = pyo.Set(initialize=assets)
    m.positions = pyo.Set(initialize=[CASH_POSITION, *assets])
    m.incoming = pyo.Var(m.positions)
    m.holdings = pyo.Var(m.positions, domain=pyo.NonNegativeReals)
    m.purchases = pyo.Var(m.assets, domain=pyo.NonNegativeReals)
    m.sales = pyo.Var(m.assets, domain=pyo.NonNegativeReals)
    m.breach = pyo.Var(domain=pyo.NonNegativeReals)  # of the risk limit, where it is soft

    m.wealth = pyo.Expression(expr=pyo.quicksum(m.incoming[i] for i in m.positions))
    paid, short = _add_due(m, terms.due(inputs.stage))
    m.trading_cost = pyo.Expression(
        expr=pyo.quicksum(
            purchase_cost[i] * m.purchases[i] + sale_cost[i] * m.sales[i] for i in m.assets
        )
    )
    m.balance = pyo.Constraint(
        m.assets,
        rule={i: m.holdings[i] == m.incoming[i] + m.purchases[i] - m.sales[i] for i in assets},
    )
    m.cash_balance = pyo.Constraint(
        expr=m.holdings[CASH_POSITION]
        == m.incoming[CASH_POSITION]
        - pyo.quicksum((1.0 + purchase_cost[i]) * m.purchases[i] for i in m.assets)
        + pyo.quicksum((1.0 - sale_cost[i]) * m.sales[i] for i in m.assets)
        - paid
    )
    m.no_short_sale = pyo.Constraint(
        m.assets, rule={i: m.sales[i] <= m.incoming[i] for i in assets}
    )
    if terms.weight_limit is not None:
        limited = (np.flatnonzero(np.isfinite(terms.weight_limit)) + 1).tolist()
        m.weight_limit = pyo.Constraint(
            limited,
            rule={i: m.holdings[i] <= float(terms.weight_limit[i - 1]) * m.wealth for i in limited},
        )
    penalty = inputs.model.cvar_penalty
    if penalty is None:
        m.breach.fix(0.0)
    m.objective = pyo.Objective(
        expr=-float(penalty or 0.0) * m.breach - inputs.model.shortfall_price * short,
        sense=pyo.maximize,
    )
    return m


def _add_explicit_limit(m: Any, inputs: StageInputs) -> None:
    """CVaR of the loss by Rockafellar and Uryasev: one row and one column per outcome."""
    view, model = inputs.distribution, inputs.model
    outcomes = range(len(view.probabilities))
    m.outcomes = pyo.Set(initialize=outcomes)
    m.quantile = pyo.Var()
    m.excess = pyo.Var(m.outcomes, domain=pyo.NonNegativeReals)

    def loss(o: int) -> Any:
        earned = pyo.quicksum(
            r * m.holdings[i] for i, r in enumerate(view.returns[o].tolist(), start=1)
        )
        return m.trading_cost - earned - view.cash_return * m.holdings[CASH_POSITION]

    m.excess_loss = pyo.Constraint(
        m.outcomes, rule={o: m.excess[o] >= loss(o) - m.quantile for o in outcomes}
    )
    tail = 1.0 - model.cvar_confidence
    m.cvar = pyo.Expression(
        expr=m.quantile
        + pyo.quicksum(float(p) / tail * m.excess[o] for o, p in enumerate(view.probabilities))
    )
    assert inputs.limit is not None
    m.risk_limit = pyo.Constraint(expr=m.cvar - m.breach <= inputs.limit * m.wealth)


def _traded(m: Any) -> list[Any]:
    """Variables of the tail rows, in the order of `TailRows`."""
    return [
        *(m.holdings[i] for i in m.positions),
        *(m.purchases[i] for i in m.assets),
        *(m.sales[i] for i in m.assets),
        *(m.incoming[i] for i in m.positions),
        m.breach,
    ]


def _tail_rows(inputs: StageInputs) -> TailRows:
    """CVaR limit as lazy constraints, one for each violated tail."""
    assert inputs.limit is not None
    return TailRows(
        distribution=inputs.distribution,
        purchase_cost=inputs.terms.purchase_cost,
        sale_cost=inputs.terms.sale_cost,
        confidence=inputs.model.cvar_confidence,
        limit=inputs.limit,
    )
