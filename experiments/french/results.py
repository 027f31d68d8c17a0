"""The tables of a study as files: written once, read again for figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.french import figures, rolling_figures
from sddp.errors import DataError
from sddp.studies.record import RunFiles

IN_SAMPLE = (
    *("law", "states", "training", "speed", "convergence", "first_stage", "frontier", "gap"),
    *("horizon", "ingredients"),
)
ROLLING = (
    *("summary", "intervals", "differences", "rolling_ingredients", "risk", "deflated", "missing"),
    *("wealth", "weights", "beliefs"),
)
BY_DATE = ("wealth", "beliefs")


def draw(record: RunFiles) -> list[str]:
    """Draw the figures of the tables that a folder holds; their names.

    Raises
    ------
    DataError
        It holds neither study, or a table of one that is there is missing.
    """
    drawn: dict[str, Figure] = {}
    if (record.out / f"{IN_SAMPLE[0]}.csv").exists():
        tables = {name: _read(record.out, name) for name in IN_SAMPLE}
        drawn |= {name: figure(tables) for name, figure in figures.FIGURES.items()}
    if (record.out / f"{ROLLING[0]}.csv").exists():
        drawn |= rolling_figures.draw({name: _read(record.out, name) for name in ROLLING})
    if not drawn:
        raise DataError(f"{record.out} holds no finished study; run it first")
    for name, figure in drawn.items():
        record.write_figure(name, figure)
    return list(drawn)


def _read(folder: Path, name: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(folder / f"{name}.csv", index_col=0)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / name}.csv cannot be read: {error}; run the study") from error
    if name in BY_DATE:
        table.index = pd.DatetimeIndex(table.index)
    if "date" in table.columns:
        table["date"] = pd.to_datetime(table["date"])
    return table
