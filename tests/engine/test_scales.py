"""Units do not matter: of money, of water; and what is at the edge of the solver's tolerance."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.errors import InfeasibleProblem, InfeasibleState, ModelError
from tests.engine.support import SOLVER, train

GROSS = np.array([[1.0, 1.1], [1.0, 0.97]])  # (scenario, position): cash and one asset


def growth(wealth: float, n_decisions: int, **options) -> sddp.Problem:
    """Maximise expected terminal wealth, unbounded holdings, cost 1 % of what is bought."""

    def build(node):
        m = pyo.ConcreteModel()
        m.x_in = pyo.Var(range(2))
        m.x = pyo.Var(range(2), domain=pyo.NonNegativeReals)
        arrival = sddp.LinearTransition(scale=GROSS)
        if node.stage == n_decisions:
            m.wealth = pyo.Objective(expr=m.x_in[0] + m.x_in[1], sense=pyo.maximize)
            return sddp.Stage(m, {"x": sddp.State(m.x_in)}, transition=arrival)
        m.bought = pyo.Var(domain=pyo.NonNegativeReals)
        m.asset = pyo.Constraint(expr=m.x[1] == m.x_in[1] + m.bought)
        m.cash = pyo.Constraint(expr=m.x[0] == m.x_in[0] - 1.01 * m.bought)
        m.none = pyo.Objective(expr=0.0, sense=pyo.maximize)
        states = {"x": sddp.State(m.x_in, m.x, initial={0: wealth, 1: 0.0})}
        return sddp.Stage(m, states, transition=arrival)

    return sddp.Problem(sddp.linear_graph(n_decisions + 1), build, **options)


@pytest.mark.parametrize("wealth", [1.0, 8e9, 1e10, 1e12])
def test_large_money_is_money(wealth):
    """All into the asset: growth 1.035 / 1.01 in one period; the bound needs no help."""
    result = train(growth(wealth, 1), 5)
    assert result.bound / wealth == pytest.approx(1.035 / 1.01, rel=SOLVER)


def test_a_bound_that_nothing_gives_is_asked_for_before_training():
    with pytest.raises(ModelError, match="give Problem a cost_to_go_bound"):
        train(growth(1.0, 2), 5)
    result = train(growth(1.0, 2, cost_to_go_bound=10.0), 10)
    assert result.bound == pytest.approx(1.035**2 / 1.01, rel=SOLVER)


@pytest.mark.parametrize(
    ("water", "money"), [(1.0, 1e7), (1.0, 1e8), (1e6, 1e3), (1e6, 1e-9), (1e6, 1e7)]
)
def test_hydro_in_other_units(water, money):
    """A11 is worth 25000/3 in its own units."""

    def build(node):
        m = pyo.ConcreteModel()
        m.inflow = pyo.Param(initialize=0.0, mutable=True)
        m.v_in, m.v = pyo.Var(), pyo.Var(bounds=(0, 200 * water))
        m.g, m.h, m.s = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
        m.balance = pyo.Constraint(expr=m.v == m.v_in - m.h - m.s + m.inflow)
        m.demand = pyo.Constraint(expr=m.h + m.g == 150 * water)
        m.cost = pyo.Objective(expr=(50, 100, 150)[node.stage] * money * m.g)
        noise = sddp.Noise([{"inflow": w * water} for w in (0.0, 50.0, 100.0)])
        states = {"v": sddp.State(m.v_in, m.v, initial=200.0 * water)}
        return sddp.Stage(m, states, noise=noise)

    bound = train(sddp.Problem(sddp.linear_graph(3), build), 30).bound
    assert bound / (water * money) == pytest.approx(25000 / 3, rel=1e-7)


def scenarios() -> sddp.MarkovScenarios:
    rng = np.random.default_rng(3)
    mean = np.array([[0.015, 0.002], [-0.020, 0.003]])
    spread = np.array([[0.03, 0.005], [0.07, 0.01]])
    returns = mean[:, None] + spread[:, None] * rng.standard_normal((2, 30, 2))
    chain = [[0.9, 0.1], [0.2, 0.8]]
    return sddp.MarkovScenarios(returns, chain, n_stages=3, asset_names=["stocks", "bonds"])


def allocate(limit: float, holdings: dict[str, float], cvar: str = "lazy", **options):
    model = sddp.AllocationModel(transaction_cost=0.005, cvar_limit=limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sddp.errors.RecourseWarning)
        return sddp.train_allocation(
            model,
            scenarios(),
            initial_holdings=holdings,
            rng=np.random.default_rng(0),
            cvar=cvar,
            progress=False,
            **options,
        )


@pytest.mark.long
def test_training_does_the_same_whatever_the_unit_of_money():
    runs = [allocate(0.03, {"cash": wealth}) for wealth in (1.0, 1e-6, 1e9)]
    wealths = (1.0, 1e-6, 1e9)
    assert len({len(run.log) for run in runs}) == 1
    bounds = [run.bound / wealth for run, wealth in zip(runs, wealths, strict=True)]
    np.testing.assert_allclose(bounds, bounds[0], rtol=1e-9)


@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
@pytest.mark.parametrize("short", 10.0 ** np.arange(-14.0, -6.0))
def test_a_limit_at_the_cost_of_selling_out_is_feasible_or_not_but_no_riddle(short, cvar):
    """All in stocks, limit 0.5 % less a little: the only way out costs exactly 0.5 %."""
    try:
        bound = allocate(0.005 - short, {"stocks": 1.0}, cvar).bound
    except InfeasibleProblem:
        # The solver's feasibility tolerance in units of wealth.
        assert short > 1e-13
        return
    assert short < 1e-8
    assert bound == pytest.approx(0.99586526, abs=1e-6)


@pytest.mark.filterwarnings("ignore::sddp.errors.RecourseWarning")
@pytest.mark.parametrize("penalty", [1e-7, 1e-9])
def test_a_small_penalty_costs_what_it_is_and_no_tolerance_hides_it(penalty):
    """Prices below the solver's tolerance in the units of the rows of the explicit form.

    The form lost 2.4e-9 of wealth at a penalty of 1e-7, a hundredth of which is the penalty.
    """
    bounds = {}
    for cvar in ("lazy", "explicit"):
        model = sddp.AllocationModel(transaction_cost=0.005, cvar_limit=0.0, cvar_penalty=penalty)
        bounds[cvar] = sddp.train_allocation(
            model,
            scenarios(),
            initial_holdings={"stocks": 1.0},
            rng=np.random.default_rng(0),
            cvar=cvar,
            stopping=sddp.Iterations(20),
            progress=False,
        ).bound
    assert bounds["explicit"] == pytest.approx(bounds["lazy"], abs=2e-10)


def test_a_state_just_past_the_edge_is_infeasible_by_name():
    policy = allocate(0.003, {"cash": 1.0}).policy
    with pytest.raises(InfeasibleState, match="stage 0, regime 0"):
        policy.decide(regime=0, holdings={"stocks": 0.6 + 1e-6, "cash": 0.4 - 1e-6})
    for past in (1e-8, 1e-10):
        holdings = {"stocks": 0.6 + past, "cash": 0.4 - past}
        with contextlib.suppress(InfeasibleState):
            assert policy.decide(regime=0, holdings=holdings).cvar <= 0.003 + 1e-7


def test_a_regime_that_training_could_not_reach_is_rejected():
    """P = identity: nothing is known of what follows regime 2 when training starts in regime 1."""
    rng = np.random.default_rng(0)
    lasting = sddp.MarkovScenarios(rng.normal(0.0, 0.02, (2, 20, 1)), np.eye(2), n_stages=3)
    policy = sddp.train_allocation(
        sddp.AllocationModel(cvar_limit=0.05),
        lasting,
        initial_holdings={"cash": 1.0},
        rng=rng,
        progress=False,
    ).policy
    for regime in (1, [0.5, 0.5]):
        with pytest.raises(ModelError, match=r"regime 'state2' .* cannot be reached"):
            policy.decide(regime=regime, holdings={"cash": 1.0})
    policy.decide(regime=0, holdings={"cash": 1.0})
    policy.decide(stage=2, regime=1, holdings={"cash": 1.0})  # terminal wealth is known exactly
