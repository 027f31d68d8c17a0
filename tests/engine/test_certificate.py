"""Certificates: an interval that holds the optimal value, and says how it is known.

Oracles: values of the public cases, enumeration by hand, plain arrays and scipy (random trees).
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.allocation.tail_rows import TailRows
from sddp.engine.certificate.certificate import Certificate, Certifier, Known, stated
from sddp.engine.certificate.evaluation import policy_cost, tree_size
from sddp.engine.certificate.inner_bound import InnerBound
from sddp.engine.certificate.inner_points import visited_states
from sddp.engine.stage.stage_data import arrays_at
from sddp.engine.training.stopping import LogEntry, Progress, StoppingRule
from sddp.errors import InfeasibleState, ModelError
from sddp.risk import Expectation
from tests.allocation.asking import CASES, converged
from tests.allocation.oracles import solve_tree
from tests.engine.cases import markov, reservoir
from tests.engine.certificates import interval
from tests.engine.instances import random_instance
from tests.engine.support import train

SOLVER = 1e-8
HALF_TAIL = 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(tail=0.5)


def inner_bound(policy, draws=10, seed=0):
    """By draws of a policy."""
    risk, root_risk = policy.checkpoint.risk, policy.checkpoint.root_risk
    inner = InnerBound(policy.problem, risk, root_risk)
    states = visited_states(policy, risk, draws, np.random.default_rng(seed))
    swept(inner, states)
    return inner


def swept(inner, states, **options):
    """The number of linear programs of one sweep."""
    before = inner.effort.solves
    inner.sweep(states, **options)
    return inner.effort.solves - before


# --- known values -------------------------------------------------------------------------------

RESERVOIRS = {2: 385 / 18, 4: 275 / 6, 20: 241.383}


@pytest.mark.long
@pytest.mark.parametrize("n_stages", list(RESERVOIRS))
def test_the_reservoir_is_bounded_from_above_to_a_thousandth(n_stages):
    exact = RESERVOIRS[n_stages]
    found = train(reservoir.c9(n_stages), 20).policy.certificate(effort=10)
    assert exact * (1.0 - 1e-5 if n_stages == 20 else 1.0 - SOLVER) <= found.value
    assert found.value <= exact * 1.001
    assert found.bound <= exact * (1.0 + SOLVER)


def test_the_risk_averse_reservoir_is_bounded_from_above():
    inner = inner_bound(train(reservoir.c9(4), 30, risk=HALF_TAIL).policy)
    assert 75.3896 <= inner.value <= 75.3896 * 1.01


@pytest.mark.parametrize(
    ("problem", "exact", "width"),
    [(markov.c2, 855.0, 1e-3), (markov.b1, 1.51408464285714, 5e-3), (markov.b7, 96875 / 12, 1e-3)],
    ids=["valley", "asset management", "hydro"],
)
def test_markovian_cases_are_bounded_on_the_other_side(problem, exact, width):
    policy = train(problem(), 40).policy
    inner = inner_bound(policy)
    sign = policy.problem.sign
    assert sign * inner.value >= sign * exact - SOLVER * abs(exact)
    assert inner.value == pytest.approx(exact, rel=width)


@pytest.mark.parametrize("seed", range(18))
def test_the_exact_value_lies_between_the_bounds(seed):
    """One of each kind of random problem; `python -m tests.engine.certificates` checks 500."""
    found = interval(seed, iterations=4, draws=3)
    assert found.valid, found


# --- parts of the inner bound -------------------------------------------------------------------


def test_water_more_is_spilled_and_water_less_has_no_repair():
    """Spilling costs 10; in the last stage the outgoing level takes it in at no cost."""
    inner = InnerBound(reservoir.c9(3), dict.fromkeys(range(3), Expectation()), Expectation())
    swept(inner, {})
    first, second = (inner._hulls[stage].points for stage in (0, 1))
    assert first.up == pytest.approx([10.0])
    assert second.up == pytest.approx([10.0])
    assert np.isnan(first.down).all()
    np.testing.assert_allclose(np.sort(first.states.ravel()), [5.0, 15.0])  # corners of the box


def passing_on(least, most):
    """What is seen is handed on and must be used up within bounds."""

    def build(node):
        m = pyo.ConcreteModel()
        m.w = pyo.Param(mutable=True, initialize=0.0)
        m.x_in, m.x, m.y = pyo.Var(), pyo.Var(domain=pyo.NonNegativeReals), pyo.Var()
        noise = None
        if node.stage == 0:
            m.hand_on = pyo.Constraint(expr=m.x == m.w)
            noise = sddp.Noise([{"w": 1.0}, {"w": 3.0}])
            m.none = pyo.Constraint(expr=m.y == 0.0)
        else:
            m.use = pyo.Constraint(expr=m.y == m.x_in)
            m.y.setlb(least)
            m.y.setub(most)
        m.cost = pyo.Objective(expr=2.0 * m.y)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, 0.0)}, noise)

    return sddp.Problem(sddp.linear_graph(2), build, cost_to_go_bound=0.0)


def test_what_no_combination_reaches_is_named_with_node_and_direction():
    problem = passing_on(0.0, 5.0)
    inner = InnerBound(problem, dict.fromkeys((0, 1), Expectation()), Expectation())
    swept(inner, {})  # the corner 0 alone
    assert inner.value is None
    assert inner.explanation().startswith("node 0: no combination")
    assert inner.explanation().endswith("direction: x upward")
    swept(inner, {0: np.array([[3.0]])})
    assert inner.value == pytest.approx(4.0)


def test_a_direction_with_repair_needs_no_further_point():
    """Without an upper bound more of the state costs 2 a unit, everywhere."""
    problem = passing_on(0.0, None)
    inner = InnerBound(problem, dict.fromkeys((0, 1), Expectation()), Expectation())
    swept(inner, {})
    assert inner.value == pytest.approx(4.0)


def test_more_points_never_raise_the_bound_and_known_ones_stay():
    policy = train(reservoir.c9(4), 3).policy
    inner = inner_bound(policy, draws=1)
    costs, points = [inner.cost], [sum(inner.n_points.values())]
    for seed in range(3):
        states = visited_states(policy, policy.checkpoint.risk, 3, np.random.default_rng(seed))
        swept(inner, states)
        costs.append(inner.cost)
        points.append(sum(inner.n_points.values()))
    assert np.diff(costs).max() <= SOLVER * abs(costs[0])
    assert np.diff(points).min() >= 0


class Guaranteed:
    """The policy of an inner bound, as what enumeration asks."""

    def __init__(self, inner):
        self.problem, self.inner = inner.problem, inner

    def solve_step(self, name, incoming, noise):
        step, compiled = self.inner.decide(name, incoming, noise), self.problem.stages[name]
        entries = {place: values[noise] for place, values in compiled.noise.values.items()}
        arrays = arrays_at(compiled, entries)
        cost = float(arrays.cost @ step.columns) + arrays.offset
        activity = arrays.matrix @ step.columns
        room = 1e-7 * (1.0 + np.abs(activity))
        assert (activity >= arrays.row_lower - room).all()
        assert (activity <= arrays.row_upper + room).all()
        return SimpleNamespace(value=cost, theta=0.0, outgoing=step.outgoing), 1.0


@pytest.mark.parametrize("problem", [reservoir.c9, markov.c2], ids=["reservoir", "valley"])
def test_the_guaranteed_decisions_are_feasible_and_attain_the_bound(problem):
    policy = train(problem(), 4).policy
    inner = inner_bound(policy, draws=2)
    risk, root_risk = policy.checkpoint.risk, policy.checkpoint.root_risk
    attained = policy_cost(Guaranteed(inner), risk, root_risk)
    best = policy.problem.sign * sddp.extensive_form(policy.problem).solve().value
    assert best - SOLVER * abs(best) <= attained <= inner.cost + SOLVER * abs(inner.cost)


@pytest.mark.parametrize("combines", [True, False])
def test_generated_rows_hold_with_and_without_their_combination(combines, monkeypatch):
    if not combines:
        monkeypatch.delattr(TailRows, "at_combinations")
    case, policy = CASES["tiny2"], converged("tiny2").engine
    exact = solve_tree(case).value
    inner = inner_bound(policy, draws=1)
    assert exact - 1e-3 <= inner.value <= exact + 1e-9
    assert inner_bound(policy, draws=30).value == pytest.approx(exact, abs=1e-8)


# --- exact evaluation ---------------------------------------------------------------------------


def test_enumeration_is_the_mean_over_all_paths():
    policy = train(reservoir.c9(3), 2).policy
    assert tree_size(policy.problem) == 3 + 9 + 27
    paths = [
        [sddp.Step(0, i), sddp.Step(1, j), sddp.Step(2, k)]
        for i in range(3)
        for j in range(3)
        for k in range(3)
    ]
    table = policy.simulate(27, rng=np.random.default_rng(0), sampling=sddp.Historical(paths))
    mean = table["objective"].groupby("path").sum().mean()
    cost = policy_cost(policy, policy.checkpoint.risk, policy.checkpoint.root_risk)
    assert cost == pytest.approx(mean, rel=1e-10)
    worst = policy_cost(policy, dict.fromkeys(range(3), sddp.WorstCase()), sddp.WorstCase())
    assert worst == pytest.approx(table["objective"].groupby("path").sum().max(), rel=1e-10)


def test_a_policy_without_a_decision_on_a_path_costs_infinitely_much():
    class Lost:
        problem = reservoir.c9(2)

        def solve_step(self, name, incoming, noise):
            raise InfeasibleState("lost")

    assert policy_cost(Lost(), {}, Expectation()) == np.inf
    assert tree_size(reservoir.d3()) == np.inf


# --- certificates -------------------------------------------------------------------------------


def test_a_certificate_says_how_it_is_known():
    result = train(reservoir.c9(4), 4)
    found = result.policy.certificate(effort=20)
    assert found.known_by in ("inner bound", "exact evaluation")
    assert found.bound == result.bound
    assert found.bound <= 275 / 6 <= found.value + 1e-9
    assert found.gap == pytest.approx(found.value - found.bound)
    assert found.relative_gap == pytest.approx(found.gap / found.value)
    assert str(found).endswith(f"by {found.known_by}")
    assert result.certificate.gap is not None  # made when looked at
    assert result.certificate is result.certificate
    alone = result.policy.certificate(effort=20, seed=5)
    assert alone == result.policy.certificate(effort=20, seed=5)


def test_hasty_policies_are_evaluated_exactly_where_the_tree_is_small():
    policy = train(reservoir.c9(3), 1).policy
    found = policy.certificate(effort=1)
    cost = policy_cost(policy, policy.checkpoint.risk, policy.checkpoint.root_risk)
    assert found.value <= cost + SOLVER * cost
    with pytest.raises(ModelError, match="effort=0: must be a positive integer"):
        policy.certificate(effort=0)


def test_cycles_have_no_certificate_and_say_why():
    result = train(reservoir.d3(), 3)
    assert result.certificate.gap is None
    assert result.certificate.known_by is None
    assert "cycle" in result.certificate.why_not
    assert str(result.certificate).startswith("not certified (the graph has a cycle")


@pytest.mark.parametrize(
    ("bound", "cost", "reference", "largest", "gap", "relative"),
    [
        (90.0, 100.0, None, 1.0, 10.0, 0.1),
        (90.0, 100.0, 150.0, 1.0, 10.0, 0.2),  # the gain is 50
        (90.0, 100.0, 100.0, 1.0, 10.0, None),  # no gain
        (-1e-9, 1e-9, None, 10.0, 2e-9, None),  # a value of rounding
        (100.0, 100.0 - 1e-12, None, 1.0, 0.0, 0.0),
        (90.0, np.inf, None, 1.0, None, None),
    ],
)
def test_sizes_that_gaps_are_relative_to(bound, cost, reference, largest, gap, relative):
    known = Known(cost, "inner bound", "no point", 3)
    found = stated(
        reservoir.c9(2),
        bound,
        known,
        reference=reference,
        largest_cost=largest,
        unvisited_mass=None,
    )
    assert found.gap == (None if gap is None else pytest.approx(gap))
    assert found.relative_gap == (None if relative is None else pytest.approx(relative))


# --- the rule -----------------------------------------------------------------------------------


def certified(relative, gap=1.0):
    return Certificate(50.0, 51.0, gap, relative, "inner bound", None)


def progress_of(bounds, found, tolerances=None, last=None, refined=None):
    """After some iterations; `found` is certified, and `last` by the last sweep."""
    tolerances = tolerances or [1e-9] * len(bounds)
    log = [
        LogEntry(i + 1, bound, 0.0, float(i), i, tolerance, 0)
        for i, (bound, tolerance) in enumerate(zip(bounds, tolerances, strict=True))
    ]
    refine = (lambda: None) if refined is None else (lambda: refined.append(len(bounds)))
    certify = None if found is None else (lambda finish: last if finish else found)
    return Progress(log, 1e-9, False, 50.0, lambda n, seed: np.zeros(n), {}, refine, certify, None)


def test_gap_stops_when_it_is_certified():
    rule, moving = sddp.Gap(relative=1e-3), [1.0, 50.0]
    assert rule.reason(progress_of(moving, certified(2e-3))) is None
    assert rule.reason(progress_of(moving, certified(1e-3))) == "gap certified: 0.1 %"
    assert rule.reason(progress_of(moving, certified(None))) is None


def test_gap_ends_with_what_is_certified_when_the_bound_stalls():
    rule, still = sddp.Gap(1e-3, iterations=3), [50.0] * 4
    wide, close = certified(0.2), certified(1e-4)
    assert rule.reason(progress_of(still[1:], wide, last=wide)) is None  # three moves are needed
    reason = rule.reason(progress_of(still, wide, last=wide))
    assert reason == "bound stalled; gap certified: 20 %"
    assert rule.reason(progress_of(still, wide, last=close)) == "gap certified: 0.01 %"
    moved = [50.0 - 0.006, 50.0, 50.0, 50.0]
    assert rule.reason(progress_of(moved, wide, last=wide)) is None
    small = certified(None, gap=1e-9)
    assert rule.reason(progress_of(still, wide, last=small)) == (
        "bound stalled; gap certified: 1e-09"
    )


def test_gap_waits_for_rows_finer_than_the_moves():
    rule, refined = sddp.Gap(1e-3, iterations=2), []
    loose = progress_of([50.0] * 3, certified(0.2), [1e-4] * 3, certified(0.2), refined)
    assert rule.reason(loose) is None
    assert refined == [3]


@pytest.mark.parametrize("seed", range(6))
def test_compiled_values_are_those_of_single_programs(seed):
    """Every value of a node, read off a known basis or solved, against HiGHS one by one."""
    problem = random_instance(seed, transition="dense").problem()
    policy = train(problem, 5).policy
    inner = inner_bound(policy, draws=3)
    rng, compared = np.random.default_rng(seed), 0
    for hull in inner._hulls.values():
        n = hull.compiled.noise.n_realisations
        states = rng.uniform(0.0, 2.0, (30, problem.n_components))
        noises = rng.integers(0, n, len(states))
        groups = np.arange(len(states))
        found = hull.values(states, noises, groups)
        for state, noise, value in zip(states, noises, found, strict=True):
            step = hull.decide(state, int(noise))
            alone = np.inf if step is None else step.value
            assert value == pytest.approx(alone, rel=1e-8, abs=1e-8)
            compared += np.isfinite(value)
    assert compared >= 10


def test_a_sweep_takes_no_more_programs_than_it_may():
    policy = train(reservoir.c9(5), 10).policy
    states = visited_states(policy, policy.checkpoint.risk, 10, np.random.default_rng(0))
    for at_most in (12, 17, 40, 90):
        inner = InnerBound(policy.problem, policy.checkpoint.risk, Expectation())
        assert swept(inner, states, at_most=at_most) <= at_most
        if at_most == 12:
            assert inner.value is None
            assert "linear programs allowed" in inner.explanation()
    assert inner.value is not None


def test_gap_without_a_certificate_waits_for_a_longer_stall():
    rule = sddp.Gap(1e-3, iterations=2, uncertified=sddp.BoundStalling(4, 1e-7))
    assert rule.reason(progress_of([50.0] * 4, None)) is None
    assert rule.reason(progress_of([50.0] * 5, None)) == "bound stalled; not certified"
    none = Certificate(50.0, None, None, None, None, "no point")
    assert rule.reason(progress_of([50.0] * 4, none, last=none)) is None
    assert rule.reason(progress_of([50.0] * 5, none, last=none)) == "bound stalled; not certified"


class Share(StoppingRule):
    """Looks at what certificates took."""

    def __init__(self):
        self.shares, self.gaps = [], []

    def reason(self, progress):
        found = progress.certify(False)
        self.shares.append(found.solves / progress.log[-1].solves)
        self.gaps.append(found.relative_gap)


def test_checks_in_training_take_a_tenth_of_the_linear_programs():
    looked = Share()
    result = train(reservoir.c9(6), looked | sddp.Iterations(25))
    assert max(looked.shares) <= 0.1
    assert looked.shares[-1] >= 0.02
    assert looked.gaps[0] is None
    assert looked.gaps[-1] < 0.05
    assert result.certificate.relative_gap == pytest.approx(looked.gaps[-1], rel=1e-6)


def test_the_last_check_begins_small_and_waits_until_it_can_afford_another(monkeypatch):
    """By 20 points at once a tenth of the programs was spent on some stages: gaps of 25 %."""
    problem, asked, allowed = reservoir.c9(4), [], []

    def sweep(self, states, *, at_most):
        asked.append(len(states[0]))
        allowed.append(at_most)
        self.effort.solves += 100

    monkeypatch.setattr(InnerBound, "sweep", sweep)
    certifier = Certifier(problem, dict.fromkeys(range(4), Expectation()), Expectation(), None)
    certifier.note([(0, np.linspace(0.0, 1.0, 60)[:, None])])
    certifier.finish(4_000)
    assert (asked, allowed) == ([4, 8, 16], [400, 300, 200])
    certifier.finish(3_990)  # training goes on without a certificate
    certifier.finish(4_010)
    assert len(asked) == 4


@pytest.mark.long
def test_the_default_certifies_and_repeats_for_every_number_of_processes():
    results = [
        sddp.train(reservoir.c9(4), rng=np.random.default_rng(3), progress=False, n_jobs=n)
        for n in (1, 2)
    ]
    assert results[0].stopped_because.startswith("gap certified")
    assert results[0].certificate.relative_gap <= 1e-3
    assert results[0].certificate == results[1].certificate
    assert results[0].bound == results[1].bound


def test_allocation_counts_the_gain_over_cash():
    case = CASES["tiny2"]
    result = case.train(stopping=sddp.Gap(relative=1e-3))
    found, cash = result.certificate, result.policy.problem.cash_value
    assert found.relative_gap == pytest.approx(found.gap / (found.value - cash))
    assert found.value <= solve_tree(case).value + 1e-9
    assert result.policy.certificate(effort=1).gap <= found.gap + 1e-12  # never wider
    refined = result.policy.certificate(effort=50)
    assert refined.relative_gap <= 1e-3
    assert "gap certified" in result.stopped_because
    assert found.solves <= 0.1 * result.log["solves"].iloc[-1]
