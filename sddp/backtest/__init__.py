"""Backtests: a market seen through one door, strategies, a ledger in money, and a report."""

from sddp.backtest.estimation import RegimeEstimate, RegimeEstimator, RollingEstimate
from sddp.backtest.evidence import Contents
from sddp.backtest.excess import ExcessRegimeEstimator
from sddp.backtest.fits import FitCache
from sddp.backtest.forecasts import Forecast, Forecaster, RegimeForecaster, WindowForecaster
from sddp.backtest.ledger import Ledger
from sddp.backtest.market import Market, View
from sddp.backtest.mean_variance import MeanVarianceStrategy
from sddp.backtest.multistage import MultistageStrategy, variants
from sddp.backtest.report import BacktestReport
from sddp.backtest.simulator import backtest, print_progress
from sddp.backtest.strategies import (
    BuyAndHold,
    Decision,
    EqualWeight,
    EveryPeriods,
    HoldCash,
    InverseVolatility,
    Strategy,
    Trigger,
)
from sddp.backtest.study import Cell, Failure, Study, run_study
from sddp.backtest.trading import TransactionCosts
from sddp.backtest.trainings import TrainingCache
from sddp.labels import CASH

__all__ = [
    "CASH",
    "BacktestReport",
    "BuyAndHold",
    "Cell",
    "Contents",
    "Decision",
    "EqualWeight",
    "EveryPeriods",
    "ExcessRegimeEstimator",
    "Failure",
    "FitCache",
    "Forecast",
    "Forecaster",
    "HoldCash",
    "InverseVolatility",
    "Ledger",
    "Market",
    "MeanVarianceStrategy",
    "MultistageStrategy",
    "RegimeEstimate",
    "RegimeEstimator",
    "RegimeForecaster",
    "RollingEstimate",
    "Strategy",
    "Study",
    "TrainingCache",
    "TransactionCosts",
    "Trigger",
    "View",
    "WindowForecaster",
    "backtest",
    "print_progress",
    "run_study",
    "variants",
]
