"""Cases on a Markov chain: B1, B2, B7, C1 and C2 of `engine_cases.md`.

Sources: B1 and C1 after the asset management problem of Birge and Louveaux, *Introduction to
Stochastic Programming*, section 1.2; B2 is McCardle's farm; C2 a hydro valley.
"""

from __future__ import annotations

import pyomo.environ as pyo

import sddp
from tests.engine.cases.stagewise import COST_FACTORS, hydro_stage

# The chain of B1 and C1: one state, then two.
TWO_STATES = ([[1.0]], [[0.5, 0.5]], [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
# Gross returns of stocks and bonds by Markov state.
STOCKS, BONDS = (1.25, 1.06), (1.14, 1.12)


def b1(cost: float = 0.0) -> sddp.Problem:
    """Asset management: reach 80 from 55 in three periods; `cost` is proportional."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.s_in, m.b_in = pyo.Var(), pyo.Var()
        m.s, m.b = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
        states = {
            "stocks": sddp.State(m.s_in, m.s, initial=0.0),
            "bonds": sddp.State(m.b_in, m.b, initial=0.0),
        }
        stocks, bonds = STOCKS[node.markov_state] * m.s_in, BONDS[node.markov_state] * m.b_in
        if node.stage == 0:
            m.budget = pyo.Constraint(expr=m.s + m.b == 55)
            m.cost = pyo.Objective(expr=0.0)
        elif node.stage < 3:
            m.buy, m.sell = (pyo.Var([0, 1], domain=pyo.NonNegativeReals) for _ in range(2))
            m.stocks = pyo.Constraint(expr=m.s == stocks + m.buy[0] - m.sell[0])
            m.bonds = pyo.Constraint(expr=m.b == bonds + m.buy[1] - m.sell[1])
            m.budget = pyo.Constraint(
                expr=(1 + cost) * (m.buy[0] + m.buy[1]) == (1 - cost) * (m.sell[0] + m.sell[1])
            )
            m.cost = pyo.Objective(expr=0.0)
        else:
            m.over, m.short = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
            m.target = pyo.Constraint(expr=stocks + bonds - m.over + m.short == 80)
            m.cost = pyo.Objective(expr=-m.over + 4 * m.short)
        return sddp.Stage(m, states)

    return sddp.Problem(sddp.markov_graph(TWO_STATES), build, cost_to_go_bound=-1000.0)


def b2() -> sddp.Problem:
    """McCardle's farm: hay of three cuttings under dry, normal and wet weather."""
    cuttings, weather = (0, 1, 2), [0.14, 0.69, 0.17]
    yields = ((30, 75, 37.5), (15, 37.5, 18.25), (7.5, 18.75, 9.325))
    needed, days = (210, 210, 858), (60, 60, 245)
    buying, selling = (5, 6, 7), (4.5, 5.5, 6.5)
    eating = ((0, 1, 2), (0, 0, 1), (0, 0, 0))

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.acres_in, m.acres = pyo.Var(), pyo.Var(bounds=(0, 60))
        m.bales_in = pyo.Var(cuttings)
        m.bales = pyo.Var(cuttings, domain=pyo.NonNegativeReals)
        m.land = pyo.Constraint(expr=m.acres <= m.acres_in)
        states = {
            "acres": sddp.State(m.acres_in, m.acres, initial=60.0),
            "bales": sddp.State(m.bales_in, m.bales, initial=0.0),
        }
        if node.stage == 0:
            m.keep = pyo.Constraint(cuttings, rule=lambda m, c: m.bales[c] == m.bales_in[c])
            m.cost = pyo.Objective(expr=0.0)
            return sddp.Stage(m, states)
        k = node.stage - 1
        m.buy, m.sell, m.eat, m.p, m.n = (
            pyo.Var(cuttings, domain=pyo.NonNegativeReals) for _ in range(5)
        )

        def balance(m: pyo.ConcreteModel, c: int) -> object:
            grown = yields[k][node.markov_state] * m.acres_in if c == k else 0.0
            used = m.buy[c] - m.eat[c] - m.sell[c] + m.p[c] - m.n[c]
            return m.bales[c] == m.bales_in[c] + used + grown

        m.balance = pyo.Constraint(cuttings, rule=balance)
        m.fed = pyo.Constraint(expr=sum(m.eat[c] for c in cuttings) >= needed[k])
        m.barn = pyo.Constraint(expr=sum(m.bales[c] for c in cuttings) <= 3000)
        m.sold = pyo.Constraint(cuttings, rule=lambda m, c: m.sell[c] <= m.bales_in[c])
        m.market = pyo.Constraint(expr=sum(m.sell[c] for c in cuttings) <= 3000)
        m.cost = pyo.Objective(
            expr=50 * m.acres_in
            + sum(
                1000 * (m.p[c] + m.n[c])
                + 0.05 * days[k] * m.bales_in[c]
                + buying[c] * m.buy[c]
                + eating[c][k] * m.eat[c]
                - selling[c] * m.sell[c]
                for c in cuttings
            )
        )
        return sddp.Stage(m, states)

    graph = sddp.markov_graph([[[1.0]], [weather], [weather] * 3, [weather] * 3])
    return sddp.Problem(graph, build, cost_to_go_bound=-5000.0)


def b7() -> sddp.Problem:
    """A11b with a wet (0) and a dry (1) climate."""
    inflows = (
        {0.0: 1 / 6, 50.0: 1 / 3, 100.0: 1 / 2},
        {0.0: 1 / 2, 50.0: 1 / 3, 100.0: 1 / 6},
    )
    chain = [[[1.0]], [[0.75, 0.25]], [[0.75, 0.25], [0.25, 0.75]]]
    return sddp.Problem(
        sddp.markov_graph(chain),
        lambda node: hydro_stage(node.stage, inflows[node.markov_state], COST_FACTORS),
        cost_to_go_bound=0.0,
    )


def c1() -> sddp.Problem:
    """Asset management with cash flows; the risk measure is chosen in training."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.xs_in, m.xb_in = pyo.Var(), pyo.Var()
        m.xs, m.xb = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
        states = {
            "stocks": sddp.State(m.xs_in, m.xs, initial=0.0),
            "bonds": sddp.State(m.xb_in, m.xb, initial=0.0),
        }
        wealth = STOCKS[node.markov_state] * m.xs_in + BONDS[node.markov_state] * m.xb_in
        noise = None
        if node.stage == 0:
            m.budget = pyo.Constraint(expr=m.xs + m.xb == 55)
            m.reward = pyo.Objective(expr=0.0, sense=pyo.maximize)
        elif node.stage < 3:
            m.phi, m.psi = (pyo.Param(mutable=True, initialize=0.0) for _ in range(2))
            m.budget = pyo.Constraint(expr=wealth + m.phi == m.xs + m.xb)
            m.reward = pyo.Objective(expr=m.psi * m.xs, sense=pyo.maximize)
            noise = sddp.Noise([{"phi": -1.0, "psi": 0.02}, {"phi": 5.0, "psi": 0.0}], [0.6, 0.4])
        else:
            m.u, m.v = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
            m.target = pyo.Constraint(expr=wealth + m.u - m.v == 80)
            m.reward = pyo.Objective(expr=-4 * m.u + m.v, sense=pyo.maximize)
        return sddp.Stage(m, states, noise=noise)

    return sddp.Problem(sddp.markov_graph(TWO_STATES), build, cost_to_go_bound=1000.0)


def c2() -> sddp.Problem:
    """Two reservoirs in a row; rain is noise, the price a Markov chain."""
    units, knots = (1, 2), (1, 2, 3)
    flow, power = dict(zip(knots, (50, 60, 70), strict=True)), {1: 55, 2: 65, 3: 70}
    prices = ((1.0,), (2.0, 1.0), (3.0, 4.0))

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.rain = pyo.Param(units, mutable=True, initialize=0.0)
        m.r_in, m.r = pyo.Var(units), pyo.Var(units, bounds=(0, 200))
        m.outflow, m.spill, m.inflow = (
            pyo.Var(units, domain=pyo.NonNegativeReals) for _ in range(3)
        )
        m.G = pyo.Var(domain=pyo.NonNegativeReals)
        m.d = pyo.Var(units, knots, bounds=(0, 1))
        m.flow = pyo.Constraint(
            units, rule=lambda m, k: m.outflow[k] == sum(flow[i] * m.d[k, i] for i in knots)
        )
        m.dispatch = pyo.Constraint(units, rule=lambda m, k: sum(m.d[k, i] for i in knots) <= 1)
        m.generation = pyo.Constraint(
            expr=sum(power[i] * m.d[k, i] for k in units for i in knots) == m.G
        )
        m.raining = pyo.Constraint(units, rule=lambda m, k: m.inflow[k] <= m.rain[k])

        def balance(m: pyo.ConcreteModel, k: int) -> object:
            kept = m.r_in[k] + m.inflow[k] - m.outflow[k] - m.spill[k]
            return m.r[k] == (kept if k == 1 else kept + m.outflow[1] + m.spill[1])

        m.balance = pyo.Constraint(units, rule=balance)
        price = prices[node.stage][node.markov_state]
        m.reward = pyo.Objective(
            expr=price * m.G - 1000 * (m.spill[1] + m.spill[2]), sense=pyo.maximize
        )
        rains = [(0.0, 0.0)] if node.stage == 0 else [(0.0, 0.0), (20.0, 0.0), (50.0, 20.0)]
        return sddp.Stage(
            m,
            {"r": sddp.State(m.r_in, m.r, initial=200.0)},
            noise=sddp.Noise([{"rain[1]": a, "rain[2]": b} for a, b in rains]),
        )

    chain = [[[1.0]], [[0.6, 0.4]], [[0.6, 0.4], [0.3, 0.7]]]
    return sddp.Problem(sddp.markov_graph(chain), build, cost_to_go_bound=1000.0)
