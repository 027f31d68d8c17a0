"""`step`: one row of trading, the only place where a portfolio is traded."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.ledger import Entry
from sddp.backtest.trading.account import REMEMBERED, Account, Order
from sddp.backtest.trading.decisions import Decision, Fired, Proposal, Question
from sddp.backtest.trading.events import (
    ConstraintBreached,
    Event,
    InstructionRejected,
    MessageRejected,
    OptimizationFailed,
    ParametersChanged,
    PortfolioOptimized,
    RebalanceInstructionIssued,
    TradeExecuted,
    TradingHalted,
    TradingReleased,
    TriggerFired,
    ViewsReceived,
)
from sddp.backtest.trading.messages import PARAMETERS, RELEASE, VIEWS, Envelope
from sddp.backtest.trading.venue import Fill, Quotes, RebalanceInstruction, holdings_after
from sddp.errors import SddpError
from sddp.labels import CASH
from sddp.market.market import View
from sddp.portfolio.views.view import InvestorView

FIRST = Fired("first row", parts=("first row",))


class EventSink(Protocol):
    """Where a driver appends the events of a row, inside the row's transaction."""

    def append(self, event: Event, /) -> object:
        """Keep an event."""
        ...


def step(account: Account, view: View, *, decide: bool = True) -> list[Event]:
    """Process one row: earn, execute what is due, and decide where the trigger asks for it.

    In this order: messages are verified and parameters exchanged; the row's returns are earned on
    what was held; the breaker is asked; fills of the venue change the holdings; the trigger is
    asked, unless trading is halted or as many instructions are open as the venue takes; the
    strategy decides on what is known up to this row; the instruction goes to the venue, which may
    fill it at once (a lag of 0). The first row is always a decision.

    Parameters
    ----------
    account : Account
        Written to: holdings, ``entry`` (the row's movements of money), ``decision``.
    view : View
        What is known on the row; its last row is the one that is processed.
    decide : bool
        False where nothing is to be decided any more, as a backtest knows of its last rows.

    Returns
    -------
    list of Event
        In the order in which they happened.
    """
    events: list[Event] = []
    account.today = view.date
    _read_messages(account, view, events)
    earned = _earn(account, view)
    # Read before the strategy has had the view in its hands.
    quotes = account.quotes(view)
    before = account.holdings
    _watch(account, view, events)
    fills = _settle(account, quotes, events)
    if decide and not account.halted and len(account.orders) < account.venue.most_open:
        issued = _decide(account, view, quotes._replace(holdings=account.holdings), events)
        if issued:
            fills += _settle(account, quotes._replace(holdings=account.holdings), events)
    account.entry = _entry(earned, before, fills, account.holdings)
    account.row += 1
    return events


def _read_messages(account: Account, view: View, events: list[Event]) -> None:
    """Verify what arrived; leave to the trigger what is for it."""
    for envelope in account.inbox:
        if envelope.nonce in account.seen:
            reason: str | None = "the nonce was used before"
        else:
            reason = account.rules.verifier.rejection(envelope)
        if reason is None:
            account.seen = [*account.seen, envelope.nonce][-REMEMBERED:]
            if envelope.topic == PARAMETERS:
                reason = _change(account, view, envelope, events)
            elif envelope.topic == VIEWS:
                reason = _take_views(account, view, envelope, events)
            if reason is None and envelope.topic != PARAMETERS:
                account.waiting.append(envelope)
        if reason is not None:
            events.append(
                MessageRejected(
                    time=view.date, topic=envelope.topic, nonce=envelope.nonce, reason=reason
                )
            )
    account.inbox = []


def _change(account: Account, view: View, envelope: Envelope, events: list[Event]) -> str | None:
    """Exchange parameters; returns why that could not be done."""
    try:
        event = ParametersChanged(time=view.date, nonce=envelope.nonce, **envelope.payload)
        account.change(event)
    except (SddpError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    events.append(event)
    return None


def _take_views(
    account: Account, view: View, envelope: Envelope, events: list[Event]
) -> str | None:
    """Hand views to the strategy; returns why that could not be done.

    The payload has ``views``, a list of the fields of `InvestorView`; ``market_weights`` by asset,
    if they change; ``source``, where all views of a source are withdrawn.
    """
    told = envelope.payload
    try:
        views: dict[str, tuple[str, ...]] = {}
        if "source" in told:
            views[str(told["source"])] = ()
        for document in told.get("views", ()):
            one = InvestorView(**document)
            views[one.source] = (*views.get(one.source, ()), one.to_json())
        event = ViewsReceived(
            time=view.date,
            views=views,
            market_weights=told.get("market_weights"),
            nonce=envelope.nonce,
        )
        account.take_views(event)
    except (SddpError, TypeError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    events.append(event)
    return None


def _earn(account: Account, view: View) -> Floats:
    """Apply the row's returns to the holdings of the row before."""
    earned: Floats = np.zeros_like(account.holdings)
    if account.row:
        rates = np.concatenate([view.arrays["cash_rate"][-1:], view.arrays["returns"][-1]])
        # An asset not yet quoted has no return, and is not held.
        earned = account.holdings * np.nan_to_num(rates)
        account.holdings = account.holdings + earned
    if account.observing is not None:
        account.observing.observe(view, float(account.holdings.sum()), account.rules.lag)
    return earned


def _watch(account: Account, view: View, events: list[Event]) -> None:
    """Ask the breaker, and read the messages that release it."""
    breaker, acts = account.rules.breaker, []
    for envelope in [e for e in account.waiting if e.topic == RELEASE]:
        account.waiting.remove(envelope)
        acts.append(envelope)
    if breaker is None:
        return
    was_halted = account.halted
    found, account.breaker_state = breaker.check(view, account.holdings, account.breaker_state)
    if found is not None and not was_halted:
        events.append(TradingHalted(time=view.date, reason=found.reason, figures=found.figures))
        for order in account.orders:
            account.venue.cancel(order.identifier)
            events.append(
                InstructionRejected(
                    time=view.date, identifier=order.identifier, reason="trading is halted"
                )
            )
        account.orders = []
    for envelope in acts:
        reason, account.breaker_state = breaker.release(
            view, account.holdings, account.breaker_state, envelope.payload
        )
        if reason is None:
            told = {name: str(envelope.payload.get(name, "")) for name in ("by", "reason")}
            events.append(TradingReleased(time=view.date, **told))
        else:
            events.append(
                MessageRejected(time=view.date, topic=RELEASE, nonce=envelope.nonce, reason=reason)
            )


def _settle(account: Account, quotes: Quotes, events: list[Event]) -> list[Fill]:
    """Book the venue's fills."""
    assert account.today is not None
    fills = list(account.venue.poll(quotes))
    for fill in fills:
        account.holdings = holdings_after(account.holdings, fill)
        if fill.complete:
            account.orders = [o for o in account.orders if o.identifier != fill.identifier]
        events.append(
            TradeExecuted(
                time=account.today,
                identifier=fill.identifier,
                trades=_by_name(account, fill.executed),
                costs=_by_name(account, fill.costs),
                complete=fill.complete,
            )
        )
    return fills


def _decide(account: Account, view: View, quotes: Quotes, events: list[Event]) -> bool:
    """Ask the trigger and the strategy; returns whether an instruction was issued."""
    held = account.holdings_with_orders(quotes)
    asked: dict[frozenset[Hashable], Proposal] = {}

    def propose(free: frozenset[Hashable]) -> Proposal:
        if free not in asked:
            asked[free] = account.propose(view, held, quotes, free)
        return asked[free]

    messages, account.waiting = tuple(account.waiting), []
    last = Decision(view.date, None) if account.decision is None else account.decision
    question = Question(view, account.row, account.assets, held, last, messages, propose)
    try:
        fired, account.trigger_state = account.rules.rebalance.fires(
            question, account.trigger_state
        )
        if account.decision is None:
            fired = FIRST
        if fired is None:
            return False
        free = question.free if fired.tradable is None else fired.tradable
        proposal = propose(free)
    except Exception as error:
        if not account.rules.keep_on_failure:
            raise
        failure = f"{type(error).__name__}: {error}"
        events.append(OptimizationFailed(time=view.date, reason=failure))
        if account.rules.breaker is not None:
            account.breaker_state = account.rules.breaker.failed(account.breaker_state)
        return False
    if account.rules.breaker is not None:
        account.breaker_state = account.rules.breaker.succeeded(account.breaker_state)
    _tell_of_firing(account, view, fired, events)
    return _issue(account, view, fired, proposal, events)


def _tell_of_firing(account: Account, view: View, fired: Fired, events: list[Event]) -> None:
    described = " & ".join(fired.parts) if fired.parts else repr(account.rules.rebalance)
    events.append(
        TriggerFired(
            time=view.date, trigger=described, reason=fired.reason, figures=dict(fired.figures)
        )
    )
    for version, breach in fired.breaches:
        events.append(
            ConstraintBreached(
                time=view.date,
                constraint=breach.name,
                amount=breach.amount,
                unit=breach.unit,
                text=breach.text,
                constraint_set=version,
            )
        )


def _issue(
    account: Account, view: View, fired: Fired, proposal: Proposal, events: list[Event]
) -> bool:
    """Record a decision and hand its instruction to the venue."""
    solution, weights = proposal.solution, proposal.weights
    optimizer = type(account.strategy).__name__ if solution is None else solution.optimizer
    version = None if solution is None else solution.constraint_set
    fixed = np.flatnonzero(proposal.fixed)
    still = tuple(account.names[i] for i in fixed)
    account.decision = Decision(
        date=view.date,
        weights=None if weights is None else pd.Series(weights, index=account.positions),
        row=account.row,
        optimizer=optimizer,
        constraint_set=version,
        reasons=(fired.reason,),
        iterations=None if solution is None else solution.iterations,
        held_fixed=tuple(account.assets[i] for i in fixed),
        seconds=proposal.seconds,
    )
    target = (
        None
        if weights is None
        else dict(zip([CASH, *account.names], weights.tolist(), strict=True))
    )
    events.append(
        PortfolioOptimized(
            time=view.date,
            optimizer=optimizer,
            constraint_set=version,
            weights=target,
            reasons=(fired.reason,),
            iterations=account.decision.iterations,
            held_fixed=still,
            seconds=proposal.seconds,
        )
    )
    if weights is None or target is None:
        return False
    instruction = RebalanceInstruction(
        identifier=f"{view.date.isoformat()}/{account.n_instructions}",
        time=view.date,
        weights=target,
        legs=_by_name(account, proposal.trades),
        held_fixed=still,
        optimizer=optimizer,
        constraint_set=version,
        reason=fired.reason,
    )
    account.n_instructions += 1
    account.orders.append(Order(instruction.identifier, weights, proposal.fixed))
    account.venue.submit(instruction)
    events.append(RebalanceInstructionIssued(time=view.date, instruction=instruction.plain()))
    return True


def _entry(earned: Floats, before: Floats, fills: list[Fill], after: Floats) -> Entry:
    """Movements of money of a row."""
    if len(fills) == 1:
        fill = fills[0]
        return Entry(earned, before, fill.requested, fill.executed, fill.costs, after)
    requested, executed, costs = (np.zeros(len(before) - 1) for _ in range(3))
    for fill in fills:
        requested += fill.requested
        executed += fill.executed
        costs += fill.costs
    return Entry(earned, before, requested, executed, costs, after)


def _by_name(account: Account, money: Floats) -> dict[str, Any]:
    """Amounts that are not 0, by the text of the asset."""
    return {account.names[i]: float(money[i]) for i in np.flatnonzero(money)}
