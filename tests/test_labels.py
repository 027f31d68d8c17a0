"""Labels: what is taken as it is, what is refused with both names, and numbers by label."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sddp.errors import DataError, ModelError
from sddp.labels import (
    CASH,
    checked_labels,
    label_index,
    numbers_by_label,
    places_of,
    same_labels,
)
from tests.tickers import LABELS, TEXTS


def test_the_corpus_is_large_and_passes():
    assert len(TEXTS) >= 200
    assert len(LABELS) >= 200
    assert checked_labels(TEXTS, "columns", reserved=CASH) == TEXTS
    assert checked_labels(LABELS, "columns", reserved=CASH) == LABELS


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([7203, "7203"], "label 7203 at position 0 and label '7203' at position 1 have the same"),
        (["a", 1, True], "label 1 at position 1 and label True at position 2 are equal"),
        ([1, 1.0], "label 1 at position 0 and label 1.0 at position 1 are equal"),
        ([0, False], "label 0 at position 0 and label False at position 1 are equal"),
        (["None", None], "label 'None' at position 0 and label None at position 1 have the same"),
        (["a", "b", "a"], "label 'a' at position 0 and label 'a' at position 2 are equal"),
        ([("a", 1), "('a', 1)"], "have the same text \"('a', 1)\""),
        (["a", float("nan")], "label nan at position 1 does not equal itself"),
        ([np.float64("nan")], "label nan at position 0 does not equal itself"),
        ([pd.NaT], "label NaT at position 0 does not equal itself"),
        ([pd.NA], "label <NA> at position 0 does not equal itself"),
        ([("a", float("nan"))], "label ('a', nan) at position 0 does not equal itself"),
        ([["a"]], "label ['a'] at position 0 is not hashable"),
        (["a", CASH], "label 'cash' at position 1 names the riskless position"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_rejected_with_both(labels, words):
    with pytest.raises(DataError, match=f"^columns.*{re.escape(words.removeprefix('columns '))}"):
        checked_labels(labels, "columns", reserved=CASH)


def test_numbers_of_numpy_become_those_of_python():
    (number, truth, text) = checked_labels([np.int64(7203), np.bool_(False), np.str_("a")], "x")
    assert [type(label) for label in (number, truth, text)] == [int, bool, str]


def test_an_index_holds_labels_as_they_are():
    index = label_index(LABELS)
    assert tuple(index) == LABELS
    assert [type(label) for label in index] == [type(label) for label in LABELS]
    assert not isinstance(index, pd.MultiIndex)
    pairs = [("Close", "AAPL"), ("Close", "MSFT")]
    assert list(label_index(pairs)) == pairs
    assert not isinstance(label_index(pairs), pd.MultiIndex)
    # Text has the index that pandas gives to text: results look as they always did.
    assert label_index(["a", "b"], name="n").equals(pd.Index(["a", "b"], name="n"))
    assert label_index(["a", "b"]).dtype == pd.Index(["a", "b"]).dtype


def test_labels_of_a_file_are_those_of_a_run_as_text():
    assert same_labels(LABELS, [str(label) for label in LABELS])
    assert not same_labels(["a", "b"], ["b", "a"])
    assert not same_labels(["a"], ["a", "b"])


def test_places_are_found_by_equality():
    assert places_of([None, 7203], ["a", 7203, None]) == [2, 1]
    with pytest.raises(KeyError):
        places_of(["b"], ["a"])


@given(st.permutations(range(len(LABELS))), st.integers(0, len(LABELS)))
def test_numbers_come_back_in_the_order_of_the_labels(order, n_given):
    chosen = order[:n_given]
    values = {LABELS[i]: float(i) for i in chosen}
    series = pd.Series([float(i) for i in chosen], index=label_index(LABELS[i] for i in chosen))
    expected = np.full(len(LABELS), -1.0)
    expected[chosen] = chosen
    for given_ in (values, series):
        np.testing.assert_array_equal(numbers_by_label(given_, LABELS, "x", default=-1.0), expected)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"a": 1.0}, "weights: unknown assets [], missing assets [None]; known are ['a', None]"),
        ({"a": 1.0, None: 2.0, "b": 0.0}, "weights: unknown assets ['b'], missing assets []"),
        ({"a": "much", None: 2.0}, "weights of 'a' = 'much': must be a number"),
        (pd.Series([1.0, 2.0, 3.0], label_index(["a", None, "a"])), "label 'a' appears twice"),
        ({"a": 1.0, None: 2.0, float("nan"): 0.0}, "weights: unknown assets [nan]"),
        (dict.fromkeys(range(9), 0.0), "unknown assets [0, 1, 2, 3, 4, ... and 4 more]"),
    ],
)
def test_numbers_by_label_are_rejected_with_the_label(values, words):
    with pytest.raises(ModelError, match=re.escape(words)):
        numbers_by_label(values, ["a", None], "weights")
    with pytest.raises(DataError, match=re.escape(words)):
        numbers_by_label(values, ["a", None], "weights", error=DataError)


def test_dates_and_times_are_labels():
    days = [datetime.date(2030, 1, 1), pd.Timestamp("2030-01-02")]
    assert numbers_by_label({days[1]: 2.0, days[0]: 1.0}, days, "x").tolist() == [1.0, 2.0]
