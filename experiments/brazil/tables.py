"""The tables of a study as files: written once, read again for figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sddp.errors import DataError

# By date, with the dates in the first column.
BY_DATE = ("wealth", "weights", "beliefs", "rolling_cvar", "accuracy")
OTHERS = (
    *("summary", "intervals", "differences", "risk", "regimes_worth", "subperiods"),
    *("deflated", "asset_cvar"),
)
DATES = ("first", "last")


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of a finished run.

    Raises
    ------
    DataError
        One is missing or cannot be read.
    """
    try:
        by_date = {name: _read(folder, name, index_col=0, parse_dates=[0]) for name in BY_DATE}
        others = {name: _read(folder, name) for name in OTHERS}
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} holds no finished run: {error}; run the study first") from error
    for name in DATES:
        others["subperiods"][name] = pd.to_datetime(others["subperiods"][name])
    return by_date | others


def _read(folder: Path, name: str, **options: Any) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_csv(folder / f"{name}.csv", **options)
    return table
