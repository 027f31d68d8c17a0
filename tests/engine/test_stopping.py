"""Stopping rules, by themselves and in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

import sddp
from sddp.engine.training.stopping import LogEntry, Progress, StoppingRule
from sddp.errors import ModelError
from tests.engine.cases import reservoir, stagewise
from tests.engine.support import train


def test_iterations_count_this_training():
    result = train(reservoir.c9(), sddp.Iterations(3))
    assert list(result.log.index) == [1, 2, 3]
    assert result.stopped_because == "iteration limit"
    more = train(reservoir.c9(), sddp.Iterations(2), start=None)
    assert len(more.log) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: sddp.Iterations(0),
        lambda: sddp.Seconds(float("nan")),
        lambda: sddp.BoundStalling(iterations=0),
        lambda: sddp.BoundStalling(tolerance=-1.0),
        lambda: sddp.PolicyStability(n_paths=0),
        lambda: sddp.PolicyStability(period=0),
        lambda: sddp.Statistical(n_paths=1),  # one path has no standard error
        lambda: sddp.Statistical(period=0),
        lambda: sddp.Statistical(confidence=1.5),
    ],
)
def test_rules_that_cannot_work_are_rejected(make):
    with pytest.raises(ModelError):
        make()


def test_seconds_stop_between_iterations():
    result = train(reservoir.c9(), sddp.Seconds(0.0))
    assert (len(result.log), result.stopped_because) == (1, "time limit")
    slow = train(reservoir.c9(), sddp.Seconds(0.05))
    assert slow.log["seconds"].iloc[-1] >= 0.05
    assert (slow.log["seconds"].iloc[:-1] < 0.05).all()


def test_stopping_rules_stop_real_trainings_in_their_own_words():
    words = {
        sddp.BoundStalling(5, 1e-6): "bound stalled; not certified",
        sddp.PolicyStability(n_paths=10, period=4): "policy stable",
        sddp.Statistical(n_paths=50, period=5): "bound inside the confidence interval",
    }
    for rule, reason in words.items():
        result = train(reservoir.c9(), rule)
        assert result.stopped_because == reason
        assert result.bound == pytest.approx(275 / 6, rel=0.05)


def progress_of(bounds, tolerances=None, totals=(0.0,), maximises=False, memory=None):
    """What a rule sees after some iterations with these bounds."""
    tolerances = tolerances or [1e-9] * len(bounds)
    log = [
        LogEntry(i + 1, bound, 0.0, float(i), i, tolerance, 0)
        for i, (bound, tolerance) in enumerate(zip(bounds, tolerances, strict=True))
    ]
    memory = {} if memory is None else memory
    scale = max(1.0, *np.abs(bounds))
    return Progress(log, 1e-9, maximises, scale, lambda n, seed: np.array(totals), memory)


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ([5.0, 5.0, 5.0], None),  # three moves are needed
        ([1.0, 5.0, 5.0, 5.0], None),
        ([1.0, 5.0, 5.0, 5.0, 5.0], "bound stalled"),
        ([4e6, 4e6, 4e6, 4e6 + 3], "bound stalled"),  # relative to the scale
        ([0.0, 0.0, 0.0, 2e-6], None),  # whose scale is 1 here
        ([0.0, 0.0, 0.0, 5e-7], "bound stalled"),
    ],
)
def test_bound_stalling_looks_at_a_window(bounds, reason):
    assert sddp.BoundStalling(3, 1e-6).reason(progress_of(bounds)) == reason


def test_bound_stalling_waits_for_the_final_tolerance():
    """Rows refined loosely can hold a bound still."""
    rule, still = sddp.BoundStalling(2, 1e-6), [1.0] * 4
    assert rule.reason(progress_of(still, [1e-3, 1e-6, 1e-7, 1e-9])) is None  # it moved little
    assert rule.reason(progress_of(still, [1e-3, 1e-6, 1e-9, 1e-9])) == "bound stalled"


def test_bound_stalling_asks_for_the_final_tolerance():
    """Once the bound moves little, and not before."""
    rule, asked = sddp.BoundStalling(2, 1e-3), []
    for bounds in ([1.0, 2.0, 2.1], [1.0, 2.0, 2.0, 2.0]):
        progress = progress_of(bounds, [1e-4] * len(bounds))
        told = replace(progress, refine=partial(asked.append, len(bounds)))
        assert rule.reason(told) is None
    assert asked == [4]
    log = train(reservoir.c9(), rule).log
    loose = int((log["tolerance"] > 1e-9).sum())
    assert loose >= 2
    assert (log["tolerance"].iloc[loose:] == 1e-9).all()
    assert len(log) - loose <= 4  # a window, and what moved when it was refined


def test_policy_stability_compares_every_path():
    rule, memory = sddp.PolicyStability(n_paths=3, period=2, tolerance=1e-3), {}

    def reason(iterations, totals):
        return rule.reason(progress_of([0.0] * iterations, totals=totals, memory=memory))

    assert reason(1, [9.0, 9.0, 9.0]) is None  # not a multiple of the period
    assert reason(2, [1.0, 2.0, 3.0]) is None  # nothing to compare with
    assert reason(4, [1.0, 2.5, 2.5]) is None  # the mean stands still, the paths do not
    assert reason(6, [1.0, 2.5, 2.501]) == "policy stable"


def test_policy_stability_simulates_the_same_paths_each_time():
    asked = []
    rule = sddp.PolicyStability(n_paths=3, period=1, seed=11)
    progress = progress_of([0.0])

    def simulate(n_paths, seed):
        asked.append((n_paths, seed))
        return np.zeros(n_paths)

    progress = Progress(progress.log, 1e-9, False, 1.0, simulate, {})
    rule.reason(progress)
    rule.reason(progress)
    assert asked == [(3, 11), (3, 11)]


@pytest.mark.parametrize(("bound", "stops"), [(8.46, False), (8.48, True), (14.0, True)])
def test_the_statistical_rule_is_pereira_and_pintos(bound, stops):
    """Totals 8, 10, 12, 14: mean 11, standard error sqrt(20/3)/2 = 1.291, times 1.96 is 2.530.

    A lower bound (costs) stops from 8.470 on; an upper one (rewards) from 13.530 downwards.
    """
    totals, rule = (8.0, 10.0, 12.0, 14.0), sddp.Statistical(n_paths=4, period=1)
    expected = "bound inside the confidence interval" if stops else None
    assert rule.reason(progress_of([bound], totals=totals)) == expected
    mirrored = progress_of([22.0 - bound], totals=totals, maximises=True)
    assert rule.reason(mirrored) == expected


def test_rules_with_a_period_wait_for_it():
    rule = sddp.Statistical(n_paths=2, period=3)
    seen = [rule.reason(progress_of([0.0] * n, totals=(-1.0, -2.0))) for n in range(1, 7)]
    assert [reason is not None for reason in seen] == [False, False, True, False, False, True]


def test_rules_are_combined_by_or_and_and():
    few, more = sddp.Iterations(2), sddp.Iterations(5)
    either = train(reservoir.c9(), few | more)
    assert (len(either.log), either.stopped_because) == (2, "iteration limit")
    both = train(reservoir.c9(), few & more)
    assert (len(both.log), both.stopped_because) == (5, "iteration limit and iteration limit")
    nested = train(reservoir.c9(), (few & sddp.Seconds(1e9)) | more)
    assert len(nested.log) == 5


def test_a_rule_of_ones_own_sees_the_log_and_the_sense():
    seen: list[Progress] = []

    @dataclass(frozen=True)
    class Watch(StoppingRule):
        def reason(self, progress: Progress) -> str | None:
            seen.append(progress)
            return "seen enough" if progress.log[-1].iteration == 4 else None

    result = train(stagewise.a19(), Watch())
    assert result.stopped_because == "seen enough"
    assert seen[-1].maximises
    assert [entry.bound for entry in seen[-1].log] == list(result.log["bound"])
    totals = seen[-1].simulate(3, 7)
    assert totals == pytest.approx(seen[-1].simulate(3, 7))  # same seed, same paths
