"""Each rule for rows that arrive, and bad rows among clean ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError, ModelError
from sddp.live import CsvReplay, Row, RowRules, StreamRules, market_rows
from sddp.market import Market

HOUR = pd.Timedelta(1, "h")
START = pd.Timestamp("2024-01-01", tz="UTC")


def clean(n_rows=60, seed=1):
    rng = np.random.default_rng(seed)
    levels = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((n_rows, 3)), axis=0))
    return [
        Row(START + i * HOUR, dict(zip("abc", levels[i].tolist(), strict=True)), None, 20.0, 1e-5)
        for i in range(n_rows)
    ]


def taken(rows, rules=None):
    """Accepted rows, and remarks as (class, reason, assets)."""
    stream = StreamRules("abc", rules or RowRules())
    accepted, remarks = [], []
    for row in rows:
        found, said = stream.apply(row)
        accepted += found
        remarks += [(type(e).__name__, e.reason, getattr(e, "assets", ())) for e in said]
    return accepted, remarks


def same(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.time == other.time
        assert np.array_equal(one.prices, other.prices)
        assert np.array_equal(one.quoted, other.quoted)


def changed(row, **prices):
    return Row(row.time, {**row.prices, **prices}, None, row.volatility_index, row.cash_rate)


def test_clean_rows_pass_without_a_remark():
    accepted, remarks = taken(clean())
    assert len(accepted) == 60
    assert remarks == []
    assert accepted[0].time == pd.Timestamp("2024-01-01")
    assert accepted[-1].volatility_index == 20.0
    assert accepted[-1].cash_rate == 1e-5


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda rows, i: rows[i - 1], "duplicate"),
        (lambda rows, i: changed(rows[i - 1], a=1.0), "conflict"),
        (lambda rows, i: rows[i - 3], "late"),
        (lambda rows, i: Row(rows[i - 1].time + HOUR / 2, {}), "empty"),
        (lambda rows, i: Row(rows[i - 1].time + HOUR / 2, {"a": math.nan, "b": -1.0}), "empty"),
        (lambda rows, i: Row(None, {"a": 1.0}), "no time"),
        (lambda rows, i: Row(pd.NaT, {"a": 1.0}), "no time"),
    ],
)
def test_a_bad_row_is_dropped_and_the_clean_ones_stay(bad, reason):
    rows = clean()
    accepted, remarks = taken([*rows[:30], bad(rows, 30), *rows[30:]])
    same(accepted, taken(rows)[0])
    assert ("RowRejected", reason, ()) in remarks


def test_many_late_rows_in_a_row_are_a_clock_set_back():
    rows = clean()
    _, remarks = taken([*rows[:30], *rows[20:25], *rows[30:], rows[3]])
    reasons = [reason for _, reason, _ in remarks]
    assert reasons == ["late"] * 2 + ["clock backwards"] * 3 + ["late"]


def test_an_absurd_row_waits_for_the_next_and_is_rejected():
    rows = clean()
    spike = Row(rows[29].time + HOUR / 2, {**rows[29].prices, "b": 3.0 * rows[29].prices["b"]})
    accepted, remarks = taken([*rows[:30], spike, *rows[30:]])
    same(accepted, taken(rows)[0])
    assert remarks == [("RowRepaired", "quarantine", ("b",)), ("RowRejected", "absurd", ())]


def test_an_absurd_row_that_the_next_confirms_is_accepted_with_it():
    rows = clean()
    crash = [changed(row, b=0.5 * row.prices["b"]) for row in rows[30:]]
    stream = StreamRules("abc", RowRules())
    for row in rows[:30]:
        stream.apply(row)
    assert stream.apply(crash[0])[0] == []
    both, said = stream.apply(crash[1])
    assert [row.time for row in both] == [START.tz_localize(None) + i * HOUR for i in (30, 31)]
    assert [event.reason for event in said] == ["confirmed"]
    assert both[0].prices[1] == crash[0].prices["b"]
    # No more remarks: the level is the new one.
    assert all(not stream.apply(row)[1] for row in crash[2:])


def test_a_move_must_be_both_rare_and_large():
    rows = clean()
    moderate = changed(rows[30], b=1.15 * rows[29].prices["b"])  # 15 sigma, 15 %
    assert taken([*rows[:30], moderate])[1] == []
    wild = [changed(r, a=(1.0, 1.3)[i % 2] * 100.0) for i, r in enumerate(rows)]  # 30 %, 1 sigma
    assert taken(wild)[1] == []


def test_a_second_absurd_row_does_not_confirm_another_one():
    rows = clean()
    up, down = (changed(rows[i], b=f * rows[29].prices["b"]) for i, f in ((30, 3.0), (31, 0.3)))
    accepted, remarks = taken([*rows[:30], up, down, *rows[32:]])
    assert [r for _, r, _ in remarks] == ["quarantine", "absurd"] * 2
    same(accepted, taken([*rows[:30], *rows[32:]])[0])


def test_the_row_held_back_may_come_twice():
    rows = clean()
    spike = changed(rows[30], b=300.0)
    _, remarks = taken([*rows[:30], spike, spike, changed(rows[30], b=301.0), *rows[31:]])
    assert [r for _, r, _ in remarks] == ["quarantine", "duplicate", "conflict", "absurd"]


def test_a_missing_asset_is_carried_and_not_quoted():
    rows = clean()
    without_b = [{k: v for k, v in row.prices.items() if k != "b"} for row in rows]
    lacking = [Row(r.time, p, None, 20.0, 1e-5) for r, p in zip(rows, without_b, strict=True)]
    accepted, remarks = taken([*rows[:30], *lacking[30:37], *rows[37:]], RowRules(missing_rows=5))
    assert remarks.count(("RowRepaired", "missing", ("b",))) == 7
    assert ("RowRepaired", "stale", ("b",)) in remarks
    assert accepted[36].prices[1] == rows[29].prices["b"]
    assert accepted[36].quoted.tolist() == [True, False, True]
    assert accepted[37].quoted.all()
    # An asset that never had a price needs no remark.
    assert taken([Row(r.time, {"a": r.prices["a"]}) for r in rows])[1] == []


@pytest.mark.parametrize("price", [0.0, -3.0, math.nan, math.inf])
def test_a_price_that_is_no_positive_number_is_taken_as_missing(price):
    rows = clean()
    accepted, remarks = taken([*rows[:30], changed(rows[30], c=price), *rows[31:]])
    assert remarks == [
        ("RowRepaired", "not positive", ("c",)),
        ("RowRepaired", "missing", ("c",)),
    ]
    assert accepted[30].prices[2] == rows[29].prices["c"]


def test_a_gap_and_an_unknown_asset_are_told():
    rows = clean()
    accepted, remarks = taken([*rows[:30], *rows[36:]])
    assert remarks == [("RowRepaired", "gap", ())]
    assert len(accepted) == 54
    assert taken([changed(rows[0], z=1.0)])[1] == [("RowRepaired", "unknown asset", ("z",))]
    assert taken([*rows[:2], *rows[5:]])[1] == []
    assert taken([*rows[:2], *rows[5:]], RowRules(period=HOUR, gap_periods=2.0))[1] != []


def test_a_time_without_a_zone_is_taken_as_utc_and_that_is_said_once():
    rows = [Row(row.time.tz_localize(None), row.prices) for row in clean()]
    accepted, remarks = taken(rows)
    assert remarks == [("RowRepaired", "zone assumed", ())]
    same(accepted, taken(clean())[0])
    away = Row(pd.Timestamp("2024-01-01 05:00", tz="Asia/Tokyo"), {"a": 1.0})
    assert taken([away])[0][0].time == pd.Timestamp("2023-12-31 20:00")


def test_the_index_and_the_rate_of_cash_are_carried():
    rows = clean()
    nothing = Row(rows[2].time, rows[2].prices)
    percent = Row(rows[3].time, rows[3].prices, None, -1.0, 5.2)
    accepted, remarks = taken([*rows[:2], nothing, percent])
    assert [r for _, r, _ in remarks] == ["volatility index", "cash rate"] * 2
    assert (accepted[3].volatility_index, accepted[3].cash_rate) == (20.0, 1e-5)


def test_an_index_and_volumes_follow_the_first_row():
    """One that comes or goes later ended the loop for good: the row was refused again and again."""
    rows = clean()
    without, given = Row(rows[0].time, rows[0].prices), Row(rows[1].time, rows[1].prices)
    given = replace(given, volumes={"a": 5.0}, volatility_index=20.0)
    accepted, remarks = taken([without, given, replace(given, time=rows[2].time)])
    assert all(row.volatility_index is None and row.volumes is None for row in accepted)
    assert [r for _, r, _ in remarks].count("volatility index") == 1
    assert [r for _, r, _ in remarks].count("volumes") == 1
    first = replace(given, time=rows[0].time)
    accepted, remarks = taken([first, Row(rows[1].time, rows[1].prices)])
    assert accepted[1].volatility_index == 20.0
    assert np.isnan(accepted[1].volumes).all()
    assert {"volatility index", "volumes"} <= {r for _, r, _ in remarks}
    wrong = replace(first, volatility_index=np.nan)
    assert taken([wrong, given])[0][1].volatility_index is None


@pytest.mark.parametrize("seed", range(20))
def test_bad_rows_at_random_leave_the_clean_ones_as_they_are(seed):
    rng = np.random.default_rng(seed)
    rows = clean(200, seed)
    stream, dirty = [], 0
    for i, row in enumerate(rows):
        stream.append(row)
        if i < 40 or i == len(rows) - 1 or rng.random() > 0.4:
            continue
        dirty += 1
        between = row.time + HOUR * float(rng.uniform(0.1, 0.9))
        stream.append(
            [
                row,
                changed(row, a=float(rng.uniform(50, 60))),
                rows[int(rng.integers(0, i))],
                Row(None, row.prices),
                Row(between, {"a": -1.0}),
                Row(between, {**row.prices, "c": row.prices["c"] * float(rng.choice([0.2, 5.0]))}),
            ][int(rng.integers(6))]
        )
    assert dirty > 40
    same(taken(stream)[0], taken(rows)[0])


def test_numbers_of_rules_are_checked():
    with pytest.raises(ModelError, match="sigmas = 0"):
        RowRules(sigmas=0)
    with pytest.raises(ModelError, match="period = -1"):
        RowRules(period=pd.Timedelta(-1, "h"))


def test_a_file_is_replayed_at_a_speed(tmp_path):
    file, volumes = tmp_path / "prices.csv", tmp_path / "volumes.csv"
    file.write_text("time,a,b,VIX,tbill\n2024-01-01,1,2,20,0.001\n2024-01-02,,x,,\nnever,1,1,1,1\n")
    volumes.write_text("time,a,b\n2024-01-01,10,20\n")
    slept = []
    source = CsvReplay(file, speed=86_400.0, volumes=volumes, sleep=slept.append)
    rows = list(source.rows(0))
    assert source.assets == ("a", "b")
    assert rows[0] == Row(
        pd.Timestamp("2024-01-01"), {"a": 1.0, "b": 2.0}, {"a": 10.0, "b": 20.0}, 20.0, 0.001
    )
    assert list(rows[1].prices) == ["b"]
    assert math.isnan(rows[1].prices["b"])
    assert rows[2].time is None
    assert slept == [1.0]
    assert [row.time for row in source.rows(2)] == [None]
    for speed in (0.0, -1.0, math.inf):
        with pytest.raises(ModelError, match="speed"):
            CsvReplay(file, speed=speed)
    with pytest.raises(DataError, match="must be readable"):
        CsvReplay(tmp_path / "none.csv")


def test_rows_of_a_market_and_their_text():
    prices = pd.DataFrame({"a": [1.0, np.nan, 3.0]}, pd.date_range("2024", periods=3))
    market = Market(prices, missing="carry", cash_rate=0.01)
    rows = list(market_rows(market).rows(0))
    assert [dict(row.prices) for row in rows] == [{"a": 1.0}, {}, {"a": 3.0}]
    assert Row.of(rows[0].content()) == rows[0]
    odd = Row(None, {"a": 0.1 + 0.2}, {"a": 1e300}, 20.5, -0.0)
    assert Row.of(odd.content()) == odd
    with pytest.raises(DataError, match="must be the JSON of a row"):
        Row.of("{}")
