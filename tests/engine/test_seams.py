"""What a researcher may replace: one contract for ours and for toys from outside the package.

Each object is trained with, pickled, sent to another process, written to a file by import path and
read again, and told apart by what the study store knows of it.
"""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

import sddp
from sddp.cache.fingerprint import describe
from sddp.engine.policy.files import NAMES
from sddp.engine.training import workers
from sddp.plain import Decoder, Encoder
from tests.engine import toys
from tests.engine.cases import reservoir
from tests.engine.support import SOLVER, train
from tests.engine.test_homogeneous import portfolio
from tests.engine.test_paths import numbers

TAIL = 0.4 * sddp.Expectation() + 0.6 * sddp.AVaR(0.3)


@dataclass(frozen=True)
class Case:
    """One object in one seam: how it is given to `train`, and how it can be told apart."""

    seam: str
    thing: Any
    other: Any  # the same class, other numbers
    exact: bool = True  # whether 40 iterations find the value

    def options(self, thing: Any = None) -> dict[str, Any]:
        """Arguments of `train`."""
        thing = self.thing if thing is None else thing
        if self.seam == "selection":
            return {"cuts": sddp.LazyAggregation(thing)}
        return {self.seam: thing}

    def __str__(self) -> str:
        return f"{self.seam}-{type(self.thing).__name__}"


PATHS = [[sddp.Step(t, w) for t in range(4)] for w in range(3)]
CASES = [
    Case("risk", sddp.AVaR(0.5), sddp.AVaR(0.6)),
    Case("risk", TAIL, sddp.Expectation()),
    Case("risk", sddp.WorstCase(), sddp.Expectation()),
    Case("risk", toys.HalfWorst(), toys.HalfWorst(0.3)),
    Case("sampling", sddp.InSample(), sddp.InSample(50)),
    Case("sampling", sddp.RiskAdjusted(), sddp.RiskAdjusted(share=0.2)),
    Case("sampling", sddp.Historical(PATHS), sddp.Historical(PATHS[:2]), exact=False),
    Case("sampling", toys.AlwaysNoise(), toys.AlwaysNoise(2), exact=False),
    Case("stopping", sddp.Gap(1e-3) | sddp.Iterations(40), sddp.Iterations(41)),
    Case("stopping", sddp.BoundStalling(8, 1e-9), sddp.BoundStalling(9, 1e-9)),
    Case("stopping", toys.Enough(), toys.Enough(300), exact=False),
    Case("cuts", sddp.LazyAggregation(), sddp.LazyAggregation(None)),
    Case("cuts", sddp.MultiCut(), sddp.AverageCut()),
    Case("cuts", sddp.AverageCut(), sddp.MultiCut()),
    Case("cuts", toys.EveryRow(), toys.EveryRow(1e-6)),
    Case("trial_points", sddp.AveragedDecisions(), sddp.AveragedDecisions(3)),
    Case("trial_points", sddp.Decisions(), sddp.AveragedDecisions()),
    Case("trial_points", toys.Midpoints(), toys.Midpoints(2)),
    Case("selection", sddp.RecentlyLargest(2, 3, 2), sddp.RecentlyLargest(2, 4, 2)),
    Case("selection", toys.Newest(), toys.Newest(2)),
    Case("tolerances", sddp.Tolerances(), sddp.Tolerances(share=0.1)),
    Case("tolerances", toys.Halving(), toys.Halving(1e-4)),
    Case("n_paths", sddp.SinglePathFirst(3, 2), sddp.SinglePathFirst(2, 2)),
    Case("n_paths", toys.Growing(), toys.Growing(2)),
    Case("n_jobs", sddp.Processes(2), sddp.Processes(1)),
    Case("n_jobs", toys.Backwards(), toys.Backwards(False)),
]
each = pytest.mark.parametrize("case", CASES, ids=str)


def problem_of(case: Case) -> sddp.Problem:
    """Where the object matters: means of decisions are taken in homogeneous problems."""
    return portfolio(1.0) if case.seam == "trial_points" else reservoir.c9()


@cache
def exact(homogeneous: bool, risk: sddp.risk.RiskMeasure | None) -> float:
    """Value of the extensive form."""
    problem = portfolio(1.0) if homogeneous else reservoir.c9()
    return sddp.extensive_form(problem, risk=risk).solve().value


def trained(case: Case, thing: Any = None, **options: Any) -> sddp.TrainingResult:
    """A short training with the object."""
    stopping = sddp.Iterations(options.pop("n", 14))
    given = {"stopping": stopping, "n_paths": 2} | case.options(thing) | options
    with warnings.catch_warnings():  # some end before they have converged
        warnings.simplefilter("ignore", sddp.errors.ConvergenceWarning)
        return train(problem_of(case), **given)


@each
def test_it_trains_to_a_valid_bound(case):
    problem = problem_of(case)
    result = trained(case, n=40)
    risk = case.thing if case.seam == "risk" else None
    value = exact(problem.homogeneous, risk)
    assert problem.sign * result.bound <= problem.sign * value + 1e-8 * max(1.0, abs(value))
    if case.exact:
        assert result.bound == pytest.approx(value, rel=1e-3 if case.seam == "stopping" else 1e-8)


@each
def test_a_pickled_one_gives_the_same_numbers(case):
    again = pickle.loads(pickle.dumps(case.thing))
    assert numbers(trained(case, again)) == numbers(trained(case))


@each
def test_the_numbers_do_not_depend_on_the_process(case):
    if case.seam == "n_jobs":
        assert numbers(trained(case)) == numbers(trained(case, 1))
    else:
        assert numbers(trained(case, n_jobs=2)) == numbers(trained(case))


@pytest.mark.long
@each
def test_it_is_sent_to_a_process_that_cannot_be_forked(case, monkeypatch):
    monkeypatch.setattr(workers, "START_METHOD", "spawn")
    if case.seam != "n_jobs":
        assert numbers(trained(case, n_jobs=2, n=12)) == numbers(trained(case, n=12))


@each
def test_a_file_names_its_class_by_import_path(case):
    encoder = Encoder(NAMES)
    written = json.loads(json.dumps(encoder.encode(case.thing, "thing")))
    again = Decoder(NAMES, encoder.arrays, lambda kind: True).decode(written)
    assert type(again) is type(case.thing)
    assert describe(again) == describe(case.thing)


KEPT = [case for case in CASES if case.seam in ("risk", "cuts", "selection")]


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_a_policy_trained_with_it_is_saved_and_loaded(case, tmp_path):
    policy = trained(case).policy
    policy.save(tmp_path / "policy")
    again = sddp.load_policy(tmp_path / "policy")
    assert describe(again.checkpoint.cuts) == describe(policy.checkpoint.cuts)
    assert again.bound == policy.bound
    state, noise = {"x": 7.0}, 1
    assert again.decide(1, state, noise).variables == policy.decide(1, state, noise).variables
    going_on = train(policy.problem, 3, start=again)
    assert numbers(going_on) == numbers(train(policy.problem, 3, start=policy))


@each
def test_the_study_store_tells_it_from_others(case):
    assert describe(case.thing) == describe(pickle.loads(pickle.dumps(case.thing)))
    assert describe(case.thing) != describe(case.other)


# ---------------------------------------------------------------- step by step


def test_a_training_can_be_driven_step_by_step():
    whole = train(reservoir.c9(), 14, seed=3)
    seen = []
    with sddp.start_training(reservoir.c9(), rng=3) as training:
        while len(training.log) < 14:
            seen.append(training.iterate())
        training.settle()
        result = training.result("enough")
    assert numbers(result) == numbers(whole)
    assert [entry.iteration for entry in seen] == list(range(1, 15))
    assert result.stopped_because == "enough"
    assert result.policy.bound == whole.policy.bound


def test_a_step_by_step_training_can_be_left_at_any_iteration_and_taken_up():
    with sddp.start_training(reservoir.c9(), rng=0) as training:
        for _ in range(6):
            training.iterate()
        policy = training.result().policy
    assert policy.checkpoint.iterations == 6
    result = train(reservoir.c9(), 30, start=policy)
    assert result.bound == pytest.approx(275 / 6, rel=SOLVER)
    assert result.policy.checkpoint.iterations == 36


def test_going_on_goes_on_with_the_schedules():
    """A second path comes in iteration 11 of all, not in the eleventh after the restart."""
    asked: list[int] = []

    class Counting(sddp.InSample):
        def sample(self, problem, number, rng):
            asked.append(number)
            return super().sample(problem, number, rng)

    policy = train(reservoir.c9(), 8).policy
    train(reservoir.c9(), 4, sampling=Counting(), n_paths=2, start=policy)
    assert len(asked) == 2 + 2 * 2


def test_each_iteration_is_told():
    told = []
    result = train(reservoir.c9(), 5, on_iteration=told.append)
    assert [entry.iteration for entry in told] == [1, 2, 3, 4, 5]
    assert [entry.bound for entry in told[:-1]] == result.log["bound"].tolist()[:-1]


def test_logging_says_how_training_goes(caplog):
    with caplog.at_level("DEBUG", logger="sddp"):
        train(reservoir.c9(), 2)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.pop(0).startswith("stages are solved by ")
    assert lines[0].startswith("iteration 1: bound ")
    assert lines[-1] == "training ended after 2 iterations: iteration limit"
