"""Backtests: a market seen through one door, strategies, a ledger in money, and a report."""

from sddp.backtest.ledger import Ledger
from sddp.backtest.market import CASH, Market, View
from sddp.backtest.multistage import Estimation, MultistageStrategy
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
from sddp.backtest.trading import TransactionCosts

__all__ = [
    "CASH",
    "BacktestReport",
    "BuyAndHold",
    "Decision",
    "EqualWeight",
    "Estimation",
    "EveryPeriods",
    "HoldCash",
    "InverseVolatility",
    "Ledger",
    "Market",
    "MultistageStrategy",
    "Strategy",
    "TransactionCosts",
    "Trigger",
    "View",
    "backtest",
    "print_progress",
]
