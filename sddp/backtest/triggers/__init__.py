"""Triggers: when a strategy is asked, and the breaker that halts trading."""

from sddp.backtest.triggers.breaker import CircuitBreaker
from sddp.backtest.triggers.calendar import Calendar, ClassFrequency
from sddp.backtest.triggers.risk import ConstraintBreached, RiskSpike
from sddp.backtest.triggers.trades import Drift, MinimumTrade, Signal, UtilityGain
from sddp.backtest.triggers.trigger import Combinable, Trigger

__all__ = [
    "Calendar",
    "CircuitBreaker",
    "ClassFrequency",
    "Combinable",
    "ConstraintBreached",
    "Drift",
    "MinimumTrade",
    "RiskSpike",
    "Signal",
    "Trigger",
    "UtilityGain",
]
