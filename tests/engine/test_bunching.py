"""Right-hand sides answered from one basis: the same as solving for each of them.

The oracles are scipy on plain arrays, and the engine with bunching switched off.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pyomo.environ as pyo
import pytest
import scipy.sparse as sp

import sddp
from sddp.engine.subproblem import bunching
from sddp.engine.subproblem import subproblem as node_problem
from sddp.engine.subproblem.bunching import RightHandSides, responses
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.stage_lp import StageLP
from sddp.engine.subproblem.subproblem import FEWEST_BUNCHED
from sddp.engine.subproblem.subproblems import restore_subproblems
from sddp.lp import Arrays, Effort, Scaling, Status
from tests.engine import support
from tests.engine.cases import reservoir
from tests.engine.instances import Instance, random_instance
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, Reaches, solve_noises, thawed
from tests.oracles import Mixture, StageArrays, solve_lp, state_value, tree_value

MIXED: Mixture = ((0.3, 1.0), (0.4, 0.25), (0.3, 0.0))
N_NOISES = FEWEST_BUNCHED

# Compiled visits solve each realization.
train = partial(support.train, stage_solver="highs")


def sides_of(base: StageArrays, rng: np.random.Generator) -> StageArrays:
    """Another realisation: the sides of the last two rows, and the constant."""
    rhs = base.rhs.copy()
    rhs[5:] += rng.normal(0.0, 0.3, 2)
    return replace(base, rhs=rhs, fixed=float(rng.normal()))


def costs_of(base: StageArrays, rng: np.random.Generator) -> StageArrays:
    cost = base.cost.copy()
    cost[7] *= rng.uniform(0.5, 1.5)
    return replace(sides_of(base, rng), cost=cost)


def bounds_of(base: StageArrays, rng: np.random.Generator) -> StageArrays:
    upper = base.upper.copy()
    upper[0] -= rng.uniform(0.0, 3.0)
    return replace(sides_of(base, rng), upper=upper)


def entries_of(base: StageArrays, rng: np.random.Generator) -> StageArrays:
    rows = base.rows.copy()
    rows[5, 3] = rng.normal()
    return replace(sides_of(base, rng), rows=rows)


def instance(seed: int, vary=sides_of, n: int = N_NOISES, **options) -> Instance:
    """Random instance in which noise moves what `vary` moves."""
    drawn = random_instance(seed, noise=1, **options)
    rng = np.random.default_rng(seed + 1000)
    nodes = {
        name: replace(
            node,
            realizations=[vary(node.realizations[0], rng) for _ in range(n)],
            probabilities=rng.dirichlet(np.full(n, 5.0)),
        )
        for name, node in drawn.tree.nodes.items()
    }
    return replace(drawn, tree=replace(drawn.tree, nodes=nodes))


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("mixture", [None, MIXED], ids=["neutral", "mixed"])
def test_bunched_trainings_reach_the_value_of_the_extensive_form(mixture, cuts):
    for seed, transition in ((0, "none"), (1, "scale")):
        made = instance(seed, graph="stopping", transition=transition, mixture=mixture)
        if transition == "scale":  # keep the tree small
            made = replace(made, tree=replace(made.tree, arcs={("root", 0): 1.0, (0, 1): 0.8}))
            nodes = {name: made.tree.nodes[name] for name in (0, 1)}
            made = replace(made, tree=replace(made.tree, nodes=nodes))
        exact = tree_value(made.tree)
        risk = {name: measure for name, measure in made.risk().items() if name in made.tree.nodes}
        stopping = sddp.Iterations(100) | Reaches(exact)
        result = train(made.problem(), stopping, cuts=cuts, risk=risk)
        assert result.bound == pytest.approx(exact, rel=SOLVER, abs=SOLVER)
        assert result.work.bunched > 0


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("mixture", [None, MIXED], ids=["neutral", "mixed"])
def test_all_noises_at_once_or_one_by_one(mixture, cuts, monkeypatch):
    """Values, slopes, decisions and cost-to-go, at random states of every node."""
    made = instance(3, graph="markov", mixture=mixture, maximises=True)
    policy = train(made.problem(), 6, cuts=cuts, risk=made.risk()).policy
    rng = np.random.default_rng(0)
    at_once, one_by_one = thawed(policy), thawed(policy)
    for state in rng.uniform(0.0, 8.0, (6, 2)):
        for name in policy.nodes:
            if type(cuts) is sddp.LazyAggregation:  # every row must be found again
                at_once[name].stage_lp.truncate(0)
            together = at_once[name].solve_all(state, SOLVER)
            with monkeypatch.context() as patch:
                patch.setattr(node_problem, "FEWEST_BUNCHED", 1_000)
                apart = one_by_one[name].solve_all(state, SOLVER)
            assert_same(together, apart)
            if not made.problem().graph.children(name):
                exact = [state_value(made.tree, name, state, w) for w in range(N_NOISES)]
                values = [s.value for s in together]
                assert values == pytest.approx(exact, rel=SOLVER, abs=SOLVER)
    assert at_once.work.bunched > 50
    assert one_by_one.work.bunched == 0
    assert at_once.work.lp.solves < one_by_one.work.lp.solves


def assert_same(some: list, others: list) -> None:
    """Random numbers have one solution, and one slope."""
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-8, abs=1e-8)
        assert one.cut.slope == pytest.approx(other.cut.slope, abs=1e-6)
        assert one.outgoing == pytest.approx(other.outgoing, abs=1e-6)
        assert one.theta == pytest.approx(other.theta, rel=1e-7, abs=1e-7)
        assert one.columns == pytest.approx(other.columns, abs=1e-6)


@pytest.mark.parametrize("vary", [costs_of, bounds_of, entries_of])
def test_noise_that_moves_anything_else_is_not_bunched(vary):
    made = instance(5, vary)
    made = replace(made, tree=replace(made.tree, arcs={("root", 0): 1.0, (0, 1): 1.0}))
    made = replace(made, tree=replace(made.tree, nodes={n: made.tree.nodes[n] for n in (0, 1)}))
    exact = tree_value(made.tree)
    result = train(made.problem(), sddp.Iterations(60) | Reaches(exact))
    assert result.bound == pytest.approx(exact, rel=SOLVER, abs=SOLVER)
    assert result.work.bunched == 0


@pytest.mark.parametrize(("n", "bunched"), [(N_NOISES - 1, False), (N_NOISES, True)])
def test_few_noises_are_not_bunched(n, bunched):
    assert (train(instance(5, n=n).problem(), 3).work.bunched > 0) == bunched


def stretched(n_noises: int) -> sddp.Problem:
    """The reservoir of C9 over four stages, its three inflows and demands drawn out to many."""
    inflows = np.linspace(0.0, 10.0, n_noises)
    noise = sddp.Noise([{"w": w, "d": 7.5 - w / 2.0} for w in inflows])
    stage = replace(reservoir.reservoir_stage(), noise=noise)
    return sddp.Problem(sddp.linear_graph(4), lambda node: stage, cost_to_go_bound=0.0)


def outages() -> sddp.Problem:
    """Two turbines share a capacity that may fail: then their row is an equality, else a range."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 15))
        m.a, m.b, m.thermal, m.spill = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(4))
        m.capacity = pyo.Param(mutable=True, initialize=5.0)
        m.turbines = pyo.Constraint(expr=pyo.inequality(0, m.a + m.b, m.capacity))
        m.balance = pyo.Constraint(expr=m.x == m.x_in + 3 - m.a - m.b - m.spill)
        m.demand = pyo.Constraint(expr=m.a + 0.9 * m.b + m.thermal == 6)
        m.cost = pyo.Objective(expr=10 * m.thermal + 0.1 * m.spill)
        noise = sddp.Noise([{"capacity": c} for c in (0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)])
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=8.0)}, noise=noise)

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=0.0)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_an_equality_that_is_a_range_in_other_realisations(cuts):
    """HiGHS says "at its lower side" of the failed capacity; its dual says that more is better."""
    exact = sddp.extensive_form(outages()).solve().value
    result = train(outages(), sddp.Iterations(60) | Reaches(exact), cuts=cuts)
    assert result.bound == pytest.approx(exact, rel=SOLVER)
    assert result.work.bunched > 0


@pytest.mark.long
def test_the_number_of_rows_that_hold_no_solution_does_not_matter(monkeypatch):
    """A hundred cuts are written, a few hold the solution."""
    network = thawed(train(stretched(30), 60).policy)
    node = network[1]
    monkeypatch.setattr(bunching, "MOST_TIGHT", 5)
    for x in np.linspace(5.0, 15.0, 30):
        node.solve_all(np.array([x]), SOLVER)
    before = network.work.bunched
    node.solve_all(np.array([10.0]), SOLVER)
    assert node.stage_lp.lp.n_rows > 3 * bunching.MOST_TIGHT
    assert network.work.bunched > before


def test_a_matrix_with_many_entries_is_not_made_dense(monkeypatch):
    monkeypatch.setattr(bunching, "MOST_ENTRIES", 0)
    monkeypatch.setattr(np.linalg, "solve", None)
    assert train(stretched(30), 4).work.bunched == 0


def test_systems_that_are_too_large_are_not_solved(monkeypatch):
    """The LPs, one by one, give the same."""
    at_once = train(stretched(30), 8)
    monkeypatch.setattr(bunching, "MOST_TIGHT", 0)
    one_by_one = train(stretched(30), 8)
    assert at_once.work.bunched > one_by_one.work.bunched == 0
    assert one_by_one.bound == pytest.approx(at_once.bound, rel=SOLVER)


@pytest.mark.long
def test_bunched_solutions_know_every_cut():
    """Many cuts, none of them written: a basis answers only where no other cut is active."""
    policy = train(stretched(30), 40).policy
    network = restore_subproblems(policy.problem, policy.checkpoint)
    for x in (5.0, 7.0, 9.5, 12.0, 15.0):
        for name in (0, 1, 2):
            node = network[name]
            node.stage_lp.truncate(0)
            for solution in node.solve_all(np.array([x]), SOLVER):
                known = node.cost_to_go.outcomes.evaluate(solution.outgoing).value
                assert solution.theta == pytest.approx(known, rel=1e-7, abs=1e-7)
    assert network.work.bunched > 50


# ---------------------------------------------------------------- infeasible realisations

RAINS = np.array([2.0, 0.0, 4.0, 1.0, 3.5, 0.5, 2.5])
CHANCES = np.array([0.2, 0.1, 0.2, 0.1, 0.1, 0.2, 0.1])


def tank(n_stages: int = 3, last_price: float = 3.0) -> sddp.Problem:
    """As in `test_recourse`, with seven sizes of rain: 5 are needed, at most 1 is bought late."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 50))
        states = {"x": sddp.State(m.x_in, m.x, initial=0.0)}
        if node.stage == 0:
            m.buy = pyo.Var(bounds=(0, 20))
            m.balance = pyo.Constraint(expr=m.x == m.x_in + m.buy)
            m.cost = pyo.Objective(expr=m.buy)
            return sddp.Stage(m, states)
        m.rain = pyo.Param(mutable=True, initialize=0.0)
        m.buy, m.spill = pyo.Var(bounds=(0, 1)), pyo.Var(domain=pyo.NonNegativeReals)
        m.balance = pyo.Constraint(expr=m.x == m.x_in + m.rain + m.buy - m.spill - 5)
        price = last_price if node.stage == n_stages - 1 else 3.0
        m.cost = pyo.Objective(expr=price * m.buy + 0.1 * m.spill)
        noise = sddp.Noise([{"rain": rain} for rain in RAINS], CHANCES)
        return sddp.Stage(m, states, noise=noise)

    return sddp.Problem(sddp.linear_graph(n_stages), build)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("risk", [None, 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.3)])
def test_bunching_beside_feasibility_cuts(risk, cuts):
    exact = sddp.extensive_form(tank(), risk=risk).solve().value
    result = train(tank(), sddp.Iterations(60) | Reaches(exact), cuts=cuts, risk=risk)
    assert result.bound == pytest.approx(exact, rel=SOLVER)
    assert result.work.bunched > 0
    assert any(
        len(memory.feasibility.intercepts) for memory in result.policy.checkpoint.nodes.values()
    )


def test_infeasible_realisations_among_feasible_ones():
    """In the last stage, by hand: from x, rain below 4 - x is too little, and no other is."""
    network = thawed(train(tank(), 30).policy)
    for x in (0.25, 1.75, 2.75, 3.75, 4.5):
        solutions = network[2].solve_all(np.array([x]), SOLVER)
        for rain, solution in zip(RAINS, solutions, strict=True):
            assert isinstance(solution, StageSolution) == (x + rain >= 4.0)
            if isinstance(solution, Infeasibility):
                assert solution.shortfall == pytest.approx(4.0 - x - rain, rel=1e-6)
                assert -solution.cut.intercept / solution.cut.slope[0] == pytest.approx(4.0 - rain)
            else:
                late = max(0.0, 5.0 - x - rain)
                assert solution.value == pytest.approx(3.0 * late, abs=1e-8)


def test_bunched_decisions_keep_feasibility_cuts_of_what_follows():
    """After any rain of stage 1 at least 4 must be left: no late stage may lack more than 1."""
    network = thawed(train(tank(), 30).policy)
    before = network.work.bunched
    for x in (8.0, 8.5, 9.0, 12.0):
        network[1].stage_lp.truncate(0)  # what must be left has to be found again
        for rain, solution in zip(RAINS, network[1].solve_all(np.array([x]), SOLVER), strict=True):
            assert isinstance(solution, StageSolution)
            assert solution.outgoing[0] >= 4.0 - 1e-8
            assert solution.outgoing[0] <= x + rain - 4.0 + 1e-8
    assert network.work.bunched > before


def test_a_feasibility_cut_that_was_dropped_holds_for_bunched_decisions():
    """From 15 the row "leave at least 4" is slack and goes; from 8, little rain needs it again.

    The last stage costs nothing: cuts do not say that less than 4 is too little.
    """
    network = thawed(train(tank(last_price=0.0), 30).policy)
    node = network[1]
    for _ in range(12):
        solve_noises(network, 1, np.array([15.0]), SOLVER)
    assert node.stage_lp.rows.coefficients[:, -1].all()  # rows of the cost-to-go only
    for rain, solution in zip(RAINS, network[1].solve_all(np.array([8.0]), SOLVER), strict=True):
        assert solution.outgoing[0] >= 4.0 - 1e-8, rain


def test_rest_after_a_bunched_last_noise_and_an_infeasible_last_solve():
    """The last noise is answered from the basis of the first; the LP was last infeasible."""
    network = thawed(train(tank(), 30).policy)
    node = network[2]
    for x in (3.0, 2.75, 3.0, 3.25, 3.0, 3.1, 3.0):
        solutions = solve_noises(network, 2, np.array([x]), SOLVER)
        kinds = [isinstance(solution, StageSolution) for solution in solutions]
        assert kinds[-1]
        assert not all(kinds)
    assert isinstance(node.solve(np.array([4.5]), 1, SOLVER), StageSolution)


# ---------------------------------------------------------------- the responses themselves


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_responses_are_optimal_where_they_say_so(seed, unit):
    """Against scipy, with many columns outside; all realisations near the first are answered."""
    rng = np.random.default_rng(seed)
    n_columns, n_rows, n_state = 40, 6, 2
    matrix, inner = rng.normal(size=(n_rows, n_columns)), np.zeros(n_columns)
    inner[:8] = 0.5
    middle = matrix @ inner
    arrays = Arrays(
        rng.uniform(0.0, 3.0, n_columns),
        sp.csr_array(matrix),
        np.where(np.arange(n_rows) % 3 == 1, -np.inf, middle),
        np.where(np.arange(n_rows) % 3 == 2, np.inf, middle + 0.2 * (np.arange(n_rows) > 2)),
        np.zeros(n_columns),
        rng.uniform(0.7, 2.0, n_columns),
    )
    program = StageLP(
        arrays, n_state, np.arange(8, n_columns), Scaling.uniform(arrays, 1.0 / unit), Effort()
    )
    state = np.array([0.5, 0.4])
    program.set_state(state)
    assert program.solve() is Status.OPTIMAL
    rows = np.array([0, 2, 3, 4], dtype=np.int32)
    moves = rng.normal(size=(60, 4)) * np.repeat([0.0, 1e-4, 0.05, 1.0], 15)[:, None]
    sides = RightHandSides(rows, arrays.row_lower[rows] + moves, arrays.row_upper[rows] + moves)
    optimal, primal = responses(program, sides)
    assert set(range(15)) <= set(optimal.tolist())
    assert len(optimal) < 60
    for i, columns_of_it in zip(optimal, primal, strict=True):
        lower, upper = arrays.row_lower.copy(), arrays.row_upper.copy()
        lower[rows], upper[rows] = sides.lower[i], sides.upper[i]
        columns = arrays.column_lower.copy(), arrays.column_upper.copy()
        columns[0][:n_state] = columns[1][:n_state] = state
        value = solve_lp(arrays.cost, arrays.matrix, lower, upper, *columns)[0]
        activity = matrix @ columns_of_it
        assert np.all(columns_of_it >= columns[0] - 1e-8)
        assert np.all(columns_of_it <= columns[1] + 1e-8)
        assert np.all(activity >= lower - 1e-8)
        assert np.all(activity <= upper + 1e-8)
        assert arrays.cost @ columns_of_it == pytest.approx(value, rel=1e-8)
    assert np.sum((optimal >= 15) & (optimal < 30)) >= 10
