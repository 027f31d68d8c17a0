"""Cache of fitted regimes, keyed by the settings and data of the fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats, Ints
from sddp.cache.fingerprint import content_hash, describe
from sddp.cache.store import Record, read_record, store_key, write_record
from sddp.labels import Labels
from sddp.statistics import FittedRegimes, GaussianRegimes, Regimes

# Fits kept in memory; one takes some kilobytes.
LARGEST_MEMORY = 4096

ARRAYS = ("means", "covariances", "transition_matrix", "start_probabilities")


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted parameters, exact to the last bit.

    Attributes
    ----------
    arrays : dict of arrays
        `means`, `covariances`, `transition_matrix`, `start_probabilities` as in `Regimes`.
    variable_names : tuple of labels or None
        Their texts where the fit comes from a file.
    requested_n_states : int
        More than fitted where every start with so many regimes was degenerate.
    converged : bool
    """

    arrays: dict[str, Floats]
    variable_names: Labels | None
    requested_n_states: int
    converged: bool

    @cached_property
    def regimes(self) -> Regimes:
        """The regimes with these parameters."""
        return Regimes(**self.arrays, variable_names=self.variable_names)

    @classmethod
    def of(cls, fitted: FittedRegimes) -> Fit:
        """Parameters of a fit."""
        names = None if fitted.variable_names is None else tuple(fitted.variable_names)
        arrays = {name: np.array(getattr(fitted, name)) for name in ARRAYS}
        return cls(arrays, names, fitted.requested_n_states, fitted.converged)

    @classmethod
    def from_record(cls, record: Record) -> Fit:
        """The fit that a record holds."""
        facts = record.facts
        names = None if facts["variable_names"] is None else tuple(facts["variable_names"])
        return cls(record.arrays, names, facts["requested_n_states"], facts["converged"])

    def record(self) -> Record:
        """The record of the store that holds it."""
        names = self.variable_names
        facts = {
            "variable_names": None if names is None else [str(name) for name in names],
            "requested_n_states": self.requested_n_states,
            "converged": self.converged,
        }
        return Record(self.arrays, facts)

    def plain(self) -> dict[str, Any]:
        """JSON-compatible form, exact to the last bit; see `from_plain`."""
        arrays = {name: values.tolist() for name, values in self.arrays.items()}
        return self.record().facts | {"arrays": arrays}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Fit:
        """Inverse of `plain`."""
        arrays = {name: np.array(values) for name, values in plain["arrays"].items()}
        return cls.from_record(Record(arrays, dict(plain)))


class FitCache:
    """Fits made so far, in memory and, where a folder is given, on disk.

    A fit is found by the content that it follows from, so a cache can be shared by strategies,
    studies and processes, and knows no later row than the caller. Copies of a strategy share it;
    a process that it is sent to starts with the disk alone.

    Parameters
    ----------
    folder : path, optional
        Of the store; fits go to ``fits`` in it.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder) / "fits"
        self._memory: OrderedDict[str, Fit] = OrderedDict()

    def fit(
        self,
        settings: GaussianRegimes,
        table: pd.DataFrame,
        lengths: Ints,
        *,
        start: Fit | None,
        overlap: int = 1,
        rng: np.random.Generator,
    ) -> Fit:
        """`GaussianRegimes.fit_quietly`, or what it gave for the same arguments before."""
        begun = None if start is None else start.arrays
        key = store_key(describe([settings, content_hash(table), lengths, begun, overlap, rng]))
        fit = self._memory.get(key) or self._read(key)
        labels = tuple(table.columns)
        if fit is not None and fit.variable_names != labels:
            # A file holds the texts of labels; as the key says, the table's have the same ones.
            fit = replace(fit, variable_names=labels)
        if fit is None:
            regimes = None if start is None else start.regimes
            fitted = settings.fit_quietly(
                table, lengths=lengths, start=regimes, overlap=overlap, rng=rng
            )
            fit = Fit.of(fitted)
            if self.folder is not None:
                write_record(self._path(key), fit.record())
        self._remember(key, fit)
        return fit

    def _read(self, key: str) -> Fit | None:
        record = None if self.folder is None else read_record(self._path(key))
        return None if record is None else Fit.from_record(record)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.npz"

    def _remember(self, key: str, fit: Fit) -> None:
        self._memory[key] = fit
        self._memory.move_to_end(key)
        if len(self._memory) > LARGEST_MEMORY:
            self._memory.popitem(last=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> FitCache:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_memory": OrderedDict()}
