"""Cases whose noise is independent between stages: A1 to A19 of `engine_cases.md`.

Each builder states one problem in the letters of the case list. In all of them the noise of a
stage is seen before its decision. Sources: textbook and test problems, restated; A9 is Birge
and Louveaux, *Introduction to Stochastic Programming*, section 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyomo.environ as pyo

import sddp


def a1() -> sddp.Problem:
    """Newsvendor: buy at 1 before the demand is known, sell at 2 after."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(domain=pyo.NonNegativeReals)
        states = {"x": sddp.State(m.x_in, m.x, initial=0.0)}
        if node.stage == 0:
            m.cost = pyo.Objective(expr=m.x)
            return sddp.Stage(m, states)
        m.w = pyo.Param(mutable=True, initialize=0.0)
        m.s = pyo.Var(domain=pyo.NonNegativeReals)
        m.stock = pyo.Constraint(expr=m.s <= m.x_in)
        m.demand = pyo.Constraint(expr=m.s <= m.w)
        m.cost = pyo.Objective(expr=-2 * m.s)
        return sddp.Stage(m, states, noise=sddp.Noise([{"w": 2.0}, {"w": 3.0}]))

    return sddp.Problem(sddp.linear_graph(2), build, cost_to_go_bound=-5.0)


def a3() -> sddp.Problem:
    """Two perishable goods that share one demand."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.d = pyo.Param(mutable=True, initialize=0.0)
        m.x_in, m.x = pyo.Var([1, 2]), pyo.Var([1, 2], domain=pyo.NonNegativeReals)
        m.s = pyo.Var([1, 2], domain=pyo.NonNegativeReals)
        m.stock = pyo.Constraint([1, 2], rule=lambda m, i: m.s[i] <= m.x_in[i])
        m.demand = pyo.Constraint(expr=m.s[1] + m.s[2] <= m.d)
        m.cost = pyo.Objective(expr=0.2 * m.x[1] + 0.7 * m.x[2] - 2.33 * m.s[1] - 2.54 * m.s[2])
        demands = (0.0,) if node.stage == 0 else (2.0, 10.0)
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=0.0)},
            noise=sddp.Noise([{"d": d} for d in demands]),
        )

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=-50.0)


def a8() -> sddp.Problem:
    """Air conditioning: regular time, overtime, storage."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.d = pyo.Param(mutable=True, initialize=0.0)
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 100))
        m.u, m.o = pyo.Var(bounds=(0, 200)), pyo.Var(domain=pyo.NonNegativeReals)
        m.balance = pyo.Constraint(expr=m.x == m.x_in + m.u + m.o - m.d)
        m.cost = pyo.Objective(expr=100 * m.u + 300 * m.o + 50 * m.x)
        demands = (100.0,) if node.stage == 0 else (100.0, 300.0)
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=0.0)},
            noise=sddp.Noise([{"d": d} for d in demands]),
        )

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=0.0)


def a9() -> sddp.Problem:
    """The farmer: noise stands in the constraint matrix."""
    crops = ("wheat", "corn", "beet")

    def per_crop(*values: float | None) -> Mapping[str, float | None]:
        return dict(zip(crops, values, strict=True))

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.area_in = pyo.Var(crops)
        m.area = pyo.Var(crops, domain=pyo.NonNegativeReals)
        states = {"area": sddp.State(m.area_in, m.area, initial=0.0)}
        if node.stage == 0:
            planting = per_crop(150, 230, 260)
            m.land = pyo.Constraint(expr=sum(m.area[c] for c in crops) <= 500)
            m.reward = pyo.Objective(
                expr=-sum(planting[c] * m.area[c] for c in crops), sense=pyo.maximize
            )
            return sddp.Stage(m, states)
        m.k = pyo.Param(mutable=True, initialize=1.0)
        quota, need, mean_yield = (
            per_crop(None, None, 6000),
            per_crop(200, 240, 0),
            per_crop(2.5, 3, 20),
        )
        m.y, m.b, m.sn = (pyo.Var(crops, domain=pyo.NonNegativeReals) for _ in range(3))
        m.si = pyo.Var(crops, bounds=lambda m, c: (0, quota[c]))
        m.grown = pyo.Constraint(
            crops, rule=lambda m, c: m.y[c] == mean_yield[c] * m.k * m.area_in[c]
        )
        m.needed = pyo.Constraint(
            crops, rule=lambda m, c: m.y[c] + m.b[c] - m.si[c] - m.sn[c] >= need[c]
        )
        within, above, buying = (
            per_crop(170, 150, 36),
            per_crop(0, 0, 10),
            per_crop(238, 210, 1000),
        )
        m.reward = pyo.Objective(
            expr=sum(within[c] * m.si[c] + above[c] * m.sn[c] - buying[c] * m.b[c] for c in crops),
            sense=pyo.maximize,
        )
        return sddp.Stage(m, states, noise=sddp.Noise([{"k": k} for k in (1.2, 1.0, 0.8)]))

    return sddp.Problem(sddp.linear_graph(2), build, cost_to_go_bound=5e5)


def hydro_stage(
    stage: int,
    inflows: Mapping[float, float] | None = None,
    cost_factors: Mapping[float, float] | None = None,
) -> sddp.Stage:
    """Stage of A11, A11b and B7: reservoir, thermal plant, demand 150.

    Parameters
    ----------
    stage : int
        From 0.
    inflows : mapping from inflow to probability, optional
        Equiprobable 0, 50, 100 by default.
    cost_factors : mapping from inflow to factor, optional
        Multiplies the thermal cost (noise in objective and right-hand side at once).
    """
    inflows = inflows or dict.fromkeys((0.0, 50.0, 100.0), 1 / 3)
    m = pyo.ConcreteModel()
    m.w = pyo.Param(mutable=True, initialize=0.0)
    m.factor = pyo.Param(mutable=True, initialize=1.0)
    m.v_in, m.v = pyo.Var(), pyo.Var(bounds=(0, 200))
    m.g, m.h, m.s = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
    m.balance = pyo.Constraint(expr=m.v == m.v_in - m.h - m.s + m.w)
    m.demand = pyo.Constraint(expr=m.h + m.g == 150)
    m.cost = pyo.Objective(expr=(50, 100, 150)[stage] * m.factor * m.g)
    realisations = [{"w": w, "factor": cost_factors[w] if cost_factors else 1.0} for w in inflows]
    return sddp.Stage(
        m,
        {"v": sddp.State(m.v_in, m.v, initial=200.0)},
        noise=sddp.Noise(realisations, list(inflows.values())),
    )


COST_FACTORS = {0.0: 1.5, 50.0: 1.0, 100.0: 0.75}


def a11() -> sddp.Problem:
    """Hydrothermal scheduling."""
    return sddp.Problem(
        sddp.linear_graph(3), lambda node: hydro_stage(node.stage), cost_to_go_bound=0.0
    )


def a11b() -> sddp.Problem:
    """A11 with dear thermal energy when it is dry."""
    return sddp.Problem(
        sddp.linear_graph(3),
        lambda node: hydro_stage(node.stage, cost_factors=COST_FACTORS),
        cost_to_go_bound=0.0,
    )


def a14(cost_to_go_bound: float = -10.0) -> sddp.Problem:
    """A free state and a value that falls below 0: a bound of 0 gives a wrong answer."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.w = pyo.Param(mutable=True, initialize=0.0)
        m.x_in, m.x, m.y = pyo.Var(), pyo.Var(), pyo.Var()
        m.noise = pyo.Constraint(expr=m.y == m.w)
        m.balance = pyo.Constraint(expr=m.x_in == m.x + m.y)
        m.cost = pyo.Objective(expr=m.w * m.x)
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=1.0)},
            noise=sddp.Noise([{"w": 1.1}, {"w": 2.2}]),
        )

    return sddp.Problem(sddp.linear_graph(2), build, cost_to_go_bound=cost_to_go_bound)


def a16a() -> sddp.Problem:
    """Thermal output is chosen after the inflow is seen."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = _reservoir_of_a16()
        m.th = pyo.Var(bounds=(0, 9))
        m.demand = pyo.Constraint(expr=m.th + m.h == 9 - m.n)
        m.cost = pyo.Objective(expr=500 * m.n + 20 * m.th)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=6.0)}, noise=_inflows_of_a16())

    return sddp.Problem(sddp.linear_graph(4), build, cost_to_go_bound=0.0)


def a16b() -> sddp.Problem:
    """Thermal output is a state, chosen one stage before; 0 in the first."""
    return sddp.Problem(sddp.linear_graph(4), _planned_thermal_of_a16, cost_to_go_bound=0.0)


def a16c() -> sddp.Problem:
    """As `a16b`, with a stage in front that does nothing but choose the first output."""

    def build(node: sddp.Node) -> sddp.Stage:
        if node.stage > 0:
            return _planned_thermal_of_a16(node)
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 8))
        m.th_in, m.th = pyo.Var(), pyo.Var(bounds=(0, 9))
        m.keep = pyo.Constraint(expr=m.x == m.x_in)
        m.cost = pyo.Objective(expr=0.0)
        return sddp.Stage(m, _states_of_a16(m))

    return sddp.Problem(sddp.linear_graph(5), build, cost_to_go_bound=0.0)


def _planned_thermal_of_a16(node: sddp.Node) -> sddp.Stage:
    m = _reservoir_of_a16()
    m.th_in, m.th = pyo.Var(), pyo.Var(bounds=(0, 9))
    m.demand = pyo.Constraint(expr=m.th_in + m.h == 9 - m.n)
    m.cost = pyo.Objective(expr=500 * m.n + 20 * m.th_in)
    return sddp.Stage(m, _states_of_a16(m), noise=_inflows_of_a16())


def _states_of_a16(m: pyo.ConcreteModel) -> dict[str, sddp.State]:
    return {
        "x": sddp.State(m.x_in, m.x, initial=6.0),
        "th": sddp.State(m.th_in, m.th, initial=0.0),
    }


def _reservoir_of_a16() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.w = pyo.Param(mutable=True, initialize=0.0)
    m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 8))
    m.h, m.n, m.s = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
    m.balance = pyo.Constraint(expr=m.x == m.x_in - m.h - m.s + m.w)
    return m


def _inflows_of_a16() -> sddp.Noise:
    return sddp.Noise([{"w": 2.0}, {"w": 3.0}])


def a19() -> sddp.Problem:
    """Newsvendor with returns and eleven demands."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.b_in, m.b = pyo.Var(), pyo.Var(bounds=(0, 10))
        states = {"b": sddp.State(m.b_in, m.b, initial=0.0)}
        if node.stage == 0:
            m.reward = pyo.Objective(expr=-m.b, sense=pyo.maximize)
            return sddp.Stage(m, states)
        m.D = pyo.Param(mutable=True, initialize=0.0)
        m.s, m.n, m.r = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
        m.demand = pyo.Constraint(expr=m.s + m.n == m.D)
        m.stock = pyo.Constraint(expr=m.s + m.r == m.b_in)
        m.reward = pyo.Objective(expr=2 * m.s + 0.5 * m.r, sense=pyo.maximize)
        return sddp.Stage(m, states, noise=sddp.Noise([{"D": d} for d in range(11)]))

    return sddp.Problem(sddp.linear_graph(2), build, cost_to_go_bound=20.0)
