"""Run every command of an installed `sddp` in an empty folder; fail where one does not answer.

``python check_wheel.py`` with the interpreter that the wheel is installed for, from outside of a
checkout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import files, metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

QUICK = ["--quick", "--window", "60", "--states", "2", "--store", "store"]
# See sddp.allocation.instances.
INSTANCE = (
    '{"N": 2, "K": 1, "S": 2, "T": 2, "k0": 0, "P": [[1.0]], "alpha": 0.5, "gamma": 0.02, '
    '"tau": 0.001, "r": [[[0.05, 0.01], [-0.03, 0.01]]], "x0": [1.0, 0.0, 0.0]}'
)


def main() -> None:
    """Check what the wheel holds, then run the commands."""
    tops = {file.parts[0] for file in files("sddp-allocation") or [] if file.suffix == ".py"}
    assert tops == {"sddp"}, tops
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prices().to_csv(folder / "prices.csv")
        version = _run(folder, "--version")
        assert version == f"sddp {metadata('sddp-allocation')['Version']}\n", version
        assert _json(folder, "data", "check", "prices.csv")["assets"]
        assert _json(folder, "backtest", "prices.csv", *QUICK, "--out", "b")["status"] == "complete"
        assert (folder / "b" / "report.html").exists()
        assert _json(folder, "train", "prices.csv", *QUICK, "--out", "policy")
        assert _json(folder, "decide", "prices.csv", "--policy", "policy")["orders"]
        (folder / "instance.json").write_text(INSTANCE, encoding="utf-8")
        assert _json(folder, "solve", "instance.json", "--iterations", "5")["bound"] > 0.0
        assert "brazil" in _run(folder, "data", "fetch", "--help")
    print("every command answers")


def _prices() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    returns = rng.normal(0.002, 0.02, (120, 3))
    dates = pd.date_range("2020-01-03", periods=len(returns), freq="W-FRI", name="date")
    return pd.DataFrame(np.exp(returns.cumsum(axis=0)), dates, ["A", "B.1", "C D"])


def _json(folder: Path, *arguments: str) -> Any:
    return json.loads(_run(folder, *arguments, "--quiet"))


def _run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sddp", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"sddp {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
