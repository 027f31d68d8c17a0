"""Run record: a folder of results with `run.json`."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from sddp.errors import DataError
from sddp.labels import with_text_labels
from sddp.studies.folder import RECORD, ResultFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyomo",
    "highspy",
    "hmmlearn",
    "matplotlib",
    "joblib",
    "linearmodels",
    "numba",
    "skfolio",
)
# Of a checkout; installed, the package lies in a folder that is none.
ROOT = Path(__file__).resolve().parents[2]


class RunFiles:
    """Tables and figures in a folder.

    Parameters
    ----------
    out : path
        An existing folder.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Those that were written, by name.
    figures : list of str
        Names of those that were written.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self.tables: dict[str, pd.DataFrame] = {}
        self.figures: list[str] = []

    @property
    def settings(self) -> Any:
        """What the numbers of the run depend on, as its `run.json` holds it.

        Raises
        ------
        DataError
            There is no `run.json` of a run.
        """
        try:
            return json.loads((self.out / RECORD).read_text(encoding="utf-8"))["config"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.out} holds no finished run ({error}); run the study first"
            ) from error

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``<name>.csv``; labels of columns are their texts."""
        with_text_labels(table).to_csv(self.out / f"{name}.csv", float_format="%.10g")
        self.tables[name] = table

    def write_figure(self, name: str, figure: Figure) -> None:
        """Write ``<name>.png``."""
        write_figure(self.out, name, figure)
        self.figures.append(name)


class Run(RunFiles):
    """Record of one run: folder, duration, inputs; used as a context manager.

    What is written goes to a folder beside the one that is named, and takes its place at
    `finish`: a run that does not come to its end leaves the results of the last one.

    Parameters
    ----------
    out : path
        Folder for the results; made if missing.
    config : dataclass or mapping
        Written to `run.json`.
    keep : bool
        Start from the results that are there, of which this run renews some.

    Raises
    ------
    DataError
        The folder cannot be written to.
    """

    def __init__(self, out: str | Path, config: Any, *, keep: bool = False) -> None:
        self.config = config
        self._inputs: dict[str, str] = {}
        self._code = _code()  # before results change the tree
        self._started = time.perf_counter()
        self._folder = ResultFolder(out, keep=keep)
        super().__init__(self._folder.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, trace)

    def add_input(self, name: str, data: pd.DataFrame) -> None:
        """Remember the SHA-256 of an input table."""
        content = pd.util.hash_pandas_object(data, index=True).to_numpy().tobytes()
        self._inputs[name] = hashlib.sha256(content).hexdigest()

    @property
    def settings(self) -> Any:
        """What the numbers of the run depend on, as its `run.json` will hold it."""
        config = asdict(self.config) if is_dataclass(self.config) else self.config  # type: ignore[arg-type]
        return json.loads(json.dumps(config, default=_plain))

    def provenance(self) -> dict[str, Any]:
        """Seconds so far, config, code, inputs and versions."""
        return {
            "seconds": round(time.perf_counter() - self._started, 1),
            "config": self.settings,
            "code": self._code,
            "inputs_sha256": self._inputs,
            "versions": _versions(),
        }

    def finish(self, status: str, results: Mapping[str, Any]) -> None:
        """Write `run.json` (status, provenance, headline results, files) and replace the folder.

        Raises
        ------
        DataError
            The old folder cannot be replaced.
        """
        self._write_record(status, results)
        self._folder.replace()

    def set_aside(self, results: Mapping[str, Any]) -> Path | None:
        """Keep what an interrupted run has written in a folder beside the one that is named.

        The named folder stays as it was. `run.json` says that the run was interrupted.

        Parameters
        ----------
        results : mapping
            The headline results that are there.

        Returns
        -------
        Path or None
            The folder, ``<out>_interrupted``; None where no table was written.

        Raises
        ------
        DataError
            That folder cannot be replaced.
        """
        if not self.tables:
            return None
        self._write_record("interrupted", results)
        return self._folder.set_aside()

    def _write_record(self, status: str, results: Mapping[str, Any]) -> None:
        content = {"status": status} | self.provenance() | {"results": dict(results)}
        content["files"] = sorted(entry.name for entry in self.out.iterdir())
        text = json.dumps(content, indent=2, default=_plain) + "\n"
        (self.out / RECORD).write_text(text, encoding="utf-8")


def write_figure(folder: Path, name: str, figure: Figure) -> None:
    """Write ``<name>.png``."""
    from sddp.display.png import png  # matplotlib is of the extra "report"

    (folder / f"{name}.png").write_bytes(png(figure))


def _code() -> dict[str, Any]:
    """Commit, and whether the tree differs from it; None outside a checkout.

    Committed results do not count: another run may have renewed its own.
    """
    if not (ROOT / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--", ":/", ":!/experiments/results")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def code_digest() -> str:
    """Hash of the package's source: 16 hexadecimal digits."""
    hasher = hashlib.sha256()
    package = ROOT / "sddp"
    for path in sorted(package.rglob("*.py")):
        hasher.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return hasher.hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
