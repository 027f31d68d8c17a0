"""The kinds of constraints, in users' words. See `Constraint` for what they share."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.portfolio.constraints.constraint import Constraint, Pairs, listed, members_of
from sddp.portfolio.qp.rows import Rows


@dataclass(frozen=True, kw_only=True)
class PositionLimit(Constraint):
    """Bounds of each of some weights.

    Parameters
    ----------
    assets : sequence of labels, or None
        Each of them; None for every asset.
    lower, upper : float, optional
        At least one. A negative `lower` is refused: short positions have costs of borrowing that
        are not modeled.
    """

    assets: tuple[Hashable, ...] | None = None
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower is not None and self.lower < 0.0:
            raise ModelError(f"{self.name}: lower={self.lower}: {REJECTED['ShortPosition']}")
        self._check_sides()
        if self.assets is not None:
            object.__setattr__(self, "assets", members_of(self.assets, self.name))

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`; a row for each asset."""
        chosen = assets if self.assets is None else self.assets
        return self._between(np.eye(len(assets))[self._places(chosen, assets)])

    def describe(self) -> str:
        """See `Constraint.describe`."""
        of = "every asset" if self.assets is None else f"each of {listed(self.assets)}"
        return f"weight of {of} {self._sides()}"


@dataclass(frozen=True, kw_only=True)
class GroupLimit(Constraint):
    """Bounds of the sum of some weights; groups may overlap.

    Parameters
    ----------
    assets : sequence of labels
    lower, upper : float, optional
        At least one.
    """

    assets: tuple[Hashable, ...]
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_sides()
        object.__setattr__(self, "assets", members_of(self.assets, self.name))

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`."""
        weights = np.zeros((1, len(assets)))
        weights[0, self._places(self.assets, assets)] = 1.0
        return self._between(weights)

    def describe(self) -> str:
        """See `Constraint.describe`."""
        return f"weight of {listed(self.assets)} together {self._sides()}"


@dataclass(frozen=True, kw_only=True)
class FactorExposure(Constraint):
    """Bounds of the exposure ``sum_i loading_i w_i`` to a factor.

    Parameters
    ----------
    loadings : mapping or Series by label
        Of the assets; those left out have none.
    lower, upper : float, optional
        At least one.
    """

    loadings: Pairs
    lower: float | None = None
    upper: float | None = None
    unit: ClassVar[str] = "of exposure"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_sides(-math.inf)
        self._set_pairs("loadings")

    @property
    def size(self) -> float:
        """The largest loading."""
        return max(abs(value) for _, value in self.loadings) or 1.0

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`."""
        return self._between(self._weighted(self.loadings, assets)[None])

    def describe(self) -> str:
        """See `Constraint.describe`."""
        return f"exposure to the factor {self._sides()}"


@dataclass(frozen=True, kw_only=True)
class TrackingError(Constraint):
    """Volatility of the difference from a benchmark, ``sqrt((w - b)' S (w - b))``.

    Hard it is a cone. Soft it is a quadratic: ``penalty / 2`` times the variance of the difference
    per period is taken from the objective, as risk aversion takes it of the variance.

    Parameters
    ----------
    benchmark : mapping or Series by label
        Weights; what is missing to 1 is cash.
    limit : float
        A year, 0.02 for 2 %; of a soft one what `ConstraintSet.check` compares with.
    periods_per_year : float
        Periods of the covariance in a year, 252 for trading days.
    """

    benchmark: Pairs
    limit: float
    periods_per_year: float
    unit: ClassVar[str] = "a year"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set_pairs("benchmark")
        total = sum(value for _, value in self.benchmark)
        if min(value for _, value in self.benchmark) < 0.0 or total > 1.0 + 1e-9:
            raise ModelError(
                f"{self.name}: benchmark sums to {total:g}: must be weights of at least 0 that "
                "sum to at most 1; the rest is cash"
            )
        self._check("limit", self.limit, 1e-6, 1.0, "a volatility up to 1; give 0.02 for 2 %")
        self._check("periods_per_year", self.periods_per_year, 1e-3, 1e6, "a positive number")

    @property
    def per_period(self) -> float:
        """The limit per period of the covariance."""
        return self.limit / math.sqrt(self.periods_per_year)

    def weights(self, assets: Sequence[Hashable]) -> Floats:
        """Of the benchmark."""
        return self._weighted(self.benchmark, assets)

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`: none."""
        self.weights(assets)
        return Rows.none(len(assets))

    def describe(self) -> str:
        """See `Constraint.describe`."""
        return f"tracking error at most {self.limit:g} a year"


@dataclass(frozen=True, kw_only=True)
class EsgFloor(Constraint):
    """Least average score of what is held.

    Parameters
    ----------
    scores : mapping or Series by label
        Of every asset, inside `scale`.
    floor : float
        Inside `scale`.
    cash_score : float or None
        None: cash is left out of the average, ``sum score_i w_i >= floor sum w_i``. A number: cash
        counts with that score.
    scale : pair of floats
        Least and greatest score there can be.
    """

    scores: Pairs
    floor: float
    cash_score: float | None = None
    scale: tuple[float, float] = (0.0, 100.0)
    unit: ClassVar[str] = "of score"

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = (float(value) for value in self.scale)
        if not low < high:
            raise ModelError(f"{self.name}: scale={self.scale}: give least and greatest score")
        object.__setattr__(self, "scale", (low, high))
        self._set_pairs("scores")
        inside = f"inside the scale from {low:g} to {high:g}"
        for label, score in self.scores:
            if not low <= score <= high:
                raise DataError(f"{self.name}: score of {label!r} = {score}: must be {inside}")
        self._check("floor", self.floor, low, high, inside)
        if self.cash_score is not None:
            self._check("cash_score", self.cash_score, low, high, inside)

    @property
    def size(self) -> float:
        """Width of the scale."""
        return self.scale[1] - self.scale[0]

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`."""
        missing = [label for label in assets if label not in dict(self.scores)]
        if missing:
            raise DataError(f"{self.name}: no score of {missing[0]!r}; give one for every asset")
        above = self._weighted(self.scores, assets) - self.floor
        cash = 0.0 if self.cash_score is None else self.cash_score - self.floor
        return Rows.of(
            above[None], cash=np.array([cash]), lower=np.zeros(1), penalty=self._prices(1)
        )

    def describe(self) -> str:
        """See `Constraint.describe`."""
        cash = "cash left out" if self.cash_score is None else f"cash with {self.cash_score:g}"
        return f"average score at least {self.floor:g}, {cash}"


@dataclass(frozen=True, kw_only=True)
class Turnover(Constraint):
    """Purchases plus sales of the risky assets, ``sum_i |u_i - x_i|``, at most `limit`."""

    limit: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_share("limit", most=2.0)

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`."""
        n = len(assets)
        return Rows.of(
            np.zeros((1, n)),
            bought=np.ones((1, n)),
            sold=np.ones((1, n)),
            upper=np.array([self.limit]),
            penalty=self._prices(1),
        )

    def describe(self) -> str:
        """See `Constraint.describe`."""
        return f"purchases plus sales at most {self.limit:g}"


@dataclass(frozen=True, kw_only=True)
class Liquidity(Constraint):
    """Trade of each asset of at most a share of what is traded a day.

    Hard it limits what may be traded before anything is optimized; soft it charges what is traded
    beyond.

    Parameters
    ----------
    volume : mapping or Series by label
        Average daily volume in money; an asset left out is not limited.
    portfolio_value : float
        Money that weights are shares of.
    share : float
        Of the volume; 0.1 is 10 %.
    """

    volume: Pairs
    portfolio_value: float
    share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set_pairs("volume")
        for label, money in self.volume:
            if not money > 0.0:
                raise DataError(
                    f"{self.name}: volume of {label!r} = {money}: must be positive money a day; "
                    "leave out an asset without a limit, or bound its weight by PositionLimit"
                )
        self._check("portfolio_value", self.portfolio_value, 1e-300, 1e300, "positive money")
        self._check_share("share")

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`; a row for each asset with a volume."""
        trades = np.eye(len(assets))[self._places([label for label, _ in self.volume], assets)]
        limits = self.share * np.array([money for _, money in self.volume]) / self.portfolio_value
        return Rows.of(
            np.zeros_like(trades),
            bought=trades,
            sold=trades,
            upper=limits,
            penalty=self._prices(len(trades)),
        )

    def describe(self) -> str:
        """See `Constraint.describe`."""
        return f"trade of each asset at most {self.share:g} of its daily volume"


@dataclass(frozen=True, kw_only=True)
class CashBounds(Constraint):
    """Bounds of cash."""

    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_sides()

    def rows(self, assets: Sequence[Hashable]) -> Rows:
        """See `Constraint.rows`."""
        return self._between(np.zeros((1, len(assets))), cash=np.ones(1))

    def describe(self) -> str:
        """See `Constraint.describe`."""
        return f"cash {self._sides()}"


KINDS: Mapping[str, type[Constraint]] = {
    kind.__name__: kind
    for kind in (
        PositionLimit,
        GroupLimit,
        FactorExposure,
        TrackingError,
        EsgFloor,
        Turnover,
        Liquidity,
        CashBounds,
    )
}

# What is asked for and not offered, and why.
REJECTED: Mapping[str, str] = {
    "Cardinality": "a number of positions is no convex constraint; bound weights by PositionLimit",
    "MinimumLot": "lots make weights whole numbers, which no solver here has; round the trades",
    "ShortPosition": "short positions have costs of borrowing not modeled here; give 0 or more",
}


def constraint_of(kind: str, values: Mapping[str, Any]) -> Constraint:
    """A constraint from its class name and its fields.

    Raises
    ------
    ModelError
        The kind is unknown or not offered, or a field is wrong.
    """
    if kind in REJECTED:
        raise ModelError(f"kind={kind!r}: {REJECTED[kind]}")
    if kind not in KINDS:
        raise ModelError(f"kind={kind!r}: must be one of {', '.join(KINDS)}")
    known = {f.name for f in fields(KINDS[kind])}
    if unknown := sorted(set(values) - known):
        raise ModelError(f"{kind}: unknown fields {unknown}; known are {sorted(known)}")
    try:
        return KINDS[kind](**values)
    except TypeError as error:
        raise ModelError(f"{kind}: {error}") from error
