"""Files of the usual Python download (yfinance) run the main job, with no option."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sddp import cli

TICKERS = ("AAPL", "BRK-B", "PETR4.SA", "7203.T")
ROWS_A_STEP = {"B": 1, "W-MON": 5, "MS": 21}


def download(path, step: str, n_rows: int) -> None:
    """Write what ``yfinance.download(TICKERS).to_csv(path)`` writes: three header rows.

    The columns are assembled as yfinance 1.7 does it (``yfinance/multi.py``): one frame per
    ticker, joined under the names Ticker and Price, which then change places.
    """
    rng, scale = np.random.default_rng(3), np.sqrt(ROWS_A_STEP[step])
    index = pd.date_range("2004-01-05", periods=n_rows, freq=step, name="Date")
    common = rng.normal(0.0004 * scale**2, 0.008 * scale, n_rows)
    frames = {}
    for ticker in TICKERS:
        close = 100.0 * np.exp((common + rng.normal(0.0, 0.008 * scale, n_rows)).cumsum())
        columns = {"Open": close * 0.999, "High": close * 1.01, "Low": close * 0.99, "Close": close}
        frames[ticker] = pd.DataFrame({**columns, "Volume": rng.integers(1, 10**6, n_rows)}, index)
    table = pd.concat(frames.values(), axis=1, keys=frames.keys(), names=["Ticker", "Price"])
    table.columns = table.columns.swaplevel(0, 1)
    table.sort_index(level=0, axis=1).to_csv(path)


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "n_rows", "word"),
    [("B", 620, "daily"), ("W-MON", 320, "weekly"), ("MS", 130, "monthly")],
)
def test_the_main_job_runs_on_a_download(step, n_rows, word, tmp_path, capsys):
    path = tmp_path / "download.csv"
    download(path, step, n_rows)
    assert path.read_text().splitlines()[0].startswith("Price,Close,Close")
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    assert cli.main(["backtest", str(path), "--quick", *where]) == 0
    market = json.loads(capsys.readouterr().out)["market"]
    assert market["frequency"] == word
    assert sorted(market["assets"]) == sorted(TICKERS)
    assert market["data"]["prices"]["frequency"] == word
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    told = record["results"]["market"]["data"]["prices"]
    assert told["source"]["file"] == "download.csv"
    assert any("'Close' is read" in text for text in told["guessed"])


@pytest.mark.long
def test_todays_orders_from_a_download(tmp_path, capsys):
    path = tmp_path / "download.csv"
    download(path, "MS", 130)
    assert cli.main(["decide", str(path), "--quick", "--wealth", "50000"]) == 0
    assert set(TICKERS) & set(json.dumps(json.loads(capsys.readouterr().out)).split('"'))
