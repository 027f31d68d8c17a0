"""Instance files: a whole allocation problem as one JSON object.

Keys: ``N`` risky assets, ``K`` regimes, ``S`` scenarios per regime, ``T`` decisions, ``alpha``
(CVaR confidence), ``gamma`` (CVaR limit, fraction of wealth), ``tau`` (cost per unit traded, all
assets), ``P`` (K x K, rows from), ``k0`` (first regime, from 0), ``r`` (K x S x N simple returns,
equiprobable, the same at every stage), ``x0`` (holdings in money, cash first). Cash earns 0.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sddp.allocation.model import AllocationModel
from sddp.arrays import Floats
from sddp.errors import DataError
from sddp.labels import CASH
from sddp.scenarios import MarkovScenarios

KEYS = ("N", "K", "S", "T", "alpha", "gamma", "tau", "P", "k0", "r", "x0")


@dataclass(frozen=True, eq=False)
class Instance:
    """A problem read from a file: the arguments of `train_allocation`."""

    model: AllocationModel
    scenarios: MarkovScenarios
    initial_holdings: dict[Hashable, float]
    initial_regime: int


def read_instance(path: str | PathLike[str]) -> Instance:
    """Read and check an instance file.

    Raises
    ------
    DataError
        The file cannot be read, is no JSON object, or a key is missing or contradicts another.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    return instance_from(content)


def instance_from(content: Any) -> Instance:
    """Instance from an object in memory."""
    if not isinstance(content, dict):
        raise DataError(f"an instance is a JSON object, not {type(content).__name__}")
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise DataError(f"the instance lacks {missing}; it needs {list(KEYS)}")
    returns, start, transition = (_array(content, key) for key in ("r", "x0", "P"))
    expected = tuple(_count(content, key) for key in ("K", "S", "N"))
    if returns.shape != expected:
        raise DataError(f"r has shape {returns.shape}, but K, S, N are {expected}")
    if start.shape != (expected[2] + 1,):
        raise DataError(f"x0 has shape {start.shape}; it needs {expected[2] + 1} numbers")
    if not np.isfinite(start).all():
        raise DataError(f"x0 = {start.tolist()}: must hold finite numbers")
    if transition.ndim != 2:
        raise DataError(f"P has shape {transition.shape}; it needs (K, K)")
    scenarios = MarkovScenarios(
        returns=returns, transition_matrix=transition, n_stages=_count(content, "T")
    )
    names = (CASH, *(scenarios.asset_names or ()))
    return Instance(
        model=AllocationModel(
            transaction_cost=_number(content, "tau"),
            cvar_confidence=_number(content, "alpha"),
            cvar_limit=_number(content, "gamma"),
        ),
        scenarios=scenarios,
        initial_holdings=dict(zip(names, start.tolist(), strict=True)),
        initial_regime=scenarios.state_index(_index(content, "k0")),
    )


def _array(content: dict[str, Any], key: str) -> Floats:
    try:
        if not _numbers_only(content[key]):
            raise TypeError("it holds something else than numbers")
        return np.array(content[key], dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{key}: must be a rectangular array of numbers ({error})") from error


def _numbers_only(value: Any) -> bool:
    """Numbers and nulls, which become NaN and are then named by their place."""
    if isinstance(value, list):
        return all(_numbers_only(item) for item in value)
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _number(content: dict[str, Any], key: str) -> float:
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{key} = {value!r}: must be a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise DataError(f"{key} is too large a number") from error
    if not np.isfinite(number):
        raise DataError(f"{key} = {number} is not finite")
    return number


def _index(content: dict[str, Any], key: str) -> int:
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{key} = {value!r}: must be an integer")
    return value


def _count(content: dict[str, Any], key: str) -> int:
    value = _index(content, key)
    if value < 1:
        raise DataError(f"{key} = {value}; it must be at least 1")
    return value
