"""The base of the constraints: a name, a penalty, and checks in words.

Every amount is a fraction of the wealth before trading, as the holdings are. A constraint without
`penalty` is hard. With one it is soft: each unit of breach, in the constraint's own measure, takes
that much from the optimizer's objective.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.labels import ByLabel, checked_labels, places_of
from sddp.portfolio.qp.rows import Rows

# Numbers by asset, in an order that does not depend on how they were given.
Pairs: TypeAlias = tuple[tuple[Hashable, float], ...]


@dataclass(frozen=True, kw_only=True)
class Constraint(ABC):
    """Base of the constraints.

    Parameters
    ----------
    name : str
        What messages, results and events call it.
    penalty : float or None
        None: hard. A positive number: soft, per unit of breach.
    """

    name: str
    penalty: float | None = None
    # What a breach is measured in.
    unit: ClassVar[str] = "of wealth"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ModelError(f"name={self.name!r}: must be text that is not empty")
        if self.penalty is not None:
            self._check("penalty", self.penalty, 0.0, math.inf, "a positive number, or None")
            if not 0.0 < self.penalty < math.inf:
                raise ModelError(f"{self.name}: penalty={self.penalty}: must be positive, or None")

    @property
    def size(self) -> float:
        """A breach that is as large as all wealth in the wrong place: relaxations are compared."""
        return 1.0

    @abstractmethod
    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """The constraint over some assets, its penalty included; none for `TrackingError`.

        Raises
        ------
        DataError
            An asset is unknown.
        """

    @abstractmethod
    def describe(self) -> str:
        """The constraint in words, without its name."""

    def _check(self, what: str, value: Any, low: float, high: float, wanted: str) -> None:
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ModelError(f"{self.name}: {what}={value!r}: must be {wanted}")
        object.__setattr__(self, what, float(value))

    def _check_share(self, what: str, most: float = 1.0) -> None:
        wanted = f"a share of wealth from 0 to {most:g}; give 0.1 for 10 %"
        self._check(what, getattr(self, what), 0.0, most, wanted)

    def _check_sides(self, lowest: float = 0.0) -> None:
        """Sides that are shares of wealth, or any numbers where `lowest` is infinite."""
        low, high = getattr(self, "lower", None), getattr(self, "upper", None)
        if low is None and high is None:
            raise ModelError(f"{self.name}: lower=None, upper=None: give at least one of them")
        for what, value in (("lower", low), ("upper", high)):
            if value is None:
                continue
            if lowest == 0.0:
                self._check_share(what)
            else:
                self._check(what, value, -1e9, 1e9, "a finite number")
        if low is not None and high is not None and low > high:
            raise ModelError(f"{self.name}: lower={low} is above upper={high}; swap them")

    def _set_pairs(self, what: str) -> None:
        object.__setattr__(self, what, pairs_of(getattr(self, what), f"{self.name}: {what}"))

    def _places(self, labels: Iterable[Hashable], assets: Sequence[Hashable]) -> list[int]:
        try:
            return places_of(labels, assets)
        except KeyError as error:
            raise DataError(
                f"{self.name}: asset {error.args[0]!r} is unknown; known are {list(assets)[:8]}"
            ) from error

    def _weighted(self, pairs: Pairs, assets: Sequence[Hashable]) -> Floats:
        weights = np.zeros(len(assets))
        weights[self._places([label for label, _ in pairs], assets)] = [v for _, v in pairs]
        return weights

    def _prices(self, n_rows: int) -> Floats:
        return np.full(n_rows, np.inf if self.penalty is None else self.penalty)

    def _between(self, weights: Floats, **parts: Any) -> Rows:
        """One row between `lower` and `upper`, or the same sides for several rows."""
        low, high = getattr(self, "lower", None), getattr(self, "upper", None)
        k = len(weights)
        return Rows.of(
            weights,
            lower=np.full(k, -np.inf if low is None else low),
            upper=np.full(k, np.inf if high is None else high),
            penalty=self._prices(k),
            **parts,
        )

    def _sides(self) -> str:
        low, high = getattr(self, "lower", None), getattr(self, "upper", None)
        if low is None or high is None:
            return f"at most {high:g}" if low is None else f"at least {low:g}"
        return f"between {low:g} and {high:g}"


def pairs_of(values: ByLabel | Pairs, what: str) -> Pairs:
    """Numbers by asset, sorted by the text of the label; `what` names them in messages."""
    items = list(values.items()) if isinstance(values, Mapping | pd.Series) else list(values)
    if not items:
        raise ModelError(f"{what} is empty; give a number for at least one asset")
    labels = checked_labels([label for label, _ in items], what)
    numbers = np.array([value for _, value in items], dtype=float)
    if not np.isfinite(numbers).all():
        at = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(f"{what} of {labels[at]!r} = {numbers[at]}: must be a finite number")
    return tuple(sorted(zip(labels, numbers.tolist(), strict=True), key=lambda p: str(p[0])))


def members_of(assets: Iterable[Hashable], name: str) -> tuple[Hashable, ...]:
    """Labels of a group, sorted by their text."""
    if isinstance(assets, str):
        raise ModelError(f"{name}: assets={assets!r}: must be a sequence of labels, such as a list")
    members = checked_labels(assets, f"{name}: assets")
    if not members:
        raise ModelError(f"{name}: assets is empty; a group needs members")
    return tuple(sorted(members, key=str))


def listed(labels: Sequence[Hashable], shown: int = 5) -> str:
    """The first labels, and how many more there are."""
    text = ", ".join(repr(label) for label in labels[:shown])
    return text if len(labels) <= shown else f"{text} and {len(labels) - shown} more"
