"""Account of one strategy: holdings, open instructions, and what its triggers remember."""

from __future__ import annotations

import copy
import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.backtest.ledger import Entry
from sddp.backtest.strategies import Adjustable, HoldsFixed, Strategy, TakesViews
from sddp.backtest.trading.decisions import Decision, Proposal, State
from sddp.backtest.trading.events import ParametersChanged, ViewsReceived
from sddp.backtest.trading.execution import (
    TransactionCosts,
    execute,
    requested_trades,
    target_weights,
)
from sddp.backtest.trading.messages import AcceptAll, Envelope, Verifier
from sddp.backtest.trading.time_limit import time_limit
from sddp.backtest.trading.venue import PaperVenue, Quotes, Venue
from sddp.backtest.triggers.breaker import CircuitBreaker
from sddp.backtest.triggers.trigger import Trigger, lookback_of
from sddp.errors import ModelError
from sddp.labels import CASH, label_index, numbers_by_label
from sddp.market.market import View
from sddp.portfolio.views.view import InvestorView

# Messages whose nonces are remembered.
REMEMBERED = 1000


@runtime_checkable
class Resumable(Protocol):
    """Strategy that can be checkpointed and resumed with identical results."""

    def checkpoint(self) -> dict[str, Any] | None:
        """State from which a fresh copy can continue, as JSON; None where it cannot be resumed."""
        ...

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume from a checkpoint; `view` is that of the date on which it was taken."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """Strategy whose state can be stored after any row and restored to the same bits."""

    def state(self) -> dict[str, Any]:
        """State as JSON."""
        ...

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`; `view` is that of the row after which it was stored."""
        ...


@runtime_checkable
class Observing(Protocol):
    """Strategy that observes its own wealth."""

    def observe(self, view: View, wealth: float, lag: int) -> None:
        """Wealth of the account on a row, before its trades and before it may be asked to decide.

        Parameters
        ----------
        view : View
            What is known on the row.
        wealth : float
            Money, after the costs of all trades of earlier rows.
        lag : int
            Rows between a decision and its execution.
        """
        ...


@dataclass(frozen=True)
class Rules:
    """How strategies are traded.

    Attributes
    ----------
    costs : TransactionCosts
        Charged on every row on which the market states no other ones (`View.costs`).
    lag : int
        Rows between a decision and its execution on paper.
    initial_wealth : float
        Money before the first row.
    rebalance : Trigger
    breaker : CircuitBreaker, optional
        Halts all trading.
    keep_on_failure : bool
        Whether a strategy that raises leaves the previous target in place (an event says so); else
        the exception is raised.
    verifier : Verifier
        Who may send messages.
    seconds : float, optional
        Time limit of a decision, see `time_limit`: one that takes longer has failed. It depends on
        the machine: a run in which one was stopped need not be repeated by another.
    initial_weights : tuple of float, optional
        Shares of the initial wealth by position, cash first, in which it is held before the first
        row; default: all in cash.

    Raises
    ------
    ModelError
        `seconds` is not positive.
    """

    costs: TransactionCosts
    lag: int
    initial_wealth: float
    rebalance: Trigger
    breaker: CircuitBreaker | None = None
    keep_on_failure: bool = False
    verifier: Verifier = AcceptAll()  # noqa: RUF009 - frozen and without state
    seconds: float | None = None
    initial_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0.0:
            raise ModelError(f"seconds={self.seconds}: must be a positive number, or None")


@dataclass(frozen=True, eq=False)
class Order:
    """An open instruction: what it is to reach."""

    identifier: str
    weights: Floats
    fixed: NDArray[np.bool_]


class Account:
    """State of one strategy that is traded; `step` alone changes it.

    Parameters
    ----------
    strategy : Strategy
        Copied.
    assets : sequence of labels
    rules : Rules
    venue : Venue, optional
        Default: `PaperVenue` with the lag of the rules.

    Attributes
    ----------
    row : int
        Rows processed.
    today : Timestamp or None
        Of the last row.
    holdings : array, shape (1 + n_assets,)
        Money, cash first.
    entry : Entry or None
        Movements of money of the last row.
    decision : Decision or None
        The last one.
    orders : list of Order
        Open instructions.
    """

    def __init__(
        self,
        strategy: Strategy,
        assets: Iterable[Hashable],
        rules: Rules,
        venue: Venue | None = None,
    ) -> None:
        self.strategy = copy.deepcopy(strategy)
        # Asked once: to ask a protocol takes longer than to earn the returns of a row.
        self.observing = self.strategy if isinstance(self.strategy, Observing) else None
        self.rules = rules
        self.assets = list(assets)
        self.names = [str(name) for name in self.assets]
        self.positions = label_index([CASH, *self.assets])
        self.venue: Venue = PaperVenue(self.assets, rules.lag) if venue is None else venue
        self.row = 0
        self.today: pd.Timestamp | None = None
        held = rules.initial_weights or (1.0, *np.zeros(len(self.assets)))
        self.holdings: Floats = rules.initial_wealth * np.array(held)
        self.entry: Entry | None = None
        self.decision: Decision | None = None
        self.orders: list[Order] = []
        self.n_instructions = 0
        self.inbox: list[Envelope] = []
        self.waiting: list[Envelope] = []
        self.seen: list[str] = []
        self.trigger_state: State = None
        self.breaker_state: State = None
        self.parameters: dict[str, Any] = {}
        self.views: dict[str, tuple[str, ...]] = {}
        self.market_weights: dict[str, float] | None = None

    @property
    def lookback(self) -> int | None:
        """Rows of a view that strategy, trigger and breaker read; None if one of them reads all."""
        parts = [self.strategy, self.rules.rebalance, self.rules.breaker]
        needed = [lookback_of(part) for part in parts if part is not None]
        return None if None in needed else max(n for n in needed if n is not None)

    @property
    def halted(self) -> bool:
        """Whether the breaker has halted trading."""
        return bool(self.breaker_state and self.breaker_state["halted"])

    def receive(self, envelope: Envelope) -> None:
        """Take a message, which is acted on in the next step."""
        self.inbox.append(envelope)

    def costs(self, view: View) -> TransactionCosts:
        """Costs charged on the row of a view."""
        if "costs" not in view.arrays:
            return self.rules.costs
        rates = view.arrays["costs"][-1]
        return TransactionCosts(rates, rates)

    def quotes(self, view: View) -> Quotes:
        """The row of a view for a simulated venue."""
        return Quotes(
            row=self.row,
            holdings=self.holdings,
            quoted=view.arrays["quoted"][-1],
            costs=self.costs(view),
            volumes=view.arrays["volumes"][-1] if "volumes" in view.arrays else None,
        )

    def holdings_with_orders(self, quotes: Quotes) -> Floats:
        """Money, cash first, as if open instructions were executed today.

        Who did not see them would order the same again, or undo it. Whether an asset will have a
        quote when its order is due is not known: they are shown as if all had.
        """
        held = self.holdings.copy()
        for order in self.orders:
            everything = np.ones(len(self.assets), dtype=bool)
            held = order_executed(held, order, quotes.costs, everything)
        return held

    def propose(
        self, view: View, held: Floats, quotes: Quotes, free: frozenset[Hashable]
    ) -> Proposal:
        """The strategy's answer where only some assets may be traded."""
        started = time.perf_counter()
        fixed = np.array([name not in free for name in self.assets])
        holdings = pd.Series(held, index=self.positions)
        answer: Any = None
        with time_limit(self.rules.seconds):
            if fixed.all():
                pass  # nothing may be traded: nobody is asked
            elif fixed.any() and isinstance(self.strategy, HoldsFixed):
                still = frozenset(self.assets) - free
                answer = self.strategy.decide_fixed(view, holdings, still)
            else:
                answer = self.strategy.decide(view, holdings)
        weights = None if answer is None else target_weights(answer, self.assets)
        costs = quotes.costs
        trades = np.zeros(len(self.assets))
        if weights is not None:
            trades = requested_trades(held, weights, costs, fixed)
        return Proposal(
            weights=weights,
            fixed=fixed,
            trades=trades,
            cost=float(costs.charged(trades).sum()),
            wealth=float(held.sum()),
            solution=getattr(self.strategy, "solution", None),
            seconds=time.perf_counter() - started,
        )

    def change(self, event: ParametersChanged) -> None:
        """Exchange the strategy's parameters.

        Raises
        ------
        ModelError
            The strategy has none that can be exchanged, or a value is out of range.
        """
        if not isinstance(self.strategy, Adjustable):
            raise ModelError(
                f"{type(self.strategy).__name__} has no parameters that can be exchanged; use "
                "OneStageStrategy, or give the strategy a method change(event)"
            )
        self.strategy.change(event)
        asked = {name: getattr(event, name) for name in PARAMETERS_OF_A_STRATEGY}
        self.parameters |= {k: v for k, v in asked.items() if v is not None}

    def take_views(self, event: ViewsReceived) -> None:
        """Hand views from outside to the strategy; those of a source replace all earlier ones.

        Raises
        ------
        ModelError, DataError
            The strategy takes none, or one is none, or about an unknown asset.
        """
        if not isinstance(self.strategy, TakesViews):
            raise ModelError(
                f"{type(self.strategy).__name__} takes no views; use OneStageStrategy with "
                "BlackLitterman"
            )
        labels = dict(zip(self.names, self.assets, strict=True))
        weights: dict[Hashable, float] | None = None
        if event.market_weights is not None:
            given = numbers_by_label(event.market_weights, self.names, "market_weights")
            weights = dict(zip(self.assets, given.tolist(), strict=True))
        held = {k: v for k, v in self.views.items() if k not in event.views} | dict(event.views)
        views = []
        for source, told in event.views.items():
            for text in told:
                view = InvestorView.from_json(text)
                named = tuple((labels.get(str(name), name), w) for name, w in view.assets)
                views.append(replace(view, assets=named, source=source))
                views[-1].weights(self.assets)
        self.strategy.take_views(views, weights, frozenset(event.views))
        self.views = held
        if event.market_weights is not None:
            self.market_weights = dict(event.market_weights)

    def state(self) -> dict[str, Any]:
        """State after a row, as JSON: a fresh account that restores it goes on to the same bits.

        Raises
        ------
        ModelError
            The strategy keeps a state that it cannot hand out.
        """
        return self.own_state() | {"strategy": strategy_state(self.strategy)}

    def own_state(self) -> dict[str, Any]:
        """State without the strategy's, as JSON."""
        last = self.decision
        return {
            "row": self.row,
            "today": None if self.today is None else self.today.isoformat(),
            "holdings": self.holdings.tolist(),
            "decision": None if last is None else self._plain_decision(last),
            "orders": [[o.identifier, o.weights.tolist(), o.fixed.tolist()] for o in self.orders],
            "n_instructions": self.n_instructions,
            "inbox": [vars(envelope) for envelope in self.inbox],
            "waiting": [vars(envelope) for envelope in self.waiting],
            "seen": list(self.seen),
            "trigger": self.trigger_state,
            "breaker": self.breaker_state,
            "parameters": dict(self.parameters),
            "views": [[source, list(told)] for source, told in self.views.items()],
            "market_weights": self.market_weights,
            "venue": self.venue.state(),
        }

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`; `view` is that of the row after which it was stored."""
        self.restore_own(state)
        restore_strategy(self.strategy, state["strategy"], view)

    def restore_own(self, state: Mapping[str, Any]) -> None:
        """Go on from an `own_state`."""
        self.row, self.n_instructions = state["row"], state["n_instructions"]
        self.today = None if state["today"] is None else pd.Timestamp(state["today"])
        self.holdings = np.array(state["holdings"], dtype=float)
        told = state["decision"]
        self.decision = None if told is None else self._decision(told)
        self.orders = [
            Order(name, np.array(weights, dtype=float), np.array(fixed, dtype=bool))
            for name, weights, fixed in state["orders"]
        ]
        self.inbox = [Envelope(**told) for told in state["inbox"]]
        self.waiting = [Envelope(**told) for told in state["waiting"]]
        self.seen = list(state["seen"])
        self.trigger_state, self.breaker_state = state["trigger"], state["breaker"]
        self.venue.restore(state["venue"])
        if state["parameters"]:
            assert self.today is not None
            self.change(ParametersChanged(time=self.today, **state["parameters"]))
        views = {source: tuple(told) for source, told in state.get("views", [])}
        if views or state.get("market_weights") is not None:
            assert self.today is not None
            weights = state["market_weights"]
            self.take_views(ViewsReceived(time=self.today, views=views, market_weights=weights))

    def _plain_decision(self, decision: Decision) -> dict[str, Any]:
        told = {f.name: getattr(decision, f.name) for f in fields(decision)}
        weights = decision.weights
        still = [i for i, name in enumerate(self.assets) if name in set(decision.held_fixed)]
        return told | {
            "date": decision.date.isoformat(),
            "weights": None if weights is None else weights.tolist(),
            "reasons": list(decision.reasons),
            "held_fixed": still,
            "seconds": 0.0,  # measured: it differs between two runs of one history
        }

    def _decision(self, told: Mapping[str, Any]) -> Decision:
        weights = told["weights"]
        changed = {
            "date": pd.Timestamp(told["date"]),
            "weights": None if weights is None else pd.Series(weights, index=self.positions),
            "reasons": tuple(told["reasons"]),
            "held_fixed": tuple(self.assets[i] for i in told["held_fixed"]),
        }
        return Decision(**(dict(told) | changed))


PARAMETERS_OF_A_STRATEGY = ("optimizer", "risk_aversion", "constraint_set")


def order_executed(
    holdings: Floats, order: Order, costs: TransactionCosts, quoted: NDArray[np.bool_]
) -> Floats:
    """Holdings as if an order were executed at today's quotes."""
    requested = requested_trades(holdings, order.weights, costs, order.fixed)
    return execute(holdings, requested, costs, quoted).holdings


def strategy_state(strategy: object) -> dict[str, Any] | None:
    """State of a strategy; None where it has none.

    Raises
    ------
    ModelError
        The strategy keeps a state that it cannot hand out.
    """
    if isinstance(strategy, Stateful):
        return strategy.state()
    settings: Any = getattr(strategy, "__dataclass_params__", None)
    if settings is not None and settings.frozen:
        return None
    raise ModelError(
        f"strategy={strategy!r}: must be a frozen dataclass, or have state() and "
        "restore(state, view), for its account to be stored between two rows"
    )


def restore_strategy(strategy: object, state: Mapping[str, Any] | None, view: View) -> None:
    """Restore what `strategy_state` gave."""
    if state is not None:
        assert isinstance(strategy, Stateful)
        strategy.restore(state, view)
