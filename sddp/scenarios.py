"""`MarkovScenarios`: the one object that statistics hands to optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats
from sddp.errors import DataError

# Published probabilities are rounded (the authors' test case to 8 digits): rows this near
# to 1 are renormalised, anything further away is a mistake of the caller.
ROW_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class MarkovScenarios:
    """Asset returns in a finite Markov chain of market regimes.

    At stage ``t`` the market is in state ``k`` and a decision is taken; the market then moves to
    state ``j`` with probability ``transition_matrix[t, k, j]`` and pays scenario ``s`` of that
    state with probability ``probabilities[t, j, s]``. Stages count decisions.

    Parameters
    ----------
    returns : array, shape (n_stages, n_states, n_scenarios, n_assets)
        Simple decimal returns of the risky assets per period: ``returns[t, j, s]`` is earned
        over ``(t, t+1]`` and known at ``t+1``, on arrival in state ``j``. Cash is not an asset
        here. With ``n_stages`` given, shape (n_states, n_scenarios, n_assets) states one law for
        all stages (stored once).
    transition_matrix : array, shape (n_states, n_states) or (n_stages, n_states, n_states)
        Row = from, column = to.
    probabilities : array, optional
        Shape of `returns` without its last axis; equiprobable scenarios by default.
    asset_names, state_names : sequence of str, optional
        Labels; ``asset1``, ... and ``state1``, ... by default. ``cash`` is not allowed.
    n_stages : int, optional
        Number of decisions, where `returns` has no stage axis.

    Raises
    ------
    DataError
        Shapes disagree, a number is not finite, a return is below -1, a probability is negative,
        or a row of probabilities misses 1 by more than 1e-6 (nearer rows are renormalised).
    """

    returns: Floats
    transition_matrix: Floats
    probabilities: Floats | None = None
    asset_names: Sequence[str] | None = None
    state_names: Sequence[str] | None = None
    n_stages: int | None = None

    def __post_init__(self) -> None:
        returns, n_stages = _with_stage_axis(_finite(self.returns, "returns"), self.n_stages)
        n_states, n_scenarios, n_assets = returns.shape[1:]
        if returns.size == 0:
            raise DataError(f"returns has shape {returns.shape}; no axis may be empty")
        if returns.min() < -1.0:
            raise DataError(
                f"returns holds {returns.min():g}, a loss of more than everything; "
                "give simple decimal returns (0.01 = 1 %)"
            )
        transitions = _broadcast(
            _finite(self.transition_matrix, "transition_matrix"),
            (n_stages, n_states, n_states),
            "transition_matrix",
        )
        weights = (
            np.full((n_states, n_scenarios), 1.0 / n_scenarios)
            if self.probabilities is None
            else _finite(self.probabilities, "probabilities")
        )
        probabilities = _broadcast(weights, returns.shape[:3], "probabilities")
        object.__setattr__(self, "returns", _frozen(returns))
        object.__setattr__(
            self, "transition_matrix", _frozen(_rows_of_one(transitions, "transition_matrix"))
        )
        object.__setattr__(
            self, "probabilities", _frozen(_rows_of_one(probabilities, "probabilities"))
        )
        object.__setattr__(self, "n_stages", n_stages)
        object.__setattr__(
            self, "asset_names", _labels(self.asset_names, n_assets, "asset", forbidden="cash")
        )
        object.__setattr__(self, "state_names", _labels(self.state_names, n_states, "state"))

    @property
    def n_states(self) -> int:
        """Number of market regimes."""
        return int(self.returns.shape[1])

    @property
    def n_scenarios(self) -> int:
        """Number of return scenarios in each regime and stage."""
        return int(self.returns.shape[2])

    @property
    def n_assets(self) -> int:
        """Number of risky assets (cash not counted)."""
        return int(self.returns.shape[3])

    @property
    def stationary(self) -> bool:
        """Whether all stages share one law of regimes and returns (stored once)."""
        parts = (self.returns, self.transition_matrix, self.probabilities)
        return self.n_stages == 1 or all(p is None or p.strides[0] == 0 for p in parts)

    def state_index(self, state: int | str) -> int:
        """Position of a regime given by position or name.

        Raises
        ------
        DataError
            There is no such regime.
        """
        names = list(self.state_names or ())
        if isinstance(state, str):
            if state not in names:
                raise DataError(f"regime {state!r} is unknown; known are {names}")
            return names.index(state)
        if not 0 <= state < self.n_states:
            raise DataError(f"regime {state} is outside 0..{self.n_states - 1}")
        return int(state)


def _finite(values: object, name: str) -> Floats:
    array = np.asarray(values, dtype=float)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{name}{list(where)} = {array[where]} is not finite; remove or fill it")
    return array


def _with_stage_axis(returns: Floats, n_stages: int | None) -> tuple[Floats, int]:
    if returns.ndim == 3 and n_stages is not None:
        if n_stages < 1:
            raise DataError(f"n_stages = {n_stages}; at least one decision is needed")
        shared = np.array(returns)
        return np.broadcast_to(shared, (n_stages, *shared.shape)), int(n_stages)
    if returns.ndim == 4 and n_stages in (None, returns.shape[0]):
        return np.array(returns), int(returns.shape[0])
    raise DataError(
        f"returns has shape {returns.shape} with n_stages = {n_stages}; give "
        "(n_stages, n_states, n_scenarios, n_assets), or one stage's array and n_stages"
    )


def _broadcast(values: Floats, shape: tuple[int, ...], name: str) -> Floats:
    if values.shape not in (shape, shape[1:]):
        raise DataError(f"{name} has shape {values.shape}; expected {shape[1:]} or {shape}")
    return np.broadcast_to(values, shape)


def _rows_of_one(weights: Floats, name: str) -> Floats:
    one_law = weights.strides[0] == 0
    rows = weights[:1] if one_law else weights
    if rows.min() < 0.0:
        raise DataError(f"{name} holds the negative probability {rows.min():g}")
    sums = rows.sum(axis=-1, keepdims=True)
    error = np.abs(sums - 1.0)
    if error.max() > ROW_SUM_TOLERANCE:
        where = tuple(int(i) for i in np.argwhere(error == error.max())[0][:-1])
        raise DataError(
            f"{name}{list(where)} sums to {float(sums[where][0])!r}; each row must sum to 1"
        )
    return np.broadcast_to(rows / sums, weights.shape)


def _frozen(values: Floats) -> Floats:
    view = values.view()
    view.flags.writeable = False
    return view


def _labels(
    names: Sequence[str] | None, length: int, prefix: str, forbidden: str | None = None
) -> tuple[str, ...]:
    labels = (
        tuple(f"{prefix}{i + 1}" for i in range(length))
        if names is None
        else tuple(str(name) for name in names)
    )
    if len(labels) != length or len(set(labels)) != length:
        raise DataError(f"{prefix}_names = {labels}; give {length} different names")
    if forbidden in labels:
        raise DataError(f"{prefix}_names holds {forbidden!r}, which names the riskless position")
    return labels
