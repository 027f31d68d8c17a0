"""`MarkovScenarios`: return scenarios in a Markov chain of regimes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.display.shown import Shown, listed
from sddp.errors import DataError
from sddp.labels import CASH, HOLDS_LABELS, checked_labels, label_index

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Published probabilities are rounded (the authors' test case to 8 digits): rows this near
# to 1 are renormalized, anything further away is a mistake of the caller.
ROW_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class MarkovScenarios(Shown):
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
        all stages (stored once), and so does a DataFrame of shape (n_scenarios, n_assets) for
        each regime, in a list or in a mapping by the regime's name (one alone where there is one
        regime): its columns are the assets.
    transition_matrix : array, shape (n_states, n_states) or (n_stages, n_states, n_states)
        Row = from, column = to.
    probabilities : array, optional
        Shape of `returns` without its last axis; equiprobable scenarios by default.
    asset_names : sequence of hashable, optional
        Labels of the assets: text, numbers, dates, tuples; by default the columns of the
        DataFrames, else ``asset1``, ... None may have the text ``cash``.
    state_names : sequence of str, optional
        By default the keys of the mapping of DataFrames, else ``state1``, ...
    n_stages : int, optional
        Number of decisions, where `returns` has no stage axis.
    limit_shift : array, shape (n_states, n_assets), optional
        What a risk limit adds to the returns of each regime before it measures losses: a regime's
        mean and its risk are two inputs. Default: nothing.

    Raises
    ------
    DataError
        Shapes disagree, a number is not finite, a return is below -1, a probability is negative,
        or a row of probabilities misses 1 by more than 1e-6 (nearer rows are renormalized).
        Two labels are equal or have the same text, see `sddp.labels.checked_labels`.

    Examples
    --------
    >>> calm = pd.DataFrame({"BRK.B": [0.02, 0.00], 7203: [0.01, 0.01]})
    >>> wild = pd.DataFrame({"BRK.B": [0.08, -0.06], 7203: [-0.05, 0.07]})
    >>> scenarios = MarkovScenarios(
    ...     {"calm": calm, "wild": wild}, [[0.9, 0.1], [0.3, 0.7]], n_stages=12
    ... )
    >>> scenarios.asset_names, scenarios.state_names, scenarios.returns.shape
    (('BRK.B', 7203), ('calm', 'wild'), (12, 2, 2, 2))
    """

    returns: Floats
    transition_matrix: Floats
    probabilities: Floats | None = None
    asset_names: Sequence[Hashable] | None = field(default=None, metadata=HOLDS_LABELS)
    state_names: Sequence[str] | None = None
    n_stages: int | None = None
    limit_shift: Floats | None = None

    def __post_init__(self) -> None:
        given, columns, keys = _from_frames(self.returns)
        asset_names = columns if self.asset_names is None else self.asset_names
        state_names = keys if self.state_names is None else self.state_names
        returns, n_stages = _with_stage_axis(_finite(given, "returns"), self.n_stages)
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
        if self.limit_shift is not None:
            shift = _finite(self.limit_shift, "limit_shift")
            if shift.shape != (n_states, n_assets):
                raise DataError(
                    f"limit_shift has shape {shift.shape}: must be {(n_states, n_assets)}, one "
                    "number per regime and asset"
                )
            object.__setattr__(self, "limit_shift", _frozen(np.array(shift)))
        assets = _named(asset_names, n_assets, "asset")
        states = _named(state_names, n_states, "state")
        if not all(isinstance(name, str) for name in states):
            raise DataError(
                f"state_names = {list(states)}: must be text; a number is a regime's position"
            )
        object.__setattr__(
            self, "asset_names", checked_labels(assets, "asset_names", reserved=CASH)
        )
        object.__setattr__(self, "state_names", checked_labels(states, "state_names"))

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

    def plot(self, *, stage: int = 0) -> Figure:
        """Returns of the period after a stage, by asset and regime.

        Raises
        ------
        DataError
            There is no such stage.
        """
        from sddp.display.figures import scenario_figure

        if not 0 <= stage < self.returns.shape[0]:
            raise DataError(f"stage = {stage}: must be in 0..{self.returns.shape[0] - 1}")
        assert self.probabilities is not None
        return scenario_figure(
            self.returns[stage],
            self.probabilities[stage],
            self.asset_names or (),
            [str(name) for name in self.state_names or ()],
        )

    def _facts(self) -> dict[str, str]:
        return {
            "assets": listed(self.asset_names or ()),
            "regimes": listed(self.state_names or ()),
            "scenarios": str(self.n_scenarios),
            "stages": str(self.n_stages),
            "law": "one for all stages" if self.stationary else "by stage",
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        assert self.probabilities is not None
        weights, returns = self.probabilities[0], self.returns[0]
        mean = np.einsum("js,jsn->jn", weights, returns)
        variance = np.einsum("js,jsn->jn", weights, (returns - mean[:, None]) ** 2)
        index, names = label_index(self.asset_names or ()), self.state_names or ()
        parts = {}
        for j, name in enumerate(names):
            parts[f"mean, {name}"] = mean[j]
            parts[f"volatility, {name}"] = np.sqrt(variance[j])
        chain = pd.DataFrame(self.transition_matrix[0], index=list(names), columns=list(names))
        return {
            "Returns of a period at the first stage": pd.DataFrame(parts, index=index),
            "Probability of the next regime": chain,
        }


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


def _named(names: Sequence[Hashable] | None, length: int, prefix: str) -> Sequence[Hashable]:
    if names is None:
        return [f"{prefix}{i + 1}" for i in range(length)]
    if len(names) != length:
        raise DataError(f"{prefix}_names = {list(names)}: must be {length} different names")
    return names


def _from_frames(
    returns: object,
) -> tuple[object, Sequence[Hashable] | None, Sequence[Hashable] | None]:
    """Array (n_states, n_scenarios, n_assets), assets and regimes of DataFrames.

    What is no DataFrame is handed back as it is.
    """
    states = None
    if isinstance(returns, pd.DataFrame):
        frames = [returns]
    elif isinstance(returns, Mapping):
        states, frames = list(returns), list(returns.values())
    elif isinstance(returns, (list, tuple)) and any(isinstance(r, pd.DataFrame) for r in returns):
        frames = list(returns)
    else:
        return returns, None, None
    for k, frame in enumerate(frames):
        if not isinstance(frame, pd.DataFrame):
            raise DataError(
                f"returns of regime {k} is a {type(frame).__name__}: must be a DataFrame as the "
                "others are, rows = scenarios, columns = assets"
            )
        if not (frame.columns.equals(frames[0].columns) and len(frame) == len(frames[0])):
            raise DataError(
                f"returns of regime {k} has shape {frame.shape} and columns {list(frame.columns)}: "
                f"must be as those of the first regime, shape {frames[0].shape} and columns "
                f"{list(frames[0].columns)}; select them in this order"
            )
    if not frames:
        raise DataError("returns={}: must hold a DataFrame for each regime")
    return (
        np.stack([frame.to_numpy(dtype=float) for frame in frames]),
        list(frames[0].columns),
        states,
    )
