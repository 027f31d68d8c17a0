"""`BlackLitterman`: an optimizer on the posterior of market-implied returns and views."""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.labels import ByLabel
from sddp.portfolio.inputs import Weights
from sddp.portfolio.moments import Moments, Outcomes
from sddp.portfolio.optimizer import NOTHING_MORE, Kernel, Known, Optimizer
from sddp.portfolio.optimizers.mean_variance import MeanVariance
from sddp.portfolio.result import PortfolioResult, Solved
from sddp.portfolio.views.generators import ViewGenerator
from sddp.portfolio.views.posterior import BlackLittermanProcessor, Posterior
from sddp.portfolio.views.view import InvestorView


class ParameterChoice(Protocol):
    """Chooses parameters of a model from a window of returns; see `ParameterOptimizer`."""

    def choose(
        self, model: BlackLitterman, returns: pd.DataFrame, *, cash_return: float = 0.0
    ) -> BlackLitterman:
        """The model with its parameters chosen."""
        ...


@dataclass(frozen=True, kw_only=True)
class BlackLitterman:
    """Posterior moments into an optimizer: views and market weights in, portfolio out.

    Parameters
    ----------
    market_weights : mapping or Series by asset
        Of all assets.
    views : sequence of InvestorView
        Held at each call.
    generator : ViewGenerator, optional
        Makes further views from the outcomes of the period.
    processor : BlackLittermanProcessor
    optimizer : Optimizer
        Of the portfolio, its costs, bounds and constraints; by default the mean-variance one at
        the prior's risk aversion.
    parameters : ParameterOptimizer, optional
        Chooses tau, risk aversion and blending at each call, from the outcomes of the period:
        the window of a `WindowForecaster`.

    Raises
    ------
    ModelError
        A parameter is of another kind.
    """

    market_weights: ByLabel
    views: Sequence[InvestorView] = ()
    generator: ViewGenerator | None = None
    processor: BlackLittermanProcessor = field(default_factory=BlackLittermanProcessor)
    optimizer: Optimizer | None = None
    parameters: ParameterChoice | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(view, InvestorView) for view in self.views):
            raise ModelError(f"views={self.views!r}: must be InvestorViews")
        if isinstance(self.market_weights, pd.Series):
            object.__setattr__(self, "market_weights", dict(self.market_weights.items()))
        object.__setattr__(self, "views", tuple(self.views))

    @property
    def inner(self) -> Optimizer:
        """The optimizer on the posterior."""
        if self.optimizer is not None:
            return self.optimizer
        return MeanVariance(risk_aversion=self.processor.prior.risk_aversion)

    def posterior(
        self,
        inputs: Moments,
        *,
        cash_return: float = 0.0,
        outcomes: Outcomes | None = None,
        as_of: datetime.date | str | None = None,
    ) -> Posterior:
        """Posterior moments under the views held.

        Raises
        ------
        DataError, ModelError
            See `BlackLittermanProcessor.process`; a generator without outcomes.
        """
        views = list(self.views)
        if self.generator is not None:
            if outcomes is None or as_of is None:
                raise ModelError("generator: needs outcomes and as_of; give both")
            views += self.generator.generate(outcomes, pd.Timestamp(as_of).date())
        return self.processor.process(
            views, self.market_weights, inputs, cash_return=cash_return, as_of=as_of
        )

    def solve(
        self,
        inputs: Moments,
        *,
        current_weights: Weights,
        cash_return: float = 0.0,
        volatility_index: float | None = None,
        outcomes: Outcomes | None = None,
        as_of: datetime.date | str | None = None,
    ) -> PortfolioResult:
        """Optimal holdings on the posterior; see `Optimizer.solve` for what is not named here.

        Parameters
        ----------
        as_of : date, optional
            On which the views must be held.
        """
        if self.parameters is not None:
            if outcomes is None or not isinstance(outcomes.returns, pd.DataFrame):
                raise ModelError("parameters: needs outcomes as a DataFrame, oldest first; give it")
            chosen = self.parameters.choose(self, outcomes.returns, cash_return=cash_return)
            return chosen.solve(
                inputs,
                current_weights=current_weights,
                cash_return=cash_return,
                volatility_index=volatility_index,
                outcomes=outcomes,
                as_of=as_of,
            )
        found = self.posterior(inputs, cash_return=cash_return, outcomes=outcomes, as_of=as_of)
        return self.inner.solve(
            found.moments,
            current_weights=current_weights,
            cash_return=cash_return,
            volatility_index=volatility_index,
            outcomes=outcomes,
        )

    def restricted(
        self, tradable: Sequence[Hashable], assets: Sequence[Hashable]
    ) -> BlackLitterman:
        """The same with nothing held of the other assets."""
        return replace(self, optimizer=self.inner.restricted(tradable, assets))

    def prepare(self, assets: Sequence[Hashable]) -> BlackLittermanKernel:
        """See `Optimizer.prepare`; the views are those of `views`, dates are not asked for."""
        return BlackLittermanKernel(self, assets)

    def explain(
        self,
        inputs: Moments,
        *,
        current_weights: Weights,
        cash_return: float = 0.0,
        outcomes: Outcomes | None = None,
        as_of: datetime.date | str | None = None,
    ) -> pd.DataFrame:
        """What each view says and does.

        Returns
        -------
        DataFrame, one row per view
            ``prior``, ``view`` and ``posterior``: return of the view's combination of assets per
            period, of total returns; ``standard_error`` of the view; then, by asset and cash, the
            change of weights that the view makes: with all views, less with this one left out.
        """
        known: dict[str, Any] = {"cash_return": cash_return}
        found = self.posterior(inputs, outcomes=outcomes, as_of=as_of, **known)
        inner, rows = self.inner, []
        given: dict[str, Any] = {"current_weights": current_weights, "outcomes": outcomes, **known}
        everything = inner.solve(found.moments, **given).weights
        for k in range(len(found.views)):
            others = [other for j, other in enumerate(found.views) if j != k]
            less = self.processor.process(others, self.market_weights, inputs, **known)
            change = everything - inner.solve(less.moments, **given).weights
            cash = cash_return * float(found.rows[k].sum())
            rows.append(
                {
                    "prior": float(found.rows[k] @ found.prior_mean),
                    "view": float(found.stated[k]) + cash,
                    "posterior": float(found.rows[k] @ found.moments.mean),
                    "standard_error": float(np.sqrt(found.variances[k])),
                    **dict(zip(change.index, change.to_numpy(), strict=True)),
                }
            )
        return pd.DataFrame(rows, index=pd.Index([str(v) for v in found.views], name="view of"))


class BlackLittermanKernel:
    """See `Kernel`."""

    def __init__(self, model: BlackLitterman, assets: Sequence[Hashable]) -> None:
        self._model, self._assets = model, list(assets)
        self._kernel: Kernel = model.inner.prepare(assets)

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; of the moments the covariance counts."""
        model = self._model
        moments = Moments.of(mean, covariance, self._assets)
        found = model.processor.process(
            model.views, model.market_weights, moments, cash_return=known.cash_return
        ).moments
        moved, spread = np.asarray(found.mean, dtype=float), np.asarray(found.covariance, float)
        return self._kernel.solve(moved, spread, current, known)
