"""Trial points: decisions, or means of the last ones where states have a common size."""

from __future__ import annotations

import numpy as np
import pytest

import sddp
from sddp.engine.training import passes
from tests.engine.cases import reservoir
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, train
from tests.engine.test_homogeneous import portfolio
from tests.engine.test_paths import TAIL


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
