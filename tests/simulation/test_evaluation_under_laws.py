"""The evaluation of policies under a known law takes the laws of the simulation room."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from sddp.evaluation.rollout import rollout, rollout_under
from sddp.evaluation.true_risk import true_cvar
from sddp.simulation import NormalLaw

LAW = NormalLaw(mean=[0.01, 0.0], covariance=[[4e-4, 1e-4], [1e-4, 9e-4]], returns="simple")


def half(stage, before):
    wealth = before.sum(axis=1, keepdims=True)
    return wealth * np.array([0.5, 0.3, 0.2])


def test_a_rule_is_followed_along_the_paths_of_the_law():
    found = rollout_under(half, LAW, n_paths=70_000, n_decisions=3, rng=4)
    returns = np.concatenate(list(LAW.sample(70_000, 3, rng=4)))
    np.testing.assert_array_equal(found.wealth, rollout(half, returns, 3).wealth)
    expected = (1.0 + 0.3 * 0.01) ** 3
    error = found.terminal.std() / np.sqrt(70_000)
    assert abs(found.terminal.mean() - expected) < 4.0 * error


def test_true_cvar_is_the_closed_form():
    holdings = np.array([[0.5, 0.3, 0.2], [0.0, 2.0, 0.0]])
    found = true_cvar(holdings, LAW, confidence=0.9, n_scenarios=200_000, rng=2)
    factor = norm.pdf(norm.ppf(0.9)) / 0.1
    for cvar, w in zip(found, holdings[:, 1:], strict=True):
        closed = -w[0] * 0.01 + factor * np.sqrt(w @ np.asarray(LAW.covariance) @ w)
        assert cvar == pytest.approx(closed, rel=0.01)
