"""Paths under the risk measure, rare branches, and what training says of what it has not seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.model.sampling import Branch, InSample, Successors
from sddp.engine.training import train as training_module
from sddp.engine.value.coverage import Coverage
from sddp.errors import ConvergenceWarning, ModelError
from tests.engine.cases import markov, rare, reservoir, stagewise
from tests.engine.support import SOLVER, train

NUMBERS = ["bound", "simulated", "solves", "tolerance", "unvisited_mass"]


# ---------------------------------------------------------------- paths under the measure


@pytest.mark.long
def test_bad_outcomes_that_decide_are_followed():
    """In-sample paths are more than 1 % away after as many iterations."""
    problem, measure = rare.drought(5, 0.005), rare.drought_measure(0.995)
    value = rare.drought_value(5, 0.005, 0.005)
    result = train(problem, 30, risk=measure, root_risk=measure)
    assert value * (1.0 - 1e-3) <= result.bound <= value * (1.0 + SOLVER)
    before = train(problem, 30, risk=measure, root_risk=measure, sampling=sddp.InSample())
    assert before.bound < 0.99 * value


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize(("probability", "confidence"), [(0.02, 0.98), (0.005, 0.995)])
def test_ten_stages_are_within_a_thousandth_after_100_iterations(probability, confidence, seed):
    problem, measure = rare.drought(10, probability), rare.drought_measure(confidence)
    value = rare.drought_value(10, probability, 1.0 - confidence)
    result = train(problem, 100, seed, risk=measure, root_risk=measure)
    assert value * (1.0 - 1e-3) <= result.bound <= value * (1.0 + SOLVER)


def test_values_of_the_literature_on_rare_cases():
    """The grid dynamic programs of these tests against values stated elsewhere."""
    assert rare.drought_value(10, 0.02, 0.02) == pytest.approx(257.079, abs=5e-4)
    assert rare.drought_value(10, 0.005, 0.005) == pytest.approx(244.51, abs=5e-3)
    assert rare.put_value(10) == pytest.approx(4.4704, abs=5e-5)


def successors(weights, adjusted, stop=0.0) -> Successors:
    """Two outcomes of noise at node 1 of C9, three there in truth."""
    return Successors(
        reservoir.c9(),
        0,
        np.array([5.0]),
        [Branch(1, 3, 1)],
        np.array(weights),
        stop,
        lambda: (np.array([3.0, 2.0, 1.0]), np.array(adjusted)),
        {},
    )


def test_steps_are_drawn_with_given_weights():
    following, rng = successors([0.2, 0.3, 0.5], [0.7, 0.2, 0.1]), np.random.default_rng(0)
    drawn = Counter(following.draw(following.adjusted, rng).noise for _ in range(4_000))
    frequencies = np.array([drawn[w] for w in range(3)]) / 4_000
    assert frequencies == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert following.values.tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("adjusted", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
def test_a_path_stops_with_its_own_probability_whatever_the_measure(adjusted):
    """The worst case of rewards is to stop, that of costs to go on: neither ends all paths."""
    following, rng = successors([0.3, 0.3, 0.2], adjusted, stop=0.2), np.random.default_rng(0)
    steps = [following.draw(following.adjusted, rng) for _ in range(4_000)]
    assert sum(step is None for step in steps) / 4_000 == pytest.approx(0.2, abs=0.03)
    known = {step.noise for step in steps if step is not None}
    assert known == ({0, 1, 2} if sum(adjusted) == 0.0 else {0})


def test_noise_of_a_mean_is_drawn_with_its_probabilities():
    following = Successors(
        reservoir.c9(), 0, None, [Branch(1, 1, 1)], np.ones(1), 0.0, lambda: ((), ()), {}
    )
    rng = np.random.default_rng(0)
    drawn = Counter(following.step(0, rng).noise for _ in range(3_000))
    assert [drawn[w] / 3_000 for w in range(3)] == pytest.approx([1 / 3] * 3, abs=0.03)
    assert [step.noise for step in following.outcomes()] == [0, 1, 2]


def test_without_share_and_floor_it_is_in_sample_bit_for_bit():
    measure = rare.drought_measure(0.9)
    logs = [
        train(markov.c2(), 14, risk=measure, sampling=sampling).log
        for sampling in (sddp.InSample(), sddp.RiskAdjusted(share=0.0, floor=0.0))
    ]
    same = [name for name in logs[0].columns if name != "seconds"]
    assert logs[0][same].equals(logs[1][same])
    other = train(markov.c2(), 14, risk=measure).log
    assert not logs[0][same].equals(other[same])


@pytest.mark.parametrize("sampling", [sddp.RiskAdjusted(0.9, 0.5), None], ids=["much", "default"])
def test_numbers_are_the_same_for_every_number_of_processes(sampling):
    problem, measure = markov.c2(), rare.drought_measure(0.9)
    options = {"risk": measure, "root_risk": measure, "sampling": sampling, "n_paths": 3}
    alone, beside = (train(problem, 14, n_jobs=n, **options) for n in (1, 3))
    assert alone.log[NUMBERS].equals(beside.log[NUMBERS])


@pytest.mark.parametrize("options", [{"share": -0.1}, {"share": np.nan}, {"floor": 1.5}])
def test_shares_that_are_none_are_rejected(options):
    with pytest.raises(ModelError, match=r"=.*: must be a number from 0 to 1\."):
        sddp.RiskAdjusted(**options)


def test_a_policy_is_simulated_under_the_measure():
    """Of C9 under the worst case every adjusted path is the driest one."""
    policy = train(reservoir.c9(), 30, risk=sddp.WorstCase(), root_risk=sddp.WorstCase()).policy
    table = policy.simulate(
        5, rng=np.random.default_rng(0), sampling=sddp.RiskAdjusted(share=1.0, floor=0.0)
    )
    assert len(table) == 20
    totals = table.groupby("path")["objective"].sum()
    assert totals.to_numpy() == pytest.approx(policy.bound, rel=1e-6)


# ---------------------------------------------------------------- rare nodes and outcomes


@pytest.mark.long
def test_an_american_put_by_default():
    """66 nodes; in-sample paths end 48 % away ("bound stalled" after 54 iterations)."""
    result = sddp.train(rare.put(), rng=np.random.default_rng(3), progress=False)
    assert result.bound == pytest.approx(rare.put_value(), rel=1e-3)
    assert result.certificate.known_by in ("inner bound", "exact evaluation")
    assert result.certificate.relative_gap <= 1e-3


def test_every_node_is_reached_again_and_again():
    problem = rare.put()
    policy_paths = sddp.RiskAdjusted(share=0.0, floor=1.0)
    coverage, rng = Coverage(problem), np.random.default_rng(0)
    for number in range(200):
        path = policy_paths.sample(problem, number, rng)
        root = Successors(
            problem, None, None, [], np.zeros(0), 0.0, lambda: ((), ()), coverage.visits
        )
        steps = []
        while (step := path.next_step(root)) is not None:
            steps.append(step)
        sddp.engine.model.sampling.check_path(problem, steps)
        assert len(steps) == 11
        coverage.note_path(steps)
    counts = [coverage.visits[name] for name in problem.graph.nodes]
    assert min(counts) >= 8


def test_a_rare_first_outcome_is_followed():
    """A noise of probability 0.002 before the first decision, which then must be another one."""

    def build(node):
        m = pyo.ConcreteModel()
        m.d = pyo.Param(initialize=0.0, mutable=True)
        m.i, m.x, m.y = pyo.Var(), pyo.Var(bounds=(0, 10)), pyo.Var(bounds=(0, 1))
        if node.stage == 0:
            m.c = pyo.Constraint(expr=m.x >= m.d)
            m.o = pyo.Objective(expr=m.x)
            noise = sddp.Noise([{"d": 5.0}, {"d": 0.0}], [0.998, 0.002])
        else:
            m.c = pyo.Constraint(expr=m.i + m.y >= m.d)
            m.o = pyo.Objective(expr=m.y + 0 * m.x)
            noise = sddp.Noise([{"d": 1.0}, {"d": 4.0}])
        return sddp.Stage(m, {"x": sddp.State(m.i, m.x, 0.0)}, noise)

    problem = sddp.Problem(sddp.linear_graph(2), build)
    result = sddp.train(problem, rng=np.random.default_rng(0), progress=False)
    assert result.bound == pytest.approx(4.997, rel=SOLVER)
    decision = result.policy.decide(0, {"x": 0.0}, noise=1)
    assert decision.outgoing["x"] == pytest.approx(3.0, abs=1e-8)
    assert result.policy.decide(1, {"x": decision.outgoing["x"]}, noise=1).value > 0.0
    assert result.unvisited_mass == 0.0


def chain(probability: float, *, after: bool) -> sddp.Problem:
    """Three stages; a rare outcome of the second makes the third dear, as the cuts must learn.

    The outcome is noise before the second decision, or (`after`) of the transition to it.
    """
    p = [1.0 - probability, probability]

    def build(node):
        m = pyo.ConcreteModel()
        m.need = pyo.Param(initialize=0.0, mutable=True)
        m.i, m.x = pyo.Var(), pyo.Var(bounds=(-20, 20))
        m.bought, m.short = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
        m.balance = pyo.Constraint(expr=m.x == m.i + m.bought - m.need)
        m.covered = pyo.Constraint(expr=m.short >= (-m.i if node.stage == 2 else 0.0))
        m.cost = pyo.Objective(expr=(1.0, 5.0, 1.0)[node.stage] * m.bought + 1e3 * m.short)
        noise, transition = None, None
        if node.stage == 1 and after:
            transition = sddp.LinearTransition(shift=[[0.0], [-9.0]], probabilities=p)
        elif node.stage == 1:
            noise = sddp.Noise([{"need": 0.0}, {"need": 9.0}], p)
        states = {"x": sddp.State(m.i, m.x, 0.0)}
        return sddp.Stage(m, states, noise, transition)

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=0.0)


@pytest.mark.parametrize("after", [False, True], ids=["noise", "transition"])
@pytest.mark.parametrize("measure", [None, sddp.AVaR(0.5)], ids=["neutral", "tail"])
def test_a_rare_outcome_later_on_is_followed(after, measure):
    """With probability 1e-3 nine are needed; they cost 5 each then: 0.045 in the mean."""
    problem = chain(1e-3, after=after)
    value = sddp.extensive_form(problem, risk=measure).solve().value
    assert value == pytest.approx(0.045 if measure is None else 0.09, rel=SOLVER)
    sampling = sddp.InSample()  # it is training that follows rare outcomes, whatever the paths
    result = train(problem, 20, risk=measure, sampling=sampling)
    assert result.bound == pytest.approx(value, rel=1e-7)
    assert result.unvisited_mass == 0.0


# ---------------------------------------------------------------- what training says


def test_the_unvisited_mass_is_that_of_what_no_path_has_followed():
    """One path through A11 leaves two of three outcomes at each node, and before the first."""
    paths = [[sddp.Step(t, 1) for t in range(3)]]
    result = train(stagewise.a11(), 1, sampling=sddp.Historical(paths))
    assert result.unvisited_mass == pytest.approx(2 / 3, rel=1e-12)
    paths += [[sddp.Step(t, w) for t in range(3)] for w in (0, 2)]
    result = train(stagewise.a11(), 3, sampling=sddp.Historical(paths), n_paths=1)
    assert result.log["unvisited_mass"].to_numpy()[[0, -1]] == pytest.approx([2 / 3, 0.0])
    assert result.unvisited_mass == 0.0


def test_the_unvisited_mass_is_adjusted_by_the_measure():
    """Under the worst case all weight is on the dry outcome, which the path may miss or take."""
    masses = []
    for noise in (0, 2):
        path = [sddp.Step(t, noise) for t in range(4)]
        result = train(
            rare.drought(4, 0.1), 9, risk=sddp.WorstCase(), sampling=sddp.Historical([path])
        )
        masses.append(result.log["unvisited_mass"].to_numpy()[-1])
    # Before the first decision the measure is the expectation: one more first outcome is
    # followed in each iteration, so that all four are.
    assert masses == pytest.approx([0.0, 1.0])


def test_a_stalled_training_warns_with_the_unvisited_mass():
    path = [sddp.Step(t, 1) for t in range(3)]
    stalls = sddp.BoundStalling(3, 1e-6)
    with pytest.warns(ConvergenceWarning, match=r"outcomes of adjusted probability 0\.667 after"):
        result = train(stagewise.a11(), stalls, sampling=sddp.Historical([path]))
    assert result.stopped_because == "bound stalled; not certified"


def test_historical_paths_that_no_arc_allows_are_rejected_before_any_solve(monkeypatch):
    def solves(*arguments):
        raise AssertionError("something was built")

    monkeypatch.setattr(training_module, "_subproblems", solves)
    right = [sddp.Step(0), sddp.Step(1), sddp.Step(2)]
    for wrong, words in (
        ([sddp.Step(0), sddp.Step(2, 1), sddp.Step(1)], "leads from 0 to 2, but the graph has no"),
        ([sddp.Step(1)], "leads from 'root' to 1, but the graph has no arc"),
        ([sddp.Step(0), sddp.Step(0)], "leads from 0 to 0"),
    ):
        with pytest.raises(ModelError, match=words):
            train(stagewise.a11(), 3, sampling=sddp.Historical([right, wrong]))


def test_a_step_against_the_graph_is_rejected_while_the_path_grows():
    class Wanders:
        """Begins rightly."""

        def sample(self, problem, number, rng):
            return self

        def next_step(self, successors):
            return sddp.Step(0 if successors.node is None else 3)

    with pytest.raises(ModelError, match="step 1 of a path leads from 0 to 3"):
        train(reservoir.c9(), 3, sampling=Wanders())


def test_a_scheme_of_ones_own_sees_the_decision_and_its_outcomes():
    seen = []

    class Worst:
        """The worst outcome after every decision, by the cuts."""

        def sample(self, problem, number, rng):
            return self

        def next_step(self, successors):
            seen.append(successors)
            if successors.node == 3:
                return None
            worst = int(np.nan_to_num(successors.values).argmax())
            return successors.step(worst, np.random.default_rng(0))

    measure = sddp.AVaR(1 / 3)
    result = train(reservoir.c9(), 12, sampling=Worst(), risk=measure, root_risk=measure)
    assert result.bound == pytest.approx(250.0, rel=SOLVER)
    last = next(s for s in reversed(seen) if s.node == 1)
    assert last.outgoing.shape == (1,)
    assert last.adjusted.tolist() == [float(w == last.values.argmax()) for w in range(3)]
    assert last.visits[1] >= 12
    assert isinstance(InSample().sample(reservoir.c9(), 0, np.random.default_rng(0)), list)
