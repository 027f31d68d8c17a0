"""The main job on files of prices: in its quick form, and as a stranger would misuse it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sddp import cli


def main(arguments) -> int:
    return cli.main(["backtest", *arguments])


def write_prices(path: Path, n_assets: int, n_rows: int = 640, edit=lambda table: table) -> Path:
    rng = np.random.default_rng(5)
    steps = rng.normal(0.0004, 0.01, (n_rows, n_assets)) + rng.normal(0.0, 0.006, (n_rows, 1))
    dates = pd.bdate_range("2019-01-01", periods=n_rows, name="date")
    names = [f"fund {i + 1}" for i in range(n_assets)]
    edit(pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), dates, names)).to_csv(path)
    return path


@pytest.mark.long
def test_own_prices_with_and_without_factors(tmp_path):
    prices = write_prices(tmp_path / "prices.csv", n_assets=3)
    factors = write_prices(tmp_path / "factors.csv", n_assets=2)
    arguments = ["--quick", str(prices), "--store", str(tmp_path / "store")]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert main([*arguments, "--factors", str(factors), "--out", str(tmp_path / "b")]) == 0


@pytest.mark.long
def test_one_asset_and_interest_on_cash(tmp_path):
    prices = write_prices(tmp_path / "prices.csv", n_assets=1)
    arguments = ["--quick", str(prices), "--cash-rate", "0.0001", "--no-resume"]
    arguments += ["--store", str(tmp_path)]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    wealth = pd.read_csv(tmp_path / "out" / "wealth.csv", index_col=0)
    grown = 1.0001 ** np.arange(len(wealth))
    np.testing.assert_allclose(wealth["cash"], grown, rtol=1e-9)


@pytest.mark.long
def test_a_second_run_gives_the_same_numbers(tmp_path):
    prices = write_prices(tmp_path / "prices.csv", n_assets=2)
    for folder in ("a", "b"):
        where = ["--out", str(tmp_path / folder), "--store", str(tmp_path / f"store {folder}")]
        main(["--quick", str(prices), *where])
    for name in ("decisions", "weights", "wealth"):
        first, second = (tmp_path / folder / f"{name}.csv" for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def drop_cell(table):
    table.iloc[7, 1] = np.nan
    return table


def zero_cell(table):
    table.iloc[9, 0] = 0.0
    return table


def shuffle(table):
    return table.iloc[[1, 0, *range(2, len(table))]]


def text_cell(table):
    table = table.astype(object)
    table.iloc[3, 1] = "n/a?"
    return table


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (drop_cell, r"prices is missing at fund 2 on 2019-01-10; fill it, or .*--missing"),
        (zero_cell, r"prices = 0 at fund 1 on 2019-01-14; it must be positive; .*--missing carry"),
        (text_cell, r"fund 2 is 'n/a\?' at line 5, no number; .*--missing-value"),
        (shuffle, r"dates go up and down: .*--sort"),
        (lambda table: table.iloc[:, :0], r"no delimiter found"),
        (lambda table: table.set_axis(["day"] * len(table)), r"no column of dates: 'day'"),
    ],
)
def test_bad_prices_name_the_place_and_the_remedy(edit, words, tmp_path, capsys):
    prices = write_prices(tmp_path / "prices.csv", n_assets=2, edit=edit)
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    assert main(["--quick", str(prices), *where]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(words, printed.err)
    assert not (tmp_path / "out" / "run.json").exists()


def test_missing_file(tmp_path, capsys):
    assert main(["--quick", str(tmp_path / "none.csv"), "--out", str(tmp_path)]) == 1
    assert "the file cannot be read (No such file or directory)" in capsys.readouterr().err


def test_factors_need_prices(capsys):
    assert main(["--factors", "x.csv"]) == 1
    assert "--factors x.csv: needs PRICES" in capsys.readouterr().err


@pytest.mark.long
def test_ctrl_c_ends_the_run_and_leaves_no_results(tmp_path):
    """The signal arrives while a policy is trained: no half-trained policy may decide."""
    prices = write_prices(tmp_path / "prices.csv", n_assets=3, n_rows=1300)
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sddp", "backtest", str(prices), *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "store").exists():  # made with the first fit
        time.sleep(0.1)
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "interrupted" in error
    assert "kept" in error
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["prices.csv", "store"]
