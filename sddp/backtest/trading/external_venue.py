"""`ExternalVenue`: stands for a venue outside of the process, whose answers are inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sddp.backtest.trading.venue import Fill, Quotes, RebalanceInstruction, Venue
from sddp.errors import DataError


class ExternalVenue:
    """Between an account and a venue outside of the process.

    A step only notes what is to be submitted or canceled, and books the fills that it has been
    given: it is the same function of its inputs each time it is taken. Its driver keeps the step,
    then sends what was noted (`send`), and gives back what has been executed (`receive`). After a
    restart everything that may not have been sent is sent again: the venue knows an identifier, and
    executes it once.

    Parameters
    ----------
    venue : Venue
        Its `state` says up to which fill `poll` has answered; after `restore` of it the fills that
        follow are answered again.
    n_assets : int
    """

    simulated = True

    def __init__(self, venue: Venue, n_assets: int) -> None:
        self._venue, self._n_assets = venue, n_assets
        self._unsent: list[RebalanceInstruction | str] = []
        self._fills: list[Fill] = []
        self._answered = venue.state()

    @property
    def most_open(self) -> int:
        """As of the venue."""
        return self._venue.most_open

    def submit(self, instruction: RebalanceInstruction) -> None:
        """Note an instruction."""
        self._unsent.append(instruction)

    def cancel(self, identifier: str) -> None:
        """Note that an instruction is to be canceled."""
        self._unsent.append(identifier)

    def poll(self, quotes: Quotes) -> list[Fill]:
        """The fills received since the last call."""
        fills, self._fills = self._fills, []
        return fills

    def send(self) -> None:
        """Submit and cancel what was noted, in its order; the rest stays where the venue is away.

        An `OSError` of the venue means that it is away.
        """
        while self._unsent:
            first = self._unsent[0]
            try:
                if isinstance(first, str):
                    self._venue.cancel(first)
                else:
                    self._venue.submit(first)
            except OSError:
                return
            del self._unsent[0]

    def arrived(self, quotes: Quotes) -> dict[str, Any] | None:
        """What the venue has executed since the last call, as JSON; None for nothing.

        Raises
        ------
        DataError
            A fill is no fill of these assets.
        """
        try:
            fills = list(self._venue.poll(quotes))
        except OSError:
            return None
        if not fills:
            return None
        return {"fills": [self._plain(fill) for fill in fills], "state": self._venue.state()}

    def receive(self, told: Mapping[str, Any]) -> None:
        """Take what `arrived` has told; it is booked in the next step."""
        for identifier, *amounts, complete in told["fills"]:
            requested, executed, costs = (np.array(money, dtype=float) for money in amounts)
            self._fills.append(Fill(identifier, requested, executed, costs, complete))
        self._answered = told["state"]

    def keep_open(self, identifiers: Sequence[str]) -> None:
        """Forget instructions that are not open any more: they need not be sent."""
        self._unsent = [
            noted
            for noted in self._unsent
            if isinstance(noted, str) or noted.identifier in identifiers
        ]
        self._venue.restore(self._answered)

    def state(self) -> dict[str, Any]:
        """What is noted and received, and the state of the venue."""
        unsent = [told if isinstance(told, str) else told.plain() for told in self._unsent]
        fills = [self._plain(fill) for fill in self._fills]
        return {"unsent": unsent, "fills": fills, "state": self._answered}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._unsent = [
            told if isinstance(told, str) else RebalanceInstruction.from_plain(told)
            for told in state["unsent"]
        ]
        self._fills = []
        self.receive(state)
        self._venue.restore(self._answered)

    def _plain(self, fill: Fill) -> list[Any]:
        amounts = [np.asarray(money, dtype=float) for money in fill[1:4]]
        if any(a.shape != (self._n_assets,) or not np.isfinite(a).all() for a in amounts):
            raise DataError(
                f"fill of {fill.identifier!r}: requested, executed and costs must be finite money "
                f"of {self._n_assets} assets; the venue answered {fill}"
            )
        return [fill.identifier, *(a.tolist() for a in amounts), bool(fill.complete)]
