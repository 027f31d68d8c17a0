"""Random numbers of a study: a stream for each purpose, whatever else is run."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


def stream(seed: int, purpose: IntEnum, number: int = 0) -> np.random.Generator:
    """Random numbers for a purpose, the same wherever they are asked for."""
    return np.random.default_rng(seed_of(seed, purpose, number))


def seed_of(seed: int, purpose: IntEnum, number: int = 0) -> np.random.SeedSequence:
    """The seed of `stream`, for settings that are drawn from again and again."""
    return np.random.SeedSequence([seed, int(purpose), number])
