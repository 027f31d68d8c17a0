"""Store of finished results on disk, written atomically.

A record is a file of arrays and facts in numpy's own zip format, without pickles: reading one
runs no code, every bit of every float comes back, and the zip's checksums tell a damaged file
from a sound one. Files are written beside their place and then moved there, so that a process
that is killed leaves the old file or the new one.

The names of records are hashes of all that their content depends on, see `store_key`.
"""

from __future__ import annotations

import contextlib
import json
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.cache.fingerprint import key_of
from sddp.errors import DataError, StoreWarning
from sddp.files import written_whole

# Stored results stand for what the code computes now. Raise this number with every change of the
# package after which the same settings and data give other numbers (estimation, training,
# decisions, trading): entries of an earlier version are then not found any more.
RESULTS_VERSION = 9

FACTS = "facts"
DAMAGED = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Record(NamedTuple):
    """Arrays by name (none named ``facts``), and facts that JSON can hold."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def store_key(description: Any) -> str:
    """Cache key of a description (see `describe`) under the present results version."""
    return key_of({"results version": RESULTS_VERSION, "of": description})


def write_record(path: Path, record: Record) -> None:
    """Write a record atomically.

    Raises
    ------
    DataError
        The place cannot be written to.
    TypeError
        An array holds Python objects, which could not be read back.
    """
    objects = [name for name, array in record.arrays.items() if array.dtype.hasobject]
    if objects:
        raise TypeError(f"record.arrays={objects}: hold Python objects; give numbers or texts")
    facts = np.frombuffer(json.dumps(record.facts).encode(), dtype=np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as beside, beside.open("wb") as file:
            contents: dict[str, Any] = record.arrays | {FACTS: facts}
            np.savez(file, **contents)
    except OSError as error:
        raise DataError(f"the store cannot write {path}: {error}; choose another folder") from error


def read_record(path: Path) -> Record | None:
    """Read a record; None if it is missing or damaged.

    Warns
    -----
    StoreWarning
        The file is damaged; what it held is computed again.
    """
    try:
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return Record(arrays, json.loads(arrays.pop(FACTS).tobytes()))
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        warnings.warn(
            f"{path} is damaged ({error}); it is left aside and computed again",
            StoreWarning,
            stacklevel=2,
        )
        return None


class RecordFolder:
    """Folder of one run in the store: its finished windows, then the complete run.

    Parameters
    ----------
    folder : Path
        Made when something is first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def whole(self) -> Record | None:
        """The finished run, if there is one."""
        return read_record(self.folder / "whole.npz")

    def parts(self) -> list[Record]:
        """Finished windows in order, as far as they follow each other without a gap."""
        found, row = [], 0
        starts = {start: path for start, _, path in self._files()}
        while row in starts and (part := read_record(starts[row])) is not None:
            found.append(part)
            row = int(part.facts["stop"])
        return found

    def rows_done(self) -> int:
        """Rows up to which windows are kept."""
        return max((stop for _, stop, _ in self._files()), default=0)

    def add(self, part: Record) -> None:
        """Keep a finished window: rows ``facts["start"]`` up to ``facts["stop"]``."""
        start, stop = part.facts["start"], part.facts["stop"]
        write_record(self.folder / f"rows-{start:06d}-{stop:06d}.npz", part)

    def finish(self, whole: Record) -> None:
        """Store the complete run and delete its windows."""
        write_record(self.folder / "whole.npz", whole)
        for _, _, path in self._files():
            path.unlink(missing_ok=True)

    def label(self, description: Any) -> None:
        """Write the settings of the run beside its records, as text."""
        path = self.folder / "config.json"
        if path.exists():
            return
        # A label is for people: a store that cannot take it says so at the first record.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        for path in sorted(self.folder.glob("rows-*-*.npz")):
            _, start, stop = path.stem.split("-")
            yield int(start), int(stop), path
