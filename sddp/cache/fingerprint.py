"""Fingerprints of settings and data: plain descriptions for provenance and for cache keys.

Two objects with the same description give the same numbers, so a description is what stored
results are found by. It names classes, not addresses, and holds large tables by their hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from dataclasses import Field, fields, is_dataclass, replace
from typing import Any, Final, TypeVar, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.errors import ModelError
from sddp.labels import HOLDS_LABELS
from sddp.rng import Seed, seed_sequence

_T = TypeVar("_T")

# Metadata of a dataclass field that moves no number (such as where results are kept).
NOT_DESCRIBED: Final = {"described": False}


def describe(thing: Any) -> Any:
    """Plain form (as in JSON) of settings: numbers, texts, dates, tables, dataclasses of these.

    Parameters
    ----------
    thing : object
        Keys of mappings are labels. Of a dataclass, the fields given to its constructor count;
        those with the metadata `NOT_DESCRIBED` do not. Tables and arrays are described by their
        hash, a function by its name, a generator by its seed (not by how much was drawn from it).

    Raises
    ------
    ModelError
        Something cannot be told apart by what it says of itself: an object that is no dataclass,
        or a function without a name of its own.
    """
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, np.generic):
        return thing.item()
    if isinstance(thing, Mapping):
        pairs = [[_describe_label(key), describe(value)] for key, value in thing.items()]
        return sorted(pairs, key=json.dumps)  # the order of a mapping says nothing
    if isinstance(thing, (list, tuple)):
        return [describe(value) for value in thing]
    return _describe_object(thing)


def fresh(thing: _T) -> _T:
    """Unfitted copy of settings: mutable dataclasses are constructed again, nested ones too.

    What is described is kept, what is not given to a constructor starts over.
    """
    if not is_dataclass(thing) or isinstance(thing, type) or _is_frozen(thing):
        return thing
    given = {f.name: fresh(getattr(thing, f.name)) for f in fields(thing) if f.init}
    anew: Any = replace(thing, **given)
    return cast(_T, anew)


def key_of(description: Any) -> str:
    """Hash of a description: 64 hexadecimal digits."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(*tables: pd.DataFrame | pd.Series[float] | None) -> str:
    """SHA-256 of the rows, names and bits of numbers of some tables."""
    hasher = hashlib.sha256()
    for table in tables:
        for part in _parts(table):
            # The length goes first, or two tables could be cut differently and look the same.
            hasher.update(len(part).to_bytes(8, "big") + part)
    return hasher.hexdigest()


def _describe_object(thing: Any) -> Any:
    if isinstance(thing, (pd.Timestamp, pd.Timedelta)):
        return thing.isoformat()
    if isinstance(thing, (pd.DataFrame, pd.Series)):
        return {"table": list(thing.shape), "sha256": content_hash(thing)}
    if isinstance(thing, np.ndarray):
        return {"array": list(thing.shape), "sha256": _array_hash(thing)}
    if isinstance(thing, np.random.Generator):
        return _describe_generator(thing)
    if isinstance(thing, np.random.SeedSequence):
        return _describe_seed(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        told = [f for f in fields(thing) if f.init and f.metadata.get("described", True)]
        return {"class": _name(type(thing))} | {f.name: _describe_field(thing, f) for f in told}
    if callable(thing) and "<" not in getattr(thing, "__qualname__", "<"):
        return {"function": _name(thing)}
    raise ModelError(
        f"{thing!r} of type {type(thing).__name__} cannot be described, so its results could not "
        "be found again; make it a dataclass of plain settings, or a function of a module"
    )


def _describe_field(thing: Any, field: Field[Any]) -> Any:
    value = getattr(thing, field.name)
    if value is not None and field.metadata == HOLDS_LABELS:
        return [_describe_label(label) for label in value]
    return describe(value)


def _describe_label(label: Hashable) -> Any:
    """Description of a label: its text, or its type and text if it is not a string."""
    return label if isinstance(label, str) else [_name(type(label)), str(label)]


def _describe_generator(rng: np.random.Generator) -> dict[str, Any]:
    seed = rng.bit_generator.seed_seq
    if not isinstance(seed, np.random.SeedSequence):
        raise ModelError(f"rng = {rng!r}: must be made from a seed; give default_rng(seed)")
    return {"generator": type(rng.bit_generator).__name__} | _describe_seed(seed)


def _describe_seed(seed: np.random.SeedSequence) -> dict[str, Any]:
    entropy = seed.entropy
    plain = list(entropy) if isinstance(entropy, (list, tuple)) else entropy
    return {"entropy": plain, "spawn_key": [int(word) for word in seed.spawn_key]}


def generator_for(seed: Seed, *key: Any) -> np.random.Generator:
    """Random generator determined by a seed and a key.

    The numbers of a date are thus the same whichever dates were asked for first, in whichever
    process.

    >>> first = generator_for(1, "regimes", pd.Timestamp("2020-01-01")).random()
    >>> _ = generator_for(1, "regimes", pd.Timestamp("2020-01-02")).random()
    >>> generator_for(1, "regimes", pd.Timestamp("2020-01-01")).random() == first
    True
    """
    given = seed_sequence(seed)
    words = np.frombuffer(bytes.fromhex(key_of(describe(key))), dtype=">u4")
    spawn_key = (*given.spawn_key, *(int(word) for word in words))
    child = np.random.SeedSequence(given.entropy, spawn_key=spawn_key, pool_size=given.pool_size)
    return np.random.default_rng(child)


def _is_frozen(thing: Any) -> bool:
    frozen: bool = thing.__dataclass_params__.frozen
    return frozen


def _parts(table: pd.DataFrame | pd.Series[float] | None) -> list[bytes]:
    if table is None:
        return [b"none"]
    columns = table.columns if isinstance(table, pd.DataFrame) else [table.name]
    index = table.index
    rows = index.as_unit("ns").asi8 if isinstance(index, pd.DatetimeIndex) else index.to_numpy()
    return [
        repr([str(name) for name in columns]).encode(),
        _array_hash(np.asarray(rows)).encode(),
        _array_hash(table.to_numpy()).encode(),
    ]


def _array_hash(values: NDArray[Any]) -> str:
    if values.dtype.hasobject:
        values = np.array([repr(value) for value in values.ravel()])
    kind = f"{values.dtype.str} {values.shape} ".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(values).tobytes()).hexdigest()


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
