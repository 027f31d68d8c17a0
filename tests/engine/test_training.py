"""Training: log, sameness, Ctrl-C, going on, threads, display, failures."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.presolve.compile import compile_problem
from sddp.engine.subproblem.subproblems import Subproblems
from sddp.engine.training.progress import ProgressLines
from sddp.engine.training.stopping import Progress, StoppingRule
from sddp.errors import ModelError, SolverError
from sddp.lp import LinearProgram
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, PressCtrlC, Reaches, train

COLUMNS = [
    *("bound", "simulated", "seconds", "solves", "tolerance", "warnings", "unvisited_mass"),
    "fallbacks",
]


# ---------------------------------------------------------------- log and sameness


def test_the_log_has_one_row_an_iteration():
    log = train(reservoir.c9(), 18).log
    assert list(log.columns) == COLUMNS
    assert log.index.name == "iteration"
    assert list(log.index) == list(range(1, 19))
    assert (log["seconds"].diff().dropna() >= 0.0).all()
    assert (log["solves"].diff().dropna() > 0).all()
    assert log["tolerance"].iloc[0] == 1e-4
    assert (log["tolerance"].diff().dropna() <= 0.0).all()
    assert log["tolerance"].iloc[-1] == 1e-9
    assert (log["warnings"] == 0).all()


def test_the_tolerance_follows_the_largest_of_the_last_three_moves():
    tolerances = sddp.Tolerances(1e-3, 0.2, 1e-8)
    log = train(reservoir.c9(), 16, tolerances=tolerances).log
    bounds, scale = log["bound"].to_numpy(), log[["bound", "simulated"]].abs().max(axis=1).cummax()
    moves = np.concatenate([[np.inf], np.abs(np.diff(bounds))]) / scale.to_numpy()
    expected, wanted = [], 1e-3
    for at in range(len(log)):
        expected.append(wanted)
        moved = moves[max(0, at - 2) : at + 1].max()
        wanted = max(1e-8, min(wanted, max(0.2 * moved, wanted / 10.0)))
    assert log["tolerance"].to_numpy() == pytest.approx(expected, rel=1e-9)
    assert len(set(expected)) > 3


def test_simulated_values_are_totals_of_forward_paths():
    """Of a converged policy of C9, every path total is one of those of its 81 paths."""
    result = train(reservoir.c9(), 60, n_paths=1)
    nodes = range(4)
    paths = [[sddp.Step(t, k // 3**t % 3) for t in nodes] for k in range(3 ** len(nodes))]
    table = result.policy.simulate(
        81, rng=np.random.default_rng(0), sampling=sddp.Historical(paths)
    )
    totals = table.groupby("path")["objective"].sum().to_numpy()
    for simulated in result.log["simulated"].iloc[-5:]:
        assert np.abs(totals - simulated).min() < 1e-6


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_the_same_seed_gives_the_same_numbers(cuts):
    results = [train(markov.c2(), 8, seed, cuts=cuts) for seed in (5, 5, 6)]
    same = [c for c in COLUMNS if c != "seconds"]
    first, second, other = (result.log[same] for result in results)
    assert first.equals(second)
    assert not first.equals(other)
    decisions = [r.policy.decide((0, 0), {"r": [200.0, 200.0]}, 0).variables for r in results]
    assert decisions[0] == decisions[1]


def test_no_global_random_state_is_used():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    train(reservoir.c9(), 3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


# ---------------------------------------------------------------- Ctrl-C


class PressCtrlCInForwardPass(sddp.InSample):
    """Press it while a path is being drawn."""

    def sample(self, problem, number, rng):
        """The path, all the same."""
        signal.raise_signal(signal.SIGINT)
        return super().sample(problem, number, rng)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_ctrl_c_ends_training_with_what_was_learned(cuts):
    before = signal.getsignal(signal.SIGINT)
    result = train(reservoir.c9(), PressCtrlC(after=6), cuts=cuts)
    assert result.stopped_because == "interrupted"
    assert len(result.log) == 6
    assert signal.getsignal(signal.SIGINT) is before
    assert result.bound == pytest.approx(result.log["bound"].iloc[-1], rel=SOLVER)
    assert result.policy.decide(0, {"x": 10.0}, 1).outgoing["x"] >= 5.0
    again = train(reservoir.c9(), 40, start=result.policy)
    assert again.bound == pytest.approx(275 / 6, rel=SOLVER)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_ctrl_c_in_the_first_iteration(cuts):
    """Nothing was learnt: the bound is the assumed one, and training can go on from there."""
    result = train(reservoir.c9(), 50, sampling=PressCtrlCInForwardPass(), cuts=cuts)
    assert result.stopped_because == "interrupted"
    assert (len(result.log), list(result.log.columns)) == (0, COLUMNS)
    assert 0.0 <= result.bound <= 275 / 6
    assert result.policy.decide(0, {"x": 10.0}, 0).outgoing["x"] >= 5.0
    again = train(reservoir.c9(), 40, start=result.policy)
    assert again.bound == pytest.approx(275 / 6, rel=SOLVER)


def test_ctrl_c_from_outside():
    """A signal at any moment, here after 0.2 s of a training without end."""
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        result = train(reservoir.c9(), sddp.Seconds(30.0))
    finally:
        timer.cancel()
    assert result.stopped_because == "interrupted"
    assert 0.0 < result.log["seconds"].iloc[-1] < 10.0


def test_the_handler_is_restored_after_an_error():
    @dataclass(frozen=True)
    class Broken(StoppingRule):
        def reason(self, progress: Progress) -> str | None:
            raise ZeroDivisionError

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        train(reservoir.c9(), Broken())
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_another_thread_gives_the_same_numbers():
    """Signals cannot be held back there, and nothing else may differ."""
    results = []
    thread = threading.Thread(target=lambda: results.append(train(reservoir.c9(), 8)))
    thread.start()
    thread.join()
    assert list(results[0].log["bound"]) == list(train(reservoir.c9(), 8).log["bound"])


# ---------------------------------------------------------------- going on


def test_a_restart_of_what_has_converged_is_refined_fast():
    result = train(reservoir.c9(), 60)
    log = train(reservoir.c9(), 7, start=result.policy).log
    expected = [1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-9]
    assert log["tolerance"].to_numpy() == pytest.approx(expected, rel=1e-12)


def test_a_restart_never_falls_behind_the_bound_known_before():
    short = train(reservoir.c9(), 12)
    log = train(reservoir.c9(), 3, start=short.policy).log
    assert log["bound"].iloc[0] >= short.bound * (1.0 - 1e-12)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_going_on_reaches_what_one_long_training_reaches(cuts):
    value, risk = 828.1572543618, 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.66)  # C2
    problem = markov.c2()
    short = train(problem, 2, cuts=cuts, risk=risk)
    before = short.policy.decide((0, 0), {"r": [200.0, 200.0]}, 0)
    long = train(problem, sddp.Iterations(60) | Reaches(value), 1, start=short.policy)
    assert long.bound == pytest.approx(value, rel=SOLVER)
    assert long.log["bound"].iloc[0] <= short.bound + 1e-9  # maximising: no step back
    # The policy that training went on from is what it was.
    after = short.policy.decide((0, 0), {"r": [200.0, 200.0]}, 0)
    assert (before.variables, before.value) == (after.variables, after.value)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_going_on_teaches_nodes_that_were_never_seen(cuts):
    """Two branches meet in E; the first training only walks through A and C."""
    arcs = {("root", "A"): 0.5, ("root", "B"): 0.5, ("A", "C"): 1.0, ("B", "D"): 1.0}
    graph = sddp.Graph(list("ABCDE"), arcs | {("C", "E"): 1.0, ("D", "E"): 1.0})
    problem = sddp.Problem(
        graph, lambda node: stagewise.hydro_stage(node.stage), cost_to_go_bound=0.0
    )
    path = [sddp.Step(name, 1) for name in "ACE"]
    short = train(problem, 5, cuts=cuts, sampling=sddp.Historical([path]))
    long = train(problem, 60, start=short.policy)
    assert long.bound == pytest.approx(25000 / 3, rel=SOLVER)  # both branches are A11


def test_ctrl_c_while_a_restart_finds_its_bound(monkeypatch):
    policy = train(reservoir.c9(), 12).policy
    found = Subproblems.first_solutions

    def pressed(network, *arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the second one does not wait
        return found(network, *arguments)

    monkeypatch.setattr(Subproblems, "first_solutions", pressed)
    result = train(reservoir.c9(), 5, start=policy)
    assert result.stopped_because == "interrupted"
    assert len(result.log) == 0
    monkeypatch.undo()
    assert result.bound == policy.bound


def test_going_on_keeps_the_root_risk():
    """C9 with the tail at the root too: 250, not 1105/6."""
    tail = sddp.AVaR(1 / 3)
    short = train(reservoir.c9(), 30, risk=tail, root_risk=tail)
    long = train(reservoir.c9(), 3, start=short.policy)
    assert long.bound == pytest.approx(250.0, rel=SOLVER)
    assert long.log["bound"].to_numpy() == pytest.approx(250.0, rel=SOLVER)


def test_going_on_takes_no_other_risk_cuts_or_problem():
    policy = train(reservoir.c9(), 2).policy
    for options in ({"risk": sddp.WorstCase()}, {"cuts": sddp.MultiCut()}):
        with pytest.raises(ModelError, match="risk and cuts are those of the policy"):
            train(reservoir.c9(), 2, start=policy, **options)
    with pytest.raises(ModelError, match="start was trained on another problem"):
        train(reservoir.c9(n_stages=5), 2, start=policy)
    looser = sddp.Problem(
        sddp.linear_graph(4), lambda node: reservoir.reservoir_stage(), cost_to_go_bound=-1e3
    )
    with pytest.raises(ModelError, match=r"or cost_to_go_bound differ\); train afresh"):
        train(looser, 2, start=policy)
    assert len(train(reservoir.c9(), 2, start=policy).log) == 2  # an equal problem will do


# ---------------------------------------------------------------- display


def test_short_trainings_print_nothing(capfd):
    sddp.train(reservoir.c9(), rng=np.random.default_rng(0), stopping=sddp.Iterations(3))
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_standard_error_only(capfd, monkeypatch):
    shown = partial(ProgressLines, first=0.0)
    monkeypatch.setattr("sddp.engine.training.train.ProgressLines", shown)
    rng = np.random.default_rng(0)
    result = sddp.train(reservoir.c9(), rng=rng, stopping=sddp.Iterations(3))
    out, err = capfd.readouterr()
    assert out == ""
    header, *lines = err.splitlines()
    assert header.split() == ["iteration", "bound", "simulated", "LPs", "s"]
    assert lines[0].split()[0] == "1"
    last = lines[-1].split()
    assert float(last[1]) == pytest.approx(result.log["bound"].iloc[-1], rel=1e-7)
    assert int(last[3]) == result.log["solves"].iloc[-1]
    sddp.train(reservoir.c9(), rng=rng, stopping=sddp.Iterations(3), progress=False)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- sampling, tolerances, failures


def test_training_on_given_paths():
    """A forward pass along all 27 paths of A11, in order: the value of A11."""
    paths = [[sddp.Step(t, k // 3**t % 3) for t in range(3)] for k in range(27)]
    result = train(stagewise.a11(), 54, sampling=sddp.Historical(paths))
    assert result.bound == pytest.approx(25000 / 3, rel=SOLVER)


def test_positions_drawn_by_numpy_are_positions():
    """``rng.integers`` returns numpy integers."""

    class Uniform:
        def sample(self, problem, number, rng):
            return [sddp.Step(t, rng.integers(3)) for t in range(3)]

    result = train(stagewise.a11(), 60, sampling=Uniform())
    assert result.bound == pytest.approx(25000 / 3, rel=SOLVER)


@pytest.mark.parametrize(
    "path",
    [
        [sddp.Step(0, {"w": 1.0, "factor": 1.0})],
        [sddp.Step(0, 9)],
        [sddp.Step("nowhere", 0)],
        [sddp.Step(0, 0), sddp.Step("nowhere", 0)],
        [],
    ],
    ids=["values", "position", "first-node", "node", "empty"],
)
def test_paths_that_training_cannot_follow_are_rejected(path):
    with pytest.raises(ModelError):
        train(stagewise.a11(), 2, sampling=sddp.Historical([path]))


@pytest.mark.long
@pytest.mark.parametrize("final", [1e-11, 1e-13])
def test_a_tolerance_below_the_solvers_does_no_harm(final):
    """Rows that the LP keeps only within 1e-9 are broken by more than 1e-11: D1 is 20."""
    result = train(reservoir.d1(), 60, tolerances=sddp.Tolerances(final=final))
    bounds = result.log["bound"].to_numpy()
    assert (np.diff(bounds) >= -1e-7).all()
    assert bounds[-1] == pytest.approx(20.0, rel=1e-7)


def test_an_unbounded_stage_names_node_noise_and_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def build(node):
        m = pyo.ConcreteModel()
        m.w = pyo.Param(mutable=True, initialize=0.0)
        m.x_in, m.x = pyo.Var(), pyo.Var(domain=pyo.NonNegativeReals)
        m.y = pyo.Var(domain=pyo.NonNegativeReals)
        m.balance = pyo.Constraint(expr=m.x <= m.x_in + m.w)
        m.cost = pyo.Objective(expr=-m.y if node.stage == 1 else m.y)
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=1.0)},
            noise=sddp.Noise([{"w": 1.0}, {"w": 2.0}]),
        )

    problem = sddp.Problem(sddp.linear_graph(2), build, cost_to_go_bound=-1e4)
    words = r"node 1, noise \d, incoming state x = 0: the LP was not solved \(.*Unbounded"
    with pytest.raises(SolverError, match=words) as error:
        train(problem, 3)
    written = Path(str(error.value).split("written to ")[1])
    assert written.parent.parent == tmp_path
    text = written.read_text()
    assert "min" in text.lower()
    assert " y" in text
    words = (
        r"the extensive form was not solved \(Unbounded\); node 0, noise 0, incoming state x = 1; "
        r"written to (.*\.lp)"
    )
    with pytest.raises(SolverError, match=words) as error:
        sddp.extensive_form(problem).solve()
    assert "_1.0.y" in Path(str(error.value).split("written to ")[1]).read_text()


def test_ctrl_c_after_the_last_check_is_not_lost():
    """Pressed while the last stopping rule answers, after all safe points of the iteration."""

    class PressesAndStops(StoppingRule):
        def reason(self, progress):
            signal.raise_signal(signal.SIGINT)
            return "enough"

    result = train(reservoir.c9(), PressesAndStops())
    assert result.stopped_because == "interrupted"
    assert len(result.log) == 1


# ---------------------------------------------------------------- depth


def test_at_most_nine_calls_lead_from_the_loop_to_the_solver(monkeypatch):
    """From `Training.iterate` to `LinearProgram.solve`, in each pass and for the bound."""
    depths: dict[str, int] = {}
    original = LinearProgram.solve

    def solve(program):
        names = [frame.name for frame in traceback.extract_stack()]
        if "iterate" in names:
            calls = names[len(names) - names[::-1].index("iterate") :]
            kinds = ("backward_pass", "forward_pass", "find_lower_bound", "follow_first")
            kind = next(name for name in kinds if name in calls)
            depths[kind] = max(depths.get(kind, 0), len(calls))
        return original(program)

    monkeypatch.setattr(LinearProgram, "solve", solve)
    train(reservoir.c9(), 3, stage_solver="highs")
    assert set(depths) >= {"backward_pass", "forward_pass", "find_lower_bound"}
    assert max(depths.values()) <= 9


def test_declaring_compiling_and_solving_are_three_verbs(monkeypatch):
    """A problem, and a policy of known cuts, are made without presolving or solving anything."""
    solves: list[str] = []
    original = LinearProgram.solve

    def solve(program):
        solves.append("solve")
        return original(program)

    def rejected(*arguments):
        raise AssertionError

    monkeypatch.setattr(LinearProgram, "solve", solve)
    with monkeypatch.context() as patch:
        patch.setattr("sddp.engine.presolve.compile.presolve", rejected)
        problem = reservoir.c9()
    compiled = compile_problem(problem)
    assert compile_problem(problem) is compiled
    assert solves == []
    with sddp.start_training(problem, rng=0, stage_solver="highs") as training:
        assert solves == []  # the bound on the cost-to-go is given
        training.iterate()
        assert solves
        checkpoint = training.result().policy.checkpoint
    solves.clear()
    policy = sddp.Policy(problem, checkpoint)
    assert solves == []
    assert policy.bound == training.result().policy.bound
