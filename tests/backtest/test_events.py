"""Events and their canonical JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import pytest

from sddp.backtest.trading import canonical, event_of
from sddp.backtest.trading.events import Event, PortfolioOptimized, TriggerFired
from sddp.errors import DataError

NOON = pd.Timestamp("2020-01-02 12:00", tz="UTC")


def optimized(**changes):
    held = {
        "time": NOON,
        "optimizer": "MeanVariance",
        "constraint_set": "1.2.0",
        "weights": {"gold": 0.1 + 0.2, "cash": 1.0 - (0.1 + 0.2)},
        "reasons": ("calendar", "drift"),
        "iterations": 7,
        "seconds": 0.25,
    }
    return PortfolioOptimized(**held | changes)


def test_an_event_comes_back_with_the_same_bits():
    event = optimized(seconds=0.0)
    assert event_of(canonical(event)) == event


def test_what_is_measured_is_left_out_unless_asked_for():
    one, other = optimized(seconds=0.25), optimized(seconds=0.5)
    assert canonical(one) == canonical(other)
    assert event_of(canonical(one, measured=True)) == one


def test_keys_are_sorted_and_no_blank_is_written():
    text = canonical(optimized())
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert " " not in text


def test_numbers_that_are_not_finite_come_back():
    event = TriggerFired(time=NOON, trigger="t", reason="r", figures={"a": math.inf, "b": math.nan})
    found = event_of(canonical(event))
    assert found.figures["a"] == math.inf
    assert math.isnan(found.figures["b"])


def test_an_event_of_another_module_registers_itself():
    @dataclass(frozen=True, kw_only=True)
    class OfThisTest(Event):
        number: int

    assert event_of(canonical(OfThisTest(time=NOON, number=3))) == OfThisTest(time=NOON, number=3)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "must be the JSON of an event"),
        ("[1]", "must be the JSON of an event"),
        ('{"event":"Nothing","time":"2020-01-01","version":1}', "event='Nothing'"),
        ('{"event":"TriggerFired","time":"2020-01-01","version":9}', "version=9"),
        (
            '{"event":"TriggerFired","time":"2020-01-01","version":1,"x":1}',
            "fields of TriggerFired",
        ),
    ],
)
def test_a_text_that_is_no_event_is_an_error(text, match):
    with pytest.raises(DataError, match=match):
        event_of(text)


@pytest.mark.parametrize("figures", [{"a": np.zeros(2)}, {1: 2.0}])
def test_a_field_that_json_cannot_hold_is_an_error(figures):
    with pytest.raises(DataError, match="figures"):
        canonical(TriggerFired(time=NOON, trigger="t", reason="r", figures=figures))


def test_only_run_times_are_measured():
    kinds = [k for k in Event.__subclasses__() if k.__module__.startswith("sddp.backtest.")]
    measured = {f.name for k in kinds for f in fields(k) if f.metadata.get("measured")}
    assert measured == {"seconds"}
