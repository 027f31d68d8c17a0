"""Sets of constraints: what is refused, what a set says of weights, hashes, files, differences."""

# ruff: noqa: E501 - a table of bad input, one case a line

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.fuzz.constraints import random_problem
from sddp.errors import DataError, ModelError
from sddp.portfolio import (
    CashBounds,
    ConstraintSet,
    EsgFloor,
    FactorExposure,
    GroupLimit,
    Liquidity,
    PositionLimit,
    TrackingError,
    Turnover,
)
from sddp.portfolio.constraints.members import constraint_of

SCORES = {"btc": 30.0, "gld": 60.0, "vnq": 90.0}
ALL = ConstraintSet(
    (
        PositionLimit(name="single", upper=0.5),
        GroupLimit(name="tokens", assets=("btc", "gld"), upper=0.6),
        FactorExposure(name="beta", loadings={"btc": 2.0, "vnq": 1.0}, lower=-0.5, upper=0.9),
        TrackingError(
            name="index", benchmark={"gld": 0.5, "vnq": 0.5}, limit=0.05, periods_per_year=12
        ),
        EsgFloor(name="esg", scores=SCORES, floor=70.0, penalty=0.001),
        Turnover(name="turnover", limit=0.4),
        Liquidity(name="volume", volume={"btc": 1e6}, portfolio_value=1e6, share=0.1),
        CashBounds(name="cash", lower=0.05),
    ),
    version="2.1.0",
)
HELD = {"btc": 0.5, "gld": 0.4, "vnq": 0.0, "cash": 0.1}
BEFORE = {"btc": 0.3, "gld": 0.7}
COVARIANCE = pd.DataFrame(np.diag([0.04, 0.01, 0.01]), index=list(SCORES), columns=list(SCORES))


def test_every_breach_is_stated_with_its_amount():
    found = {
        b.name: (b.amount, b.unit)
        for b in ALL.check(HELD, current_weights=BEFORE, covariance=COVARIANCE)
    }
    yearly = np.sqrt((0.25 * 0.04 + 0.01 * 0.01 + 0.25 * 0.01) * 12.0)
    expected = {
        "tokens": (0.3, "of wealth"),
        "beta": (0.1, "of exposure"),
        "index": (yearly - 0.05, "a year"),
        "esg": (70.0 - (15.0 + 24.0) / 0.9, "of score"),
        "turnover": (0.1, "of wealth"),
        "volume": (0.1, "of wealth"),
    }
    assert set(found) == set(expected)
    for name, (amount, unit) in expected.items():
        assert found[name][0] == pytest.approx(amount, abs=1e-12)
        assert found[name][1] == unit


def test_cash_counts_in_a_score_where_it_has_one():
    held = {"btc": 0.5, "gld": 0.4, "vnq": 0.0}
    floor = EsgFloor(name="esg", scores=SCORES, floor=50.0, cash_score=100.0)
    assert ConstraintSet((floor,)).check(held)[0].amount == pytest.approx(50.0 - 49.0)
    left_out = EsgFloor(name="esg", scores=SCORES, floor=50.0)
    assert ConstraintSet((left_out,)).check(held)[0].amount == pytest.approx(50.0 - 39.0 / 0.9)


def test_what_is_kept_is_no_breach():
    kept = {"btc": 0.1, "gld": 0.3, "vnq": 0.5, "cash": 0.1}
    loose = replace(ALL, constraints=tuple(c for c in ALL.constraints if c.name != "index"))
    assert loose.check(kept, current_weights=kept) == []


def test_what_a_check_needs_is_asked_for():
    with pytest.raises(ModelError, match="turnover: current_weights=None"):
        ALL.check(HELD, covariance=COVARIANCE)
    with pytest.raises(ModelError, match="index: covariance=None"):
        ALL.check(HELD, current_weights=BEFORE)
    with pytest.raises(DataError, match="tokens: asset 'btc' is unknown"):
        ConstraintSet((ALL.constraints[1],)).check({"gld": 1.0})


def test_json_gives_the_set_back_to_the_bit():
    text = ALL.to_json()
    back = ConstraintSet.from_json(text)
    assert back == ALL
    assert hash(back) == hash(ALL)
    assert back.to_json() == text
    assert back.content_hash == ALL.content_hash
    assert len(ALL.content_hash) == 64
    for number in range(100):
        made = random_problem(7, number).constraints
        again = ConstraintSet.from_json(made.to_json())
        assert (again, again.content_hash) == (made, made.content_hash)


def test_the_order_in_which_numbers_are_given_does_not_count():
    other = EsgFloor(name="esg", scores=pd.Series(SCORES).iloc[::-1], floor=70, penalty=0.001)
    assert other == ALL.constraints[4]


def test_any_change_of_content_changes_the_hash():
    known = {ALL.content_hash}
    for i, constraint in enumerate(ALL.constraints):
        values = json.loads(ALL.to_json())["constraints"][i]
        for field, value in values.items():
            if field in ("kind", "name"):
                continue
            if isinstance(value, float):
                changed = value * 1.01 if field != "scale" else value
            elif field == "penalty":
                changed = 3.0
            elif field in ("loadings", "benchmark", "scores", "volume"):
                changed = [[value[0][0], value[0][1] * 0.99], *value[1:]]
            elif field == "assets":
                changed = ["btc"]
            elif field == "scale":
                changed = [0.0, 101.0]
            else:
                continue
            given = {k: v for k, v in values.items() if k != "kind"} | {field: changed}
            given = {k: _tuples(v) for k, v in given.items()}
            moved = constraint_of(values["kind"], given)
            others = [*ALL.constraints[:i], moved, *ALL.constraints[i + 1 :]]
            made = ConstraintSet(tuple(others), ALL.version)
            assert made != ALL, field
            assert made.content_hash not in known, (constraint.name, field)
            known.add(made.content_hash)
            assert made.diff(ALL), field
    assert len(known) > 15
    assert replace(ALL, version="2.1.1").content_hash not in known


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def test_differences_are_said_in_words():
    tokens = replace(ALL.constraints[1], upper=0.5)
    other = ConstraintSet((tokens, ALL.constraints[0], Turnover(name="new", limit=0.1)), "3.0.0")
    words = ConstraintSet(ALL.constraints[:2], "2.1.0").diff(other)
    assert words == [
        "new: added (purchases plus sales at most 0.1)",
        "tokens: upper 0.6 -> 0.5",
        "version: 2.1.0 -> 3.0.0",
    ]
    assert ALL.diff(ALL) == []
    kind = ConstraintSet((CashBounds(name="single", upper=0.5),), "2.1.0")
    assert kind.diff(ConstraintSet(ALL.constraints[:1], "2.1.0")) == [
        "single: CashBounds -> PositionLimit"
    ]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: PositionLimit(name="x", upper=10), ModelError, r"x: upper=10: must be a share .*0.1 for 10 %"),
        (lambda: PositionLimit(name="x"), ModelError, "x: lower=None, upper=None: give at least one"),
        (lambda: PositionLimit(name="x", lower=-0.1), ModelError, "short positions have costs of borrowing"),
        (lambda: PositionLimit(name="x", lower=0.3, upper=0.2), ModelError, "swap them"),
        (lambda: PositionLimit(name="x", upper=np.nan), ModelError, "upper=nan"),
        (lambda: PositionLimit(name="x", upper=0.1, penalty=0.0), ModelError, "penalty"),
        (lambda: PositionLimit(name="", upper=0.1), ModelError, "must be text"),
        (lambda: GroupLimit(name="x", assets=(), upper=0.1), ModelError, "a group needs members"),
        (lambda: GroupLimit(name="x", assets="tech", upper=0.1), ModelError, "a sequence of labels"),
        (lambda: GroupLimit(name="x", assets=("a", "a"), upper=0.1), DataError, "are equal"),
        (lambda: EsgFloor(name="x", scores={"a": 120.0}, floor=50), DataError, "score of 'a' = 120.0: must be inside"),
        (lambda: EsgFloor(name="x", scores={"a": 20.0}, floor=500), ModelError, "floor=500"),
        (lambda: EsgFloor(name="x", scores={"a": np.nan}, floor=50), DataError, "must be a finite number"),
        (lambda: Liquidity(name="x", volume={"a": 0.0}, portfolio_value=1e6), DataError, "volume of 'a' = 0.0: must be positive money"),
        (lambda: Liquidity(name="x", volume={"a": np.nan}, portfolio_value=1e6), DataError, "volume of 'a' = nan"),
        (lambda: Liquidity(name="x", volume={"a": 1.0}, portfolio_value=1e6, share=10), ModelError, "share=10"),
        (lambda: TrackingError(name="x", benchmark={}, limit=0.02, periods_per_year=252), ModelError, "benchmark is empty"),
        (lambda: TrackingError(name="x", benchmark={"a": 2.0}, limit=0.02, periods_per_year=252), ModelError, "benchmark sums to 2"),
        (lambda: TrackingError(name="x", benchmark={"a": 1.0}, limit=2, periods_per_year=252), ModelError, "give 0.02 for 2 %"),
        (lambda: Turnover(name="x", limit=20), ModelError, "limit=20"),
        (lambda: ConstraintSet((Turnover(name="x", limit=1), CashBounds(name="x", upper=1))), ModelError, "'x' is used twice"),
        (lambda: ConstraintSet((), version="1"), ModelError, "major.minor.patch"),
        (lambda: ConstraintSet.from_json("{"), ModelError, "is no set of constraints"),
        (lambda: ConstraintSet.from_json('{"version": "1.0.0", "constraints": [1]}'), ModelError, "is no set"),
        (lambda: constraint_of("Cardinality", {}), ModelError, "a number of positions is no convex"),
        (lambda: constraint_of("MinimumLot", {}), ModelError, "round the trades"),
        (lambda: constraint_of("ShortPosition", {}), ModelError, "short positions have costs"),
        (lambda: constraint_of("Nothing", {}), ModelError, "must be one of PositionLimit"),
        (lambda: constraint_of("Turnover", {"name": "x", "speed": 1}), ModelError, r"unknown fields \['speed'\]"),
        (lambda: constraint_of("Turnover", {"name": "x"}), ModelError, "limit"),
    ],
)  # fmt: skip
def test_bad_input_is_rejected_with_value_and_remedy(make, error, words):
    with pytest.raises(error, match=words):
        make()
