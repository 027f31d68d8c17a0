"""The reader of the price file: units, gaps and missing columns; facts of the reference file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.data.sources.brazil_prices import read_prices
from sddp.errors import DataError
from sddp.market import Market
from sddp.risk import weighted_cvar
from tests.reference_data import reference_path


def table(n_rows=600):
    rng = np.random.default_rng(11)
    days = pd.bdate_range("2008-01-02", periods=n_rows, name="date")
    usd = 1.8 * np.exp(rng.normal(0.0, 0.01, n_rows).cumsum())
    return pd.DataFrame(
        {
            "ibov": 60_000.0 * np.exp(rng.normal(0.0, 0.015, n_rows).cumsum()),
            "gold": 25.0 * usd * np.exp(rng.normal(0.0, 0.01, n_rows).cumsum()),
            "usd": usd,
            "eur": 1.4 * usd,
            "cdi": 0.00045,
        },
        index=days,
    )


def read(tmp_path, values):
    values.to_csv(tmp_path / "prices.csv")
    return read_prices(tmp_path / "prices.csv")


def test_prices_and_cash_apart(tmp_path):
    given = table()
    prices, cash_rate = read(tmp_path, given)
    assert list(prices.columns) == ["ibov", "gold", "usd", "eur"]
    pd.testing.assert_frame_equal(prices, given.drop(columns="cdi"), check_freq=False)
    pd.testing.assert_series_equal(cash_rate, given["cdi"], check_freq=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns=["cdi", "eur"]), "lacks cdi, eur"),
        (lambda t: t.assign(cdi=t["cdi"] * 100.0), r"median of cdi is 0.045.*divide by 100"),
        (lambda t: t.assign(cdi=t["cdi"] / 100.0), "median of cdi is 4.5e-06"),
        (
            lambda t: t.assign(cdi=np.where(t.index == "2008-01-04", 0.05, t["cdi"])),
            "0.05 on 2008-01-04",
        ),
        (lambda t: t.assign(cdi=np.where(t.index == "2008-01-04", -1e-4, t["cdi"])), "2008-01-04"),
        (lambda t: t.assign(gold=t["gold"] / t["usd"]), "gold does not move with the dollar"),
        (lambda t: t.assign(eur=t["eur"] / t["usd"] ** 2), "both must be reais per unit"),
        (
            lambda t: t.assign(ibov=np.where(t.index == "2008-01-04", 0.0, t["ibov"])),
            "ibov is 0.0 on",
        ),
        (lambda t: t.drop(t.index[50:61]), "no row between 2008-03-11 and 2008-03-27"),
    ],
)
def test_what_cannot_be_the_unit_is_rejected(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, change(table()))


def test_the_reference_file_makes_a_market():
    prices, cash_rate = read_prices(reference_path("data/brazil/prices.csv"))
    market = Market(prices, cash_rate=cash_rate)
    assert (len(market.dates), len(prices.columns)) == (5042, 4)
    years = (market.dates[-1] - market.dates[0]).days / 365.25
    assert len(market.dates) / years == pytest.approx(235.5, abs=0.05)


@pytest.mark.long
def test_gold_of_the_reference_file_in_dollars_is_found_out_in_any_two_years(tmp_path):
    """Every two-year window on its own: none in reais refused, none in dollars let through."""
    whole = pd.read_csv(
        reference_path("data/brazil/prices.csv"), index_col="date", parse_dates=["date"]
    )
    for start in range(0, len(whole) - 504, 252):
        window = whole.iloc[start : start + 504]
        read(tmp_path, window)
        with pytest.raises(DataError, match="gold does not move with the dollar"):
            read(tmp_path, window.assign(gold=window["gold"] / window["usd"]))


def test_the_deck_s_limit_never_binds_for_the_index_alone():
    """Worst CVaR at 0.9 over 504 rows is 4.84 % a day; the deck's limit is 10 %."""
    prices, _ = read_prices(reference_path("data/brazil/prices.csv"))
    returns = prices["ibov"].pct_change().dropna().to_numpy()
    ends = range(504, len(returns) + 1)
    worst = max(weighted_cvar(-returns[end - 504 : end], confidence=0.9) for end in ends)
    assert worst == pytest.approx(0.0484, abs=5e-5)
