"""Random numbers: `rng` arguments of calls that draw, `seed` in frozen settings.

A call that draws takes an integer, a `numpy.random.SeedSequence` or a `numpy.random.Generator`.
The first two are values: the same one gives the same numbers, however often it is used. Settings
that are drawn from again and again take a seed only, since a Generator would change with each use.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from sddp.errors import ModelError

Seed: TypeAlias = int | np.random.SeedSequence
Rng: TypeAlias = int | np.random.SeedSequence | np.random.Generator


def generator(rng: Rng, what: str = "rng") -> np.random.Generator:
    """Generator from an integer, a SeedSequence or a Generator.

    Parameters
    ----------
    rng : int, SeedSequence or Generator
        A Generator is used as it is, and so draws on; the others begin anew.
    what : str
        What messages call it.

    Raises
    ------
    ModelError
        It is something else, or a negative integer.

    >>> generator(7).random() == generator(np.random.SeedSequence(7)).random()
    True
    """
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(_sequence(rng, what, "an integer, a SeedSequence or a Generator"))


def seed_sequence(seed: Seed, what: str = "seed") -> np.random.SeedSequence:
    """SeedSequence from the seed of frozen settings.

    Raises
    ------
    ModelError
        It is no integer of at least 0 and no SeedSequence. A Generator is refused: its numbers
        would depend on what was drawn from it before.
    """
    return _sequence(seed, what, "an integer or a SeedSequence")


def root_seed(rng: Rng, what: str = "rng") -> np.random.SeedSequence:
    """Root seed of a call, from which `child_seed` derives those of its parts.

    A Generator is drawn from, once, so that the next call with it has another seed.

    Raises
    ------
    ModelError
        As in `generator`.
    """
    if isinstance(rng, np.random.Generator):
        return np.random.SeedSequence(rng.integers(2**32, size=8, dtype=np.uint32).tolist())
    return _sequence(rng, what, "an integer, a SeedSequence or a Generator")


def child_seed(root: np.random.SeedSequence, number: int) -> np.random.SeedSequence:
    """Child of a seed by its number, independent of other children.

    >>> root = np.random.SeedSequence(7)
    >>> child_seed(root, 3).generate_state(1) == root.spawn(4)[3].generate_state(1)
    array([ True])
    """
    return np.random.SeedSequence(
        root.entropy, spawn_key=(*root.spawn_key, number), pool_size=root.pool_size
    )


def _sequence(value: Any, what: str, wanted: str) -> np.random.SeedSequence:
    if isinstance(value, np.random.SeedSequence):
        # A copy: the children that a call spawns are not counted against the caller's.
        return np.random.SeedSequence(
            value.entropy,
            spawn_key=value.spawn_key,
            pool_size=value.pool_size,
            n_children_spawned=value.n_children_spawned,
        )
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return np.random.SeedSequence(int(value))
    raise ModelError(f"{what} = {value!r}: must be {wanted}; give 1, or another integer >= 0")
