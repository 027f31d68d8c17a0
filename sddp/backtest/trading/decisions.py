"""What a trigger is asked and answers, and what a strategy decides."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.backtest.trading.messages import Envelope
from sddp.labels import CASH, label_index
from sddp.market.market import View
from sddp.portfolio.constraints.constraint_set import Breach
from sddp.portfolio.moments import Moments


@dataclass(frozen=True, eq=False)
class Decision:
    """A decision taken.

    Attributes
    ----------
    date : Timestamp
    weights : Series or None
        Target weights, cash first; None for no trade.
    row : int
        Rows of the run before this one.
    optimizer : str
        Class of the optimizer, or of the strategy where it has none.
    constraint_set : str or None
        Version of the constraint set.
    reasons : tuple of str
        Why it was taken.
    iterations : int or None
        Of the solver, where it says so.
    held_fixed : tuple of labels
        Assets that were not to be traded.
    seconds : float
        That it took.
    """

    date: pd.Timestamp
    weights: pd.Series[float] | None
    row: int = 0
    optimizer: str = ""
    constraint_set: str | None = None
    reasons: tuple[str, ...] = ()
    iterations: int | None = None
    held_fixed: tuple[Hashable, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Fired:
    """A trigger's answer: decide now.

    Attributes
    ----------
    reason : str
        In words.
    figures : mapping of str to float
        Behind it.
    tradable : frozenset of labels, or None
        Assets that may be traded; None for all.
    breaches : tuple of (version, Breach)
        Breached constraints with the version of their set, where they are the reason.
    parts : tuple of str
        Descriptions of the triggers that fired, where they were combined.
    """

    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    tradable: frozenset[Hashable] | None = None
    breaches: tuple[tuple[str, Breach], ...] = ()
    parts: tuple[str, ...] = ()


class Solution(NamedTuple):
    """What a strategy says of its last answer.

    Attributes
    ----------
    optimizer : str
        Class of the optimizer.
    constraint_set : str or None
        Version of the constraint set.
    iterations : int or None
        Of the solver.
    moments : Moments or None
        Of the period that was optimized, all assets.
    cash_return : float
        Of that period.
    risk_aversion : float or None
        Of the utility that was optimized; None where it is no mean-variance utility.
    """

    optimizer: str
    constraint_set: str | None = None
    iterations: int | None = None
    moments: Moments | None = None
    cash_return: float = 0.0
    risk_aversion: float | None = None


@dataclass(frozen=True, eq=False)
class Proposal:
    """What would be traded if the strategy's answer of today were followed.

    Attributes
    ----------
    weights : array, shape (1 + n_assets,), or None
        Target, cash first; None for no trade.
    fixed : array of bool, shape (n_assets,)
        Assets that are not traded.
    trades : array, shape (n_assets,)
        Money at today's quotes, positive buys; exactly 0 for what is fixed.
    cost : float
        Money charged for them.
    wealth : float
        Money before trading.
    solution : Solution or None
        What the strategy says of its answer.
    seconds : float
        That the answer took.
    """

    weights: Floats | None
    fixed: NDArray[np.bool_]
    trades: Floats
    cost: float
    wealth: float
    solution: Solution | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Question:
    """What a trigger may know when it is asked.

    Attributes
    ----------
    view : View
        What is known on the row.
    row : int
        Rows of the run before this one.
    assets : sequence of labels
    money : array, shape (1 + n_assets,)
        Held, cash first; orders on the way as if they were executed today.
    last : Decision
        The last decision taken.
    messages : tuple of Envelope
        That arrived since the trigger was asked last.
    propose : callable from frozenset of labels to Proposal
        Asks the strategy for its answer where only these assets may be traded; the strategy is
        asked once on a row for the same assets.
    tradable : frozenset of labels, or None
        Assets that other triggers, combined by ``&``, leave to be traded; None for all.
    """

    view: View
    row: int
    assets: Sequence[Hashable]
    money: Floats
    last: Decision
    messages: tuple[Envelope, ...] = ()
    propose: Callable[[frozenset[Hashable]], Proposal] | None = None
    tradable: frozenset[Hashable] | None = None

    @property
    def free(self) -> frozenset[Hashable]:
        """Assets that may be traded."""
        return frozenset(self.assets) if self.tradable is None else self.tradable

    @property
    def holdings(self) -> pd.Series[float]:
        """The money by position."""
        return pd.Series(self.money, index=label_index([CASH, *self.assets]))

    def weights(self) -> Floats:
        """Shares of wealth held, cash first, shape (1 + n_assets,)."""
        shares: Floats = self.money / self.money.sum()
        return shares

    def proposal(self, free: frozenset[Hashable] | None = None) -> Proposal:
        """The strategy's answer of today, by default for all assets that may be traded."""
        assert self.propose is not None
        return self.propose(self.free if free is None else free)


# State of a trigger between two rows: what JSON can hold.
State = Any
