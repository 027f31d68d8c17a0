"""A portfolio that runs: rows that arrive, the step of trading, state on disk, and a bus."""

from sddp.live.bus import Bus, BusRows, InProcessBus, Message, Subscription, matches
from sddp.live.loop import Live, OutboxOverflow, replay
from sddp.live.nats_bus import NatsBus, publish_all
from sddp.live.observers import Observer, ProcessedRow
from sddp.live.rows import CsvReplay, Row, RowSource, Source, market_rows
from sddp.live.rules import AcceptedRow, RowRejected, RowRepaired, RowRules, StreamRules
from sddp.live.state import StateFile, export
from sddp.live.window import RowWindow

__all__ = [
    "AcceptedRow",
    "Bus",
    "BusRows",
    "CsvReplay",
    "InProcessBus",
    "Live",
    "Message",
    "NatsBus",
    "Observer",
    "OutboxOverflow",
    "ProcessedRow",
    "Row",
    "RowRejected",
    "RowRepaired",
    "RowRules",
    "RowSource",
    "RowWindow",
    "Source",
    "StateFile",
    "StreamRules",
    "Subscription",
    "export",
    "market_rows",
    "matches",
    "publish_all",
    "replay",
]
