"""Views of rows that arrive against those of a market of the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError
from sddp.live import RowRules, RowWindow, StreamRules, market_rows
from sddp.market import Market


def market(n_rows=600):
    rng = np.random.default_rng(3)
    levels = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((n_rows, 4)), axis=0))
    levels[:50, 1] = np.nan
    levels[300:310, 2] = np.nan
    dates = pd.date_range("2024-01-01", periods=n_rows, freq="h")
    table = pd.DataFrame(levels, dates, list("abcd"))
    index = pd.Series(rng.uniform(10, 40, n_rows), dates)
    cash = pd.Series(rng.uniform(0, 1e-4, n_rows), dates)
    return Market(table, cash_rate=cash, volatility_index=index, missing="carry")


def windows(whole, **options):
    stream = StreamRules(list(whole.assets), RowRules())
    window = RowWindow(list(whole.assets), **options)
    for row in market_rows(whole).rows(0):
        for accepted in stream.apply(row)[0]:
            window.append(accepted)
            yield window.view()


def test_a_view_is_that_of_the_market_bit_for_bit():
    whole = market()
    for row, found in enumerate(windows(whole)):
        # Some rows, and those at which arrays grow.
        if row % 20 and row % 256 not in (0, 255):
            continue
        date = whole.dates[row]
        known = whole.at(date)
        for name in ("prices", "returns", "quoted", "log_returns"):
            ours, theirs = getattr(found, name), getattr(known, name)
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_freq=False)
            # Sums over rows depend on the order in memory.
            by_rows = [
                table.to_numpy().strides[0] != table.to_numpy().itemsize for table in (ours, theirs)
            ]
            assert by_rows[0] == by_rows[1]
        for name in ("cash_rate", "volatility_index"):
            ours, theirs = getattr(found, name), getattr(known, name)
            pd.testing.assert_series_equal(ours, theirs, check_exact=True, check_freq=False)
        assert found.date == date
    # What depends on the order of the sums.
    known, found = whole.at(whole.dates[-1]), list(windows(whole))[-1]
    assert (found.returns.mean() == known.returns.mean()).all()
    assert np.array_equal(np.cov(found.returns[["a", "d"]].T), np.cov(known.returns[["a", "d"]].T))


@pytest.mark.parametrize("lookback", [1, 30, 256, 300])
def test_a_window_holds_the_last_rows(lookback):
    whole = market()
    for n, (date, found) in enumerate(
        zip(whole.dates, windows(whole, lookback=lookback), strict=True), start=1
    ):
        assert len(found.prices) == min(n, lookback)
        if n % 50 == 0 or n < 5:
            known = whole.at(date, lookback)
            assert found.row == known.row
            for name in ("prices", "returns", "log_returns"):
                ours, theirs = getattr(found, name), getattr(known, name)
                pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_freq=False)


def test_old_views_stay_as_they_were_and_cannot_be_written_to():
    whole = market()
    kept = list(windows(whole, lookback=20))
    for date, found in zip(whole.dates[::60], kept[::60], strict=True):
        pd.testing.assert_frame_equal(
            found.prices, whole.at(date).prices.iloc[-20:], check_freq=False
        )
    with pytest.raises(ValueError, match="read-only"):
        kept[5].prices.to_numpy()[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        kept[5].prices.iloc[0, 0] = 1.0


def test_an_index_is_there_on_every_row_or_on_none():
    whole = market()
    window, stream = RowWindow(list("abcd")), StreamRules(list("abcd"), RowRules())
    first, second, *_ = market_rows(whole).rows(0)
    window.append(stream.apply(first)[0][0]._replace(volatility_index=None))
    with pytest.raises(DataError, match=r"\['volatility_index'\]"):
        window.append(stream.apply(second)[0][0])
