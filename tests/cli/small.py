"""Small inputs for commands: prices, holdings, an instance, and options of a run of a second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tests.data import library
from tests.data.services import brazilian_series, sgs_json, zipped

ROOT = Path(__file__).resolve().parents[2]

MODEL = ("--window", "60", "--period", "2", "--stages", "2", "--states", "1", "--starts", "1")
MODEL = (*MODEL, "--scenarios", "20", "--iterations", "2")
WALK = ("--seeds", "1", "--paths", "10")


def prices(path: Path, n_rows: int = 100, n_assets: int = 2, seed: int = 5) -> Path:
    """Daily prices as a CSV file."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0006, 0.01, (n_rows, n_assets)) + rng.normal(0.0, 0.006, (n_rows, 1))
    dates = pd.bdate_range("2019-01-01", periods=n_rows, name="date")
    names = [f"fund {i + 1}" for i in range(n_assets)]
    pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), dates, names).to_csv(path)
    return path


def instance(path: Path) -> Path:
    """An instance file of `sddp solve`."""
    rng = np.random.default_rng(1)
    content = {
        "N": 2,
        "K": 1,
        "S": 5,
        "T": 2,
        "alpha": 0.9,
        "gamma": 0.05,
        "tau": 0.001,
        "P": [[1.0]],
        "k0": 0,
        "x0": [1.0, 0.0, 0.0],
        "r": rng.normal(0.01, 0.03, (1, 5, 2)).tolist(),
    }
    path.write_text(json.dumps(content))
    return path


def saved_answers(path: Path) -> Path:
    """A folder with answers of the services that `sddp data fetch` asks, as saved by hand."""
    path.mkdir()
    for code, values in brazilian_series("2009-12-31").items():
        (path / f"sgs_{code}_all.json").write_bytes(sgs_json(values))
    numbers = np.random.default_rng(4).normal(0.5, 4.0, (3, 100)).round(2)
    months = dict(zip(("192607", "192608", "192609"), map(list, numbers), strict=True))
    few = {month: row[:25] for month, row in months.items()}
    for name, text in {
        "F-F_Research_Data_5_Factors_2x3_CSV.zip": library.FIVE_FACTORS,
        "25_Portfolios_5x5_CSV.zip": library.portfolios(5, few),
        "100_Portfolios_10x10_CSV.zip": library.portfolios(10, months),
        "100_Portfolios_ME_OP_10x10_CSV.zip": library.portfolios(10, months, "OP"),
    }.items():
        (path / name).write_bytes(zipped(text))
    return path


def folder(path: Path) -> Path:
    """A folder with all of them."""
    path.mkdir(exist_ok=True)
    saved_answers(path / "saved")
    prices(path / "prices.csv")
    instance(path / "instance.json")
    (path / "holdings.csv").write_text("asset,shares\ncash,500\nfund 1,3\n")
    return path


def run(*arguments: str, where: Path, code: str | None = None, **options: object):
    """A command in a process of its own, from a folder that is not the checkout."""
    start = ["-m", "sddp"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=where,
        env=environment(),
        capture_output=True,
        timeout=300,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def environment() -> dict[str, str]:
    """The package as it is here, whatever the current folder."""
    import os

    return os.environ | {"PYTHONPATH": str(ROOT)}
