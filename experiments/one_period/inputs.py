"""Settings, markets and strategies of the study."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.stocks import factor_fund_prices, stock_prices
from sddp.allocation.model import AllocationModel
from sddp.backtest import (
    DynamicRiskParity,
    EqualWeight,
    InverseVolatility,
    MultistageStrategy,
    OneStageStrategy,
    Strategy,
    TrainingCache,
    variants,
)
from sddp.cli.inputs.prices import align
from sddp.engine.training.stopping import Iterations
from sddp.estimation import FitCache, RegimeEstimator, RegimeForecaster, WindowForecaster
from sddp.market import Market
from sddp.portfolio import (
    BlackLitterman,
    BlackLittermanProcessor,
    LedoitWolfMoments,
    MeanVariance,
    MomentumViews,
    Optimizer,
    RiskBudget,
    VolatilityDriven,
    optimizer,
)
from sddp.statistics import GaussianRegimes

SDDP, MYOPIC, EQUAL, INVERSE = "SDDP", "myopic", "equal weights", "inverse volatility"
ERC = "equal risk contributions"
STOCKS, DIGITAL = "20 US stocks", "digital and real assets"
BANDS = (0.0, 0.05)


@dataclass(frozen=True)
class Config:
    """Settings; returns and limits are of a period of `period` rows.

    A window holds too few weeks for two regimes of six assets: `digital_states` is 1. The stocks'
    regimes are those of five factor funds. `n_rows` cuts both cases short.
    """

    seed: int = 1
    n_rows: int | None = None
    period: int = 5
    window: int = 504
    lag: int = 1
    cost: float = 0.001
    risk_aversion: float = 4.0
    confidence: float = 0.95
    cvar_limit: float = 0.03
    yearly_volatility: float = 0.1
    yearly_return: float = 0.08
    return_weight: float = 4.0
    stocks_states: int = 2
    digital_states: int = 1
    n_starts: int = 5
    n_scenarios: int = 256
    n_stages: int = 4
    iterations: int = 10
    refit_every: int = 13
    n_draws: int = 5000
    sensitivity_every: int = 63
    n_decisions_online: int = 1000


QUICK: dict[str, Any] = {
    "n_rows": 60,
    "window": 330,
    "stocks_states": 1,
    "n_starts": 1,
    "n_scenarios": 32,
    "n_stages": 2,
    "iterations": 2,
    "n_draws": 200,
    "n_decisions_online": 40,
}


@dataclass(frozen=True, eq=False)
class Case:
    """A market, what trading costs there, and from when decisions are taken."""

    name: str
    market: Market
    cost: float | dict[Hashable, float]
    n_states: int
    start: pd.Timestamp
    end: pd.Timestamp
    window: int

    @property
    def assets(self) -> list[Hashable]:
        """Names."""
        return list(self.market.assets)


def stocks(config: Config, vix: Path) -> Case:
    """Twenty US stocks; cash earns nothing. The VIX where its file is there."""
    prices, factors = align(stock_prices(), factor_fund_prices())
    index = None
    if vix.is_file():
        table = pd.read_csv(vix, index_col="date", parse_dates=True)
        index = table.iloc[:, 0].reindex(prices.index, method="ffill")
    market = Market(prices, factors=factors, volatility_index=index)
    return _case(STOCKS, market, config.cost, config.stocks_states, config)


def digital(config: Config, file: Path) -> Case:
    """Bitcoin, ether, tokenized and fund gold, a stablecoin, real estate; T-bills are cash."""
    table = pd.read_csv(file, index_col="date", parse_dates=True)
    names: list[Hashable] = ["btc", "eth", "paxg", "usdc", "vnq", "gld"]
    market = Market(table[names], cash_rate=table["tbill"], volatility_index=table["vix"])
    cost = dict.fromkeys(names, config.cost) | {"vnq": 0.01, "usdc": 0.0005}
    return _case(DIGITAL, market, cost, config.digital_states, config)


def _case(
    name: str,
    market: Market,
    cost: float | dict[Hashable, float],
    n_states: int,
    config: Config,
) -> Case:
    dates, first = market.dates, config.window + 1
    last = len(dates) - 1 if config.n_rows is None else first + config.n_rows
    return Case(name, market, cost, n_states, dates[first], dates[last], config.window)


def strategies(case: Case, config: Config, store: str | Path) -> dict[str, Strategy]:
    """All that is compared, by name."""
    found: dict[str, Strategy] = {
        name: OneStageStrategy(
            made, forecaster(case, config), confidence=config.confidence, if_infeasible="sell"
        )
        for name, made in optimizers(case, config).items()
    }
    policy = multistage(case, config, store)
    found |= {SDDP: policy, MYOPIC: variants(policy)[MYOPIC]}
    regimes = RegimeForecaster(policy.estimator, config.refit_every)
    mean_variance = optimizers(case, config)["mean-variance"]
    found["mean-variance, regimes"] = OneStageStrategy(
        mean_variance, regimes, confidence=config.confidence, if_infeasible="sell"
    )
    return found | {EQUAL: EqualWeight(), INVERSE: InverseVolatility(case.window)}


def bands(case: Case, config: Config) -> dict[str, Strategy]:
    """Equal risk contributions that are traded back to only outside of a band."""
    return {
        f"band {100 * band:g} %, to the {back_to}": DynamicRiskParity(
            RiskBudget(), forecaster(case, config), band=band, back_to=back_to
        )
        for band in BANDS
        for back_to in (("edge", "center") if band else ("center",))
    }


def forecaster(case: Case, config: Config) -> WindowForecaster:
    """Means of the window and the covariance of Ledoit and Wolf, of whole periods."""
    return WindowForecaster(case.window, LedoitWolfMoments(), period=config.period)


def optimizers(case: Case, config: Config) -> dict[str, Optimizer | BlackLitterman]:
    """One of each class."""
    periods = 252.0 / config.period
    costs = {"transaction_cost": case.cost}
    aversion = config.risk_aversion
    made: dict[str, Any] = {
        "mean-variance": optimizer("MARKOWITZ", risk_aversion=aversion, **costs),
        "minimum variance": optimizer("MINIMUM_VARIANCE", **costs),
        "maximum Sharpe": optimizer("MAXIMUM_SHARPE", **costs),
        "target return": optimizer("TARGET_RETURN", target=config.yearly_return / periods, **costs),
        "target volatility": optimizer(
            "TARGET_VOLATILITY", target=config.yearly_volatility / periods**0.5, **costs
        ),
        "standard deviation": optimizer(
            "STANDARD_DEVIATION", return_weight=config.return_weight, **costs
        ),
        ERC: optimizer("ERC"),
        "Black-Litterman": BlackLitterman(
            market_weights=dict.fromkeys(case.assets, 1.0),
            generator=MomentumViews(lookback=60),
            processor=BlackLittermanProcessor(uncertainty="given"),
            optimizer=MeanVariance(risk_aversion=aversion, transaction_cost=case.cost),
        ),
        "minimum CVaR": optimizer("MINIMUM_CVAR", confidence=config.confidence, **costs),
        "CVaR-limited": optimizer(
            "CVAR_LIMITED", limit=config.cvar_limit, confidence=config.confidence, **costs
        ),
        "return to CVaR": optimizer(
            "MAXIMUM_RETURN_TO_CVAR", confidence=config.confidence, **costs
        ),
    }
    if case.market.at(case.end).volatility_index is not None:
        driven = VolatilityDriven(base=2.0, sensitivity=0.05)
        made["mean-variance, VIX"] = replace(made["mean-variance"], risk_aversion=driven)
    return made


def multistage(case: Case, config: Config, store: str | Path) -> MultistageStrategy:
    """The policy under the CVaR limit of the one-period program."""
    return MultistageStrategy(
        model=AllocationModel(
            transaction_cost=case.cost,
            cvar_limit=config.cvar_limit,
            cvar_confidence=config.confidence,
        ),
        seed=config.seed,
        n_stages=config.n_stages,
        estimator=RegimeEstimator(
            seed=config.seed,
            window=case.window,
            period=config.period,
            regimes=GaussianRegimes(n_states=case.n_states, n_starts=config.n_starts),
            n_scenarios=config.n_scenarios,
            cache=FitCache(store),
        ),
        stopping=Iterations(config.iterations),
        refit_every=config.refit_every,
        on_failure="keep",
        trainings=TrainingCache(store),
    )
