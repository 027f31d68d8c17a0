"""`MarkovScenarios`: shapes, labels, checks, and arrays that nobody can write to."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sddp.errors import DataError
from sddp.scenarios import MarkovScenarios

T, K, S, N = 4, 2, 3, 5
RNG = np.random.default_rng(0)
RETURNS = RNG.normal(0.01, 0.05, (T, K, S, N))
MATRIX = np.array([[0.9, 0.1], [0.3, 0.7]])


def scenarios(**changes) -> MarkovScenarios:
    """Valid ones, changed."""
    return MarkovScenarios(**({"returns": RETURNS, "transition_matrix": MATRIX} | changes))


def spoilt(where: tuple[int, ...], value: float) -> np.ndarray:
    """Returns with one other number."""
    returns = RETURNS.copy()
    returns[where] = value
    return returns


def test_sizes_and_default_labels():
    s = scenarios()
    assert (s.n_stages, s.n_states, s.n_scenarios, s.n_assets) == (T, K, S, N)
    assert s.asset_names == ("asset1", "asset2", "asset3", "asset4", "asset5")
    assert s.state_names == ("state1", "state2")
    assert s.returns == pytest.approx(RETURNS)
    assert s.probabilities == pytest.approx(np.full((T, K, S), 1 / S))
    assert s.transition_matrix == pytest.approx(np.array([MATRIX] * T))
    assert not s.stationary


def test_one_law_for_all_stages_is_stored_once():
    s = scenarios(returns=RETURNS[0], n_stages=50)
    assert s.returns.shape == (50, K, S, N)
    assert (s.returns[0] == s.returns[49]).all()
    assert s.stationary
    assert s.returns.strides[0] == 0


def test_a_single_stage_is_stationary():
    assert scenarios(returns=RETURNS[:1]).stationary


def test_laws_may_differ_between_stages():
    matrices = np.array([MATRIX, np.full((2, 2), 0.5), np.eye(2), MATRIX])
    p = RNG.dirichlet(np.ones(S), (T, K))
    s = scenarios(transition_matrix=matrices, probabilities=p)
    assert s.transition_matrix == pytest.approx(matrices)
    assert s.probabilities == pytest.approx(p)
    one_law = scenarios(probabilities=p[0])
    assert one_law.probabilities[3] == pytest.approx(p[0])


@pytest.mark.parametrize("name", ["returns", "transition_matrix", "probabilities"])
def test_arrays_are_copies_that_cannot_be_written_to(name):
    given = {
        "returns": RETURNS.copy(),
        "transition_matrix": np.array([MATRIX] * T),
        "probabilities": np.full((T, K, S), 1 / S),
    }
    s = scenarios(**given)
    before = np.array(getattr(s, name))
    given[name][:] = 0.25
    assert getattr(s, name) == pytest.approx(before)
    with pytest.raises(ValueError, match="read-only"):
        getattr(s, name)[0] = 1.0
    with pytest.raises(AttributeError):
        setattr(s, name, given[name])


def test_rows_rounded_in_print_are_renormalized():
    """The authors' test case prints probabilities with 8 digits."""
    s = scenarios(transition_matrix=[[0.33333333, 0.66666666], [0.3, 0.7]])
    assert s.transition_matrix.sum(axis=-1) == pytest.approx(np.ones((T, K)), abs=1e-15)
    assert s.transition_matrix[0, 0] == pytest.approx([1 / 3, 2 / 3], abs=1e-8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"returns": RETURNS[0]}, "returns has shape (2, 3, 5) with n_stages = None"),
        ({"returns": RETURNS[0, 0]}, "returns has shape (3, 5)"),
        ({"n_stages": 3}, "returns has shape (4, 2, 3, 5) with n_stages = 3"),
        ({"returns": RETURNS[0], "n_stages": 0}, "n_stages = 0; at least one decision"),
        ({"returns": RETURNS[:, :, :0]}, "no axis may be empty"),
        ({"returns": spoilt((2, 1, 0, 3), np.nan)}, "[2, 1, 0, 3]"),
        ({"returns": spoilt((0, 0, 0, 0), np.inf)}, "is not finite"),
        ({"returns": RETURNS - 1.5}, "a loss of more than everything"),
        ({"transition_matrix": np.eye(3)}, "transition_matrix has shape (3, 3)"),
        ({"transition_matrix": [[0.9, 0.2], [0.3, 0.7]]}, "transition_matrix[0, 0] sums to 1.1"),
        ({"transition_matrix": [[1.1, -0.1], [0.3, 0.7]]}, "negative probability -0.1"),
        ({"transition_matrix": [[np.nan, 1.0], [0.3, 0.7]]}, "transition_matrix[0, 0] = nan"),
        ({"probabilities": np.full((K, S + 1), 0.25)}, "probabilities has shape (2, 4)"),
        ({"probabilities": np.full((K, S), 0.25)}, "probabilities[0, 0] sums to 0.75"),
        ({"probabilities": [[1.5, -0.5, 0.0]] * 2}, "negative probability -0.5"),
        ({"asset_names": ["a", "b"]}, "must be 5 different names"),
        ({"asset_names": ["a", "b", "c", "d", "a"]}, "label 'a' at position 0 and label 'a' at"),
        (
            {"asset_names": ["a", "b", "c", "d", "cash"]},
            "label 'cash' at position 4 names",
        ),
        ({"state_names": ["calm"]}, "must be 2 different names"),
    ],
)
def test_wrong_data_are_rejected_with_the_place(changes, words):
    with pytest.raises(DataError, match=re.escape(words)):
        scenarios(**changes)


def test_a_return_of_minus_one_is_a_total_loss_and_allowed():
    assert scenarios(returns=np.full_like(RETURNS, -1.0)).returns.min() == -1.0


def test_regimes_by_position_or_name():
    s = scenarios(state_names=["calm", "wild"])
    assert s.state_index("wild") == 1
    assert s.state_index(0) == 0
    assert s.state_index(np.int64(1)) == 1
    with pytest.raises(DataError, match=re.escape("regime 'mild' is unknown; known are")):
        s.state_index("mild")
    for outside in (-1, 2):
        with pytest.raises(DataError, match=f"regime {outside} is outside 0..1"):
            s.state_index(outside)
