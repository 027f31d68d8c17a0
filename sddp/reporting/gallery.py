"""The figures of a report, each with its caption and its text alternative."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from sddp.backtest.result import BacktestResult
from sddp.errors import DataError
from sddp.evaluation import metrics, risk_forecasts
from sddp.evaluation.reports.report_data import ReportData, ReportOptions, collect
from sddp.labels import CASH
from sddp.reporting import figures
from sddp.reporting.html_elements import Picture, interval, money, number, percent
from sddp.rng import Rng
from sddp.tables import day

# A screen reader reads the text alternative aloud: longer lists are left to the tables.
SPOKEN = 12


def write_figures(
    result: BacktestResult,
    folder: str | PathLike[str],
    *,
    options: ReportOptions | None = None,
    rng: Rng | None = None,
) -> list[Path]:
    """Write the figures of the report on a backtest as PNG files; existing ones are overwritten.

    Parameters
    ----------
    result : BacktestResult
    folder : path
        Made if missing.
    options, rng
        As in `write_html`.

    Returns
    -------
    list of Path
        ``wealth.png``, ``trailing_return.png``, ``rolling.png``, ``allocation.png`` and
        ``trading.png``; with `rng` ``sharpe_intervals.png`` and, with a reference,
        ``sharpe_differences.png``; where strategies keep a decision log ``regimes_<k>.png``,
        ``risk_forecasts.png`` and ``tails.png``. What a run is too short for is left out.

    Raises
    ------
    DataError
        The folder cannot be made or written to; as `write_html`.
    """
    data = collect(result, options or ReportOptions(), rng)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return [
            _written(picture, Path(folder))
            for pictures in gallery(data).values()
            for picture in pictures
        ]
    except OSError as error:
        raise DataError(f"folder = {str(folder)!r} cannot be written to: {error}") from error


def gallery(data: ReportData) -> dict[str, list[Picture]]:
    """Pictures by section of the page; a section without data has none."""
    options = data.options
    return {
        "wealth": [_wealth(data)],
        "metrics": list(_sharpe_intervals(data)),
        "differences": list(_sharpe_differences(data)),
        "risk_forecasts": list(_forecasts(data)),
        "trailing": list(_trailing(data, options.trailing_months)),
        "rolling": list(_rolling(data, options.rolling_months)),
        "allocation": list(_allocation(data)),
        "regimes": list(_regimes(data)),
        "trading": [_trading(data)],
    }


def _written(picture: Picture, folder: Path) -> Path:
    path = folder / f"{picture.name}.png"
    path.write_bytes(picture.png())
    return path


def _sharpe_intervals(data: ReportData) -> Iterator[Picture]:
    if data.uncertainty is not None:
        table = data.uncertainty.intervals
        yield _interval_picture(data, "sharpe_intervals", table, "Sharpe ratio")


def _sharpe_differences(data: ReportData) -> Iterator[Picture]:
    if data.uncertainty is not None and data.uncertainty.differences is not None:
        table = data.uncertainty.differences
        what = f"Sharpe ratio less that of {table['reference'].iloc[0]}"
        yield _interval_picture(data, "sharpe_differences", table, what)


def _interval_picture(data: ReportData, name: str, tidy: pd.DataFrame, what: str) -> Picture:
    level = data.options.level
    table = tidy[tidy["metric"] == "sharpe"].set_index("strategy")
    said = [f"{strategy} {_with_interval(row)}" for strategy, row in table.iterrows()]
    return Picture(
        name,
        figures.interval_figure(
            table[["value", "low", "high"]], what, f"{what}, annualized", data.featured
        ),
        f"{what}, with its {percent(level, 0)} interval.",
        f"Dots with bars. {what}: {', '.join(said)}.",
    )


def _with_interval(row: pd.Series[Any]) -> str:
    ends = interval((row["low"], row["high"]), partial(number, digits=2))
    return f"{number(row['value'], 2)} ({ends})" if ends else number(row["value"], 2)


def _wealth(data: ReportData) -> Picture:
    result = data.result
    final = result.wealth.iloc[-1].sort_values(ascending=False, kind="stable")
    return Picture(
        "wealth",
        figures.wealth_figure(result.wealth, result.timing, data.featured),
        "Wealth after costs at each row's quotes, before its trades, and its fall from the highest "
        "value so far. The legend goes from the highest final wealth to the lowest.",
        f"Lines of wealth on a log scale from {span(result)}, drawdowns below. "
        f"Final wealth: {_listed(final, money)}.",
    )


def _trailing(data: ReportData, months: int) -> Iterator[Picture]:
    result = data.result
    trailing = metrics.trailing_return(result.wealth, months=months)
    if trailing.empty:
        return
    yield Picture(
        "trailing_return",
        figures.trailing_figure(result.wealth, months, result.timing, data.featured),
        f"Compound return of the {months} months that end at each row, not annualized.",
        f"Lines of the return over the trailing {months} months. "
        f"Lowest values: {_listed(trailing.min(), lambda value: percent(value, 1))}.",
    )


def _rolling(data: ReportData, months: int) -> Iterator[Picture]:
    result = data.result
    volatility = metrics.rolling_volatility(result.returns, months=months)
    sharpe = metrics.rolling_sharpe(result.returns, result.cash_returns, months=months)
    if volatility.empty:
        return
    yield Picture(
        "rolling",
        figures.rolling_figure(sharpe, volatility, months, result.timing, data.featured),
        f"Sharpe ratio (excess over cash) and volatility of the {months} months that end at each "
        "row, annualized. A Sharpe ratio of so few months is uncertain by about "
        f"{number((12.0 / months) ** 0.5, 1)} (standard error): read the swings with that in mind.",
        f"Lines of the Sharpe ratio and, below, of volatility over the trailing {months} months. "
        f"Highest volatility: {_listed(volatility.max(), lambda value: percent(value, 1))}.",
    )


def _allocation(data: ReportData) -> Iterator[Picture]:
    weights = {name: data.result.weights(name) for name in data.detail}
    if not weights:
        return
    cash = pd.Series({name: float(table[CASH].iloc[:-1].mean()) for name, table in weights.items()})
    yield Picture(
        "allocation",
        figures.allocation_figure(weights, data.options.largest),
        "Shares of wealth after each row's trades; they drift with returns between trades.",
        "Stacked areas of the shares of wealth through time, a panel for each strategy. "
        f"Mean share of cash: {_listed(cash, lambda value: percent(value, 0))}.",
    )


def _regimes(data: ReportData) -> Iterator[Picture]:
    market, dates = data.options.market, data.result.cash_rate.index
    name = "market" if market is None else str(market.name)
    for k, (beliefs, names) in enumerate(_distinct_beliefs(data), start=1):
        level = None if market is None else market.loc[dates[0] : dates[-1]]
        yield Picture(
            f"regimes_{k}",
            figures.regime_figure(beliefs, level, name),
            f"Probabilities of the regimes as filtered at each decision of: {', '.join(names)}.",
            f"Stacked areas of regime probabilities{'' if level is None else f' below {name}'}. "
            f"Mean probability: {_listed(beliefs.mean(), lambda value: percent(value, 0))}.",
        )


def _distinct_beliefs(data: ReportData) -> list[tuple[pd.DataFrame, list[str]]]:
    """Tables of beliefs, each with the strategies that share it (fits may be shared)."""
    found: list[tuple[pd.DataFrame, list[str]]] = []
    for name in _detailed(data):
        beliefs = data.decision_logs[name].filter(regex=r"^regime \d+$")
        same = next((names for table, names in found if table.equals(beliefs)), None)
        if same is not None:
            same.append(name)
        elif beliefs.shape[1] > 1:
            found.append((beliefs, [name]))
    return found


def _detailed(data: ReportData) -> list[str]:
    """Strategies with a decision log that are shown through time."""
    return [name for name in data.detail if name in data.decision_logs]


def _trading(data: ReportData) -> Picture:
    result = data.result
    turnover = result.turnover.sum()
    return Picture(
        "trading",
        figures.trading_figure(result.turnover, result.costs, result.timing, data.featured),
        "Purchases plus sales of assets, and costs charged, summed over rows, each as a share of "
        "the wealth at its row: exchanging all of one asset for another is a turnover of 2.",
        "Lines of turnover so far and, below, of costs so far. Total turnover in multiples of "
        f"wealth: {_listed(turnover, lambda value: number(value, 1))}.",
    )


def _forecasts(data: ReportData) -> Iterator[Picture]:
    if not data.decision_logs:
        return
    table = data.forecasts
    bars = "" if data.uncertainty is None else " with its interval"
    yield Picture(
        "risk_forecasts",
        figures.risk_forecast_figure(table, data.featured),
        "The CVaR of one period that the model computed for its own decisions (mean over them), "
        f"the one that was realized{bars}, and the limit. Strategies without a model have no "
        "forecast.",
        "Dots of realized and forecast CVaR by strategy. Realized: "
        f"{_listed(table['realized_cvar'], lambda value: percent(value, 2))}.",
    )
    known = data.periods
    detailed = {name: known[name] for name in _detailed(data) if len(known[name])}
    if detailed:
        yield _tails(detailed)


def _tails(detailed: Mapping[str, pd.DataFrame]) -> Picture:
    window = risk_forecasts.tail_window(risk_forecasts.model_confidence(detailed))
    tails = {name: risk_forecasts.tail_table(table, window) for name, table in detailed.items()}
    violations = pd.Series({name: float(table["violated"].sum()) for name, table in tails.items()})
    return Picture(
        "tails",
        figures.tail_figure(tails, window),
        f"The same through time. A realized CVaR looks back on {window} periods, so that its tail "
        f"holds at least {risk_forecasts.TAIL_SIZE} of them; ticks on the axis are periods with a "
        "loss above the model's VaR. Panels have their own scales.",
        "Lines of forecast and realized one-period CVaR through time, a panel for each strategy. "
        f"Losses above the model's VaR: {_listed(violations, lambda value: number(value, 0))}.",
    )


def span(result: BacktestResult) -> str:
    """First and last date of a run in words."""
    dates = result.cash_rate.index
    return f"{day(dates[0])} to {day(dates[-1])}"


def _listed(values: pd.Series[float], text: Callable[[float], str]) -> str:
    """Values by name in words."""
    words = [f"{name} {text(float(value))}" for name, value in values.iloc[:SPOKEN].items()]
    rest = len(values) - len(words)
    return ", ".join(words) + (f" and {rest} more" if rest else "")
