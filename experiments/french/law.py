"""The true problem of the study: fitted regimes with continuous emissions, and samples of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from experiments.french.config import Config, Purpose
from experiments.french.inputs import FrenchData
from sddp.arrays import Floats
from sddp.risk import weighted_cvar
from sddp.scenarios import MarkovScenarios
from sddp.statistics import (
    FactorModel,
    FittedFactorModel,
    GaussianRegimes,
    RegimePaths,
    Regimes,
    asset_moments,
    markov_scenarios,
    simulate_regimes,
)
from sddp.studies.streams import stream

# Mixed into every move of the chain, here and out of sample: a change that no row of the history
# shows is improbable, not impossible.
UNSEEN_CHANGE = 1e-6


@dataclass(frozen=True, eq=False)
class Law:
    """Regimes of the factors, portfolios by regression on them.

    Attributes
    ----------
    regimes : Regimes
    assets : FittedFactorModel
    start : array, shape (n_states,)
        Law of the regime after the last row of the fit.
    """

    regimes: Regimes
    assets: FittedFactorModel
    start: Floats

    @property
    def first(self) -> int:
        """The most likely regime at the first decision."""
        return int(self.start.argmax())

    @cached_property
    def gross(self) -> Floats:
        """Expected gross returns by regime, cash (which earns 0) first, shape (K, 1 + n_assets)."""
        rows = []
        for mean, covariance in zip(self.regimes.means, self.regimes.covariances, strict=True):
            center, spread = asset_moments(mean, covariance, self.assets)
            rows.append(np.exp(center + np.diag(spread) / 2.0))
        return np.column_stack([np.ones(len(rows)), np.array(rows)])

    def scenarios(
        self,
        n_scenarios: int,
        n_stages: int,
        *,
        sampling: str,
        moment_matching: bool,
        rng: np.random.Generator,
    ) -> MarkovScenarios:
        """A sample of the returns in each regime, one law for all stages."""
        drawn = markov_scenarios(
            self.regimes,
            self.assets,
            n_stages=1,
            n_scenarios=n_scenarios,
            rng=rng,
            sampling=sampling,
            moment_matching=moment_matching,
        )
        return MarkovScenarios(
            drawn.returns[0],
            self.regimes.transition_matrix,
            asset_names=drawn.asset_names,
            n_stages=n_stages,
        )

    def paths(
        self, start: Floats, n_paths: int, n_periods: int, seed: int, draw: int
    ) -> RegimePaths:
        """Paths of a draw, the same for all who ask for as many of as many periods."""
        rng = stream(seed, Purpose.PATHS, draw)
        return simulate_regimes(
            self.regimes,
            self.assets,
            start=start,
            n_paths=n_paths,
            n_periods=n_periods,
            rng=rng,
        )


class TrueTail:
    """CVaR of holdings over one period under a law, on many independent draws.

    Parameters
    ----------
    law : Law
    confidence : float
    n_points : int
        In each regime; standard normal numbers are the same in all of them.
    rng : Generator
    """

    def __init__(
        self, law: Law, confidence: float, n_points: int, *, rng: np.random.Generator
    ) -> None:
        self._law, self._confidence = law, confidence
        normal = rng.standard_normal((n_points, law.regimes.n_variables))
        roots = np.linalg.cholesky(law.regimes.covariances)
        self._factors = law.regimes.means[:, None] + np.einsum("kij,pj->kpi", roots, normal)
        deviations = np.sqrt(law.assets.residual_variances)
        # By asset: those that are held are few, and looked up whole.
        shocks = rng.standard_normal((law.assets.n_assets, n_points))
        self._residuals = shocks * deviations[:, None] + law.assets.intercepts[:, None]

    def cvar(self, holdings: Floats, arrival: Floats) -> float:
        """CVaR of the loss in money; costs are not in it, and cash earns 0.

        Parameters
        ----------
        holdings : array, shape (n_assets,)
            After trading, cash left out.
        arrival : array, shape (n_states,)
            Law of the next regime.
        """
        held = np.flatnonzero(holdings)
        if not held.size:
            return 0.0
        loadings, residuals = self._law.assets.loadings[held], self._residuals[held]
        possible = np.flatnonzero(arrival)
        losses = [
            -(holdings[held] @ np.expm1(loadings @ self._factors[k].T + residuals))
            for k in possible
        ]
        weights = np.repeat(arrival[possible] / residuals.shape[1], residuals.shape[1])
        return weighted_cvar(np.concatenate(losses), weights, confidence=self._confidence)


# Number of regimes, and whether in excess of cash.
LawKey = tuple[int, bool]


def fit_laws(data: FrenchData, config: Config) -> Mapping[LawKey, Law]:
    """Laws of the first rows: with the regimes of the study and with one; total and in excess."""
    known = data.until(config.n_training)
    return {
        (n_states, excess): law
        for n_states in sorted({1, config.n_states})
        for excess, law in _fit(known, config, n_states).items()
    }


def _fit(known: FrenchData, config: Config, n_states: int) -> dict[bool, Law]:
    settings = GaussianRegimes(n_states=n_states, n_starts=config.n_starts)
    fitted = settings.fit(known.factors, rng=stream(config.seed, Purpose.FIT, n_states))
    chain = (1.0 - UNSEEN_CHANGE) * fitted.transition_matrix + UNSEEN_CHANGE / fitted.n_states
    regimes = Regimes(
        fitted.means,
        fitted.covariances,
        chain,
        fitted.start_probabilities,
        variable_names=fitted.variable_names,
    )
    start = regimes.belief(known.factors)
    total = known.returns.apply(np.log1p)
    over_cash = total.sub(pd.Series(np.log1p(known.rf), known.rf.index), axis=0)
    model = FactorModel(missing="skip")
    law = Law(regimes, model.fit(total, known.factors), start)
    return {False: law, True: replace(law, assets=model.fit(over_cash, known.factors))}
