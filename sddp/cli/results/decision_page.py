"""Today's decision as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sddp.backtest.today import TodaysDecision
from sddp.cli.results.decision_report import SHOWN, regimes_of, sentences
from sddp.reporting.html_elements import Cell, Facts, Row, Section, Table, number, percent, render

# Of columns that are no money; shares may be fractions of a coin.
DECIMALS = {"trade_shares": 4}


def page(decision: TodaysDecision, notes: Sequence[str]) -> str:
    """One HTML page that needs nothing beside itself."""
    sections = [
        Section("orders", "Orders", tables=[_orders(decision)], notes=sentences(decision)),
        Section("regimes", "Regimes", tables=[_regime_table(decision)]),
        Section("inputs", "Inputs", facts=[Facts("Prices and settings", _facts(notes))]),
    ]
    lead = (
        f"Orders for {number(decision.wealth, 2)} of wealth, cost "
        f"{number(decision.cost, 2)} ({percent(decision.cost / decision.wealth, 3)})."
    )
    title = f"Decision of {decision.date:%Y-%m-%d}"
    return render(title, lead, list(decision.notes), sections)


def _facts(notes: Sequence[str]) -> list[tuple[str, str]]:
    """Notes by their first words, where a colon ends them."""
    parted = [note.partition(": ") for note in notes]
    return [(name, rest) if rest else ("Note", name) for name, _, rest in parted]


def _orders(decision: TodaysDecision) -> Table:
    names = [name for name in SHOWN if name in decision.orders]

    def cells(row: pd.Series[float]) -> list[Cell]:
        return [
            Cell(
                percent(row[name], 1)
                if name == "weight"
                else number(row[name], DECIMALS.get(name, 2))
            )
            for name in names
        ]

    rows = [Row(str(name), cells(row)) for name, row in decision.orders.iterrows()]
    blank = [Cell("") for _ in names]
    cash = dict(zip(names, blank, strict=True)) | {
        "held": Cell(number(decision.cash_before, 2)),
        "after": Cell(number(decision.cash_after, 2)),
        "weight": Cell(
            percent(decision.cash_after / (decision.cash_after + decision.orders["after"].sum()), 1)
        ),
    }
    return Table(
        "Money at the prices of the date; positive trades buy.",
        ["asset", *(SHOWN[name] for name in names)],
        [*rows, Row("cash", list(cash.values()))],
    )


def _regime_table(decision: TodaysDecision) -> Table:
    rows = [
        Row(name, [Cell(percent(share, 1)), Cell(percent(mean, 2)), Cell(percent(volatility, 2))])
        for name, share, mean, volatility in regimes_of(decision)
    ]
    return Table(
        "Probability today, and the equal-weighted return of a period; calmest first.",
        ["regime", "probability", "mean", "volatility"],
        rows,
    )
