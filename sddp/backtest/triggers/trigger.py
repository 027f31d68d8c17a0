"""`Trigger`: when a strategy is asked, and how triggers are combined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

from sddp.backtest.trading.decisions import Fired, Question, State
from sddp.portfolio.constraints.constraint_set import Breach


@runtime_checkable
class Trigger(Protocol):
    """When a strategy is asked again; the first row is always a decision.

    A trigger is a frozen object. Its answer is a pure function of the question and of the state
    that it gave back on the row before: plain JSON, part of the account's checkpoint.
    """

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """Whether to decide today, and the state for the next row.

        Parameters
        ----------
        question : Question
        state : JSON, or None at first

        Returns
        -------
        fired : Fired or None
        state : JSON
        """
        ...


class Combinable:
    """Base of triggers: ``a | b`` fires where one does, ``a & b`` where both do, ``~a`` elsewhere.

    Attributes
    ----------
    lookback : int or None
        Rows of a view that are read; None for all.
    asks_strategy : bool
        Whether the strategy's answer is needed, so that it comes last.
    """

    lookback: ClassVar[int | None] = 1
    asks_strategy: ClassVar[bool] = False

    def __or__(self, other: Trigger) -> Either:
        return Either(_trigger(self), other)

    def __and__(self, other: Trigger) -> Both:
        return Both(_trigger(self), other)

    def __invert__(self) -> Not:
        return Not(_trigger(self))

    def fired(
        self,
        reason: str,
        figures: Mapping[str, float] | None = None,
        tradable: frozenset[Hashable] | None = None,
        breaches: tuple[tuple[str, Breach], ...] = (),
    ) -> Fired:
        """Answer of this trigger."""
        return Fired(reason, figures or {}, tradable, breaches, (repr(self),))


@dataclass(frozen=True)
class _Pair(Combinable):
    """Two triggers that are asked together."""

    left: Trigger
    right: Trigger

    @property
    def lookback(self) -> int | None:  # type: ignore[override]
        """The longer one."""
        one, other = lookback_of(self.left), lookback_of(self.right)
        return None if one is None or other is None else max(one, other)

    @property
    def asks_strategy(self) -> bool:  # type: ignore[override]
        """Whether one of the two needs the strategy's answer."""
        return asks_strategy(self.left) or asks_strategy(self.right)


@dataclass(frozen=True)
class Either(_Pair):
    """Fires where one of two triggers does; then what one of them leaves may be traded."""

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`."""
        answers: list[Fired] = []
        states = list(state or (None, None))
        for i in _cheap_first(self.left, self.right):
            asked = (self.left, self.right)[i]
            settled = any(a.tradable is None for a in answers)
            if settled and asks_strategy(asked):
                continue
            answer, states[i] = asked.fires(question, states[i])
            answers += [answer] if answer is not None else []
        return _joined(answers, " or "), states


@dataclass(frozen=True)
class Both(_Pair):
    """Fires where both of two triggers do; what both of them leave may be traded.

    Of two triggers the one that needs the strategy's answer is asked last, and only where the
    other one has fired.
    """

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`."""
        answers: list[Fired | None] = []
        states = list(state or (None, None))
        for i in _cheap_first(self.left, self.right):
            asked = (self.left, self.right)[i]
            if answers and asks_strategy(asked):
                if answers[0] is None:
                    return None, states
                question = _among(question, answers[0].tradable)
            answer, states[i] = asked.fires(question, states[i])
            answers.append(answer)
        first, second = answers
        if first is None or second is None:
            return None, states
        joined = _joined([first, second], " and ")
        assert joined is not None
        kept = _among(_among(question, first.tradable), second.tradable).tradable
        if kept is not None and not kept:
            return None, states  # nothing is left that may be traded
        return replace(joined, tradable=kept), states


@dataclass(frozen=True)
class Not(Combinable):
    """Fires where another trigger does not."""

    trigger: Trigger

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`."""
        answer, state = self.trigger.fires(question, state)
        return (self.fired(f"not {self.trigger!r}") if answer is None else None), state

    @property
    def lookback(self) -> int | None:  # type: ignore[override]
        """That of the trigger."""
        return lookback_of(self.trigger)

    @property
    def asks_strategy(self) -> bool:  # type: ignore[override]
        """That of the trigger."""
        return asks_strategy(self.trigger)


def lookback_of(part: object) -> int | None:
    """Rows that a strategy or trigger says it reads; None where it says nothing: all of them."""
    found: int | None = getattr(part, "lookback", None)
    return found


def asks_strategy(trigger: Trigger) -> bool:
    """Whether a trigger needs the strategy's answer."""
    return bool(getattr(trigger, "asks_strategy", False))


def _trigger(thing: Any) -> Trigger:
    assert isinstance(thing, Trigger)
    return thing


def _cheap_first(left: Trigger, right: Trigger) -> tuple[int, int]:
    return (1, 0) if asks_strategy(left) and not asks_strategy(right) else (0, 1)


def _among(question: Question, tradable: frozenset[Hashable] | None) -> Question:
    """The question with fewer assets that may be traded."""
    if tradable is None:
        return question
    return replace(question, tradable=question.free & tradable)


def _joined(answers: list[Fired], word: str) -> Fired | None:
    """Answers of triggers as one: what one of them leaves may be traded."""
    if len(answers) < 2:
        return answers[0] if answers else None
    one, other = answers
    free = None
    if one.tradable is not None and other.tradable is not None:
        free = one.tradable | other.tradable
    return Fired(
        reason=f"{one.reason}{word}{other.reason}",
        figures={**one.figures, **other.figures},
        tradable=free,
        breaches=one.breaches + other.breaches,
        parts=one.parts + other.parts,
    )
