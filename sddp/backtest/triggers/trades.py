"""Triggers that compare holdings with a target, and the trades of a decision with their cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sddp.arrays import Floats
from sddp.backtest.trading.decisions import Fired, Proposal, Question, State
from sddp.backtest.triggers.trigger import Combinable
from sddp.errors import ModelError
from sddp.labels import places_of


@dataclass(frozen=True)
class Drift(Combinable):
    """Fire where a weight has drifted from the last target.

    Parameters
    ----------
    absolute : float, optional
        Largest difference of a weight from its target, cash included: 0.05 is five points.
    relative : float, optional
        Largest difference as a share of the target, of positions with a target above 0.

    Raises
    ------
    ModelError
        No size is given, or one is not positive.
    """

    absolute: float | None = None
    relative: float | None = None

    def __post_init__(self) -> None:
        if self.absolute is None and self.relative is None:
            raise ModelError("absolute=None, relative=None: give a size, such as absolute=0.05")
        for name in ("absolute", "relative"):
            size = getattr(self, name)
            if size is not None and not size > 0.0:
                raise ModelError(f"{name}={size}: must be positive")

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; the state is the last target."""
        if question.last.weights is not None:
            state = question.last.weights.tolist()
        if state is None:
            return None, state
        target: Floats = np.array(state)
        off = np.abs(question.weights() - target)
        figures, reasons = {}, []
        if self.absolute is not None and off.max() > self.absolute:
            figures["absolute"] = float(off.max())
            reasons.append(f"drift {off.max():.4g} above {self.absolute:g}")
        if self.relative is not None:
            shares = np.divide(off, target, out=np.zeros_like(off), where=target > 0.0)
            if shares.max() > self.relative:
                figures["relative"] = float(shares.max())
                reasons.append(f"relative drift {shares.max():.4g} above {self.relative:g}")
        return (self.fired(", ".join(reasons), figures) if reasons else None), state


@dataclass(frozen=True)
class Signal(Combinable):
    """Fire where a message on a topic has arrived since the row before.

    Parameters
    ----------
    topic : str, default "ai.rebalance"
    """

    topic: str = "ai.rebalance"

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; no state."""
        found = [message.nonce for message in question.messages if message.topic == self.topic]
        if not found:
            return None, state
        return self.fired(f"{self.topic}: {', '.join(found)}", {"messages": len(found)}), state


@dataclass(frozen=True)
class MinimumTrade(Combinable):
    """Fire where a decision has trades of at least a size; smaller ones are not made.

    The strategy decides; assets whose trades are smaller are held fixed, and it decides again on
    the rest, until no trade is smaller. Where nothing is left it does not fire.

    Parameters
    ----------
    size : float
        Of a trade in one asset, as a fraction of wealth: 0.01 is 1 %.

    Raises
    ------
    ModelError
        The size does not lie between 0 and 1.
    """

    asks_strategy: ClassVar[bool] = True

    size: float

    def __post_init__(self) -> None:
        if not 0.0 < self.size < 1.0:
            raise ModelError(f"size={self.size}: must lie between 0 and 1; 0.01 is 1 %")

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; no state."""
        free, dropped = question.free, 0
        while free:
            proposal = question.proposal(free)
            shares = np.abs(proposal.trades) / proposal.wealth
            small = (shares > 0.0) & (shares < self.size)
            if not small.any():
                break
            left = free - {name for name, s in zip(question.assets, small, strict=True) if s}
            dropped += len(free) - len(left)
            free = left
        if not free or not shares.any():
            return None, state
        figures = {"smallest": float(shares[shares > 0.0].min()), "held_fixed": float(dropped)}
        reason = f"trades of at least {self.size:g}"
        return self.fired(reason, figures, free), state


@dataclass(frozen=True)
class UtilityGain(Combinable):
    """Fire where a decision gains more expected utility than its trades cost.

    The gain is that of ``mean'w - (risk_aversion / 2) w' covariance w`` (cash earns its rate), a
    period, from the present weights to those after the trades, before costs; the mean, covariance
    and risk aversion are those of the strategy's own optimization.

    Parameters
    ----------
    at_least : float, default 1.0
        Least ratio of the gain over the horizon to the cost of the trades. At least 1: a trade
        that gains less than it costs is not made.
    horizon : float, default 1.0
        Periods of the strategy's forecast over which the gain is earned.
    risk_aversion : float, optional
        In place of the strategy's own, and needed where that has none.

    Raises
    ------
    ModelError
        A number is out of range; when asked: the strategy states no expected utility.
    """

    asks_strategy: ClassVar[bool] = True

    at_least: float = 1.0
    horizon: float = 1.0
    risk_aversion: float | None = None

    def __post_init__(self) -> None:
        if not self.at_least >= 1.0:
            raise ModelError(f"at_least={self.at_least}: must be at least 1")
        if not self.horizon > 0.0:
            raise ModelError(f"horizon={self.horizon}: must be a positive number of periods")
        if self.risk_aversion is not None and not self.risk_aversion >= 0.0:
            raise ModelError(f"risk_aversion={self.risk_aversion}: must be at least 0")

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; no state."""
        if not question.free:
            return None, state
        proposal = question.proposal()
        if not proposal.trades.any():
            return None, state
        gain = self.horizon * self.gain(question, proposal)
        cost = proposal.cost / proposal.wealth
        if not (gain > 0.0 and gain >= self.at_least * cost):
            return None, state
        reason = f"utility gain {gain:.4g} at a cost of {cost:.4g}"
        return self.fired(reason, {"gain": gain, "cost": cost}, question.tradable), state

    def gain(self, question: Question, proposal: Proposal) -> float:
        """Gain of expected utility in one period, before costs.

        Raises
        ------
        ModelError
            The strategy states no moments, or no risk aversion, of its answer.
        """
        solution = proposal.solution
        if solution is None or solution.moments is None:
            raise ModelError(
                "UtilityGain: the strategy states no expected utility; use OneStageStrategy, or "
                "give the strategy an attribute `solution` with its moments"
            )
        aversion = self.risk_aversion
        if aversion is None:
            aversion = solution.risk_aversion
        if aversion is None:
            raise ModelError(
                f"UtilityGain: {solution.optimizer} has no risk aversion; give risk_aversion"
            )
        places = places_of(solution.moments.mean.index, question.assets)
        held = question.money
        after = held[1:] + proposal.trades
        cash = held[0] - proposal.trades.sum()
        mean, covariance = solution.moments.mean.to_numpy(), solution.moments.covariance.to_numpy()

        def utility(assets: Floats, money: float) -> float:
            w = assets[places] / proposal.wealth
            expected = mean @ w + solution.cash_return * money / proposal.wealth
            return float(expected - aversion / 2.0 * (w @ covariance @ w))

        return utility(after, cash) - utility(held[1:], held[0])
