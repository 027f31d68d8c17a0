"""How a state handed on by one decision arrives at the next: ``x = A x' + b``, A and b random.

Three forms of ``A`` share one interface: a scale per component (the fast path: portfolios),
a dense or sparse matrix, and the identity. Rows of the value matrices are realisations of the
noise, columns are cuts: the largest cut of a realisation lies in neighbouring memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sddp.arrays import Floats, Ints, checked_probabilities, read_only
from sddp.errors import ModelError

# Up to here, leaving out components that are zero costs more than it saves.
FEW_COMPONENTS = 16

# From this many values (cuts times realisations) on, ruling cuts out beforehand saves time.
SCREENED_SIZE = 20_000


@dataclass(frozen=True, eq=False)
class LinearTransition:
    """Noise that follows a decision: it carries the outgoing state to the next incoming one.

    Declared at the node where the state *arrives*: realisation ``e`` turns the outgoing state
    ``x'`` of the decision before into the incoming state ``A_e x' + b_e`` here. It is not
    applied to the initial state, which enters the first node as it is.

    Parameters
    ----------
    scale : array, shape (n_realisations, n_components), or mapping from state name to array
        ``A_e`` as a diagonal. Components in the order of the stage's `states`; a mapping may
        leave states out (scale 1). A portfolio's gross returns are this.
    matrix : array (n_realisations, n_components, n_components), or sequence of sparse matrices
        ``A_e`` in full, instead of `scale`.
    shift : array, shape (n_realisations, n_components), optional
        ``b_e``; zero by default.
    probabilities : array, shape (n_realisations,), optional
        Equiprobable by default. A realisation of probability 0 is no outcome and is left out;
        positions count the others.
    """

    scale: ArrayLike | Mapping[str, ArrayLike] | None = None
    matrix: ArrayLike | Sequence[Any] | None = None
    shift: ArrayLike | None = None
    probabilities: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and self.matrix is not None:
            raise ModelError("give scale or matrix, not both")


class StateMap(ABC):
    """Compiled transition: fixed number of realisations and components."""

    probabilities: Floats
    shift: Floats | None

    @property
    def n_realisations(self) -> int:
        """Number of realisations of the noise."""
        return len(self.probabilities)

    @cached_property
    def cumulated(self) -> Floats:
        """Cumulated probabilities."""
        return read_only(np.cumsum(self.probabilities))

    @abstractmethod
    def arrive(self, outgoing: Floats, realisation: int) -> Floats:
        """Incoming state for one realisation; of many states, one in each row, all."""

    @abstractmethod
    def linear_values(self, slopes: Floats, outgoing: Floats) -> Floats:
        """``slopes @ A_e x'`` for each realisation, shape (n_realisations, n_cuts)."""

    @abstractmethod
    def weighted_slope(self, slopes: Floats, chosen: Ints, weights: Floats) -> Floats:
        """``sum_e weights_e A_e^T slopes[chosen_e]``."""

    @abstractmethod
    def pull_back(self, slope: Floats) -> Floats:
        """``A_e^T slope`` for each realisation, shape (n_realisations, n_components)."""

    def values(self, slopes: Floats, intercepts: Floats, outgoing: Floats) -> Floats:
        """Cuts at each realisation's incoming state, shape (n_realisations, n_cuts)."""
        values = self.linear_values(slopes, outgoing)
        if np.count_nonzero(intercepts):  # cuts of a homogeneous problem have none
            values += intercepts
        if self.shift is not None:
            values += self.shift @ slopes.T
        return values

    def largest(self, slopes: Floats, intercepts: Floats, outgoing: Floats) -> tuple[Floats, Ints]:
        """The largest cut at each realisation's incoming state: its value, and its position."""
        table = self.values(slopes, intercepts, outgoing)
        best = table.argmax(axis=1)
        return table[np.arange(len(best)), best], best

    def weighted_constant(
        self, slopes: Floats, intercepts: Floats, chosen: Ints, weights: Floats
    ) -> float:
        """``sum_e weights_e (intercept + slope.b_e)`` of the chosen cuts."""
        constant = float(weights @ intercepts[chosen])
        if self.shift is not None:
            constant += float(np.einsum("e,ed,ed->", weights, slopes[chosen], self.shift))
        return constant


@dataclass(frozen=True, eq=False)
class IdentityMap(StateMap):
    """The state arrives as it left: one realisation."""

    probabilities: Floats
    shift: Floats | None = None

    def arrive(self, outgoing: Floats, realisation: int) -> Floats:
        """The outgoing state itself."""
        return outgoing

    def linear_values(self, slopes: Floats, outgoing: Floats) -> Floats:
        """One row."""
        product: Floats = slopes @ outgoing
        return product[None, :]

    def weighted_slope(self, slopes: Floats, chosen: Ints, weights: Floats) -> Floats:
        """The chosen slope itself."""
        slope: Floats = weights[0] * slopes[chosen[0]]
        return slope

    def pull_back(self, slope: Floats) -> Floats:
        """The slope itself."""
        return slope[None, :]


@dataclass(frozen=True, eq=False)
class ScaleMap(StateMap):
    """Component-wise scaling. `scale` has shape (n_realisations, n_components)."""

    probabilities: Floats
    scale: Floats
    shift: Floats | None

    @cached_property
    def scale_by_component(self) -> Floats:
        """Contiguous transpose: a gather of components reads whole rows."""
        return read_only(np.ascontiguousarray(self.scale.T))

    @cached_property
    def box(self) -> tuple[Floats, Floats]:
        """Middle and half of the width of each component's scales."""
        low, high = self.scale.min(axis=0), self.scale.max(axis=0)
        return (high + low) / 2.0, (high - low) / 2.0

    def arrive(self, outgoing: Floats, realisation: int) -> Floats:
        """``scale_e * x' + b_e``."""
        incoming: Floats = self.scale[realisation] * outgoing
        return incoming if self.shift is None else incoming + self.shift[realisation]

    def linear_values(self, slopes: Floats, outgoing: Floats) -> Floats:
        """``scale @ (slopes * x')^T``, over the components that are not zero.

        An optimal portfolio holds few assets: the product shrinks to the held ones.
        """
        if len(outgoing) <= FEW_COMPONENTS:
            return self.scale_by_component.T @ (slopes * outgoing).T
        held = np.flatnonzero(outgoing)
        scale = np.take(self.scale_by_component, held, axis=0)
        return scale.T @ (np.take(slopes, held, axis=1) * outgoing[held]).T

    def largest(self, slopes: Floats, intercepts: Floats, outgoing: Floats) -> tuple[Floats, Ints]:
        """See `StateMap.largest`; most cuts are the largest nowhere, and are ruled out first."""
        if self.shift is not None or len(slopes) * self.n_realisations < SCREENED_SIZE:
            return super().largest(slopes, intercepts, outgoing)
        kept = self._contenders(slopes, intercepts, outgoing)
        values, best = super().largest(np.take(slopes, kept, axis=0), intercepts[kept], outgoing)
        return values, kept[best]

    def _contenders(self, slopes: Floats, intercepts: Floats, outgoing: Floats) -> Ints:
        """Cuts that may be larger than a good one somewhere in the box around all scales.

        There ``cut - good`` is at most its value in the middle of the box plus what each
        component can add to it.
        """
        held = np.flatnonzero(outgoing)
        middle, half = (values[held] for values in self.box)
        parts = np.take(slopes, held, axis=1) * outgoing[held]
        central = np.dot(parts, middle) + intercepts
        good = int(central.argmax())
        reach = np.dot(np.abs(parts - parts[good]), half)
        return np.flatnonzero(central + reach >= central[good])

    def weighted_slope(self, slopes: Floats, chosen: Ints, weights: Floats) -> Floats:
        """One gather, one product, one weighted sum."""
        gathered = np.take(slopes, chosen, axis=0)
        gathered *= self.scale
        total: Floats = np.dot(weights, gathered)
        return total

    def pull_back(self, slope: Floats) -> Floats:
        """``scale_e * slope``."""
        return self.scale * slope


@dataclass(frozen=True, eq=False)
class MatrixMap(StateMap):
    """A full matrix per realisation, stacked: rows ``e * n_components + i``."""

    probabilities: Floats
    stacked: Any  # dense array or sparse matrix, (n_realisations * n_components, n_components)
    shift: Floats | None
    n_components: int

    def arrive(self, outgoing: Floats, realisation: int) -> Floats:
        """``A_e x' + b_e``."""
        rows = slice(realisation * self.n_components, (realisation + 1) * self.n_components)
        incoming: Floats = outgoing @ self.stacked[rows].T
        return incoming if self.shift is None else incoming + self.shift[realisation]

    def linear_values(self, slopes: Floats, outgoing: Floats) -> Floats:
        """``slopes @ (A_e x')``."""
        arrived = (self.stacked @ outgoing).reshape(self.n_realisations, self.n_components)
        values: Floats = arrived @ slopes.T
        return values

    def weighted_slope(self, slopes: Floats, chosen: Ints, weights: Floats) -> Floats:
        """``sum_e w_e A_e^T slope_e`` as one product with the stack."""
        total: Floats = self.stacked.T @ (slopes[chosen] * weights[:, None]).ravel()
        return total

    def pull_back(self, slope: Floats) -> Floats:
        """One row per matrix."""
        blocks = [slope @ self.stacked[i : i + self.n_components] for i in self._starts()]
        return np.array(blocks)

    def _starts(self) -> range:
        return range(0, self.n_realisations * self.n_components, self.n_components)


def identity_map() -> IdentityMap:
    """The map of a node without noise after the decision."""
    return IdentityMap(read_only([1.0]))


def compile_transition(
    transition: LinearTransition | None, sizes: Mapping[str, int], where: str
) -> StateMap:
    """Check a `LinearTransition` against the stage's states and choose its form.

    `sizes` gives the number of components of each state, in order; `where` names the node in
    error messages.
    """
    if transition is None:
        return identity_map()
    n = sum(sizes.values())
    if transition.matrix is not None:
        blocks = _blocks(transition.matrix, n, where)
        n_realisations = len(blocks)
    else:
        scale = _full_scale(transition, sizes, where)
        n_realisations = len(scale)
    p = checked_probabilities(transition.probabilities, n_realisations, where)
    shift = _shift(transition.shift, n_realisations, sizes, where)
    possible = np.flatnonzero(p)
    shift = None if shift is None else read_only(shift[possible])
    if transition.matrix is not None:
        stacked = _stacked([blocks[e] for e in possible])
        return MatrixMap(read_only(p[possible]), stacked, shift, n)
    scale = read_only(scale[possible])
    return ScaleMap(read_only(p[possible]), scale, shift)


def _full_scale(transition: LinearTransition, sizes: Mapping[str, int], where: str) -> Floats:
    scale = transition.scale
    if isinstance(scale, Mapping):
        full = _scale_by_state(scale, sizes, where)
    elif scale is None:
        shift = np.atleast_2d(np.asarray(0.0 if transition.shift is None else transition.shift))
        full = np.ones((len(shift), sum(sizes.values())))
    else:
        full = np.atleast_2d(np.asarray(scale, dtype=float))
    if full.shape[1:] != (sum(sizes.values()),) or len(full) == 0:
        raise ModelError(
            f"{where}: scale has shape {full.shape}; it needs one row for each realisation and "
            f"{sum(sizes.values())} columns, one for each state component"
        )
    _check_finite(full, "scale", sizes, where)
    return read_only(full)


def _check_finite(values: Floats, what: str, sizes: Mapping[str, int], where: str) -> None:
    """Refuse NaN and infinity in a table of realizations and components, with the place."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        e, component = bad[0].tolist()
        labels = [f"{n}[{i}]" if size > 1 else n for n, size in sizes.items() for i in range(size)]
        raise ModelError(
            f"{where}: {what} of realization {e}, state {labels[component]} is "
            f"{values[e, component]}; give a finite number"
        )


def _scale_by_state(scale: Mapping[str, ArrayLike], sizes: Mapping[str, int], where: str) -> Floats:
    unknown = [name for name in scale if name not in sizes]
    if unknown:
        raise ModelError(f"{where}: scale names {unknown[0]!r}; states are {list(sizes)}")
    given: dict[str, Floats] = {}
    for name, values in scale.items():
        array = np.asarray(values, dtype=float)
        if array.ndim == 1 and sizes[name] == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != sizes[name]:
            raise ModelError(
                f"{where}: scale of {name!r} has shape {array.shape}; it needs "
                f"(n_realisations, {sizes[name]})"
            )
        given[name] = array
    lengths = {len(array) for array in given.values()} or {1}
    if len(lengths) > 1:
        raise ModelError(f"{where}: scale has {sorted(lengths)} realisations in different states")
    ones = {name: np.ones((max(lengths), size)) for name, size in sizes.items()}
    return np.hstack([given.get(name, ones[name]) for name in sizes])


def _blocks(matrix: Any, n: int, where: str) -> list[Any]:
    """One matrix per realisation, all dense or all sparse."""
    sparse = not isinstance(matrix, np.ndarray) and any(sp.issparse(m) for m in matrix)
    single = not sparse and np.ndim(matrix[0]) == 1
    blocks: list[Any] = [
        sp.csr_array(m) if sparse else np.asarray(m, dtype=float)
        for m in ([matrix] if single else matrix)
    ]
    shapes = {block.shape for block in blocks}
    if shapes != {(n, n)}:
        raise ModelError(f"{where}: matrix has blocks of shape {shapes}; it needs {(n, n)}")
    for e, block in enumerate(blocks):
        entries = sp.coo_array(block)
        for i, j, value in zip(*entries.coords, entries.data, strict=True):
            if not np.isfinite(value):
                raise ModelError(
                    f"{where}: matrix of realization {e}, row {i}, column {j} is {value}; give a "
                    "finite number"
                )
    return blocks


def _stacked(blocks: list[Any]) -> Any:
    if isinstance(blocks[0], np.ndarray):
        return read_only(np.concatenate(blocks))
    return sp.vstack(blocks, format="csr")


def _shift(
    values: ArrayLike | None, n_realisations: int, sizes: Mapping[str, int], where: str
) -> Floats | None:
    if values is None:
        return None
    shift, shape = (
        np.atleast_2d(np.asarray(values, dtype=float)),
        (n_realisations, sum(sizes.values())),
    )
    if shift.shape != shape:
        raise ModelError(f"{where}: shift has shape {shift.shape}; it needs {shape}")
    _check_finite(shift, "shift", sizes, where)
    return read_only(shift) if shift.any() else None
