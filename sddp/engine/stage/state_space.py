"""Names and sizes of the states of a stage, and the way between labelled values and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyomo.core.base.component_namer import index_repr

from sddp.arrays import Floats
from sddp.errors import ModelError

# Components named in a message.
SHOWN = 10


@dataclass(frozen=True, eq=False)
class StateSpace:
    """Names and sizes of the states, and the way between labelled values and vectors."""

    indices: Mapping[str, tuple[Any, ...]]  # (None,) for a scalar state

    @property
    def sizes(self) -> dict[str, int]:
        """Number of components of each state."""
        return {name: len(index) for name, index in self.indices.items()}

    @property
    def labels(self) -> tuple[str, ...]:
        """``level`` for a scalar, ``volume[north]`` for a component: the index as Pyomo writes it.

        Pyomo quotes an index that is text but does not look like a name, so 7 and ``"7"`` differ.
        """
        return tuple(
            name if index == (None,) else f"{name}{index_repr(key)}"
            for name, index in self.indices.items()
            for key in index
        )

    def flatten(self, values: Mapping[str, Any]) -> Floats:
        """Vector of a labelled state: numbers, or mappings / sequences over the index."""
        if not isinstance(values, Mapping) or set(values) != set(self.indices):
            given = list(values) if isinstance(values, Mapping) else type(values).__name__
            raise ModelError(f"state has {given}; it needs values for {list(self.indices)}")
        parts = [self._component(name, values[name]) for name in self.indices]
        vector = np.concatenate(parts)
        if not np.isfinite(vector).all():
            bad = self.labels[int(np.flatnonzero(~np.isfinite(vector))[0])]
            raise ModelError(f"state {bad} is not finite; give a number")
        return vector

    def label(self, vector: Floats) -> dict[str, Any]:
        """Inverse of `flatten`: floats for scalars, dictionaries for indexed states."""
        result: dict[str, Any] = {}
        start = 0
        for name, index in self.indices.items():
            part = [float(v) for v in vector[start : start + len(index)]]
            result[name] = part[0] if index == (None,) else dict(zip(index, part, strict=True))
            start += len(index)
        return result

    def describe(self, vector: Floats) -> str:
        """``level = 2.5, holdings[cash] = 1``, the first few components, for messages."""
        pairs = zip(self.labels, np.asarray(vector).tolist(), strict=True)
        named = [f"{label} = {value:.12g}" for label, value in pairs]
        rest = len(named) - SHOWN
        return ", ".join(named[:SHOWN]) + (f" and {rest} more components" if rest > 0 else "")

    def _component(self, name: str, value: Any) -> Floats:
        index = self.indices[name]
        try:
            return self._numbers(name, index, value)
        except (TypeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"state {name} = {value!r} is no number: {error}") from error

    def _numbers(self, name: str, index: tuple[Any, ...], value: Any) -> Floats:
        if index == (None,):
            return np.array([float(value)])
        if hasattr(value, "keys"):
            keys = list(value.keys())
            unknown = [key for key in keys if key not in index]
            missing = [key for key in index if key not in keys]
            if unknown or missing:
                raise ModelError(f"state {name}: unknown {unknown}, missing {missing}")
            return np.array([float(value[key]) for key in index])
        vector = np.asarray(value, dtype=float)
        if vector.ndim == 0:
            return np.full(len(index), float(vector))
        if vector.shape != (len(index),):
            raise ModelError(f"state {name} has shape {vector.shape}; it needs ({len(index)},)")
        return vector
