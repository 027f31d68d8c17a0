"""Decisions under the true law: shares towards cash by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sddp.evaluation.true_risk import over_limit, towards_cash


def moved(before, after, cvar, **terms):
    return towards_cash(np.array([before]), np.array([after]), np.array([cvar]), **terms)[0]


def test_a_purchase_from_cash_is_cut_to_what_risk_and_cost_allow():
    """2 bought at 1 % with a CVaR of 0.3: share s with ``0.3 s + 0.02 s = 0.04 * 4``."""
    found = moved([4.0, 0.0], [1.98, 2.0], 0.3, limit=0.04, cost=0.01)
    share = 0.16 / 0.32
    np.testing.assert_allclose(found, [4.0 - 2.02 * share, 2.0 * share], rtol=1e-12)


def test_costs_may_differ_between_assets():
    """From cash into 1 and 0.5: ``s (0.1 + 0.01 * 1 + 0.03 * 0.5) = 0.05``."""
    before, after = [2.0, 0.0, 0.0], [0.475, 1.0, 0.5]
    found = moved(before, after, 0.1, limit=0.025, cost=np.array([0.01, 0.03]))
    np.testing.assert_allclose(found[1:], np.array([1.0, 0.5]) * 0.05 / 0.125, rtol=1e-12)
    assert found.sum() == pytest.approx(2.0 - 0.025 * 0.05 / 0.125)


def test_what_is_held_is_sold_at_a_cost_that_counts_as_risk():
    """CVaR 5 %, limit 3 %, cost 1 %: ``0.05 s + 0.01 (1 - s) = 0.03``."""
    found = moved([0.0, 1.0], [0.0, 1.0], 0.05, limit=0.03, cost=0.01)
    np.testing.assert_allclose(found, [0.495, 0.5], rtol=1e-12)


def test_the_limit_that_is_kept_moves_nothing():
    after = [0.1, 0.3, 0.5]
    assert moved([0.9, 0.0, 0.0], after, 0.02, limit=0.1, cost=0.01).tolist() == after


def test_everything_is_sold_where_even_that_costs_more_than_the_limit():
    found = moved([0.0, 1.0], [0.0, 1.0], 0.2, limit=0.01, cost=0.05)
    np.testing.assert_allclose(found, [0.95, 0.0], atol=1e-12)


def test_rows_are_moved_each_by_itself():
    before, after = np.array([[1.0, 0.0]] * 3), np.array([[0.5, 0.5], [0.0, 1.0], [0.9, 0.1]])
    cvar = np.array([0.05, 0.2, 0.01])
    found = towards_cash(before, after, cvar, limit=0.05, cost=0.0)
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.75, 0.25], [0.9, 0.1]], rtol=1e-12)


def test_ratios_are_summed_up():
    ratios = np.array([[0.5, 1.0], [1.009, 1.2], [1.0, 1.02]])
    found = over_limit(ratios)
    assert found["true_cvar_over_limit"] == pytest.approx(5.729 / 6.0)
    assert found["share_over_limit"] == pytest.approx(2.0 / 6.0)
    assert found["true_cvar_over_limit_95"] == pytest.approx(1.02 + 0.75 * 0.18)
