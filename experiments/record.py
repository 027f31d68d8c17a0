"""What every experiment leaves behind: a folder of results with `run.json` beside them."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sddp.backtest.page_parts import png
from sddp.errors import DataError, SddpError

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyomo",
    "highspy",
    "hmmlearn",
    "matplotlib",
    "joblib",
    "skfolio",
)
ROOT = Path(__file__).resolve().parent.parent

# Where results are written at the end only: Ctrl-C may still come while they are.
UNTOUCHED = "run.json is that of the last complete run, if there was one"


class Run:
    """One run of an experiment: its folder, its clock, its inputs.

    Parameters
    ----------
    out : Path
        Folder for the results; made if missing. A name that already holds results of a run is
        overwritten file by file once the new ones exist.
    config : dataclass
        Written to `run.json`.

    Raises
    ------
    DataError
        The folder cannot be written to.
    """

    def __init__(self, out: str | Path, config: Any) -> None:
        self.out, self.config = Path(out), config
        self._inputs: dict[str, str] = {}
        self._code = _code()  # before results change the tree
        self._started = time.perf_counter()
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            probe = self.out / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise DataError(f"--out {self.out} cannot be written to: {error}") from error

    def add_input(self, name: str, data: pd.DataFrame) -> None:
        """Remember the SHA-256 of an input table."""
        content = pd.util.hash_pandas_object(data, index=True).to_numpy().tobytes()
        self._inputs[name] = hashlib.sha256(content).hexdigest()

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``<name>.csv``."""
        table.to_csv(self.out / f"{name}.csv", float_format="%.10g")

    def write_figure(self, name: str, figure: Figure) -> None:
        """Write ``<name>.png``."""
        write_figure(self.out, name, figure)

    def provenance(self) -> dict[str, Any]:
        """Seconds so far, config, code, inputs and versions."""
        return {
            "seconds": round(time.perf_counter() - self._started, 1),
            "config": asdict(self.config) if is_dataclass(self.config) else self.config,  # type: ignore[arg-type]
            "code": self._code,
            "inputs_sha256": self._inputs,
            "versions": _versions(),
        }

    def finish(self, status: str, results: Mapping[str, Any]) -> None:
        """Write `run.json`: status, provenance and headline results."""
        content = {"status": status} | self.provenance() | {"results": dict(results)}
        text = json.dumps(content, indent=2, default=_plain) + "\n"
        (self.out / "run.json").write_text(text, encoding="utf-8")


def write_figure(folder: Path, name: str, figure: Figure) -> None:
    """Write ``<name>.png``."""
    (folder / f"{name}.png").write_bytes(png(figure))


def exit_code(work: Callable[[], None], interrupted: str) -> int:
    """Do the work of a command.

    Parameters
    ----------
    work : callable
    interrupted : str
        What Ctrl-C leaves behind, said where the interrupt has no notes of its own.

    Returns
    -------
    int
        0; 1 with the reason on standard error; 130 after Ctrl-C.
    """
    try:
        work()
    except SddpError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        notes = "; ".join(getattr(interrupt, "__notes__", ())) or interrupted
        print(f"interrupted: {notes}", file=sys.stderr)
        return 130
    return 0


def _code() -> dict[str, Any]:
    """Commit, and whether the tree differs from it; None outside a checkout.

    Committed results do not count: another run may have renewed its own.
    """

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
