"""Rules on the figures of a portfolio, and the alerts that they raise."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

from sddp.backtest.trading.events import Event
from sddp.errors import ModelError
from sddp.live.analytics import Analytics, PortfolioAnalytics
from sddp.live.observers import ProcessedRow

LOGGER: Final = logging.getLogger("sddp.live.alerts")


@dataclass(frozen=True, kw_only=True)
class Alert(Event):
    """A figure has passed the limit of a rule, or has come back.

    Parameters
    ----------
    rule : str
    value, limit : float
    raised : bool
        False where the figure is within the limit again.
    text : str
        For people.
    """

    topic: ClassVar[str] = "alerts"

    rule: str
    value: float
    limit: float
    raised: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """A limit on a figure of `PortfolioAnalytics`.

    Parameters
    ----------
    name : str
    figure : str
        A field that is a number; ``field.key`` of one that is a mapping, such as
        ``iterations.max``; ``halted`` or ``stale``, whose lengths count.
    above, below : float, optional
        One of them; the rule is broken strictly beyond it.
    margin : float
        The alert ends only once the figure is inside the limit by this much.

    Raises
    ------
    ModelError
        The figure is unknown, or not exactly one limit is given.
    """

    name: str
    figure: str
    above: float | None = None
    below: float | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        known = [f.name for f in fields(PortfolioAnalytics)]
        if self.figure.partition(".")[0] not in known:
            raise ModelError(f"figure={self.figure!r} of rule {self.name!r}: must be of {known}")
        if (self.above is None) == (self.below is None):
            raise ModelError(f"above, below of rule {self.name!r}: exactly one must be given")
        if not self.margin >= 0.0:
            raise ModelError(f"margin={self.margin} of rule {self.name!r}: must be at least 0")

    @property
    def limit(self) -> float:
        """The one that is given."""
        limit = self.above if self.above is not None else self.below
        assert limit is not None
        return limit

    def value(self, figures: PortfolioAnalytics) -> float:
        """The figure; NaN where it does not exist."""
        name, _, key = self.figure.partition(".")
        found = getattr(figures, name)
        if key:
            found = found.get(key, math.nan)
        return float(found) if isinstance(found, (int, float)) else float(len(found))

    def broken(self, value: float, *, standing: bool) -> bool:
        """Whether the rule is broken, given whether it was; a NaN changes nothing."""
        if math.isnan(value):
            return standing
        sign = 1.0 if self.above is not None else -1.0
        return sign * (value - self.limit) > (-self.margin if standing else 0.0)


STANDARD_RULES: Final = (
    AlertRule(name="drawdown above 20 %", figure="drawdown", above=0.20, margin=0.02),
    AlertRule(name="volatility above 20 % a year", figure="volatility", above=0.20, margin=0.02),
    AlertRule(name="trading is halted", figure="halted", above=0.0),
    AlertRule(name="quotes are missing", figure="stale", above=0.0),
)


class Alerts:
    """Observer that raises an alert once when a rule breaks, and once when it holds again.

    Alerts go to the events of the row and to the logger ``sddp.live.alerts``. A row that is
    processed again after a crash logs its alerts again; in the events they are once.

    Parameters
    ----------
    analytics : Analytics
        Stands before this one among the observers.
    rules : sequence of AlertRule
    """

    def __init__(self, analytics: Analytics, rules: Sequence[AlertRule] = STANDARD_RULES) -> None:
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names):
            raise ModelError(f"rules {names}: must have different names")
        self._analytics, self.rules = analytics, tuple(rules)
        self.standing: dict[str, str] = {}

    def observe(self, done: ProcessedRow) -> Sequence[Event]:
        """See `Observer.observe`."""
        figures = self._analytics.latest
        if figures is None or figures.time != done.time:
            return ()
        alerts = []
        for rule in self.rules:
            value, standing = rule.value(figures), rule.name in self.standing
            broken = rule.broken(value, standing=standing)
            if broken == standing:
                continue
            side = "above" if rule.above is not None else "below"
            text = (
                f"{rule.name}: {rule.figure} = {value:.6g}, {side} {rule.limit:g}"
                if broken
                else f"{rule.name}: over, {rule.figure} = {value:.6g}"
            )
            alert = Alert(
                time=done.time,
                rule=rule.name,
                value=value,
                limit=rule.limit,
                raised=broken,
                text=text,
            )
            if broken:
                self.standing[rule.name] = text
            else:
                del self.standing[rule.name]
            LOGGER.log(
                logging.WARNING if broken else logging.INFO,
                "%s",
                text,
                extra={"alert": {"rule": rule.name, "value": value, "row": str(done.time)}},
            )
            alerts.append(alert)
        return alerts

    def state(self) -> dict[str, Any]:
        """See `Observer.state`."""
        return {"standing": dict(self.standing)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Observer.restore`."""
        self.standing = dict(state["standing"])


class JsonLines(logging.Formatter):
    """Log records as one JSON object a line, for files and collectors.

    With ``logging.handlers.SysLogHandler`` it feeds a SIEM.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        document = {
            "logged": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "text": record.getMessage(),
        }
        alert = getattr(record, "alert", None)
        if alert is not None:
            document |= {k: v if v == v else None for k, v in alert.items()}
        return json.dumps(document, sort_keys=True)
