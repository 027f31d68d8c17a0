"""Trial points: decisions, or means of the last ones where states have a common size."""

from __future__ import annotations

import numpy as np
import pytest

import sddp
from tests.engine.cases import reservoir
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, train
from tests.engine.test_homogeneous import portfolio
from tests.engine.test_paths import TAIL


class Watching(sddp.AveragedDecisions):
    """Keeps the iteration, the decision, the mean before it and the trial point."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "seen", [])

    def point(self, problem, node, outgoing, iteration, memory):
        """See `TrialPoints`."""
        before = memory.get(node)
        trial = super().point(problem, node, outgoing, iteration, memory)
        self.seen.append((node, iteration, outgoing, before, trial))
        return trial


def trial_points(problem: sddp.Problem, n: int, **options) -> list[tuple]:
    """What a training asked its trial points for, and what came back."""
    watching = Watching()
    train(problem, n, trial_points=watching, **options)
    return watching.seen


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_trial_points_are_the_decisions_where_states_have_no_common_size(cuts):
    for problem in (reservoir.c9(), portfolio(1.0, declared=False)):
        seen = trial_points(problem, 7, cuts=cuts)
        assert len(seen) > 10
        for _, _, outgoing, before, trial in seen:
            assert before is None
            assert trial.tolist() == outgoing.tolist()


@pytest.mark.parametrize("wealth", [1.0, 1e6])
def test_trial_points_of_homogeneous_problems_are_means_at_first(wealth):
    """By hand: half of the running mean and half of the decision, at the decision's size."""
    seen = trial_points(portfolio(wealth), 25, n_paths=1)
    assert [iteration for node, iteration, *_ in seen if node == 0] == list(range(1, 26))
    means: dict = {}
    for node, iteration, outgoing, before, trial in seen:
        averaging, size = min(1.0, 10.0 / iteration), np.abs(outgoing).sum()
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
