"""What is run: a strategy under a limit, on a schedule, with a model of some size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.brazil_prices import ASSETS
from experiments.brazil.config import Config
from sddp.allocation.model import AllocationModel
from sddp.backtest import (
    BuyAndHold,
    Cell,
    EqualWeight,
    FitCache,
    HoldCash,
    InverseVolatility,
    MultistageStrategy,
    RegimeEstimator,
    Strategy,
    TrainingCache,
    variants,
)
from sddp.backtest.forecasts import RegimeForecaster, WindowForecaster
from sddp.backtest.mean_variance import MeanVarianceStrategy
from sddp.engine.stopping import Iterations
from sddp.portfolio import CVaRMatched, MeanVariance, VolatilityDriven
from sddp.portfolio.risk_aversion import RiskAversion
from sddp.statistics import GaussianRegimes

RUN_THROUGH, RECEDING = "SDDP, run-through", "SDDP, receding"
ONE_REGIME, NO_COSTS, MYOPIC = "one regime", "costs ignored", "myopic"
COST_FREE, MATCHED = "cost-free future", "QP, risk-matched"
QP_FIXED, QP_WINDOW = "QP, fixed lambda", "QP, fixed lambda, no regimes"
QP_VOLATILITY = "QP, lambda by volatility"
EQUAL, HOLD, INVERSE = "equal weights", "buy and hold", "inverse volatility"
IBOV, CASH = "Ibovespa", "cash (CDI)"

# With a limit, and without one, in the order of tables and figures.
LIMITED = (RUN_THROUGH, RECEDING, COST_FREE, MYOPIC, NO_COSTS, ONE_REGIME, MATCHED)
UNLIMITED = (QP_FIXED, QP_VOLATILITY, QP_WINDOW, INVERSE, EQUAL, HOLD, IBOV, CASH)

# In the order of running: what takes longest early, so that all cores end together, and before it
# what is quick, whose fits the others then find.
FIRST = (QP_FIXED, ONE_REGIME, RUN_THROUGH, RECEDING, COST_FREE, NO_COSTS)

# With the index in points: lambda = 2 (1 + 0.05 index), 4.5 at 25 points.
VOLATILITY_DRIVEN = VolatilityDriven(base=2.0, sensitivity=0.05)


@dataclass(frozen=True)
class Variant:
    """One backtest of the study; see `Config` for the numbers.

    Attributes
    ----------
    strategy : str
        A key of `MAKERS`.
    limit : float or None
        None where the strategy knows no limit.
    """

    strategy: str
    limit: float | None
    lag: int
    seed: int
    n_states: int
    window: int
    transaction_cost: float
    refit_every: int

    @classmethod
    def of(
        cls, config: Config, strategy: str, limit: float | None = None, **changes: Any
    ) -> Variant:
        """With the settings of the study but for the changes."""
        taken = [f.name for f in fields(cls) if f.name not in ("strategy", "limit")]
        settings = {name: getattr(config, name) for name in taken}
        return cls(strategy, limit, **(settings | changes))

    def name(self, config: Config) -> str:
        """Strategy, limit, and what differs from the settings of the study."""
        usual = Variant.of(config, self.strategy, self.limit)
        changed = [
            f"{f.name} = {getattr(self, f.name):g}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(usual, f.name)
        ]
        return ", ".join([at_limit(self.strategy, self.limit), *changed])


def at_limit(strategy: str, limit: float | None) -> str:
    """Name of a strategy under a limit.

    >>> at_limit("myopic", 0.015)
    'myopic at 1.5 %'
    """
    return strategy if limit is None else f"{strategy} at {percent(limit)}"


def percent(fraction: float) -> str:
    """A fraction in words, without digits that say nothing.

    >>> percent(0.015)
    '1.5 %'
    """
    return f"{100.0 * fraction:.6g} %"


def study(config: Config) -> list[Variant]:
    """All strategies at all limits, and at the headline's traded at the quotes decided on."""
    free = [Variant.of(config, name) for name in UNLIMITED]
    limited = [Variant.of(config, name, limit) for limit in config.limits for name in LIMITED]
    headline = [v for v in limited if v.limit == config.headline]
    return _ordered([*free, *limited, *(replace(v, lag=0) for v in (*free, *headline))])


def sensitivities(config: Config) -> list[Variant]:
    """Other seeds, daily training, other numbers of regimes, windows and costs."""
    at = config.headline
    seeds = [
        Variant.of(config, name, None if name == QP_FIXED else at, seed=seed)
        for seed in config.seeds[1:]
        for name in (QP_FIXED, *LIMITED)
    ]
    daily = [
        Variant.of(config, name, None if name == QP_FIXED else at, refit_every=1)
        for name in (QP_FIXED, ONE_REGIME, RECEDING, MATCHED)
    ]
    changes: list[dict[str, Any]] = [
        *({"window": window} for window in config.windows),
        *({"transaction_cost": cost} for cost in config.costs),
    ]
    others = [
        Variant.of(config, name, at, seed=seed, **change)
        for seed in config.seeds
        for change in changes
        for name in (RECEDING, ONE_REGIME)
    ]
    regimes = [
        Variant.of(config, RECEDING, at, seed=seed, n_states=n_states)
        for seed in config.seeds
        for n_states in config.states
    ]
    return _ordered([*seeds, *daily, *others, *regimes])


def _ordered(chosen: Iterable[Variant]) -> list[Variant]:
    ranks = {name: rank for rank, name in enumerate(FIRST)}
    # Other lags last: they find the fits and policies of the first.
    return sorted(chosen, key=lambda v: (-v.lag, ranks.get(v.strategy, len(ranks))))


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
        rng=np.random.default_rng(variant.seed),
        window=variant.window,
        regimes=GaussianRegimes(n_states=variant.n_states, n_starts=config.n_starts),
        n_scenarios=config.n_scenarios,
        cache=caches.fits,
    )


Maker = Callable[[Variant, Config, Caches], Strategy]


def _multistage(kind: str) -> Maker:
    def make(variant: Variant, config: Config, caches: Caches) -> Strategy:
        base = MultistageStrategy(
            model=AllocationModel(
                transaction_cost=variant.transaction_cost,
                cvar_confidence=config.confidence,
                cvar_limit=variant.limit,
            ),
            rng=np.random.default_rng(variant.seed),
            estimator=estimator(variant, config, caches),
            n_stages=config.n_stages,
            stopping=Iterations(config.iterations),
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
    return MeanVarianceStrategy(
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
    return MeanVarianceStrategy(
        MeanVariance(risk_aversion=config.risk_aversion, transaction_cost=variant.transaction_cost),
        WindowForecaster(variant.window, refit_every=variant.refit_every),
        confidence=config.confidence,
    )


MAKERS: dict[str, Maker] = {
    RUN_THROUGH: _run_through,
    RECEDING: _multistage("SDDP"),
    ONE_REGIME: _multistage("one regime"),
    NO_COSTS: _multistage("costs ignored"),
    MYOPIC: _multistage("myopic"),
    COST_FREE: _multistage("cost-free future"),
    MATCHED: _matched,
    QP_FIXED: lambda v, config, caches: _quadratic(v, config, caches, config.risk_aversion),
    QP_VOLATILITY: lambda v, config, caches: _quadratic(v, config, caches, VOLATILITY_DRIVEN),
    QP_WINDOW: _without_regimes,
    EQUAL: lambda v, config, caches: EqualWeight(),
    HOLD: lambda v, config, caches: BuyAndHold(dict.fromkeys(ASSETS, 1.0 / len(ASSETS))),
    INVERSE: lambda v, config, caches: InverseVolatility(v.window),
    IBOV: lambda v, config, caches: BuyAndHold({"ibov": 1.0}),
    CASH: lambda v, config, caches: HoldCash(),
}
