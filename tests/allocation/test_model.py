"""The model's parameters, the warning about recourse, first cuts and tail rows.

Oracles: the stated ranges, `oracles.growth_without_costs` (a recursion of scipy LPs), the exact
values of trees by `oracles.solve_tree`, CVaR by Rockafellar and Uryasev's LP.
"""

from __future__ import annotations

import warnings
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.model import AllocationModel
from sddp.errors import ModelError, RecourseWarning
from tests.allocation.oracles import (
    cvar_by_lp,
    growth_without_costs,
    outcomes,
    solve_tree,
)
from tests.allocation.problems import TINY, TINY2, Case, random_case, varying_case

NAN, INF = float("nan"), float("inf")
ASSETS = replace(random_case(0), names={"asset_names": ("gold", "stocks")}).scenarios


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"cvar_confidence": 0.0}, r"cvar_confidence = 0\.0; give a number between 0 and 1"),
        ({"cvar_confidence": 1.0}, r"cvar_confidence = 1\.0; give"),
        ({"cvar_confidence": 95}, r"cvar_confidence = 95; give"),
        ({"cvar_confidence": NAN}, r"cvar_confidence = nan; give"),
        (
            {"cvar_limit": -0.01},
            r"cvar_limit = -0\.01: must be a fraction of wealth",
        ),
        ({"cvar_limit": NAN}, r"cvar_limit = nan: must be"),
        ({"cvar_limit": INF}, r"cvar_limit = inf: must be"),
        ({"cvar_limit": 5}, r"cvar_limit = 5: must be a fraction .*; give 0\.05 for 5 %"),
        ({"cvar_limit": 0.1, "cvar_penalty": 0.0}, r"cvar_penalty = 0\.0; give a positive"),
        ({"cvar_limit": 0.1, "cvar_penalty": -1.0}, r"cvar_penalty = -1\.0; give a positive"),
        ({"cvar_limit": 0.1, "cvar_penalty": NAN}, r"cvar_penalty = nan; give a positive"),
        ({"cvar_limit": 0.1, "cvar_penalty": INF}, r"cvar_penalty = inf; give a positive"),
        ({"cvar_penalty": 1.0}, r"cvar_penalty is given but cvar_limit is None; give both"),
        ({"terminal_value": "sold"}, r"terminal_value = 'sold'; give 'marked' or 'liquidated'"),
        (
            {"transaction_cost": -0.01},
            r"^transaction_cost = -0\.01: must be at least 0",
        ),
        ({"transaction_cost": 1.0}, r"^transaction_cost = 1: must be at least"),
        ({"transaction_cost": [0.0, 0.5, 0.0]}, r"transaction_cost has shape \(3,\); .* 2 of them"),
        ({"transaction_cost": [0.0, NAN]}, r"^transaction_cost\[1\] = nan: must be"),
        ({"transaction_cost": [0.0, 2.0]}, r"^transaction_cost\[1\] = 2: must be"),
        ({"sale_cost": [0.0, -0.1]}, r"^sale_cost\[1\] = -0\.1: must be at least 0"),
        ({"sale_cost": {"gold": -0.1}}, r"^sale_cost of 'gold' = -0\.1: must be at least 0"),
        ({"sale_cost": pd.Series({"a": -0.1})}, r"^sale_cost of 'a' = -0\.1: must be at least 0"),
        ({"sale_cost": "free"}, r"^sale_cost='free': must hold numbers"),
        (
            {"transaction_cost": {"gold": 0.1, "silver": 0.1}},
            r"transaction_cost: unknown assets \['silver'\], missing assets \['stocks'\]",
        ),
        ({"sale_cost": {"gold": 0.1}}, r"sale_cost: unknown assets \[\], missing assets \['sto"),
        ({"weight_limit": {"cash": 1.0}}, r"weight_limit: unknown assets \['cash'\]"),
        (
            {"weight_limit": [0.5, -0.5]},
            r"^weight_limit\[1\] = -0\.5: must be a share",
        ),
        ({"weight_limit": NAN}, r"^weight_limit = nan: must be a share"),
        ({"weight_limit": 20}, r"^weight_limit = 20: must be a share .* give 0\.2 for 20 %"),
        ({"cash_return": [0.01, 0.01]}, r"cash_return has shape \(2,\); .* 3 of them"),
        ({"cash_return": -1.0}, r"^cash_return = -1: must be a decimal return above -1"),
        ({"cash_return": INF}, r"^cash_return = inf: must be"),
        ({"cash_return": [0.0, 5, 0.0]}, r"^cash_return\[1\] = 5: must be .* at most 1"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_a_parameter_out_of_range_is_rejected_with_words(parameters, words):
    with pytest.raises(ModelError, match=words):
        AllocationModel(**parameters).on(ASSETS)
    AllocationModel().on(ASSETS)  # and the next call works


@pytest.mark.parametrize(
    ("given", "spread"),
    [
        (0.004, [0.004, 0.004]),
        (0, [0.0, 0.0]),
        ([0.001, 0.002], [0.001, 0.002]),
        ((0.001, 0.002), [0.001, 0.002]),
        (np.array([0.001, 0.002]), [0.001, 0.002]),
        ({"stocks": 0.002, "gold": 0.001}, [0.001, 0.002]),
        (pd.Series({"stocks": 0.002, "gold": 0.001}), [0.001, 0.002]),
    ],
    ids=["number", "integer", "list", "tuple", "array", "mapping in another order", "series"],
)
def test_numbers_per_asset_may_be_given_in_three_ways(given, spread):
    terms = AllocationModel(transaction_cost=given, sale_cost=given, weight_limit=given).on(ASSETS)
    for found in (terms.purchase_cost, terms.sale_cost, terms.weight_limit):
        np.testing.assert_array_equal(found, spread)
    defaults = AllocationModel(transaction_cost=given).on(ASSETS)
    np.testing.assert_array_equal(defaults.sale_cost, spread)
    assert defaults.weight_limit is None
    assert defaults.cash_return.tolist() == [0.0] * 3


def test_ways_of_giving_numbers_per_asset_are_one_problem():
    case = replace(
        random_case(0, cost=(0.001, 0.006), caps=(0.5, 0.3)),
        names={"asset_names": ("gold", "stocks")},
    )
    by_name = replace(
        case, cost={"stocks": 0.006, "gold": 0.001}, caps={"stocks": 0.3, "gold": 0.5}
    )
    assert by_name.exact() == case.exact() == pytest.approx(solve_tree(case).value, abs=1e-9)


def test_a_model_is_frozen_and_varied_by_replace():
    model = AllocationModel(cvar_limit=0.05)
    with pytest.raises(FrozenInstanceError):
        model.cvar_limit = 0.02
    assert replace(model, cvar_limit=0.02).cvar_limit == 0.02
    with pytest.raises(ModelError, match="cvar_limit"):
        replace(model, cvar_limit=-1.0)


# --- recourse ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sale_cost", "cash_return", "needed"),
    [
        (0.01, 0.0, 0.01),
        ((0.002, 0.008), 0.0, 0.008),
        (0.01, 0.004, 0.01 * 1.004 - 0.004),
        (0.01, (0.004, 0.0, 0.002), 0.01),  # the stage with the least interest decides
        (0.01, (0.004, -0.003, 0.002), 0.01 * 0.997 + 0.003),
        (0.0, -0.002, 0.002),
    ],
)
def test_the_warning_comes_exactly_below_what_selling_out_costs(sale_cost, cash_return, needed):
    """Needed: the largest of ``tau_sell (1 + r_f) - r_f`` over assets and stages."""
    case = random_case(0, cost=0.05, sale_cost=sale_cost, cash_return=cash_return)
    words = rf"cvar_limit = .* is below {needed:g}, what selling out can cost"
    with pytest.warns(RecourseWarning, match=words):
        replace(case, limit=needed - 1e-6).problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(case, limit=needed + 1e-12).problem()
        replace(case, limit=None).problem()
        replace(case, limit=0.0, penalty=1.0).problem()  # soft: always feasible


def test_the_warning_is_not_given_where_no_cost_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        random_case(0, cost=0.0, limit=0.0).problem()


def test_training_gives_the_warning_too():
    case = replace(TINY2, holdings=[1.0, 0.0, 0.0], limit=0.008)
    with pytest.warns(RecourseWarning, match="InfeasibleState"):
        case.train()


# --- the bound known before training -------------------------------------------------------------

GROWTH = {
    "tiny": TINY,
    "tiny2": TINY2,
    "random": random_case(0),
    "varying": varying_case(1),
    "caps": varying_case(5, caps=(0.2, 0.5), limit=0.05),
    "soft": varying_case(0, penalty=0.3),
    "no limit": varying_case(4, limit=None),
    "liquidated": random_case(5, terminal_value="liquidated"),
    "unreachable": random_case(2, K=3, transition=[[1.0, 0, 0], [0, 0.5, 0.5], [0.3, 0.7, 0]]),
    "smallest": Case([[[0.02]]], [[1.0]], 1, [1.0, 0.0]),
}


@pytest.mark.parametrize("name", GROWTH)
def test_cost_free_growth_is_the_recursion_of_one_period_problems(name):
    case = GROWTH[name]
    found, exact = case.problem().growth, growth_without_costs(case)
    assert found.shape == (case.n_stages + 1, case.n_states)
    np.testing.assert_allclose(found, exact, rtol=1e-9)


@pytest.mark.parametrize("name", GROWTH)
def test_cost_free_growth_bounds_every_value_from_above(name):
    case = GROWTH[name]
    growth = case.problem().growth
    rng = np.random.default_rng(0)
    for stage in range(case.n_stages):
        for regime in range(case.n_states):
            amounts = rng.dirichlet(np.ones(case.n_assets + 1))
            exact = solve_tree(
                case, stage=stage, belief=np.eye(case.n_states)[regime], holdings=amounts
            )
            assert exact.value <= growth[stage, regime] + 1e-9


@pytest.mark.parametrize("seed", [0, 1])
def test_cost_free_growth_is_exact_where_trading_is_free(seed):
    case = varying_case(seed, cost=0.0)
    assert case.problem().growth[0, case.regime] == pytest.approx(solve_tree(case).value, rel=1e-9)
    first = case.train().log["bound"].iloc[0]
    assert first == pytest.approx(solve_tree(case).value, rel=1e-9)


def test_cost_free_growth_is_finite_where_cash_alone_breaks_the_limit():
    """Cash loses 2 % for sure and 1 % is allowed: no decision exists, and growth says nothing."""
    case = random_case(0, cash_return=-0.02, limit=0.01, returns=np.full((2, 3, 2), -0.05))
    with pytest.warns(RecourseWarning):
        growth = case.problem().growth
    assert np.isfinite(growth).all()


# --- tail rows -----------------------------------------------------------------------------------

TAILS = {
    "tiny2": TINY2,
    "varying": varying_case(3, N=3, cost=(0.002, 0.004, 0.006), sale_cost=0.01),
    "soft": varying_case(0, penalty=0.3),
}


def _decisions(case, n, seed):
    """Random values of a tail row's variables: after, bought, sold, before, breach.

    They need not balance: the row is about the loss of any holdings and any trades.
    """
    rng, size = np.random.default_rng(seed), case.n_assets
    for _ in range(n):
        after, before = rng.dirichlet(np.ones(size + 1)), rng.dirichlet(np.ones(size + 1))
        trades = rng.uniform(0.0, 0.3, 2 * size)
        yield np.concatenate([after, trades, before, [rng.uniform(0.0, 0.001)]])


def _excess(case, stage, regime, values):
    """CVaR of the loss of a decision, less limit times wealth and the breach."""
    n = case.n_assets
    after, bought, sold, before, breach = np.split(values, np.cumsum([n + 1, n, n, n + 1]))
    _, weights, returns = outcomes(case, stage, np.eye(case.n_states)[regime])
    cost = bought @ case.purchase + sold @ case.sale
    losses = cost - returns @ after[1:] - case.cash[stage] * after[0]
    return cvar_by_lp(losses, weights, case.confidence) - case.limit * before.sum() - breach[0]


def _tail_rows(case, stage, regime):
    return case.problem().engine.stages[(stage, regime)].rows


@pytest.mark.parametrize("name", TAILS)
def test_a_tail_row_is_tight_where_it_was_made_and_valid_everywhere(name):
    case, made = TAILS[name], 0
    for stage, regime in ((0, 0), (0, 1), (case.n_stages - 1, 0)):
        rows = _tail_rows(case, stage, regime)
        others = list(_decisions(case, 8, seed=1))
        excesses = [_excess(case, stage, regime, values) for values in others]
        for values in _decisions(case, 8, seed=2):
            row, upper = rows.violated(values, 1e-9)
            excess = _excess(case, stage, regime, values)
            assert len(upper) == (1 if excess > 1e-9 else 0)
            if len(upper) == 0:
                continue
            made += 1
            assert row[0] @ values - upper[0] == pytest.approx(excess, abs=1e-12)
            found = [row[0] @ other - upper[0] for other in others]
            assert (np.array(found) <= np.array(excesses) + 1e-12).all()
    assert made >= 4


def test_a_tail_row_is_made_only_beyond_the_tolerance():
    case = TINY2
    rows = _tail_rows(case, 0, 1)
    values = next(v for v in _decisions(case, 20, seed=3) if _excess(case, 0, 1, v) > 0.01)
    excess = _excess(case, 0, 1, values)  # at wealth 1
    assert len(rows.violated(values, excess - 1e-9)[1]) == 1
    assert len(rows.violated(values, excess + 1e-9)[1]) == 0
    # The tolerance is relative to wealth.
    assert len(rows.violated(1e3 * values, excess - 1e-9)[1]) == 1
    assert len(rows.violated(1e3 * values, excess + 1e-9)[1]) == 0


def test_tail_rows_of_different_limits_have_different_digests():
    case = varying_case(0)
    variants = [
        case,
        replace(case, limit=0.021),
        replace(case, confidence=0.81),
        replace(case, cost=0.0041),
        replace(case, sale_cost=0.0041),
        replace(case, cash_return=0.002),
        replace(case, returns=varying_case(1).returns),
        replace(case, probabilities=varying_case(1).probabilities),
        replace(case, transition=varying_case(1).transition),
    ]
    digests = [_tail_rows(variant, 0, 0).digest() for variant in variants]
    assert len(set(digests)) == len(variants)
    assert _tail_rows(case, 0, 0).digest() == digests[0]
