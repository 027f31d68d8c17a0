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
from sddp.backtest.multistage import MultistageStrategy
from sddp.backtest.one_stage import OneStageStrategy
from sddp.backtest.policy_cache import TrainingCache
from sddp.backtest.result import BacktestResult
from sddp.backtest.risk_parity import DynamicRiskParity
from sddp.backtest.simulator import backtest, print_progress
from sddp.backtest.strategies import (
    BuyAndHold,
    EqualWeight,
    EveryPeriods,
    HoldCash,
    InverseVolatility,
    Strategy,
)
from sddp.backtest.study import Cell, Failure, Study, run_study
from sddp.backtest.trading import Envelope, TransactionCosts
from sddp.backtest.trading.decisions import Decision
from sddp.backtest.triggers import (
    Calendar,
    CircuitBreaker,
    ClassFrequency,
    ConstraintBreached,
    Drift,
    MinimumTrade,
    RiskSpike,
    Signal,
    Trigger,
    UtilityGain,
)
from sddp.backtest.variants import myopic, variants

__all__ = [
    "BacktestResult",
    "BuyAndHold",
    "Calendar",
    "CalibratedLimit",
    "CalibratedStrategy",
    "Cell",
    "CircuitBreaker",
    "ClassFrequency",
    "ConstraintBreached",
    "Decision",
    "Drift",
    "DynamicRiskParity",
    "Envelope",
    "EqualWeight",
    "EveryPeriods",
    "Failure",
    "HeldToHorizon",
    "HoldCash",
    "InverseVolatility",
    "Ledger",
    "LimitedStrategy",
    "MinimumTrade",
    "MultistageStrategy",
    "OneStageStrategy",
    "PredictiveControl",
    "RiskSpike",
    "ScaledToLimit",
    "Signal",
    "Strategy",
    "Study",
    "TrainingCache",
    "TransactionCosts",
    "Trigger",
    "UtilityGain",
    "backtest",
    "check_no_look_ahead",
    "myopic",
    "print_progress",
    "run_study",
    "variants",
]
