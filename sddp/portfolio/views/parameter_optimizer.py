"""`ParameterOptimizer`: parameters of Black-Litterman, chosen out of sample inside a window."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.portfolio.moments import MomentEstimator, Moments, Outcomes, SampleMoments
from sddp.portfolio.optimizers.black_litterman import BlackLitterman
from sddp.portfolio.optimizers.mean_variance import MeanVariance
from sddp.portfolio.views.posterior import MarketImplied
from sddp.portfolio.views.view import InvestorView

# Rows without dates: views are issued and held on this one.
NO_DATE = datetime.date(1970, 1, 1)


class _Fold(NamedTuple):
    """What is known before a block of rows, and the block."""

    moments: Moments
    views: Sequence[InvestorView]
    later: Floats


@dataclass(frozen=True, kw_only=True)
class ParameterOptimizer:
    """Chooses tau, the prior's risk aversion, blending, and the optimizer's risk aversion.

    The window is cut in blocks: moments and views are made from the rows before a block and judged
    on its rows. Tau, the prior's risk aversion and blending are those of the greatest mean
    log-likelihood of these rows under the normal law with the posterior's moments. Then, where the
    model's optimizer is a `MeanVariance` at a given risk aversion, its risk aversion is that of the
    greatest mean utility of the portfolios held through the blocks, net of the cost of getting
    there from market weights: ``mean - a / 2 variance`` of their returns, where ``a`` is the
    model's own risk aversion. Nothing beyond the window is read. Views come from the model's
    generator: views held today were not known then.

    Parameters
    ----------
    taus, prior_risk_aversions, blendings, risk_aversions : sequence of float
        What is tried.
    estimator : MomentEstimator
        Of the moments before each block.
    first : float
        Share of the window before the first block.
    n_blocks : int

    Raises
    ------
    ModelError
        A sequence is empty, or a number is out of range.
    """

    taus: Sequence[float] = (0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
    prior_risk_aversions: Sequence[float] = (1.0, 2.5, 5.0)
    blendings: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    risk_aversions: Sequence[float] = (1.0, 2.5, 5.0, 10.0, 20.0)
    estimator: MomentEstimator = field(default_factory=SampleMoments)
    first: float = 0.5
    n_blocks: int = 4

    def __post_init__(self) -> None:
        for name in ("taus", "prior_risk_aversions", "blendings", "risk_aversions"):
            values = tuple(getattr(self, name))
            if not values or not all(math.isfinite(v) and v >= 0.0 for v in values):
                raise ModelError(f"{name}={values}: must be finite numbers of at least 0")
            object.__setattr__(self, name, values)
        if not 0.0 < self.first < 1.0 or self.n_blocks < 1:
            raise ModelError(
                f"first={self.first}, n_blocks={self.n_blocks}: must be between 0 and 1, and at "
                "least 1"
            )

    def choose(
        self, model: BlackLitterman, returns: pd.DataFrame, *, cash_return: float = 0.0
    ) -> BlackLitterman:
        """The model with its parameters chosen.

        Parameters
        ----------
        model : BlackLitterman
            With a generator of views.
        returns : DataFrame, shape (n_rows, n_assets)
            The window, oldest first.
        cash_return : float
            Per period.

        Raises
        ------
        DataError
            The window is too short for the blocks, or for the generator.
        ModelError
            The model has no generator.
        """
        folds = list(self._folds(model, returns))
        table = self.likelihoods(model, folds, cash_return)
        tau, prior, blending = table.index[int(table.to_numpy().argmax())]
        chosen = _with(model, tau, prior, blending)
        inner = chosen.inner
        if isinstance(inner, MeanVariance) and isinstance(inner.risk_aversion, float | int):
            own = float(inner.risk_aversion)
            utilities = [
                _utility(chosen, replace(inner, risk_aversion=a), folds, own, cash_return)
                for a in self.risk_aversions
            ]
            best = self.risk_aversions[int(np.argmax(utilities))]
            chosen = replace(chosen, optimizer=replace(inner, risk_aversion=best))
        return replace(chosen, parameters=None)

    def likelihoods(
        self, model: BlackLitterman, folds: Sequence[_Fold], cash_return: float
    ) -> pd.Series[float]:
        """Mean log-likelihood a row by tau, the prior's risk aversion and blending."""
        tried = list(product(self.taus, self.prior_risk_aversions, self.blendings))
        values = []
        for parameters in tried:
            processor = _with(model, *parameters).processor
            total = sum(
                _log_likelihood(
                    processor.process(
                        fold.views, model.market_weights, fold.moments, cash_return=cash_return
                    ).moments,
                    fold.later,
                )
                for fold in folds
            )
            values.append(total / sum(len(fold.later) for fold in folds))
        names = ["tau", "prior_risk_aversion", "blending"]
        return pd.Series(values, index=pd.MultiIndex.from_tuples(tried, names=names))

    def _folds(self, model: BlackLitterman, returns: pd.DataFrame) -> Iterator[_Fold]:
        if model.generator is None:
            raise ModelError(
                "generator=None: parameters are chosen with views as they were known in the "
                "window; give a ViewGenerator"
            )
        n = len(returns)
        edges = np.linspace(int(self.first * n), n, self.n_blocks + 1).astype(int)
        if edges[0] < 2 or (np.diff(edges) < 1).any():
            raise DataError(f"returns has {n} rows; too few for {self.n_blocks} blocks")
        for start, stop in pairwise(edges):
            before = returns.iloc[:start]
            last = before.index[-1]
            as_of = last.date() if isinstance(last, pd.Timestamp) else NO_DATE
            yield _Fold(
                self.estimator.estimate(before),
                model.generator.generate(Outcomes(before), as_of),
                returns.to_numpy(dtype=float)[start:stop],
            )


def _with(model: BlackLitterman, tau: float, prior: float, blending: float) -> BlackLitterman:
    """The model with other parameters; its optimizer keeps the risk aversion it has."""
    processor = replace(
        model.processor, tau=tau, prior=MarketImplied(risk_aversion=prior), blending=blending
    )
    return replace(model, processor=processor, optimizer=model.inner)


def _log_likelihood(moments: Moments, rows: Floats) -> float:
    """Sum over rows of the log density of the normal law.

    Raises
    ------
    DataError
        The covariance is singular.
    """
    covariance = moments.covariance.to_numpy(dtype=float)
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise DataError(
            "covariance is singular: a row has no density; give an estimator that shrinks, such as "
            "LedoitWolfMoments"
        ) from None
    mean = moments.mean.to_numpy(dtype=float)
    standard = np.linalg.solve(factor, (rows - mean).T)
    log_determinant = 2.0 * float(np.log(factor.diagonal()).sum())
    constant = len(mean) * math.log(2.0 * math.pi) + log_determinant
    return -0.5 * (float((standard**2).sum()) + len(rows) * constant)


def _utility(
    model: BlackLitterman,
    optimizer: MeanVariance,
    folds: Sequence[_Fold],
    risk_aversion: float,
    cash_return: float,
) -> float:
    """Mean over blocks of the utility of what is held through each."""
    values = []
    for fold in folds:
        names = list(fold.moments.mean.index)
        market = np.array([float(model.market_weights[name]) for name in names])
        found = model.processor.process(
            fold.views, model.market_weights, fold.moments, cash_return=cash_return
        )
        result = optimizer.solve(
            found.moments, current_weights=market / market.sum(), cash_return=cash_return
        )
        held = np.asarray(result.holdings, dtype=float)
        earned = fold.later @ held[1:] + cash_return * held[0]
        spread = float(earned.var())
        cost = result.cost / len(fold.later)
        values.append(float(earned.mean()) - cost - 0.5 * risk_aversion * spread)
    return float(np.mean(values))
