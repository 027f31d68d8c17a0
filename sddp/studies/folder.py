"""Folder of results that is replaced as a whole.

New files are written to a folder beside the old one, which takes its place once the run is
complete. A run that fails, is interrupted or is killed leaves the old folder as it was.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from sddp.errors import DataError

RECORD = "run.json"


class ResultFolder:
    """A folder under construction, inside a ``with`` block.

    Parameters
    ----------
    target : path
        The folder that results are for. Files in it that no run has written are kept.
    option : str
        What the user gave the folder by, for messages.
    keep : bool
        Start from the files that are there: a run that renews some of them.

    Attributes
    ----------
    path : Path
        Where to write until `replace`.

    Raises
    ------
    DataError
        The folder cannot be written to, or is the current one.
    """

    def __init__(self, target: str | Path, *, option: str = "--out", keep: bool = False) -> None:
        self._option, self._named = option, str(target)
        self._stays = False  # where it could not be moved, the new folder is all there is
        try:
            # A link stays a link: what it leads to is replaced.
            self._target = Path(target).resolve()
            self._check_place()
            self._target.parent.mkdir(parents=True, exist_ok=True)
            _mend(self._target)
            self.path = _beside(self._target, "new")
            self.path.mkdir()
            if keep and self._target.exists():
                shutil.copytree(self._target, self.path, dirs_exist_ok=True)
        except (OSError, ValueError) as error:
            raise self._error(error) from error

    def replace(self) -> None:
        """Put the new folder in the place of the old one.

        Raises
        ------
        DataError
            The old folder cannot be moved; the new one stays beside it, and the message says where.
        """
        self._move_to(self._target)

    def set_aside(self) -> Path:
        """Put the new folder beside the old one, as ``<name>_interrupted``; returns the place.

        Raises
        ------
        DataError
            As `replace`.
        """
        place = self._target.with_name(f"{self._target.name}_interrupted")
        self._move_to(place)
        return place

    def _move_to(self, place: Path) -> None:
        old = _beside(place, "old")
        try:
            if place.exists():
                os.rename(place, old)
            os.rename(self.path, place)
            if old.exists():
                _keep_foreign(old, place)
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            self._stays = True
            raise DataError(
                f"{self._option} {self._named}: cannot be replaced ({error.strerror}); "
                f"the new results are in {self.path}"
            ) from error

    def __enter__(self) -> ResultFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._stays:
            shutil.rmtree(self.path, ignore_errors=True)

    def _check_place(self) -> None:
        if self._target.is_file():
            raise OSError("it is a file")
        if self._target in (Path.cwd(), *Path.cwd().parents):
            raise OSError("it is the current folder or one above it")
        if os.path.ismount(self._target):
            raise OSError("it is a mount point")

    def _error(self, error: Exception) -> DataError:
        reason = getattr(error, "strerror", None) or error
        return DataError(
            f"{self._option} {self._named}: cannot be written to ({reason}); "
            "name a new folder in a place that you may write to"
        )


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}-{os.getpid()}-{secrets.token_hex(3)}")


def _mend(target: Path) -> None:
    """Remove leftovers of a killed process beside a folder."""
    for what in ("old", "new"):
        for left in sorted(target.parent.glob(f".{target.name}.{what}-*-*")):
            process = left.name.split("-")[-2]
            if process.isdigit() and not _runs(int(process)):
                if what == "old" and not target.exists():
                    os.rename(left, target)  # killed between the two renames
                elif what == "old":
                    _keep_foreign(left, target)
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _keep_foreign(old: Path, new: Path) -> None:
    """Move files over that the old run did not write and the new one has no namesake of."""
    written = set(_written_by(old))
    for entry in old.iterdir():
        if entry.name not in written and not (new / entry.name).exists():
            os.rename(entry, new / entry.name)


def _written_by(folder: Path) -> list[str]:
    """Names of the files that the run of a folder says it has written."""
    try:
        content: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return [RECORD, *map(str, content["files"])]
    except (OSError, ValueError, TypeError, KeyError):
        return []
