"""Events of a portfolio that is traded: frozen, each with a canonical JSON.

The names are those of the specification. A class of another module that derives from `Event` is
read back by `event_of` too, once its module is imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final

import pandas as pd

from sddp.errors import DataError

# Metadata of a field that is measured, not decided: it differs between two runs of one history.
MEASURED: Final = {"measured": True}

_KINDS: dict[str, type[Event]] = {}


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened on a row.

    Parameters
    ----------
    time : Timestamp
        Of the row.
    """

    version: ClassVar[int] = 1

    time: pd.Timestamp

    def __init_subclass__(cls) -> None:
        known = _KINDS.setdefault(cls.__name__, cls)
        # A dataclass with slots is made twice.
        assert (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__), known
        _KINDS[cls.__name__] = cls


@dataclass(frozen=True, kw_only=True)
class TriggerFired(Event):
    """A trigger asked for a decision: its description, the reason, and the figures behind it."""

    trigger: str
    reason: str
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class PortfolioOptimized(Event):
    """A decision.

    Parameters
    ----------
    optimizer : str
        Class of the optimizer, or of the strategy where it has none.
    constraint_set : str or None
        Version of the constraint set.
    weights : mapping of text to float, or None
        Target weights by position, cash among them; None trades nothing.
    reasons : tuple of str
    iterations : int or None
        Of the solver.
    held_fixed : tuple of str
        Assets that may not trade.
    seconds : float
        Measured; not part of the canonical JSON.
    """

    optimizer: str
    constraint_set: str | None
    weights: Mapping[str, float] | None
    reasons: tuple[str, ...]
    iterations: int | None = None
    held_fixed: tuple[str, ...] = ()
    seconds: float = field(default=0.0, metadata=MEASURED)


@dataclass(frozen=True, kw_only=True)
class OptimizationFailed(Event):
    """A strategy or its solver failed; the previous target stays."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class RebalanceInstructionIssued(Event):
    """An instruction was handed to the venue: the fields of `RebalanceInstruction`."""

    instruction: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TradeExecuted(Event):
    """A fill: trades (money, positive buys) and costs by asset, those of 0 left out."""

    identifier: str
    trades: Mapping[str, float]
    costs: Mapping[str, float]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class InstructionRejected(Event):
    """An instruction that the venue did not execute, or that was canceled."""

    identifier: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConstraintBreached(Event):
    """The holdings do not keep a constraint."""

    constraint: str
    amount: float
    unit: str
    text: str
    constraint_set: str


@dataclass(frozen=True, kw_only=True)
class ParametersChanged(Event):
    """The strategy's parameters were exchanged; None where one stays.

    Parameters
    ----------
    optimizer : str or None
        A name of `sddp.portfolio.optimizer`.
    risk_aversion : float or None
    constraint_set : str or None
        JSON of a `ConstraintSet`.
    nonce : str
        Of the envelope that asked for it.
    """

    optimizer: str | None = None
    risk_aversion: float | None = None
    constraint_set: str | None = None
    nonce: str = ""


@dataclass(frozen=True, kw_only=True)
class ViewsReceived(Event):
    """Views, and market weights, that the strategy decides with from now on.

    Parameters
    ----------
    views : mapping of source to tuple of str
        JSON of each `InvestorView` of a source, which replace all earlier ones of it.
    market_weights : mapping of text to float, or None
        By asset; None keeps the present ones.
    nonce : str
        Of the envelope that brought them.
    """

    views: Mapping[str, tuple[str, ...]]
    market_weights: Mapping[str, float] | None = None
    nonce: str = ""


@dataclass(frozen=True, kw_only=True)
class MessageRejected(Event):
    """An envelope that was not accepted: the verifier's reason, a repeated nonce, a bad payload."""

    topic: str
    nonce: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TradingHalted(Event):
    """A circuit breaker halted all trading."""

    reason: str
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TradingReleased(Event):
    """Trading was released by somebody with a name."""

    by: str
    reason: str


def canonical(event: Event, *, measured: bool = False) -> str:
    """Canonical JSON of an event: the same text for the same event.

    Keys are sorted, there are no blanks, floats are written so that they are read back to the same
    bits. The text names the event and its version.

    Parameters
    ----------
    event : Event
    measured : bool
        Whether to write what differs between two runs of one history (run times) too.

    Raises
    ------
    DataError
        A field holds something that JSON cannot.

    Examples
    --------
    >>> text = canonical(OptimizationFailed(time=pd.Timestamp("2020-01-02"), reason="no answer"))
    >>> text
    '{"event":"OptimizationFailed","reason":"no answer","time":"2020-01-02T00:00:00","version":1}'
    >>> event_of(text).reason
    'no answer'
    """
    kept = [f.name for f in fields(event) if measured or f.metadata != MEASURED]
    told = [name for name in kept if name != "time"]
    held = {name: getattr(event, name) for name in told}
    document = held | {
        "event": type(event).__name__,
        "version": event.version,
        "time": event.time.isoformat(),
    }
    if all(_quick(value) for value in held.values()):
        try:
            return _JSON.encode(document)
        except ValueError:  # a number that is not finite
            pass
    document |= {name: _plain(value, name) for name, value in held.items()}
    return _JSON.encode(document)


def event_of(text: str) -> Event:
    """Event whose canonical JSON is the text.

    Raises
    ------
    DataError
        The text is no event, or one of an unknown name or version.
    """
    try:
        document = json.loads(text)
        kind, version = document.pop("event"), document.pop("version")
        time = pd.Timestamp(document.pop("time"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"text={text[:60]!r}: must be the JSON of an event: {error!r}") from error
    known = _KINDS.get(kind)
    if known is None or known.version != version:
        raise DataError(
            f"event={kind!r}, version={version!r}: must be one of "
            f"{sorted((k, c.version) for k, c in _KINDS.items())}"
        )
    try:
        return known(time=time, **{name: _read(value) for name, value in document.items()})
    except TypeError as error:
        raise DataError(f"text={text[:60]!r}: must hold the fields of {kind}: {error}") from error


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def _quick(value: Any) -> bool:
    """Whether the encoder writes a value as `_plain` does, unless a number is not finite."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_quick, value.values()))
    if kind is tuple or kind is list:
        return all(map(_quick, value))
    return kind in _QUICK


_QUICK = frozenset({str, float, int, bool, type(None)})


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise DataError(f"{where}[{wrong[0]!r}]: must be a key of text; give str(label)")
        return {key: _plain(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part, where) for part in value]
    raise DataError(f"{where} = {value!r}: must be a number, text, or a mapping or tuple of these")


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(part) for part in value)
    if isinstance(value, dict):
        if value.keys() == {"float"} and isinstance(value["float"], str):
            return float(value["float"])
        return {key: _read(part) for key, part in value.items()}
    return value
