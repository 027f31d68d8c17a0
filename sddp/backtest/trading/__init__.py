"""One step of trading: costs and execution, instructions and venues, events, the account."""

from sddp.backtest.trading.events import Event, canonical, event_of
from sddp.backtest.trading.execution import (
    Cost,
    Execution,
    TransactionCosts,
    execute,
    requested_trades,
    target_weights,
    wealth_after_costs,
)
from sddp.backtest.trading.messages import AcceptAll, Envelope, Verifier
from sddp.backtest.trading.venue import Fill, PaperVenue, Quotes, RebalanceInstruction, Venue

__all__ = [
    "AcceptAll",
    "Cost",
    "Envelope",
    "Event",
    "Execution",
    "Fill",
    "PaperVenue",
    "Quotes",
    "RebalanceInstruction",
    "TransactionCosts",
    "Venue",
    "Verifier",
    "canonical",
    "event_of",
    "execute",
    "requested_trades",
    "target_weights",
    "wealth_after_costs",
]
