"""What holds for every one-period problem, on problems nobody chose."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.portfolio.oracles import kkt_errors
from tests.portfolio.problems import answer, random_numbers, risky

problems = st.builds(
    random_numbers,
    st.integers(0, 10_000),
    st.integers(1, 15),
    cash=st.booleans(),
    self_financing=st.booleans(),
)


@given(problems, st.sampled_from([0.0, 1e-6, 1.0, 30.0]))
@settings(max_examples=60, deadline=None)
def test_conditions_for_an_optimum_hold(numbers, risk_aversion):
    numbers = numbers.with_(risk_aversion=risk_aversion)
    result = answer(numbers)
    errors = kkt_errors(numbers, risky(result), result.holdings["cash"], result.duals)
    assert max(errors.values()) < 1e-8, errors


@given(st.integers(0, 10_000), st.integers(1, 15), st.booleans(), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_no_other_portfolio_is_better(seed, n, self_financing, draw):
    """Random ones with 5 % in cash, which pays for any trade at 2 %, and mixtures with them."""
    numbers = random_numbers(seed, n, self_financing=self_financing)
    result, rng = answer(numbers), np.random.default_rng(draw)
    for share in (1e-6, 1e-3, 0.1, 1.0):
        far = np.minimum(0.95 * rng.dirichlet(np.full(n, 0.5)), numbers.upper)
        other = risky(result) + share * (far - risky(result))
        paid = numbers.cost(other) if self_financing else 0.0
        cash = 1.0 - other.sum() - paid
        assert cash >= -1e-12
        assert numbers.value(other, cash) <= result.objective + 1e-14


@given(problems)
@settings(max_examples=30, deadline=None)
def test_what_is_optimal_is_kept(numbers):
    """In the text-book form, from the answer there is nothing to trade."""
    numbers = numbers.with_(self_financing=False)
    first = answer(numbers)
    again = answer(numbers.with_(current=risky(first)))
    assert np.abs(again.trades).max() < 1e-9
    assert again.objective >= first.objective - 1e-15


@given(problems, st.floats(1.01, 4.0))
@settings(max_examples=30, deadline=None)
def test_more_aversion_never_takes_more_variance(numbers, factor):
    bold, shy = (
        answer(numbers.with_(risk_aversion=numbers.risk_aversion * f)) for f in (1.0, factor)
    )
    assert shy.variance <= bold.variance + 1e-14
    assert shy.expected_return <= bold.expected_return + 1e-14


@given(problems, st.floats(1.01, 4.0))
@settings(max_examples=30, deadline=None)
def test_dearer_trading_is_never_better(numbers, factor):
    dear = numbers.with_(buy=numbers.buy * factor, sell=numbers.sell * factor)
    assert answer(dear).objective <= answer(numbers).objective + 1e-14


@given(problems, st.randoms())
@settings(max_examples=30, deadline=None)
def test_the_order_of_assets_does_not_matter(numbers, random):
    order = list(range(len(numbers.mean)))
    random.shuffle(order)
    vectors = ("mean", "current", "buy", "sell", "lower", "upper")
    changes = {name: getattr(numbers, name)[order] for name in vectors}
    other = numbers.with_(covariance=numbers.covariance[np.ix_(order, order)], **changes)
    np.testing.assert_allclose(risky(answer(other)), risky(answer(numbers))[order], atol=1e-9)
