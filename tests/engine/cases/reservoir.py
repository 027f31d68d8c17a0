"""The reservoir of C9, on a line and on a discounted loop (D3); and the constant cost D1."""

from __future__ import annotations

import pyomo.environ as pyo

import sddp


def reservoir_stage(initial: float = 10.0) -> sddp.Stage:
    """Inflow and demand are noise; spilling costs 10, other generation 1."""
    m = pyo.ConcreteModel()
    m.w, m.d = (pyo.Param(mutable=True, initialize=0.0) for _ in range(2))
    m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(5, 15))
    m.g, m.h, m.s = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
    m.balance = pyo.Constraint(expr=m.x == m.x_in - m.h - m.s + m.w)
    m.demand = pyo.Constraint(expr=m.h + m.g == m.d)
    m.cost = pyo.Objective(expr=10 * m.s + m.g)
    realisations = [{"w": w, "d": d} for w, d in ((0.0, 7.5), (5.0, 5.0), (10.0, 2.5))]
    return sddp.Stage(
        m, {"x": sddp.State(m.x_in, m.x, initial=initial)}, noise=sddp.Noise(realisations)
    )


def c9(n_stages: int = 4) -> sddp.Problem:
    """The reservoir over a number of stages."""
    stage = reservoir_stage()
    return sddp.Problem(sddp.linear_graph(n_stages), lambda node: stage, cost_to_go_bound=0.0)


def discounted_loop(discount: float = 0.9) -> sddp.Graph:
    """One decision, taken again with probability `discount`."""
    return sddp.Graph(["node"], {("root", "node"): 1.0, ("node", "node"): discount})


def d1() -> sddp.Problem:
    """A cost of 2 per stage for ever: 2 / (1 - 0.9)."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var()
        m.keep = pyo.Constraint(expr=m.x == m.x_in)
        m.cost = pyo.Objective(expr=2.0)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=1.0)})

    return sddp.Problem(discounted_loop(), build, cost_to_go_bound=0.0)


def d3() -> sddp.Problem:
    """The reservoir for ever, discounted."""
    return sddp.Problem(discounted_loop(), lambda node: reservoir_stage(), cost_to_go_bound=0.0)
