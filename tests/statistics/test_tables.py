import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError
from sddp.statistics.tables import check_columns, read_table, sequence_lengths, split


def test_a_frame_keeps_its_labels_and_is_copied():
    frame = pd.DataFrame({"gold": [0.01, 0.02]}, index=pd.to_datetime(["2020-01-01", "2020-01-02"]))
    table = read_table(frame, "log_returns")
    assert table.names == ("gold",)
    table.values[0, 0] = 9.0
    assert frame.loc["2020-01-01", "gold"] == 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_by_column_and_row(bad):
    frame = pd.DataFrame({"gold": [0.01, 0.02], "eur": [0.0, bad]}, index=["mon", "tue"])
    with pytest.raises(
        DataError, match=rf"log_returns holds {bad} in column 'eur', row tue .*drop"
    ):
        read_table(frame, "log_returns")
    with pytest.raises(DataError, match="column 1, row 1 "):
        read_table(frame.to_numpy(), "log_returns")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros(5), r"shape \(5,\); give rows x variables .*reshape\(-1, 1\)"),
        (pd.Series([0.1, 0.2]), "to_frame"),
        (np.zeros((0, 2)), "needs rows and columns"),
        ([["a", "b"]], "not a number"),
        ([[1.0, 2.0], [3.0]], "not a number"),
    ],
)
def test_a_table_of_another_kind_is_rejected(data, words):
    with pytest.raises(DataError, match=words):
        read_table(data, "log_returns")
    assert read_table([[1.0, 2.0]], "log_returns").values.shape == (1, 2)


def test_columns_must_be_those_of_the_fit():
    table = read_table(pd.DataFrame({"a": [1.0], "b": [2.0]}), "x")
    check_columns(table, ("a", "b"), 2, "x")
    check_columns(table, None, 2, "x")
    with pytest.raises(DataError, match="x has 2 columns; the fit has 3 variables"):
        check_columns(table, None, 3, "x")
    with pytest.raises(DataError, match=r"\['a', 'b'\]; the fit has \['b', 'a'\]: select"):
        check_columns(table, ("b", "a"), 2, "x")


def test_lengths_cut_the_rows_in_order():
    pieces = list(split(np.arange(6.0)[:, None], sequence_lengths([1, 3, 2], 6)))
    assert [p.ravel().tolist() for p in pieces] == [[0], [1, 2, 3], [4, 5]]
    assert sequence_lengths(None, 6).tolist() == [6]


@pytest.mark.parametrize(
    ("lengths", "words"),
    [([3, 4], "sums to 7; .* 6 rows"), ([6, 0], "positive"), ([2.5, 3.5], "positive")],
)
def test_wrong_lengths_are_rejected(lengths, words):
    with pytest.raises(DataError, match=words):
        sequence_lengths(lengths, 6)
