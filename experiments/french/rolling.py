"""The study out of sample: what is run, and the backtests that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.french.config import Config, Purpose
from experiments.french.inputs import FrenchData, market
from sddp.allocation.model import AllocationModel
from sddp.backtest import (
    BacktestResult,
    Cell,
    EqualWeight,
    HoldCash,
    MultistageStrategy,
    OneStageStrategy,
    Strategy,
    Study,
    TrainingCache,
    run_study,
    variants,
)
from sddp.engine.training.stopping import Iterations
from sddp.estimation import ExcessRegimeEstimator, FitCache, RegimeEstimator, RegimeForecaster
from sddp.market import Market
from sddp.portfolio import CVaRMatched, MeanVariance
from sddp.statistics import GaussianRegimes
from sddp.studies.streams import seed_of

SDDP, RECEDING = "SDDP", "SDDP, begun anew each month"
MOST_LIKELY, TOTAL = "SDDP, most likely regime", "SDDP, total returns modeled"
LATE = "SDDP, traded a row later"
ONE_REGIME, NO_COSTS = "one regime", "costs ignored"
MYOPIC, COST_FREE = "myopic", "one step, cost-free future"
MATCHED = "QP, risk-matched"
EQUAL, CASH = "equal weights and cash", "cash (bills)"

# Whose weights are kept through time.
DETAIL = (SDDP, ONE_REGIME, MYOPIC, MATCHED)

# What is lost without an ingredient: the policy without it, against the first.
INGREDIENTS = {
    "regimes": ONE_REGIME,
    "costs in the model": NO_COSTS,
    "horizon": MYOPIC,
    "costs after the present trade": COST_FREE,
    "belief instead of most likely regime": MOST_LIKELY,
    "excess over bills instead of total returns": TOTAL,
}


@dataclass(frozen=True, eq=False)
class Backtests:
    """What was run, and on what.

    Attributes
    ----------
    config : Config
    data : FrenchData
    market : Market
    study : Study
        Cells by the names above.
    """

    config: Config
    data: FrenchData
    market: Market
    study: Study

    def result(self) -> BacktestResult:
        """The strategies that are compared: of the study's own lag and seed."""
        return self.study.result(list(strategies(self.config, None)))

    @property
    def dates(self) -> pd.DatetimeIndex:
        """Rows of the backtest."""
        return pd.DatetimeIndex(self.study.cash_rate.index)


def run(
    config: Config, data: FrenchData, *, store: str | Path, n_jobs: int, progress: bool = True
) -> Backtests:
    """Run what is not in the store yet.

    Raises
    ------
    StudyError
        Backtests failed; the others are in the store.
    KeyboardInterrupt
        After Ctrl-C; what is finished is in the store.
    """
    known = market(data, config)
    study = run_study(
        known,
        cells(config, store),
        start=known.dates[config.n_training - 1],
        n_jobs=n_jobs,
        store=store,
        progress=progress,
    )
    study.check()
    return Backtests(config, data, known, study)


def cells(config: Config, store: str | Path | None) -> dict[str, Cell]:
    """The backtests by name; the long ones first, so that all cores end together."""
    cost = config.transaction_cost
    found = {
        name: Cell(strategy, transaction_cost=cost, lag=config.lag)
        for name, strategy in strategies(config, store).items()
    }
    return (
        found
        | {LATE: replace(found[SDDP], lag=config.lag + 1)}
        | {
            other_seed(seed): replace(
                found[SDDP], strategy=strategies(replace(config, seed=seed), store)[SDDP]
            )
            for seed in config.other_seeds
        }
    )


def other_seed(seed: int) -> str:
    """Name of the policy on other starts of the fits, scenarios and paths of training."""
    return f"{SDDP}, seed {seed}"


def strategies(config: Config, store: str | Path | None) -> dict[str, Strategy]:
    """The strategies by name."""
    fits, trainings = FitCache(store), TrainingCache(store)
    own = estimator(config, fits)
    base = multistage(config, own, trainings)
    without = variants(base)
    return {
        TOTAL: replace(base, estimator=estimator(config, fits, excess=False)),
        ONE_REGIME: without["one regime"],
        NO_COSTS: without["costs ignored"],
        SDDP: base,
        RECEDING: replace(base, mode="receding"),
        MOST_LIKELY: replace(base, estimator=replace(own, most_likely=True)),
        COST_FREE: without["cost-free future"],
        MYOPIC: without["myopic"],
        MATCHED: OneStageStrategy(
            MeanVariance(
                risk_aversion=CVaRMatched(
                    limit=config.cvar_limit, confidence=config.cvar_confidence
                ),
                transaction_cost=config.transaction_cost,
            ),
            RegimeForecaster(own, config.refit_every),
            confidence=config.cvar_confidence,
            if_infeasible="sell",
        ),
        EQUAL: EqualWeight(include_cash=True),
        CASH: HoldCash(),
    }


def estimator(config: Config, fits: FitCache, *, excess: bool = True) -> Any:
    """Regimes and scenarios on an expanding window."""
    make: Callable[..., RegimeEstimator] = ExcessRegimeEstimator if excess else RegimeEstimator
    return make(
        seed=seed_of(config.seed, Purpose.ROLLING),
        window=config.n_training,
        expanding=True,
        regimes=GaussianRegimes(n_states=config.n_states, n_starts=config.n_starts),
        n_scenarios=config.n_scenarios,
        sampling=config.sampling,
        cache=fits,
    )


def multistage(
    config: Config, own: RegimeEstimator, trainings: TrainingCache
) -> MultistageStrategy:
    """The paper's policy: trained, then run through until it is trained anew."""
    return MultistageStrategy(
        model=AllocationModel(
            transaction_cost=config.transaction_cost,
            cvar_confidence=config.cvar_confidence,
            cvar_limit=config.cvar_limit,
        ),
        seed=seed_of(config.seed, Purpose.TRAINING),
        estimator=own,
        n_stages=config.n_decisions,
        mode="run-through",
        stopping=Iterations(config.iterations),
        refit_every=config.refit_every,
        on_failure="keep",
        trainings=trainings,
    )


def settings_of(config: Config) -> Mapping[str, Any]:
    """What a table of backtests says beside the numbers."""
    return {
        "decisions": config.n_decisions,
        "cvar_limit": config.cvar_limit,
        "cost": config.transaction_cost,
        "n_training": config.n_training,
        "refit_every": config.refit_every,
    }
