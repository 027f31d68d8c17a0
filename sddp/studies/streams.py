"""Random streams of a study, one for each purpose."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


def stream(seed: int, purpose: IntEnum, number: int = 0) -> np.random.Generator:
    """Random generator of a purpose and a number."""
    return np.random.default_rng(seed_of(seed, purpose, number))


def seed_of(seed: int, purpose: IntEnum, number: int = 0) -> np.random.SeedSequence:
    """The seed of `stream`, for settings that are drawn from again and again."""
    return np.random.SeedSequence([seed, int(purpose), number])
