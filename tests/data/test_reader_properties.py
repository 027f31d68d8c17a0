"""Whatever date or number is written in a known form is read back, alone or in any company."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sddp.data import read_prices
from sddp.errors import DataError

FORMS = [
    "%Y-%m-%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%Y%m%d",
    "%d-%b-%Y",
    "%B %d %Y",
    "%Y/%m/%d",
]
DAYS = st.lists(
    st.dates(pd.Timestamp("1950-01-01").date(), pd.Timestamp("2069-12-31").date()),
    min_size=2,
    max_size=12,
    unique=True,
).map(sorted)
NUMBERS = st.floats(1e-4, 1e8, allow_nan=False).map(lambda x: float(f"{x:.4f}") + 1.0)


def csv(dates, numbers, delimiter, decimal) -> bytes:
    lines = [
        f"{day}{delimiter}{repr(n).replace('.', decimal)}"
        for day, n in zip(dates, numbers, strict=True)
    ]
    return "\n".join([f"date{delimiter}A", *lines, ""]).encode()


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    DAYS,
    st.sampled_from(FORMS),
    st.sampled_from([(",", "."), (";", ","), ("\t", "."), ("|", ",")]),
    st.data(),
)
def test_a_file_is_read_back_or_rejected_never_changed(days, form, dialect, data):
    """Where day and month or decimal mark cannot be told, it is refused; never read wrongly."""
    numbers = data.draw(st.lists(NUMBERS, min_size=len(days), max_size=len(days)))
    content = csv([day.strftime(form) for day in days], numbers, *dialect)
    try:
        table = read_prices(io.BytesIO(content)).table
    except DataError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert re.search("several readings|not certain|change by", message)
        return
    assert list(table.index) == list(pd.DatetimeIndex(days))
    np.testing.assert_array_equal(table["A"], numbers)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_end_in_anything_but_a_sentence(content):
    with pytest.raises(DataError):
        read_prices(io.BytesIO(content))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789-/.,;:\t\n\"'%$aDNT ", max_size=120))
def test_no_text_ends_in_anything_but_a_table_or_a_sentence(text):
    try:
        table = read_prices(io.BytesIO(text.encode())).table
    except DataError as error:
        message = str(error)
    else:
        message = ""
        assert np.isfinite(table.to_numpy()).any()
    assert "\n" not in message
