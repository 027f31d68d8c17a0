"""Backtests: strategies, trading, ledgers, and studies of many backtests."""

from sddp.backtest.checks import check_no_look_ahead
from sddp.backtest.ledger import Ledger
from sddp.backtest.limits import (
    CalibratedLimit,
    CalibratedStrategy,
    HeldToHorizon,
    LimitedStrategy,
    PredictiveControl,
    ScaledToLimit,
)
from sddp.backtest.multistage import MultistageStrategy, variants
from sddp.backtest.one_stage import OneStageStrategy
from sddp.backtest.policy_cache import TrainingCache
from sddp.backtest.result import BacktestResult
from sddp.backtest.risk_parity import DynamicRiskParity
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

__all__ = [
    "BacktestResult",
    "BuyAndHold",
    "CalibratedLimit",
    "CalibratedStrategy",
    "Cell",
    "Decision",
    "DynamicRiskParity",
    "EqualWeight",
    "EveryPeriods",
    "Failure",
    "HeldToHorizon",
    "HoldCash",
    "InverseVolatility",
    "Ledger",
    "LimitedStrategy",
    "MultistageStrategy",
    "OneStageStrategy",
    "PredictiveControl",
    "ScaledToLimit",
    "Strategy",
    "Study",
    "TrainingCache",
    "TransactionCosts",
    "Trigger",
    "backtest",
    "check_no_look_ahead",
    "print_progress",
    "run_study",
    "variants",
]
