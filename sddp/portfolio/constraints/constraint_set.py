"""`ConstraintSet`: constraints with a version and a hash, and the breaches of given weights."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.labels import CASH, ByLabel, numbers_by_label
from sddp.portfolio.constraints.constraint import Constraint
from sddp.portfolio.constraints.members import (
    EsgFloor,
    Liquidity,
    TrackingError,
    Turnover,
)
from sddp.portfolio.constraints.members import constraint_of as _constraint_of

# Weights come from solvers and from prices.
TOLERANCE = 1e-9

_SEMANTIC = re.compile(r"\d+\.\d+\.\d+")


class Breach(NamedTuple):
    """A constraint that given weights do not keep.

    Attributes
    ----------
    name : str
        Of the constraint.
    amount : float
        By how much, in `unit`; the largest where a constraint is about several assets.
    unit : str
    text : str
        In words.
    """

    name: str
    amount: float
    unit: str
    text: str


@dataclass(frozen=True)
class ConstraintSet:
    """Named constraints under a version; hashable, and the same after a way through JSON.

    Parameters
    ----------
    constraints : sequence of Constraint
        Names must differ.
    version : str
        Semantic: major.minor.patch.

    Raises
    ------
    ModelError
        A name is used twice, or the version is not semantic.

    Examples
    --------
    >>> from sddp.portfolio import GroupLimit
    >>> tech = GroupLimit(name="tech", assets=("AAPL", "MSFT"), upper=0.3)
    >>> limits = ConstraintSet((tech,), version="1.2.0")
    >>> ConstraintSet.from_json(limits.to_json()) == limits
    True
    >>> [b.text for b in limits.check({"AAPL": 0.25, "MSFT": 0.125, "XOM": 0.625})]
    ["tech: weight of 'AAPL', 'MSFT' together at most 0.3, missed by 0.075 of wealth"]
    """

    constraints: tuple[Constraint, ...] = ()
    version: str = "1.0.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "constraints", tuple(self.constraints))
        names = [c.name for c in self.constraints]
        for name in names:
            if names.count(name) > 1:
                raise ModelError(f"constraints: the name {name!r} is used twice; rename one")
        if not _SEMANTIC.fullmatch(self.version):
            raise ModelError(f"version={self.version!r}: must be major.minor.patch, as 1.0.0")

    def to_json(self) -> str:
        """Canonical JSON: the same text for the same content."""
        document = {
            "version": self.version,
            "constraints": [_document(c) for c in self.constraints],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ConstraintSet:
        """The set whose `to_json` is the text.

        Raises
        ------
        ModelError
            The text is no set of constraints.
        """
        try:
            document = json.loads(text)
            version, entries = document["version"], document["constraints"]
            given = [
                (e["kind"], {k: _tuples(v) for k, v in e.items() if k != "kind"}) for e in entries
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"text={text[:60]!r}: is no set of constraints: {error!r}") from error
        return cls(tuple(_constraint_of(*entry) for entry in given), version)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def diff(self, other: ConstraintSet) -> list[str]:
        """What changes from this set to another, in words; empty where nothing does."""
        mine = {c.name: c for c in self.constraints}
        theirs = {c.name: c for c in other.constraints}
        words = [f"{n}: removed ({c.describe()})" for n, c in mine.items() if n not in theirs]
        words += [f"{n}: added ({c.describe()})" for n, c in theirs.items() if n not in mine]
        for name in mine.keys() & theirs.keys():
            words += _changes(mine[name], theirs[name])
        if self.version != other.version:
            words.append(f"version: {self.version} -> {other.version}")
        if not words and self != other:
            words.append("the same constraints in another order")
        return sorted(words)

    def check(
        self,
        weights: ByLabel,
        *,
        current_weights: ByLabel | None = None,
        covariance: pd.DataFrame | None = None,
    ) -> list[Breach]:
        """Every breach of given weights, soft constraints included, in the set's order.

        Parameters
        ----------
        weights : mapping or Series by label
            Of all assets that a constraint names; cash is the rest of 1, or named.
        current_weights : mapping or Series by label, optional
            Before trading: needed by `Turnover` and `Liquidity`.
        covariance : DataFrame, optional
            Per period: needed by `TrackingError`.

        Raises
        ------
        ModelError
            Something needed is missing, or a name is unknown.
        """
        names = [label for label in weights.keys() if label != CASH]  # noqa: SIM118
        held = numbers_by_label(weights, [CASH, *names], "weights", default=np.nan)
        cash = 1.0 - float(held[1:].sum()) if math.isnan(held[0]) else float(held[0])
        known = _Held(names, held[1:], cash, current_weights, covariance)
        breaches = (known.breach(constraint) for constraint in self.constraints)
        return [breach for breach in breaches if breach is not None]


NO_CONSTRAINTS: Final = ConstraintSet()


class _Held(NamedTuple):
    """Weights that constraints are checked on."""

    names: Sequence[Hashable]
    weights: Floats
    cash: float
    current: ByLabel | None
    covariance: pd.DataFrame | None

    def breach(self, constraint: Constraint) -> Breach | None:
        """The largest breach of a constraint, None where it is kept."""
        amount = self._amount(constraint)
        if amount <= TOLERANCE * max(constraint.size, 1.0):
            return None
        text = (
            f"{constraint.name}: {constraint.describe()}, missed by {amount:.6g} {constraint.unit}"
        )
        return Breach(constraint.name, amount, constraint.unit, text)

    def _amount(self, constraint: Constraint) -> float:
        if isinstance(constraint, TrackingError):
            if self.covariance is None:
                raise ModelError(f"{constraint.name}: covariance=None: give it, per period")
            off = self.weights - constraint.weights(self.names)
            matrix = self.covariance.loc[list(self.names), list(self.names)].to_numpy()
            yearly = math.sqrt(float(off @ matrix @ off) * constraint.periods_per_year)
            return yearly - constraint.limit
        rows = constraint.rows(self.names)
        current = self.weights
        if isinstance(constraint, Turnover | Liquidity):
            if self.current is None:
                raise ModelError(f"{constraint.name}: current_weights=None: give them")
            given = [CASH, *self.names]
            current = numbers_by_label(self.current, given, "current_weights", default=0.0)[1:]
        breach = float(rows.breaches(rows.levels(self.weights, self.cash, current)).max())
        if isinstance(constraint, EsgFloor) and breach > TOLERANCE * constraint.size:
            held = float(self.weights.sum()) + (0.0 if constraint.cash_score is None else self.cash)
            return breach / held if held > 0.0 else 0.0
        return breach


def _document(constraint: Constraint) -> dict[str, Any]:
    values = {f.name: getattr(constraint, f.name) for f in fields(constraint)}
    for label in _labels(values):
        _check_label(label, constraint.name)
    return {"kind": type(constraint).__name__, **values}


def _labels(values: dict[str, Any]) -> list[Hashable]:
    named = [*(values.get("assets") or ())]
    for what in ("loadings", "benchmark", "scores", "volume"):
        named += [label for label, _ in values.get(what, ())]
    return named


def _check_label(label: Hashable, name: str) -> None:
    parts = label if isinstance(label, tuple) else (label,)
    if not all(isinstance(part, str | int | float | bool) for part in parts):
        raise ModelError(
            f"{name}: asset {label!r}: JSON holds text, numbers and tuples of these; rename it"
        )


def _entry(entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Kind and fields."""
    return entry["kind"], {k: _tuples(v) for k, v in entry.items() if k != "kind"}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _changes(mine: Constraint, theirs: Constraint) -> list[str]:
    if type(mine) is not type(theirs):
        return [f"{mine.name}: {type(mine).__name__} -> {type(theirs).__name__}"]
    words = []
    for f in fields(mine):
        old, new = getattr(mine, f.name), getattr(theirs, f.name)
        if old != new:
            words.append(f"{mine.name}: {f.name} {_short(old)} -> {_short(new)}")
    return words


def _short(value: Any) -> str:
    text = "none" if value is None else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
