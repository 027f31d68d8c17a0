"""Exact JSON serialization of objects, without pickle or code.

Arrays are the compressed bytes of their numbers, kept once each however often they occur; tables
are their columns. Objects
are dataclasses, or have a method ``arguments()`` that returns the arguments of their constructor;
a file names their class by a short name of the package or by import path.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sddp.imports import class_path, found_class, importable

# Random numbers hardly shrink, so the fastest level is as good as any.
COMPRESSION = 1


class Label(NamedTuple):
    """JSON form of labels, and its inverse."""

    kind: type
    parts: Callable[[Any], Any]
    back: Callable[[Any], Any]


def _timestamp(parts: Sequence[Any]) -> pd.Timestamp:
    text, zone = parts
    stamp = pd.Timestamp(text)
    return stamp if zone is None else stamp.tz_convert(zone)


def _numpy_time(parts: Sequence[Any]) -> np.datetime64:
    count, unit, step = parts
    return np.datetime64(count, (unit, step))


def _numpy_timedelta(parts: Sequence[Any]) -> np.timedelta64:
    count, unit, step = parts
    return np.timedelta64(count, (unit, step))


# Subclasses stand before their bases.
LABELS: Mapping[str, Label] = {
    "timestamp": Label(
        pd.Timestamp, lambda t: [t.isoformat(), None if t.tz is None else str(t.tz)], _timestamp
    ),
    "datetime": Label(
        datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat
    ),
    "date": Label(datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "numpy time": Label(
        np.datetime64, lambda t: [int(t.astype(np.int64)), *np.datetime_data(t)], _numpy_time
    ),
    "numpy timedelta": Label(
        np.timedelta64, lambda d: [int(d.astype(np.int64)), *np.datetime_data(d)], _numpy_timedelta
    ),
    "pandas timedelta": Label(pd.Timedelta, lambda d: d.isoformat(), pd.Timedelta),
    "timedelta": Label(
        datetime.timedelta,
        lambda d: [d.days, d.seconds, d.microseconds],
        lambda parts: datetime.timedelta(*parts),
    ),
    "period": Label(pd.Period, lambda p: [str(p), p.freqstr], lambda parts: pd.Period(*parts)),
    "fraction": Label(Fraction, str, Fraction),
    "decimal": Label(Decimal, str, Decimal),
    "complex": Label(complex, repr, complex),
    "bytes": Label(bytes, bytes.hex, bytes.fromhex),
}


class NotPlain(TypeError):
    """A value cannot be serialized; the message names it and the remedy."""


class Encoder:
    """Encoder of objects as JSON.

    Parameters
    ----------
    names : mapping from class to short name
        Classes of the package: restored field by field, without their constructor, unless they
        have a method ``arguments()``.
    """

    def __init__(self, names: Mapping[type, str]) -> None:
        self._names = names
        self.arrays: dict[str, dict[str, Any]] = {}

    def encode(self, value: Any, where: str) -> Any:
        """Plain data for a value; `where` names it in error messages.

        Raises
        ------
        NotPlain
            The value is, or holds, something that is no plain data.
        """
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.bool_):
            return bool(value)
        for name, label in LABELS.items():
            if isinstance(value, label.kind):
                return {"label": name, "parts": label.parts(value)}
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            number = float(value)
            return number if math.isfinite(number) else {"float": repr(number)}
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if sp.issparse(value):
            return self._sparse(value, where)
        if isinstance(value, pd.DataFrame):
            return self._table(value, where)
        if isinstance(value, frozenset):
            return {"set": self.encode(sorted(value, key=repr), where)}
        if isinstance(value, pd.Interval):
            return {"interval": self.encode([value.left, value.right, value.closed], where)}
        if isinstance(value, tuple):
            return {"tuple": [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]}
        if isinstance(value, list):
            return [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, Mapping):
            pairs = [
                [self.encode(k, where), self.encode(v, f"{where}[{k!r}]")] for k, v in value.items()
            ]
            return {"map": pairs}
        return self._object(value, where)

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        kind = type(value)
        name = self._names.get(kind)
        if name is not None:
            held = (
                dict(value.arguments())
                if hasattr(value, "arguments")
                else {f.name: getattr(value, f.name) for f in fields(value)}
            )
            return {"is": name, "fields": self._fields(held, where)}
        if isinstance(value, type) or not importable(kind):
            raise NotPlain(
                f"{where} = {value!r}: a file can name only a class that can be imported, not "
                f"{class_path(kind)}; move the class out of its function or script into a module"
            )
        if hasattr(value, "arguments"):
            held = dict(value.arguments())
        elif is_dataclass(value):
            held = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        elif not getattr(value, "__dict__", {"": None}):
            held = {}
        else:
            raise NotPlain(
                f"{where} = {value!r}: a file cannot hold a {kind.__name__}; make it a dataclass "
                "of plain data, or give it a method arguments() that returns the arguments of its "
                "constructor"
            )
        return {"class": class_path(kind), "arguments": self._fields(held, where)}

    def _fields(self, held: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {name: self.encode(value, f"{where}.{name}") for name, value in held.items()}

    def _array(self, array: np.ndarray[Any, Any], where: str) -> dict[str, Any]:
        if array.dtype.kind not in "biuf":
            raise NotPlain(f"{where}: an array of {array.dtype} holds no numbers; use a list")
        # An axis of stride 0 repeats one block: it is written once and read as it was.
        repeated = [
            n > 1 and stride == 0 for n, stride in zip(array.shape, array.strides, strict=True)
        ]
        base = np.ascontiguousarray(array[tuple(slice(1) if r else slice(None) for r in repeated)])
        data = base.tobytes()
        key = hashlib.sha256(f"{base.dtype.str}{base.shape}".encode() + data).hexdigest()[:32]
        if key not in self.arrays:
            self.arrays[key] = {
                "type": base.dtype.str,
                "shape": list(base.shape),
                "data": base64.b64encode(zlib.compress(data, COMPRESSION)).decode("ascii"),
            }
        found: dict[str, Any] = {"array": key}
        return found | {"shape": list(array.shape)} if any(repeated) else found

    def _table(self, table: pd.DataFrame, where: str) -> dict[str, Any]:
        columns = [table.iloc[:, i].to_numpy() for i in range(table.shape[1])]
        held = {
            "columns": list(table.columns),
            "index": list(table.index),
            "names": [table.columns.name, table.index.name],
            "values": [c if c.dtype.kind in "biuf" else list(c) for c in columns],
        }
        return {"table": self._fields(held, where)}

    def _sparse(self, matrix: Any, where: str) -> dict[str, Any]:
        csr = sp.csr_array(matrix)
        parts = [self._array(part, where) for part in (csr.data, csr.indices, csr.indptr)]
        return {"sparse": parts, "shape": list(csr.shape)}


class Decoder:
    """Decoder of `Encoder`; damaged data raise ValueError, LookupError or TypeError.

    Parameters
    ----------
    names : mapping from class to short name
        As the encoder's.
    arrays : mapping
        The encoder's, as they were read.
    accepted : callable from class to bool
        Whether an object of a class that the file names by import path may be made.
    """

    def __init__(
        self,
        names: Mapping[type, str],
        arrays: Mapping[str, Mapping[str, Any]],
        accepted: Callable[[type], bool],
    ) -> None:
        self._accepted = accepted
        self._classes = {name: kind for kind, name in names.items()}
        self._documents, self._arrays = arrays, dict[str, Any]()

    def decode(self, document: Any) -> Any:
        """The value that was encoded."""
        if isinstance(document, list):
            return [self.decode(part) for part in document]
        if not isinstance(document, dict):
            return document
        tag = next(tag for tag in _READERS if tag in document)
        return _READERS[tag](self, document)

    def _fields(self, document: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.decode(part) for name, part in document.items()}

    def _read_float(self, document: Mapping[str, Any]) -> float:
        return float(document["float"])

    def _read_tuple(self, document: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(self.decode(part) for part in document["tuple"])

    def _read_map(self, document: Mapping[str, Any]) -> dict[Any, Any]:
        return {self.decode(key): self.decode(value) for key, value in document["map"]}

    def _read_array(self, document: Mapping[str, Any]) -> Any:
        key = document["array"]
        if key not in self._arrays:  # those that are not asked for are not unpacked
            self._arrays[key] = _numbers(self._documents[key])
        array = self._arrays[key]
        return np.broadcast_to(array, document["shape"]) if "shape" in document else array

    def _read_sparse(self, document: Mapping[str, Any]) -> sp.csr_array:
        data, indices, pointer = (self._read_array(part) for part in document["sparse"])
        return sp.csr_array((data, indices, pointer), shape=tuple(document["shape"]))

    def _read_table(self, document: Mapping[str, Any]) -> pd.DataFrame:
        held = self._fields(document["table"])
        of_columns, of_index = held["names"]
        index = pd.Index(held["index"], name=of_index)
        columns = [pd.Series(values, index) for values in held["values"]]
        table = pd.DataFrame(dict(enumerate(columns)), index=index)
        return table.set_axis(pd.Index(held["columns"], name=of_columns), axis=1)

    def _read_label(self, document: Mapping[str, Any]) -> Any:
        return LABELS[document["label"]].back(document["parts"])

    def _read_set(self, document: Mapping[str, Any]) -> frozenset[Any]:
        return frozenset(self.decode(document["set"]))

    def _read_interval(self, document: Mapping[str, Any]) -> Any:
        return pd.Interval(*self.decode(document["interval"]))

    def _read_own(self, document: Mapping[str, Any]) -> Any:
        kind = self._classes[document["is"]]
        held = self._fields(document["fields"])
        if hasattr(kind, "arguments"):
            return kind(**held)
        if set(held) != {f.name for f in fields(kind)}:
            raise ValueError(f"{document['is']} has fields {sorted(held)}")
        found: Any = object.__new__(kind)
        for name, value in held.items():
            object.__setattr__(found, name, value)
        return found

    def _read_class(self, document: Mapping[str, Any]) -> Any:
        kind = found_class(document["class"])
        if not self._accepted(kind):
            raise ValueError(f"{document['class']} is not a class that a policy consists of")
        return kind(**self._fields(document["arguments"]))


_READERS: Mapping[str, Callable[[Decoder, Mapping[str, Any]], Any]] = {
    "float": Decoder._read_float,
    "tuple": Decoder._read_tuple,
    "map": Decoder._read_map,
    "array": Decoder._read_array,
    "sparse": Decoder._read_sparse,
    "table": Decoder._read_table,
    "label": Decoder._read_label,
    "set": Decoder._read_set,
    "interval": Decoder._read_interval,
    "is": Decoder._read_own,
    "class": Decoder._read_class,
}


def _numbers(document: Mapping[str, Any]) -> Any:
    kind = np.dtype(document["type"])
    if kind.kind not in "biuf":
        raise ValueError(f"an array of {kind} holds no numbers")
    data = zlib.decompress(base64.b64decode(document["data"]))
    return np.frombuffer(data, dtype=kind).reshape(document["shape"])
