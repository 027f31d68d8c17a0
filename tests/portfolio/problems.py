"""Random one-period problems, and the package's answer to one."""

from __future__ import annotations

import numpy as np

from sddp.portfolio import MeanVariance, Moments, PortfolioResult
from tests.portfolio.oracles import Numbers


def random_numbers(seed: int, n: int, *, cash: bool = True, self_financing: bool = True) -> Numbers:
    """Monthly units: a common factor and own noise, costs of 0 to 2 %, drifted weights."""
    rng = np.random.default_rng(seed)
    history = rng.normal(size=(3 * n + 10, 1)) * 0.03
    history = history + rng.normal(size=(3 * n + 10, n)) * rng.uniform(0.01, 0.06, n)
    current = rng.dirichlet(np.full(n + 1, 0.5))
    current = current[1:] if cash else current[1:] / current[1:].sum()
    current[rng.random(n) < 0.2] = 0.0
    return Numbers(
        mean=rng.normal(0.006, 0.008, n),
        covariance=np.cov(history.T).reshape(n, n),
        risk_aversion=float(rng.choice([0.5, 2.0, 5.0, 20.0])),
        current=current,
        buy=rng.choice([0.0, 0.001, 0.005, 0.02], n),
        sell=rng.choice([0.0, 0.001, 0.005, 0.02], n),
        lower=np.where(rng.random(n) < 0.2, -0.1, 0.0),
        upper=np.full(n, max(rng.choice([1.0, 0.3]), 2.0 / n)),
        cash_return=0.002,
        cash_lower=0.0,
        cash_upper=1.0 if cash else 0.0,
        self_financing=self_financing,
    )


def model_of(numbers: Numbers, **changes) -> MeanVariance:
    settings = {
        "risk_aversion": numbers.risk_aversion,
        "transaction_cost": numbers.buy,
        "sale_cost": numbers.sell,
        "min_weights": numbers.lower,
        "max_weights": numbers.upper,
        "min_cash": numbers.cash_lower,
        "max_cash": numbers.cash_upper,
        "self_financing": numbers.self_financing,
    }
    return MeanVariance(**(settings | changes))


def answer(numbers: Numbers, **changes) -> PortfolioResult:
    return model_of(numbers, **changes).solve(
        Moments(numbers.mean, numbers.covariance),
        current_weights=numbers.current,
        cash_return=numbers.cash_return,
    )


def risky(result: PortfolioResult) -> np.ndarray:
    return result.holdings.iloc[1:].to_numpy()
