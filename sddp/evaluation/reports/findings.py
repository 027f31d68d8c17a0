"""Findings of a backtest in sentences: what was earned, and whether forecasts held."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sddp.evaluation import metrics
from sddp.evaluation.reports.report_data import ReportData
from sddp.evaluation.summary import sample
from sddp.tables import day

# A p-value below which chance does not explain a difference.
SMALL = 0.05


@dataclass(frozen=True)
class KeyFigure:
    """A number that stands alone: what it is, its text, and its interval or what it compares."""

    label: str
    text: str
    detail: str


def finding(data: ReportData) -> str:
    """What came out for the strategy that the report is about, in a sentence."""
    name, result = data.featured[0], data.result
    series = sample(result)
    earned = metrics.annualized_return(result.wealth[name])
    sharpe = _sharpe(data, name)
    dates = result.cash_rate.index
    said = (
        f"From {day(dates[0])} to {day(dates[-1])}, net of costs, {name} earned "
        f"{percent(earned)} a year"
    )
    if math.isnan(sharpe):
        return f"{said}."
    said += f" with a Sharpe ratio of {sharpe:.2f}{_interval(data, name, 'sharpe')}"
    reference = data.options.reference
    if reference is None or reference == name:
        return f"{said}."
    other = metrics.annualized_return(result.wealth[reference])
    base = _sharpe(data, reference)
    if math.isnan(base) or series.returns[reference].std() == 0.0:
        return f"{said}; {reference} earned {percent(other)}."
    return f"{said}; {reference} earned {percent(other)} with {base:.2f}: {_verdict(data, name)}."


def _verdict(data: ReportData, name: str) -> str:
    """Whether chance explains the difference in Sharpe ratio from the reference."""
    sharpe = "a difference in Sharpe ratio"
    if data.uncertainty is None or data.uncertainty.differences is None:
        return f"{sharpe} without an interval"
    table = data.uncertainty.differences
    # Differences are from the reference, or to it where the report is about the reference.
    row = table[(table["strategy"] == name) & (table["metric"] == "sharpe")].iloc[0]
    value, p = float(row["value"]), float(row["adjusted_p_value"])
    ends = _ends(row["low"], row["high"])
    if math.isnan(p):
        return f"{sharpe} of {signed(value)}, of too few periods for an interval"
    explained = "which chance explains" if p >= SMALL else "more than chance explains"
    return f"{sharpe} of {signed(value)}{ends}, {explained}"


def risk_sentence(data: ReportData, name: str) -> str:
    """Whether the forecast CVaR held; empty where it was not tested."""
    row = _checked(data, name)
    if row is None or math.isnan(row["ratio"]):
        return ""
    held = _covers(row["ratio_low"], row["ratio_high"], 1.0)
    verdict = {
        None: "without an interval",
        True: "so that the forecast held within its interval",
        False: "so that the forecast did not hold",
    }[held]
    return (
        f"{name}: the CVaR of one period was forecast at {percent(row['forecast_cvar'], 2)} of "
        f"wealth and came out at {percent(row['realized_cvar'], 2)}, "
        f"{row['ratio']:.2f}{_ends(row['ratio_low'], row['ratio_high'])} times the forecast, "
        f"{verdict} (p {p_text(row['tail_p_value'])})."
    )


def return_sentence(data: ReportData, name: str) -> str:
    """Whether the expected return was earned; empty where it was not tested."""
    row = _checked(data, name)
    if row is None or math.isnan(row["difference"]):
        return ""
    ends = _ends(row["difference_low"], row["difference_high"], percents=True)
    held = _covers(row["difference_low"], row["difference_high"], 0.0)
    verdict = {
        None: "with no interval",
        True: "which chance explains",
        False: "more than chance explains",
    }[held]
    said = (
        f"{name}: the model expected {percent(row['expected'], 2)} a period and "
        f"{percent(row['realized'], 2)} was earned, a difference of "
        f"{percent(row['difference'], 2)}{ends}, {verdict}"
    )
    if math.isnan(row["slope"]):
        return f"{said}."
    slope = percent(row["slope"] / 100.0, 2)
    ends = _ends(row["slope_low"] / 100.0, row["slope_high"] / 100.0, percents=True)
    return f"{said}; where 1 % more was expected {slope} more was earned{ends}."


def key_figures(data: ReportData) -> list[KeyFigure]:
    """Headline numbers of the strategy that the report is about, with their intervals."""
    name, result = data.featured[0], data.result
    wealth = result.wealth[name]
    fall = metrics.maximum_drawdown(wealth)
    drag = metrics.per_year((result.ledgers[name].costs.sum(axis=1)) / wealth)
    turnover = metrics.per_year(result.ledgers[name].turnover)
    return [
        KeyFigure(
            "Return a year, net of costs",
            percent(metrics.annualized_return(wealth)),
            _interval(data, name, "annualized_return", percents=True).strip(" ()"),
        ),
        KeyFigure("Sharpe ratio", _two(_sharpe(data, name)), _against(data, name)),
        *_checked_figures(data, name),
        KeyFigure(
            "Deepest fall",
            percent(fall.depth),
            "" if fall.depth == 0.0 else f"{day(fall.peak)} to {day(fall.trough)}",
        ),
        KeyFigure("Costs a year", percent(drag, 2), f"turnover {turnover:.1f} times wealth"),
    ]


def _checked_figures(data: ReportData, name: str) -> list[KeyFigure]:
    row = _checked(data, name)
    if row is None:
        return []
    found = []
    if not math.isnan(row["ratio"]):
        low, high = row["ratio_low"], row["ratio_high"]
        found.append(
            KeyFigure(
                "Realized CVaR over its forecast",
                f"{row['ratio']:.2f}",
                f"{_ends(low, high).strip(' ()')}; {percent(row['realized_cvar'], 2)} for "
                f"{percent(row['forecast_cvar'], 2)}",
            )
        )
    if not math.isnan(row["difference"]):
        low, high = row["difference_low"], row["difference_high"]
        found.append(
            KeyFigure(
                "Earned less expected, a period",
                percent(row["difference"], 2),
                f"{_ends(low, high, percents=True).strip(' ()')}; {percent(row['realized'], 2)} "
                f"for {percent(row['expected'], 2)}",
            )
        )
    return found


def _checked(data: ReportData, name: str) -> pd.Series[Any] | None:
    table = data.checks()
    if name not in table.index:
        return None
    row: pd.Series[Any] = table.loc[[name]].iloc[0]
    return row


def _covers(low: float, high: float, value: float) -> bool | None:
    return None if math.isnan(low) or math.isnan(high) else bool(low <= value <= high)


def _sharpe(data: ReportData, name: str) -> float:
    series = sample(data.result)
    return metrics.sharpe_ratio(
        series.returns[name].to_numpy(), series.cash_returns, series.periods_per_year
    )


def _against(data: ReportData, name: str) -> str:
    reference = data.options.reference
    ends = _interval(data, name, "sharpe").strip(" ()")
    if reference is None or reference == name:
        return ends
    return "; ".join(
        part for part in (ends, f"{reference} {_two(_sharpe(data, reference))}") if part
    )


def _interval(data: ReportData, name: str, metric: str, *, percents: bool = False) -> str:
    if data.uncertainty is None:
        return ""
    table = data.uncertainty.intervals
    rows = table[(table["strategy"] == name) & (table["metric"] == metric)]
    return "" if rows.empty else _ends(*rows[["low", "high"]].iloc[0], percents=percents)


def _ends(low: float, high: float, *, percents: bool = False) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    text = (lambda value: percent(value, 2 if abs(high - low) < 0.02 else 1)) if percents else _two
    return f" ({text(low)} to {text(high)})"


def percent(fraction: float, digits: int = 1) -> str:
    """Fraction in percent.

    >>> percent(-0.0312)
    '-3.1 %'
    """
    return f"{100.0 * fraction:.{digits}f} %" if math.isfinite(fraction) else "not defined"


def signed(value: float) -> str:
    """Number with its sign."""
    return f"{value:+.2f}"


def p_text(probability: float) -> str:
    """Probability of a test in words."""
    return "< 0.001" if probability < 0.0005 else f"{probability:.3f}"


def _two(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "not defined"
