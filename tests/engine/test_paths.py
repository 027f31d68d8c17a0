"""Several paths an iteration, side by side or one after the other: the same numbers.

Values are those of the extensive form, and known ones of the cases.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

import sddp
from experiments.benchmark_instances import Size
from sddp import threads
from sddp.allocation.problem import allocation_problem
from sddp.engine import crew, passes
from sddp.engine.cost_to_go import Support
from sddp.engine.crew import Crew, Follower, Order
from sddp.engine.interrupt import Interrupt
from sddp.engine.network import Network
from sddp.engine.phase_one import FeasibilityCut
from sddp.engine.stopping import Progress, StoppingRule
from sddp.errors import ModelError, NumericalWarning, SolverError
from tests.engine.cases import markov, reservoir
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, Reaches, time_limit, train
from tests.engine.test_generated_rows import Circle, circle
from tests.engine.test_homogeneous import portfolio
from tests.engine.test_recourse import tank

TAIL = 0.4 * sddp.Expectation() + 0.6 * sddp.AVaR(0.3)
PROBLEMS: dict[str, tuple[Callable[[], sddp.Problem], sddp.risk.RiskMeasure | None]] = {
    "markov": (markov.c2, 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.66)),
    "infeasible-states": (lambda: tank(3.0), TAIL),
    "rows": (partial(circle, lazily=True), None),
    "rows-tail": (partial(circle, lazily=True), TAIL),
    "homogeneous": (partial(portfolio, 1.0), TAIL),
}


@cache
def exact(name: str) -> float:
    """Value of one of them by its extensive form."""
    build, risk = PROBLEMS[name]
    return sddp.extensive_form(build(), risk=risk).solve().value


def numbers(result: sddp.TrainingResult) -> list[dict[str, float]]:
    """The log without clock times."""
    return result.log.drop(columns="seconds").to_dict("records")


# ---------------------------------------------------------------- whatever the number of processes


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_numbers_do_not_depend_on_the_number_of_processes(name, cuts, tmp_path):
    build, risk = PROBLEMS[name]
    results = [
        train(build(), 14, cuts=cuts, risk=risk, n_paths=3, n_jobs=n_jobs) for n_jobs in (1, 2, 3)
    ]
    files = []
    for i, result in enumerate(results):
        result.policy.save(tmp_path / f"{i}.policy")
        files.append((tmp_path / f"{i}.policy").read_bytes())
    for result, file in zip(results[1:], files[1:], strict=True):
        assert numbers(result) == numbers(results[0])
        assert file == files[0]


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PROBLEMS)
def test_any_number_of_paths_reaches_the_extensive_form(name, cuts):
    build, risk = PROBLEMS[name]
    for n_paths in (1, 2, 3):
        stopping = sddp.Iterations(100) | Reaches(exact(name), SOLVER)
        with time_limit(30):
            result = train(build(), stopping, cuts=cuts, risk=risk, n_paths=n_paths)
        assert result.bound == pytest.approx(exact(name), rel=SOLVER)
        bounds = build().sign * result.log["bound"].to_numpy()
        assert np.all(bounds <= build().sign * exact(name) + 1e-8 * abs(exact(name)))


def test_the_first_ten_iterations_follow_one_path():
    asked: list[int] = []

    class Counting(sddp.InSample):
        def sample(self, problem, number, rng):
            asked.append(number)
            return super().sample(problem, number, rng)

    train(reservoir.c9(), 13, sampling=Counting(), n_paths=3)
    assert asked == list(range(10 + 3 * 3))


def test_the_logged_value_is_the_mean_over_the_paths():
    """Three given paths an iteration; the converged policy's totals of each are known."""
    paths = [[sddp.Step(t, w) for t in range(4)] for w in range(3)]
    result = train(reservoir.c9(), 41, sampling=sddp.Historical(paths), n_paths=3)
    table = result.policy.simulate(3, rng=np.random.default_rng(0), sampling=sddp.Historical(paths))
    expected = table.groupby("path")["objective"].sum().mean()
    assert result.log["simulated"].iloc[-1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["n_paths", "n_jobs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "2", None])
def test_numbers_of_paths_and_processes_are_checked(name, value):
    with pytest.raises(ModelError, match=f"{name} = .*; give a whole number of at least 1"):
        train(reservoir.c9(), 2, **{name: value})


def test_numpy_numbers_of_paths_and_processes_are_numbers():
    result = train(reservoir.c9(), 12, n_paths=np.int64(2), n_jobs=np.int32(2))
    assert numbers(result) == numbers(train(reservoir.c9(), 12, n_paths=2))


# ---------------------------------------------------------------- the crew


def crew_of(problem: sddp.Problem, n_paths: int, n_jobs: int) -> Crew:
    build = partial(Network, problem, None, sddp.LazyAggregation(), trains_to=SOLVER)
    return Crew(build(), build, np.random.default_rng(0).spawn(n_paths), n_jobs)


def orders(problem: sddp.Problem, n: int) -> list[Order]:
    rng = np.random.default_rng(1)
    return [Order(sddp.InSample().sample(problem, i, rng), SOLVER, 0.0) for i in range(n)]


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 7])
def test_reports_come_in_the_order_of_the_paths(n_jobs):
    problem = reservoir.c9()
    given = orders(problem, 5)
    with crew_of(problem, 5, n_jobs) as crew:
        for n in (1, 5, 1, 3, 5):
            reports = crew.follow(given[:n], Interrupt())
            assert [visit.noise for visit in crew.first_visits] == [
                step.noise for step in given[0].path
            ]
            assert len(reports) == n
        assert crew.work().lp.solves >= sum(report.work.lp.solves for report in reports)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_first_network_knows_what_all_paths_found(n_jobs):
    """Its value function at a state is at least what any other path has shown it to be."""
    problem = reservoir.c9()
    with crew_of(problem, 3, n_jobs) as crew:
        reports = crew.follow(orders(problem, 3), Interrupt())
        found = [cut for report in reports for cut in report.news.cuts]
        assert len(found) == 3 * 3  # three later stages on each of three paths
        for name, state, slopes, intercepts in found:
            pools = crew.first.value_functions[name].pools
            p = problem.stages[name].noise.probabilities
            value = float(p @ (intercepts + slopes @ state))
            assert pools[0].value(state) >= value - 1e-12


def test_paths_are_followed_in_other_processes(monkeypatch):
    """Marked in memory that they share."""
    seen = multiprocessing.get_context("fork").Array("q", 3)
    original = Follower.follow

    def mark(self, order, heard, interrupt):
        seen[int(order.averaging)] = os.getpid()
        return original(self, order, heard, interrupt)

    monkeypatch.setattr(Follower, "follow", mark)
    problem = reservoir.c9()
    numbered = [order._replace(averaging=float(i)) for i, order in enumerate(orders(problem, 3))]
    with crew_of(problem, 3, 2) as crew:
        crew.follow(numbered, Interrupt())
    assert seen[0] == seen[2] == os.getpid()
    assert seen[1] not in (0, os.getpid())


def elsewhere(monkeypatch, act: Callable[[], None]) -> None:
    """Do something before a path is followed in another process."""
    here, original = os.getpid(), Follower.follow

    def follow(self, order, heard, interrupt):
        if os.getpid() != here:
            act()
        return original(self, order, heard, interrupt)

    monkeypatch.setattr(Follower, "follow", follow)


def test_a_process_that_dies_is_reported(monkeypatch):
    elsewhere(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
    before = set(multiprocessing.active_children())  # other tests' pools
    with pytest.raises(SolverError, match=r"ended with code -9 before it had answered.*n_jobs=1"):
        train(reservoir.c9(), 12, n_paths=2, n_jobs=2)
    assert set(multiprocessing.active_children()) <= before


class Odd(Exception):
    """It holds what cannot be pickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")
        self.hold = lambda: None


def test_an_error_of_another_process_says_where_it_arose(monkeypatch):
    def fails() -> None:
        raise ModelError("so it goes")

    elsewhere(monkeypatch, fails)
    with pytest.raises(ModelError, match="so it goes") as caught:
        train(reservoir.c9(), 12, n_jobs=2)
    assert "in fails" in "".join(caught.value.__notes__)


def test_an_error_that_cannot_be_sent_is_told_in_words(monkeypatch):
    def fails() -> None:
        raise Odd("this", "that")

    elsewhere(monkeypatch, fails)
    with pytest.raises(SolverError, match="Odd in another process: this and that"):
        train(reservoir.c9(), 12, n_jobs=2)


def test_ctrl_c_is_for_who_asks(monkeypatch):
    """A terminal sends it to every process of the group."""
    elsewhere(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    result = train(reservoir.c9(), 12, n_jobs=2)
    assert result.stopped_because == "iteration limit"
    assert numbers(result) == numbers(train(reservoir.c9(), 12))


def test_processes_end_with_the_one_that_started_them():
    """Killed, it cannot tell them."""
    script = """
import os, signal, multiprocessing
from tests.engine.cases import reservoir
from tests.engine.support import train
from tests.engine.test_paths import PressCtrlC
class Kill(PressCtrlC):
    def reason(self, progress):
        if progress.log[-1].iteration == 12:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
train(reservoir.c9(), Kill(12), n_paths=3, n_jobs=3)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    children = [int(pid) for pid in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL
    assert len(children) == 2
    deadline = time.monotonic() + 10.0
    while any(_runs(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in children)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_training_while_another_thread_asks_for_one_blas_thread(monkeypatch):
    """A lock that is held at the fork is never let go of in the child."""
    original = crew._Process.__init__

    def start(self, *arguments):
        with threads._guard:
            original(self, *arguments)

    monkeypatch.setattr(crew._Process, "__init__", start)
    with time_limit(20):
        assert len(train(reservoir.c9(), 12, n_jobs=2).log) == 12


def test_a_process_that_may_have_none_is_told_at_once(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(ModelError, match="n_jobs = 2 inside a process that may have none"):
        train(reservoir.c9(), 1, n_jobs=2)


def test_warnings_of_another_process_are_given_here(monkeypatch):
    elsewhere(monkeypatch, lambda: warnings.warn("a number is odd", NumericalWarning, stacklevel=1))
    with pytest.warns(NumericalWarning, match="a number is odd"):
        train(reservoir.c9(), 11, n_paths=2, n_jobs=2)


def test_no_process_is_started_for_one_path_or_few_iterations(monkeypatch):
    monkeypatch.setattr(crew, "START_METHOD", "no such method")
    train(reservoir.c9(), 12, n_paths=1, n_jobs=2)
    train(reservoir.c9(), 10, n_paths=2, n_jobs=2)
    with pytest.raises(ValueError, match="no such method"):
        train(reservoir.c9(), 11, n_paths=2, n_jobs=2)


def test_where_processes_cannot_be_forked_the_problem_is_sent(monkeypatch):
    monkeypatch.setattr(crew, "START_METHOD", "spawn")
    size = Size(3, 2, 20, 4)
    problem = allocation_problem(
        size.model, size.scenarios(), initial_holdings={"cash": 1.0}
    ).engine
    alone, beside = (train(problem, 12, n_paths=2, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert numbers(beside) == numbers(alone)


def test_a_problem_that_cannot_be_sent_is_refused(monkeypatch):
    monkeypatch.setattr(crew, "START_METHOD", "spawn")
    problem = sddp.Problem(sddp.linear_graph(3), lambda node: circle(lazily=True).build(node))
    with pytest.raises(ModelError, match=r"no further process could be started .*n_jobs=1"):
        train(problem, 12, n_paths=2, n_jobs=2)
    assert train(problem, 12, n_paths=2).bound == pytest.approx(exact("rows"), rel=1e-3)


# ---------------------------------------------------------------- errors and Ctrl-C


class BreaksOnce(sddp.InSample):
    """A path to a node that is not there, once."""

    def __init__(self, at: int) -> None:
        self.at: int | None = at

    def sample(self, problem, number, rng):
        """See `SamplingScheme`."""
        path = super().sample(problem, number, rng)
        if number != self.at:
            return path
        self.at = None
        return [replace(path[0], node="nowhere"), *path[1:]]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_in_one_path_is_raised_and_the_next_call_works(n_jobs):
    problem, sampling = reservoir.c9(), BreaksOnce(at=13)  # the second path of iteration 12
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ModelError, match="node 'nowhere', which is unknown"):
        train(problem, 30, sampling=sampling, n_jobs=n_jobs)
    assert signal.getsignal(signal.SIGINT) is before
    assert sampling.at is None
    result = train(problem, 60, sampling=sampling, n_jobs=n_jobs)
    assert result.bound == pytest.approx(275 / 6, rel=SOLVER)


@dataclass(frozen=True)
class PressCtrlC(StoppingRule):
    """Press it after some iterations, and never be a reason."""

    after: int

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        if progress.log[-1].iteration == self.after:
            signal.raise_signal(signal.SIGINT)
        return None


class PressesWhileDrawing(sddp.InSample):
    """Press it while the paths of an iteration are drawn."""

    def sample(self, problem, number, rng):
        """See `SamplingScheme`."""
        if number == 15:
            signal.raise_signal(signal.SIGINT)
        return super().sample(problem, number, rng)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("where", ["after", "drawing"])
def test_ctrl_c_while_processes_work(where, cuts):
    before = signal.getsignal(signal.SIGINT)
    options = {"n_paths": 3, "n_jobs": 2, "cuts": cuts}
    if where == "after":
        result = train(reservoir.c9(), PressCtrlC(12), **options)
        assert len(result.log) == 12
    else:  # the last of the three paths of iteration 12
        result = train(reservoir.c9(), 50, sampling=PressesWhileDrawing(), **options)
        assert len(result.log) == 11
    assert result.stopped_because == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before
    assert result.bound == pytest.approx(result.log["bound"].iloc[-1], rel=1e-6)
    assert result.policy.decide(0, {"x": 10.0}, 1).outgoing["x"] >= 5.0
    again = train(reservoir.c9(), 40, start=result.policy, n_paths=2, n_jobs=2)
    assert again.bound == pytest.approx(275 / 6, rel=SOLVER)


# ---------------------------------------------------------------- twins


def twins(problem: sddp.Problem, n: int = 3, cuts: sddp.CutForm | None = None) -> list[Network]:
    cuts = cuts or sddp.LazyAggregation()
    return [Network(problem, None, cuts, trains_to=SOLVER) for _ in range(n)]


def exchange(networks: list[Network]) -> None:
    """Tell each what the others have found."""
    news = [network.take_news() for network in networks]
    for network in networks:
        for other, found in zip(networks, news, strict=True):
            if other is not network:
                network.hear(found)


def test_feasibility_cuts_are_told_once():
    networks = twins(tank(3.0))
    cuts = [FeasibilityCut(np.array([-1.0]), 4.0 + i, 1.0) for i in range(3)]
    for network, cut in zip(networks, cuts, strict=True):
        network.refuse(1, cut)

    def known() -> list[list[float]]:
        return [n.value_functions[1].feasibility.intercepts.tolist() for n in networks]

    assert known() == [[4.0], [5.0], [6.0]]
    exchange(networks)
    assert known() == [[4.0, 5.0, 6.0], [5.0, 4.0, 6.0], [6.0, 4.0, 5.0]]
    exchange(networks)  # nothing is new
    assert [len(cuts) for cuts in known()] == [3, 3, 3]


def test_what_a_twin_was_told_binds_its_decisions():
    first, second = twins(tank(3.0), 2)
    first.refuse(1, FeasibilityCut(np.array([-1.0]), 8.0, 1.0))  # at least 8 must be left
    exchange([first, second])
    for network in (first, second):
        assert network.nodes[0].solve(np.zeros(1), 0, SOLVER).outgoing[0] >= 8.0 - 1e-9


def test_cuts_are_told():
    first, second = twins(tank(3.0), 2)
    state = np.array([4.5])
    first.learn(2, state, first.solve_noises(2, state, SOLVER))
    assert not second.value_functions[2].ready
    exchange([first, second])
    pools = [network.value_functions[2].pools[0] for network in (first, second)]
    assert len(pools[0]) == len(pools[1]) == 1
    assert pools[0].slopes.tolist() == pools[1].slopes.tolist()
    assert pools[0].intercepts.tolist() == pools[1].intercepts.tolist()


def test_averaged_cuts_are_told():
    first, second = twins(markov.c2(), 2, sddp.AverageCut())
    name, state = (1, 0), np.array([10.0, 20.0])
    first.learn_average(name, Support(np.array([1.0, 2.0]), 3.0), state)
    _ = second.nodes[name]  # whether the node is there already or not
    exchange([first, second])
    for network in (first, second):
        rows = network.nodes[name].cost_to_go.new_rows()
        assert rows.state.tolist() == [[-1.0, -2.0]]
        assert rows.lower.tolist() == [3.0]


class Counted(Circle):
    """Counts how often it is asked."""

    calls = 0

    def violated(self, values, tolerance):
        """See `RowGenerator`."""
        type(self).calls += 1
        return super().violated(values, tolerance)


def test_generated_rows_are_handed_over():
    """A twin that knows the rows asks the generator only for the final word."""

    def build(node: sddp.Node) -> sddp.Stage:
        stage = circle(lazily=True).build(node)
        return replace(stage, rows=Counted(stage.rows.variables))

    problem = sddp.Problem(sddp.linear_graph(3), build)
    counts, values = [], []
    for told in (False, True):
        first, second = twins(problem, 2)
        found = first.nodes[2].solve(np.array([1.3]), 0, SOLVER)
        if told:
            exchange([first, second])
        Counted.calls = 0
        answer = second.nodes[2].solve(np.array([1.3]), 0, SOLVER)
        counts.append(Counted.calls)
        values.append(answer.value)
        assert answer.value == pytest.approx(found.value, rel=SOLVER)
    assert counts[1] < counts[0]
    assert values[0] == pytest.approx(values[1], rel=SOLVER)


def test_what_the_first_iterations_found_reaches_the_twins(monkeypatch):
    """The twins work from the eleventh iteration on; then they are told everything at once."""
    told: list[list] = []
    original = Follower.follow

    def listen(self, order, heard, interrupt):
        told.append(list(heard))
        return original(self, order, heard, interrupt)

    monkeypatch.setattr(Follower, "follow", listen)
    train(tank(3.0), 12, n_paths=2)
    assert [len(news) for news in told] == [*[0] * 10, 0, 10, 0, 1]
    assert all(news.cuts or news.refusals for news in told[11])


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("n_paths", [1, 3])
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PROBLEMS)
def test_going_on_reaches_the_same_value(name, cuts, n_paths):
    """From a policy in the middle, with fewer or more paths than it was trained with."""
    build, risk = PROBLEMS[name]
    problem = build()
    short = train(problem, 3, cuts=cuts, risk=risk, n_paths=2)
    stopping = sddp.Iterations(100) | Reaches(exact(name), SOLVER)
    with time_limit(30):
        long = train(problem, stopping, 1, start=short.policy, n_paths=n_paths, n_jobs=2)
    assert long.bound == pytest.approx(exact(name), rel=SOLVER)
    first, last = problem.sign * long.log["bound"].iloc[0], problem.sign * short.bound
    assert first >= last - 1e-8 * abs(last)  # no step back


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_cuts_that_grow_after_thawing_are_written(cuts, twin):
    """A node asked for only after its children learnt knows what they learnt.

    Rows of the policy are restored as written already: those of later cuts are not.
    """
    risk = 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.66)
    policy = train(markov.c2(), 1, cuts=cuts, risk=risk).policy
    network = policy.thaw()
    snapshot = policy.snapshot
    known = (network.problem, network.risk, network.cuts, snapshot)
    asked = Network(*known, trains_to=SOLVER) if twin else network
    state, leaf, parent = np.array([150.0, 100.0]), [(2, 0), (2, 1)], (1, 0)
    old = policy.value(parent, {"r": state}, 0)
    for x in np.random.default_rng(0).uniform(0.0, 200.0, (20, 2)):
        for name in leaf:
            network.learn(name, x, network.solve_noises(name, x, SOLVER))
    if type(cuts) is sddp.AverageCut:  # it keeps cuts of its own, made at decisions
        for _ in range(10):
            visit = passes.Visit(
                parent, state, 0, network.nodes[parent].solve(state, 0, SOLVER), 1.0, None, 0
            )
            passes.study(network, visit, SOLVER, np.random.default_rng(0), 0.0)
    if twin:
        asked.hear(network.take_news())
    solution = asked.nodes[parent].solve(state, 0, SOLVER)
    cost_to_go = asked.nodes[parent].cost_to_go
    value = cost_to_go.outcomes.evaluate(solution.outgoing).value
    assert solution.theta == pytest.approx(value, rel=1e-7)
    assert -solution.value < old - 1.0  # maximising: what was learnt lowers the bound


# ---------------------------------------------------------------- averaged trial points


def trial_points(problem: sddp.Problem, n: int, **options) -> list[tuple]:
    """What a training handed to `_trial_point`, and what came back."""
    seen: list[tuple] = []
    original = passes._trial_point

    def watch(network, visit, averaging):
        before = network.averages_of_decisions.get(visit.node)
        trial = original(network, visit, averaging)
        seen.append((visit.node, averaging, visit.solution.outgoing, before, trial))
        return trial

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_trial_point", watch)
        train(problem, n, **options)
    return seen


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_trial_points_are_the_decisions_where_states_have_no_common_size(cuts):
    for problem in (reservoir.c9(), portfolio(1.0, declared=False)):
        seen = trial_points(problem, 7, cuts=cuts)
        assert len(seen) > 10
        for _, averaging, outgoing, _, trial in seen:
            assert averaging == 0.0
            assert trial.tolist() == outgoing.tolist()


@pytest.mark.parametrize("wealth", [1.0, 1e6])
def test_trial_points_of_homogeneous_problems_are_means_at_first(wealth):
    """By hand: half of the running mean and half of the decision, at the decision's size."""
    seen = trial_points(portfolio(wealth), 25, n_paths=1)
    assert [averaging for node, averaging, *_ in seen if node == 0] == pytest.approx(
        [min(1.0, 10.0 / k) for k in range(1, 26)]
    )
    means: dict = {}
    for node, averaging, outgoing, before, trial in seen:
        size = np.abs(outgoing).sum()
        decision = outgoing / size
        assert (before is None) == (node not in means)
        means[node] = 0.5 * decision + 0.5 * means.get(node, decision)
        expected = size * ((1.0 - averaging) * decision + averaging * means[node])
        assert trial == pytest.approx(expected, rel=1e-12)
        assert np.abs(trial).sum() == pytest.approx(size, rel=1e-12)
    assert any(np.abs(trial - outgoing).max() > 1e-3 for _, _, outgoing, _, trial in seen)


@pytest.mark.parametrize("risk", [None, TAIL], ids=["neutral", "tail"])
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_averaging_is_exact_in_the_end_and_valid_on_the_way(cuts, risk):
    value = sddp.extensive_form(portfolio(1.0), risk=risk).solve().value
    result = train(portfolio(1.0), 40, cuts=cuts, risk=risk, n_paths=2)
    assert result.bound == pytest.approx(value, rel=SOLVER)
    assert result.log["bound"].min() >= value - 1e-8  # maximising: never below
    assert result.log["simulated"].iloc[-1] > 0.0
