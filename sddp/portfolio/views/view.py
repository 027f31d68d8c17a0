"""`InvestorView`: what somebody expects of some assets, until when, and how surely."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.labels import places_of
from sddp.portfolio.constraints.constraint import Pairs, pairs_of

ViewKind = Literal["absolute", "relative"]
ViewReturn = Literal["total", "excess"]


@dataclass(frozen=True, kw_only=True)
class InvestorView:
    """An expected return of one asset or basket, or of one over another.

    Parameters
    ----------
    kind : {"absolute", "relative"}
        "btc earns 8 % a year", or "paxg beats gld by 1 %".
    assets : sequence of labels, or mapping from label to weight
        Absolute: one label, or weights of a basket that sum to 1. Relative: two labels, the first
        beating the second, or weights that sum to 0.
    magnitude : float
        Simple decimal return over `horizon` periods.
    horizon : float
        Periods of the covariance that the magnitude is stated over: 252 for a year of trading
        days. The return per period is ``magnitude / horizon``.
    returns : {"total", "excess"}
        Whether an absolute magnitude is a total return or one in excess of cash; the same for a
        relative one, where cash cancels.
    confidence : float
        Above 0 and at most 1 (certain), as Idzorek (2005) has it.
    variance : float, optional
        Of the view's error per period, for the processor that takes it as given.
    issued_at, valid_until : date
        From and through which the view is held.
    source, version : str
        Who says so, and which edition of it.

    Raises
    ------
    ModelError, DataError
        A value is out of range; weights do not sum to what the kind asks for.
    """

    kind: ViewKind
    assets: Pairs
    magnitude: float
    horizon: float
    confidence: float
    issued_at: datetime.date
    valid_until: datetime.date
    source: str
    version: str = "1"
    returns: ViewReturn = "total"
    variance: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ViewKind):
            raise ModelError(f"kind={self.kind!r}: must be 'absolute' or 'relative'")
        if self.returns not in get_args(ViewReturn):
            raise ModelError(f"returns={self.returns!r}: must be 'total' or 'excess'")
        object.__setattr__(self, "assets", _weights(self.kind, self.assets))
        for name in ("magnitude", "horizon", "confidence", "variance"):
            value = getattr(self, name)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                    raise ModelError(f"{name}={value!r}: must be a number")
                object.__setattr__(self, name, float(value))
        for name in ("issued_at", "valid_until"):
            object.__setattr__(self, name, _date(getattr(self, name), name))
        self._check()

    def _check(self) -> None:
        if not math.isfinite(self.magnitude) or abs(self.magnitude) > 10.0:
            raise ModelError(f"magnitude={self.magnitude}: must be a decimal; give 0.08 for 8 %")
        if not 0.0 < self.horizon < math.inf:
            raise ModelError(f"horizon={self.horizon}: must be a positive number of periods")
        if not 0.0 < self.confidence <= 1.0:
            raise ModelError(
                f"confidence={self.confidence}: must be above 0 and at most 1; leave out a view "
                "without confidence"
            )
        if self.variance is not None and not 0.0 <= self.variance < math.inf:
            raise ModelError(f"variance={self.variance}: must be at least 0, or None")
        if self.issued_at > self.valid_until:
            raise ModelError(
                f"valid_until={self.valid_until} is before issued_at={self.issued_at}; swap them"
            )
        total = sum(value for _, value in self.assets)
        wanted = 1.0 if self.kind == "absolute" else 0.0
        if abs(total - wanted) > 1e-6:
            raise ModelError(
                f"assets={dict(self.assets)} sum to {total:g}: the weights of a view that is "
                f"{self.kind} must sum to {wanted:g}"
            )

    @property
    def per_period(self) -> float:
        """Magnitude per period."""
        return self.magnitude / self.horizon

    def check_date(self, as_of: datetime.date) -> None:
        """Refuse a view that is not held on a date.

        Raises
        ------
        DataError
            It has expired, or is from the future.
        """
        if as_of > self.valid_until:
            raise DataError(f"{self}: expired on {self.valid_until}, it is {as_of}; renew it")
        if as_of < self.issued_at:
            raise DataError(
                f"{self}: issued on {self.issued_at}, not known on {as_of}; wait for it"
            )

    def weights(self, assets: Sequence[Hashable]) -> Floats:
        """Row of the view over some assets.

        Raises
        ------
        DataError
            An asset is unknown.
        """
        row = np.zeros(len(assets))
        try:
            places = places_of([label for label, _ in self.assets], assets)
        except KeyError as error:
            raise DataError(
                f"{self}: asset {error.args[0]!r} is unknown; known are {list(assets)[:8]}"
            ) from error
        row[places] = [weight for _, weight in self.assets]
        return row

    def to_json(self) -> str:
        """Canonical JSON: the same text for the same content."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {n: values[n].isoformat() for n in ("issued_at", "valid_until")}
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> InvestorView:
        """The view whose `to_json` is the text.

        Raises
        ------
        ModelError
        """
        try:
            values = json.loads(text)
            values["assets"] = tuple((_label(a), w) for a, w in values["assets"])
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"text={text[:60]!r}: is no view: {error!r}") from error

    @property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __str__(self) -> str:
        sides = " ".join(f"{weight:+g} {label}" for label, weight in self.assets)
        return f"view of {self.source} ({sides}: {self.magnitude:g} over {self.horizon:g} periods)"


def _weights(kind: str, assets: Any) -> Pairs:
    if isinstance(assets, str):
        raise ModelError(f"assets={assets!r}: must be a sequence of labels, such as a list")
    if isinstance(assets, Mapping | pd.Series):
        return pairs_of(assets, "assets of a view")
    given = list(assets)
    if given and all(isinstance(a, tuple) and len(a) == 2 for a in given):
        return pairs_of(tuple(given), "assets of a view")
    wanted = 1 if kind == "absolute" else 2
    if len(given) != wanted:
        raise ModelError(
            f"assets={given}: a view that is {kind} has {wanted} label(s), or a mapping of weights"
        )
    return pairs_of(tuple(zip(given, (1.0, -1.0), strict=False)), "assets of a view")


def _date(value: Any, name: str) -> datetime.date:
    try:
        return pd.Timestamp(value).date()
    except (ValueError, TypeError) as error:
        raise ModelError(f"{name}={value!r}: must be a date") from error


def _label(value: Any) -> Hashable:
    return tuple(_label(v) for v in value) if isinstance(value, list) else value
