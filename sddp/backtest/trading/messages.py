"""Messages from outside: envelopes, and who may send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Topics that an account reads itself; others are for triggers.
PARAMETERS, RELEASE, VIEWS = "parameters", "breaker.release", "ai.bl_views"


@dataclass(frozen=True)
class Envelope:
    """A message.

    Parameters
    ----------
    topic : str
        Such as ``"ai.rebalance"``.
    payload : mapping
        As in JSON.
    nonce : str
        Differs for each message of a sender: a repeated one is not acted on again.
    signature : str, optional
        For the `Verifier`.
    """

    topic: str
    payload: Mapping[str, Any]
    nonce: str
    signature: str | None = None


class Verifier(Protocol):
    """Who may send messages."""

    def rejection(self, envelope: Envelope) -> str | None:
        """Reason why an envelope is not accepted; None accepts it."""
        ...


@dataclass(frozen=True)
class AcceptAll:
    """Verifier that accepts every envelope: for one's own messages, and for replays."""

    def rejection(self, envelope: Envelope) -> str | None:
        """None."""
        return None
