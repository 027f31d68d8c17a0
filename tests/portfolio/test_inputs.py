"""What is given by name, and what is refused in which words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError, InfeasibleProblem, ModelError, SolverError
from sddp.portfolio import CVaRMatched, MeanVariance, Moments, VolatilityDriven
from sddp.portfolio.qp import transaction_cost_qp

MEAN = pd.Series({"gold": 0.010, "stocks": 0.012, "euro": 0.004})
COVARIANCE = pd.DataFrame(
    [[0.0030, 0.0004, 0.0002], [0.0004, 0.0040, 0.0001], [0.0002, 0.0001, 0.0010]],
    index=MEAN.index,
    columns=MEAN.index,
)
HELD = {"gold": 0.2, "euro": 0.3, "cash": 0.5}


def solve(mean=MEAN, covariance=COVARIANCE, *, held=HELD, **options):
    given = {name: options.pop(name) for name in ("cash_return", "outcomes") if name in options}
    model = MeanVariance(**({"risk_aversion": 4.0, "transaction_cost": 0.003} | options))
    return model.solve(Moments(mean, covariance), current_weights=held, **given)


def same(one, other) -> bool:
    return bool(np.array_equal(one.holdings.to_numpy(), other.holdings.to_numpy()))


def test_numbers_mappings_arrays_and_series_say_the_same():
    by_name = {"euro": 0.001, "gold": 0.002, "stocks": 0.004}
    in_order = [0.002, 0.004, 0.001]
    answers = [
        solve(transaction_cost=cost, held=held)
        for cost, held in (
            (by_name, HELD),
            (in_order, [0.2, 0.0, 0.3]),
            (np.array(in_order), pd.Series(HELD)),
            (pd.Series(by_name), {"gold": 0.2, "euro": 0.3}),
        )
    ]
    assert all(same(answers[0], other) for other in answers[1:])
    assert list(answers[0].holdings.index) == ["cash", "gold", "stocks", "euro"]
    assert list(answers[0].trades.index) == ["gold", "stocks", "euro"]


def test_arrays_without_names_get_some():
    result = solve(MEAN.to_numpy(), COVARIANCE.to_numpy(), held=[0.2, 0.0, 0.3])
    assert list(result.trades.index) == ["asset1", "asset2", "asset3"]
    assert same(result, solve())


def test_a_covariance_is_put_into_the_means_order():
    order = ["euro", "gold", "stocks"]
    assert same(solve(covariance=COVARIANCE.loc[order, order]), solve())


def test_a_sale_costs_what_a_purchase_does_unless_said():
    assert same(solve(sale_cost=0.003), solve())
    assert not same(solve(sale_cost=0.0), solve())


def test_bounds_left_out_of_a_mapping_are_those_of_no_short_sales():
    assert same(solve(max_weights={"stocks": 0.2}), solve(max_weights=[1.0, 0.2, 1.0]))
    assert same(solve(min_weights={"euro": 0.1}), solve(min_weights=[0.0, 0.0, 0.1]))


def test_without_cash_its_return_means_nothing():
    results = [solve(max_cash=0.0, cash_return=rate).holdings for rate in (0.0, 0.05)]
    assert results[0]["cash"] == 0.0
    assert results[0].to_numpy() == pytest.approx(results[1].to_numpy(), abs=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transaction_cost": {"gold": 0.1}}, "transaction_cost: .* missing assets"),
        ({"max_weights": {"silver": 0.1}}, r"max_weights: unknown assets \['silver'\]"),
        ({"min_weights": {"cash": 0.1}}, r"min_weights: unknown assets \['cash'\]"),
        ({"min_weights": [0.0, 0.0]}, "min_weights has shape"),
        ({"max_weights": np.inf}, "max_weights = inf: must hold finite numbers"),
        ({"max_weights": 10.0}, "max_weights of 'gold' = 10: must be a share of wealth"),
        ({"transaction_cost": -0.001}, "transaction_cost = -0.001: must be"),
        (
            {"sale_cost": {"gold": 0.0, "stocks": 1.0, "euro": 0.0}},
            "'stocks' = 1: must be",
        ),
        ({"held": {"silver": 0.1}}, r"current_weights: unknown assets \['silver'\]"),
        ({"held": {"gold": 0.1, "cash": 0.8}}, "current_weights sum to 0.9 with cash"),
        ({"held": {"gold": np.nan}}, "current_weights of 'gold' = nan: must be finite"),
        ({"held": [0.1, 0.2]}, "current_weights has shape"),
        ({"risk_aversion": -1.0}, "risk_aversion = -1.0; give a number of at least 0"),
        ({"risk_aversion": np.nan}, "risk_aversion = nan; give a finite number"),
        ({"risk_aversion": "high"}, "risk_aversion = 'high'; give a finite number"),
        ({"min_cash": 0.5, "max_cash": 0.4}, "min_cash = 0.5, max_cash = 0.4"),
        ({"risk_aversion": VolatilityDriven(base=2.0, sensitivity=0.05)}, "needs volatility_index"),
        ({"risk_aversion": CVaRMatched(limit=0.02)}, "needs outcomes; give a pair"),
    ],
)
def test_a_model_that_makes_no_sense_is_rejected(options, words):
    with pytest.raises(ModelError, match=words):
        solve(**options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"mean": MEAN.rename({"gold": "cash"})},
            "label 'cash' at position . names the riskless",
        ),
        (
            {"mean": MEAN.rename({"gold": "euro"})},
            "label 'euro' at position 0 and label",
        ),
        ({"mean": MEAN.iloc[:0]}, "mean is empty"),
        ({"mean": MEAN.replace(0.012, np.nan)}, r"mean\[1\] = nan is not finite"),
        ({"mean": [0.1, 0.2], "covariance": np.eye(3)}, r"covariance has shape \(3, 3\)"),
        ({"mean": MEAN.rename({"gold": "silver"})}, r"unknown \['gold'\], missing \['silver'\]"),
        ({"covariance": COVARIANCE.replace(0.001, np.inf)}, r"covariance\[2, 2\] = inf"),
        ({"cash_return": np.nan}, "cash_return = nan"),
    ],
)
def test_moments_that_do_not_fit_are_rejected(changes, words):
    with pytest.raises(DataError, match=words):
        solve(**changes)


def test_an_asymmetric_covariance_is_named():
    covariance = COVARIANCE.copy()
    covariance.loc["gold", "euro"] = 0.0003
    with pytest.raises(DataError, match=r"'gold' and 'euro' is 0.0003 one way and 0.0002"):
        solve(covariance=covariance)


def test_an_indefinite_covariance_is_named_with_its_eigenvalue():
    covariance = COVARIANCE.to_numpy().copy()
    covariance[0, 1] = covariance[1, 0] = 0.005
    least = np.linalg.eigvalsh(covariance)[0]
    assert least < -1e-3
    with pytest.raises(DataError, match=f"covariance has the eigenvalue {least:g}: .*LedoitWolf"):
        solve(covariance=pd.DataFrame(covariance, MEAN.index, MEAN.index))


def test_rounding_below_zero_is_no_indefinite_covariance():
    rows = np.random.default_rng(2).normal(size=(3, 3)) * 0.02
    rows[:, 2] = rows[:, 0] + rows[:, 1]
    solve(covariance=pd.DataFrame(np.cov(rows.T), MEAN.index, MEAN.index))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"min_weights": {"euro": 0.5}, "max_weights": {"euro": 0.4}},
            "min_weights of 'euro' is 0.5, 0.1 above its max_weights 0.4",
        ),
        (
            {"min_weights": 0.4, "self_financing": False},
            "min_weights, -0.2 of wealth is left as cash, costs paid: 0.2 less than min_cash = 0",
        ),
        # 0.1 + 0.1 + 0.2 bought at 1 % on top of 0.5 held: 0.1 left, less 0.004.
        (
            {"min_weights": {"gold": 0.3, "stocks": 0.2, "euro": 0.4}, "min_cash": 0.1}
            | {"transaction_cost": 0.01},
            "0.096 of wealth is left as cash, costs paid: 0.004 less than min_cash = 0.1",
        ),
        (
            {"max_weights": 0.3, "max_cash": 0.0, "self_financing": False},
            "max_weights, 0.1 of wealth is left as cash: 0.1 more than max_cash = 0",
        ),
    ],
)
def test_bounds_that_nothing_keeps_are_named_with_the_amount(options, words):
    with pytest.raises(InfeasibleProblem, match=words):
        solve(**options)


def test_bounds_that_just_one_portfolio_keeps_are_kept():
    result = solve(
        min_weights={"gold": 0.3, "stocks": 0.2, "euro": 0.4}, min_cash=0.096, transaction_cost=0.01
    )
    assert result.holdings.to_numpy() == pytest.approx([0.096, 0.3, 0.2, 0.4], abs=1e-12)


def test_where_wasting_wealth_would_pay_it_is_said():
    """Enormous aversion and no cash: less wealth is less variance. The text-book form stands."""
    options = {"risk_aversion": 2000.0, "max_cash": 0.0, "held": [0.4, 0.3, 0.3]}
    with pytest.raises(ModelError, match=r"wasting money on costs would pay .*self_financing=F"):
        solve(**options)
    solve(**options, self_financing=False)
    solve(**options, transaction_cost=0.0)


def test_an_answer_that_misses_the_conditions_is_not_handed_out(monkeypatch):
    """Neither solver gets anywhere: the check after them is what stands between."""

    def stuck(qp, tolerance):
        return np.zeros(len(qp.gradient)), np.zeros(len(qp.rows)), "STUCK", 1

    monkeypatch.setattr(transaction_cost_qp, "_interior_point", stuck)
    monkeypatch.setattr(transaction_cost_qp, "polish", lambda *_: iter(()))
    with pytest.raises(SolverError, match=r"risk_aversion = 4 misses .* by .* \(PIQP: STUCK\)"):
        solve()


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (np.zeros((5, 2)), "returns of outcomes has 2 columns; there are 3 assets"),
        (np.full((5, 3), np.nan), "returns of outcomes holds nan"),
        (pd.DataFrame(np.zeros((5, 3)), columns=["gold", "euro", "silver"]), r"unknown \['silver'"),
    ],
)
def test_outcomes_of_other_assets_are_rejected(returns, words):
    with pytest.raises(DataError, match=words):
        solve(risk_aversion=CVaRMatched(limit=0.02), outcomes=(returns, None))


def test_outcomes_are_put_into_the_means_order():
    returns = np.random.default_rng(4).normal(0.005, 0.03, (200, 3))
    table = pd.DataFrame(returns, columns=MEAN.index)
    answers = [
        solve(risk_aversion=CVaRMatched(limit=0.02), outcomes=(law, None))
        for law in (returns, table, table[["euro", "stocks", "gold"]])
    ]
    assert all(same(answers[0], other) for other in answers[1:])


def test_a_covariance_in_single_precision_is_symmetric_up_to_its_rounding():
    covariance = np.array([[0.04, 0.0186], [0.0186, 0.09]], dtype=np.float32)
    covariance[0, 1] = np.nextafter(covariance[0, 1], np.float32(1.0))
    model = MeanVariance(risk_aversion=2.0)
    given, mended = (
        model.solve(Moments([0.03, 0.04], c), current_weights=[0.0, 0.0]).holdings
        for c in (covariance, (covariance + covariance.T).astype(float) / 2.0)
    )
    np.testing.assert_allclose(given, mended, atol=1e-6)
    with pytest.raises(DataError, match=r"covariance of 'asset1' and 'asset2' is .*give a symm"):
        model.solve(Moments([0.03, 0.04], covariance.astype(float)), current_weights=[0.0, 0.0])
