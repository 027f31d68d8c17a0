"""Random numbers of a study: a stream for each purpose, whatever else is run."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


def stream(seed: int, purpose: IntEnum, number: int = 0) -> np.random.Generator:
    """Random numbers for a purpose, the same wherever they are asked for."""
    return np.random.default_rng([seed, int(purpose), number])
