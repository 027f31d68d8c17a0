"""The tables of a report: numbers with units and rounded for reading, intervals beneath."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from sddp.display.style import featured_styles
from sddp.evaluation import metrics
from sddp.evaluation.reports.report_data import ReportData
from sddp.reporting.html_elements import (
    ABSENT,
    Cell,
    Row,
    Table,
    interval,
    money,
    number,
    p_value,
    percent,
)
from sddp.tables import day

Intervals = Mapping[tuple[str, str], tuple[float, float]]


@dataclass(frozen=True)
class Measure:
    """Header and number format of a column."""

    label: str
    text: Callable[[float], str]


def _percent(digits: int) -> Callable[[float], str]:
    return partial(percent, digits=digits)


def _number(digits: int) -> Callable[[float], str]:
    return partial(number, digits=digits)


RETURN_AND_RISK = {
    "annualized_return": Measure("Return, a year", _percent(1)),
    "volatility": Measure("Volatility, a year", _percent(1)),
    "sharpe": Measure("Sharpe ratio", _number(2)),
    "deflated_sharpe": Measure("Deflated Sharpe ratio", _number(2)),
    "sortino": Measure("Sortino ratio", _number(2)),
    "calmar": Measure("Calmar ratio", _number(2)),
    "hit_rate": Measure("Periods with a gain", _percent(0)),
    "final_wealth": Measure("Final wealth", money),
}
LOSSES = {
    "maximum_drawdown": Measure("Maximum drawdown", _percent(1)),
    "value_at_risk": Measure("VaR {confidence}, one row", _percent(2)),
    "cvar": Measure("CVaR {confidence}, one row", _percent(2)),
}
BENCHMARK = {
    "beta": Measure("Beta", _number(2)),
    "alpha": Measure("Alpha, a year", _percent(1)),
    "tracking_error": Measure("Tracking error, a year", _percent(1)),
    "information_ratio": Measure("Information ratio", _number(2)),
}
TRADING = {
    "turnover": Measure("Turnover, times wealth a year", _number(1)),
    "cost_drag": Measure("Costs, of wealth a year", _percent(2)),
    "costs_paid": Measure("Costs paid, money", money),
    "average_cash": Measure("Mean share of cash", _percent(0)),
}
GROUPS = {
    "Return and risk": RETURN_AND_RISK,
    "Losses": LOSSES,
    "Against {benchmark}": BENCHMARK,
    "Trading": TRADING,
}
FORECASTS = {
    "cvar_limit": Measure("Limit", _percent(2)),
    "binding": Measure("Decisions it held back", _percent(0)),
    "model_cvar": Measure("Model's CVaR, mean", _percent(2)),
    "largest_model_cvar": Measure("Model's CVaR, largest", _percent(2)),
    "realized_cvar": Measure("Realized CVaR", _percent(2)),
    "violations": Measure("Losses above the model's VaR", _number(0)),
}
TESTS = {
    "share": Measure("Share of losses above the model's VaR", _percent(1)),
    "coverage": Measure("p: as many as forecast", p_value),
    "independence": Measure("p: independent of the one before", p_value),
    "both": Measure("p: both", p_value),
    "realized_cvar": Measure("CVaR given the model's VaR", _percent(2)),
    "z1_p_value": Measure("p: tail losses as forecast", p_value),
    "z2_p_value": Measure("p: tail losses and their number", p_value),
}
# Differences between strategies, a year.
COMPARED = {
    "sharpe": Measure("Sharpe ratio", _number(2)),
    "mean_excess_return": Measure("Mean excess return, a year", _percent(1)),
}
COUNTED = {"refit": "Trainings", "failure": "Failures", "seconds": "Seconds"}
# Falls shown, and the smallest share of wealth that counts as held or traded.
N_FALLS, SMALLEST_WEIGHT = 5, 5e-4
DIFFERENCE = ("value", "low", "high", "p_value", "adjusted_p_value")
# Said elsewhere on the page, or shown beneath another number.
ELSEWHERE = {"confidence", "execution", "drawdown_peak", "drawdown_trough", "drawdown_recovery"}


def metric_tables(
    summary: pd.DataFrame, intervals: Intervals, benchmark: str | None
) -> list[Table]:
    """Tables of the summary by group; ungrouped metrics get a table of their own.

    Parameters
    ----------
    summary : DataFrame, shape (n_strategies, n_metrics)
        As `sddp.evaluation.summary` returns it.
    intervals : mapping
        Low and high end by (strategy, metric), for those that have one.
    benchmark : str or None
        Against which beta and the like are.
    """
    known = {name for group in GROUPS.values() for name in group} | ELSEWHERE
    further = {
        str(name): Measure(str(name).replace("_", " "), _anything)
        for name in summary.columns
        if name not in known
    }
    return [
        _metric_table(caption.format(benchmark=benchmark), measures, summary, intervals)
        for caption, measures in (GROUPS | {"Further measures": further}).items()
        if set(measures) & set(summary.columns)
    ]


def _metric_table(
    caption: str,
    measures: Mapping[str, Measure],
    summary: pd.DataFrame,
    intervals: Intervals,
) -> Table:
    confidence = percent(float(summary["confidence"].iloc[0]), 0)
    shown = {name: measure for name, measure in measures.items() if name in summary.columns}
    rows = [
        Row(
            str(strategy),
            [_cell(name, measure, values, intervals) for name, measure in shown.items()],
        )
        for strategy, values in summary.iterrows()
    ]
    header = [measure.label.format(confidence=confidence) for measure in shown.values()]
    return Table(caption, ["Strategy", *header], rows)


def _cell(name: str, measure: Measure, values: pd.Series[Any], intervals: Intervals) -> Cell:
    if name == "maximum_drawdown":
        return Cell(measure.text(values[name]), _fall(values))
    ends = intervals.get((str(values.name), name))
    return Cell(measure.text(values[name]), "" if ends is None else interval(ends, measure.text))


def by_metric(table: pd.DataFrame) -> Intervals:
    """Ends of intervals by (strategy, metric), from a tidy table of them."""
    return {
        (str(row["strategy"]), str(row["metric"])): (float(row["low"]), float(row["high"]))
        for _, row in table.iterrows()
    }


def difference_table(differences: pd.DataFrame, level: float) -> Table:
    """Differences of each strategy against the reference, with intervals and p-values.

    Parameters
    ----------
    differences : DataFrame
        As `sddp.evaluation.differences` returns it.
    level : float
        Of the intervals.
    """
    metrics = list(dict.fromkeys(differences["metric"]))
    header = ["Strategy"]
    for metric in metrics:
        label = COMPARED[metric].label
        header += [label, "p", "p, adjusted"]
    rows = [
        Row(str(name), [cell for metric in metrics for cell in _difference(table, metric)])
        for name, table in differences.groupby("strategy", sort=False)
    ]
    reference = differences["reference"].iloc[0]
    return Table(
        f"Difference from {reference}, with intervals of {percent(level, 0)}",
        header,
        rows,
    )


def _difference(table: pd.DataFrame, metric: str) -> list[Cell]:
    row = table.loc[table["metric"] == metric, list(DIFFERENCE)]
    value, low, high, p, adjusted = row.to_numpy(dtype=float)[0]
    text = COMPARED[metric].text
    return [
        Cell(text(value), interval((low, high), text)),
        Cell(p_value(p)),
        Cell(p_value(adjusted)),
    ]


def reasons(table: pd.DataFrame) -> list[str]:
    """Why some numbers have no interval."""
    lacking = table[table["note"] != ""].drop_duplicates(["strategy", "note"])
    return [f"{row['strategy']}: no interval, {row['note']}." for _, row in lacking.iterrows()]


def forecast_table(forecasts: pd.DataFrame) -> Table:
    """Forecast and realized CVaR against the limit.

    Parameters
    ----------
    forecasts : DataFrame, shape (n_strategies, n_columns)
        As `sddp.evaluation.risk_forecasts.forecast_table`; where it has ``low`` and ``high``, they
        are the interval of the realized CVaR.
    """
    rows = [
        Row(str(name), [_forecast(column, values) for column in FORECASTS])
        for name, values in forecasts.iterrows()
    ]
    header = ["Strategy", *(measure.label for measure in FORECASTS.values())]
    return Table("CVaR of one period: the limit, the model's, and what was realized", header, rows)


def _forecast(column: str, values: pd.Series[Any]) -> Cell:
    measure = FORECASTS[column]
    text = measure.text(values[column])
    if column == "realized_cvar" and "low" in values.index:
        return Cell(text, interval((values["low"], values["high"]), measure.text))
    if column == "violations" and text != ABSENT:
        periods, expected = number(values["n_periods"], 0), number(values["expected"], 0)
        return Cell(text, f"of {periods}, {expected} expected")
    return Cell(text)


def tests_table(tests: pd.DataFrame) -> Table:
    """Tests of the risk forecasts, as `sddp.evaluation.risk_backtest` returns them."""
    ends = {
        "share": ("share_low", "share_high"),
        "realized_cvar": ("realized_low", "realized_high"),
    }
    rows = []
    for name, values in tests.iterrows():
        intervals = {
            column: interval((values[low], values[high]), TESTS[column].text)
            for column, (low, high) in ends.items()
        }
        cells = [
            Cell(measure.text(values[column]), intervals.get(column, ""))
            for column, measure in TESTS.items()
        ]
        rows.append(Row(str(name), cells))
    header = ["Strategy", *(measure.label for measure in TESTS.values())]
    return Table("Tests of the forecast VaR and CVaR", header, rows)


def check_table(data: ReportData) -> Table:
    """Forecast against realized risk, and expected against earned return, of one period."""
    checks = data.checks().dropna(subset=["forecast_cvar"])
    ahead = [name for name in data.featured if name in checks.index]
    names = [*ahead, *(name for name in checks.index if name not in ahead)]
    rows = [
        Row(str(name), _check_cells(checks.loc[[name]].iloc[0]), _color(data, name))
        for name in names
    ]
    header = [
        *("Strategy", "CVaR forecast", "CVaR realized", "Realized over forecast"),
        *("p: tail losses as forecast", "Return expected", "Return earned", "Difference"),
    ]
    return Table("Did forecasts of one period hold?", header, rows)


def _check_cells(values: pd.Series[Any]) -> list[Cell]:
    two, fine = _number(2), _percent(2)
    return [
        Cell(fine(values["forecast_cvar"])),
        Cell(fine(values["realized_cvar"])),
        Cell(two(values["ratio"]), interval((values["ratio_low"], values["ratio_high"]), two)),
        Cell(p_value(values["tail_p_value"])),
        Cell(fine(values["expected"])),
        Cell(fine(values["realized"])),
        Cell(
            fine(values["difference"]),
            interval((values["difference_low"], values["difference_high"]), fine),
        ),
    ]


def _color(data: ReportData, name: str) -> str:
    """Color of a strategy in figures; empty for one that is gray there."""
    featured = data.featured
    return featured_styles(featured, featured)[name].color if name in featured else ""


def strategy_table(data: ReportData) -> Table:
    """What each strategy is."""
    rows = [
        Row(str(name), [Cell(data.description(name), words=True)], _color(data, name))
        for name in data.result.ledgers
    ]
    return Table("Strategies, with their colors in figures", ["Strategy", "What it does"], rows)


def year_table(data: ReportData) -> Table:
    """Return of the featured strategies in each calendar year, the latest first."""
    table = metrics.calendar_returns(data.result.wealth[data.featured])
    rows = [
        Row(str(year), [Cell(percent(float(value), 1)) for value in values])
        for year, values in zip(table.index[::-1], table.to_numpy()[::-1], strict=True)
    ]
    first, last = data.result.wealth.index[[0, -1]]
    note = f"The first year begins on {day(first)} and the last ends on {day(last)}."
    return Table("Return by calendar year, net of costs", ["Year", *data.featured], rows, [note])


def fall_table(data: ReportData) -> Table:
    """Deepest falls of the strategy that the report is about, and what the others did then."""
    name, *others = data.featured
    wealth = data.result.wealth
    rows = []
    for fall in metrics.deepest_falls(wealth[name], N_FALLS):
        ended = "not yet" if pd.isna(fall.recovery) else day(fall.recovery)
        meanwhile = [
            Cell(percent(float(wealth[other][fall.trough] / wealth[other][fall.peak] - 1.0), 1))
            for other in others
        ]
        cells = [Cell(day(fall.trough)), Cell(ended), Cell(percent(fall.depth, 1)), *meanwhile]
        rows.append(Row(day(fall.peak), cells))
    header = ["From", "To", "Recovered", name, *others]
    return Table(f"Deepest falls of {name}", header, rows)


def holding_tables(data: ReportData) -> list[Table]:
    """Present holdings of the featured strategies, and the last trades of the first of them."""
    ledger, last = data.result.ledgers[data.featured[0]], data.result.cash_rate.index[-1]
    weights = pd.DataFrame({name: data.result.weights(name).iloc[-1] for name in data.featured})
    traded = ledger.executed[ledger.executed.abs().sum(axis=1) > 0.0]
    header = ["Position", *data.featured]
    share = pd.Series(0.0, index=weights.index)
    if len(traded):
        date = traded.index[-1]
        moved = traded.iloc[-1] / float(ledger.holdings_before.loc[date].sum())
        share = moved.reindex(weights.index, fill_value=0.0)
        share.iloc[0] = -float(moved.sum())
        header.append(f"Traded by {data.featured[0]} on {day(date)}")
    held = weights.abs().max(axis=1) > SMALLEST_WEIGHT
    shown = weights[held | (share.abs() > SMALLEST_WEIGHT)]
    rows = [
        Row(
            str(position),
            [
                *(Cell(percent(float(weight), 1)) for weight in row),
                *([Cell(percent(float(share[position]), 1))] if len(traded) else []),
            ],
        )
        for position, row in zip(shown.index, shown.to_numpy(), strict=True)
    ]
    return [Table(f"Shares of wealth on {day(last)}", header, rows)]


def decision_table(logs: Mapping[str, pd.DataFrame]) -> Table:
    """Effort and failures of the models' decisions."""
    rows = [
        Row(
            str(name),
            [Cell(number(len(log), 0)), *(_counted(log, column) for column in COUNTED)],
        )
        for name, log in logs.items()
    ]
    return Table("Decisions of models", ["Strategy", "Decisions", *COUNTED.values()], rows)


def _counted(log: pd.DataFrame, column: str) -> Cell:
    if column not in log.columns:
        return Cell(ABSENT)
    values = log[column] != "" if column == "failure" else log[column]
    return Cell(number(float(values.sum()), 0))


def _fall(values: pd.Series[Any]) -> str:
    if values["maximum_drawdown"] == 0.0:
        return ""
    recovery = values["drawdown_recovery"]
    ended = "not recovered" if pd.isna(recovery) else f"recovered {day(recovery)}"
    return f"{day(values['drawdown_peak'])} to {day(values['drawdown_trough'])}, {ended}"


def _anything(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
