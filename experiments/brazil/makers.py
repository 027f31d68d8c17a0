"""How a variant becomes a strategy, and a backtest of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from experiments.brazil import variants as names
from experiments.brazil.config import Config
from experiments.brazil.variants import Variant
from sddp.allocation.model import AllocationModel
from sddp.backtest import (
    BuyAndHold,
    Cell,
    EqualWeight,
    HoldCash,
    InverseVolatility,
    MultistageStrategy,
    OneStageStrategy,
    Strategy,
    TrainingCache,
    variants,
)
from sddp.data.sources.brazil_prices import ASSETS
from sddp.engine.training.stopping import Iterations
from sddp.estimation import FitCache, RegimeEstimator, RegimeForecaster, WindowForecaster
from sddp.market import View
from sddp.portfolio import CVaRMatched, MeanVariance, VolatilityDriven
from sddp.portfolio.risk_aversion import RiskAversion
from sddp.statistics import GaussianRegimes

# With the index in points: lambda = 2 (1 + 0.05 index), 4.5 at 25 points.
VOLATILITY_DRIVEN = VolatilityDriven(base=2.0, sensitivity=0.05)


class Caches(NamedTuple):
    """Where fits and trained policies are looked up."""

    fits: FitCache
    trainings: TrainingCache

    @classmethod
    def of(cls, store: str | Path) -> Caches:
        """In a folder."""
        return cls(FitCache(store), TrainingCache(store))


def cell(variant: Variant, config: Config, caches: Caches) -> Cell:
    """The backtest of a variant."""
    return Cell(
        strategy=MAKERS[variant.strategy](variant, config, caches),
        transaction_cost=variant.transaction_cost,
        lag=variant.lag,
    )


def estimator(variant: Variant, config: Config, caches: Caches) -> RegimeEstimator:
    """Regimes and scenarios of a variant."""
    return RegimeEstimator(
        seed=variant.seed,
        window=variant.window,
        regimes=GaussianRegimes(n_states=variant.n_states, n_starts=variant.n_starts),
        n_scenarios=config.n_scenarios,
        cache=caches.fits,
    )


@dataclass(frozen=True)
class DollarsAfterAFall:
    """Dollars on rows on which the Ibovespa fell, else cash: it lives on quotes of other hours.

    The dollar is fixed hours before the Ibovespa closes, so the fixing of the next row already
    knows of the fall. What this rule gains without a lag is what a lag has to take away.
    """

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """All of it in one of the two."""
        return pd.Series({"usd": float(view.returns["ibov"].iloc[-1] < 0.0)})


Maker = Callable[[Variant, Config, Caches], Strategy]


def _multistage(kind: str) -> Maker:
    def make(variant: Variant, config: Config, caches: Caches) -> Strategy:
        base = MultistageStrategy(
            model=AllocationModel(
                transaction_cost=variant.transaction_cost,
                cvar_confidence=config.confidence,
                cvar_limit=variant.limit,
                terminal_value=variant.terminal_value,
            ),
            seed=variant.seed,
            estimator=estimator(variant, config, caches),
            n_stages=config.n_stages,
            stopping=Iterations(variant.iterations),
            train_from=variant.train_from,
            refit_every=variant.refit_every,
            on_failure="keep",
            # Trained every day, policies would fill a disk, and none is asked for twice.
            trainings=caches.trainings if variant.refit_every > 1 else TrainingCache(),
        )
        return variants(base)[kind]

    return make


def _run_through(variant: Variant, config: Config, caches: Caches) -> Strategy:
    base = _multistage("SDDP")(variant, config, caches)
    assert isinstance(base, MultistageStrategy)
    return replace(base, mode="run-through")


def _quadratic(
    variant: Variant, config: Config, caches: Caches, risk_aversion: RiskAversion
) -> Strategy:
    """Mean against variance on the scenarios and under the belief of the multi-stage policy."""
    return OneStageStrategy(
        MeanVariance(risk_aversion=risk_aversion, transaction_cost=variant.transaction_cost),
        RegimeForecaster(estimator(variant, config, caches), variant.refit_every),
        confidence=config.confidence,
        if_infeasible="sell",
    )


def _matched(variant: Variant, config: Config, caches: Caches) -> Strategy:
    assert variant.limit is not None
    matched = CVaRMatched(limit=variant.limit, confidence=config.confidence)
    return _quadratic(variant, config, caches, matched)


def _without_regimes(variant: Variant, config: Config, caches: Caches) -> Strategy:
    return OneStageStrategy(
        MeanVariance(risk_aversion=config.risk_aversion, transaction_cost=variant.transaction_cost),
        WindowForecaster(variant.window, refit_every=variant.refit_every),
        confidence=config.confidence,
    )


MAKERS: dict[str, Maker] = {
    names.RUN_THROUGH: _run_through,
    names.RECEDING: _multistage("SDDP"),
    names.ONE_REGIME: _multistage("one regime"),
    names.NO_COSTS: _multistage("costs ignored"),
    names.MYOPIC: _multistage("myopic"),
    names.COST_FREE: _multistage("cost-free future"),
    names.MATCHED: _matched,
    names.QP_FIXED: lambda v, config, caches: _quadratic(v, config, caches, config.risk_aversion),
    names.QP_VOLATILITY: lambda v, config, caches: _quadratic(v, config, caches, VOLATILITY_DRIVEN),
    names.QP_WINDOW: _without_regimes,
    names.EQUAL: lambda v, config, caches: EqualWeight(),
    names.HOLD: lambda v, config, caches: BuyAndHold(dict.fromkeys(ASSETS, 1.0 / len(ASSETS))),
    names.INVERSE: lambda v, config, caches: InverseVolatility(v.window),
    names.IBOV: lambda v, config, caches: BuyAndHold({"ibov": 1.0}),
    names.CASH: lambda v, config, caches: HoldCash(),
    names.CANARY: lambda v, config, caches: DollarsAfterAFall(),
}
