"""The figures of a report, each with its caption and its words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sddp.errors import DataError
from sddp.evaluation import metrics
from sddp.evaluation import risk_forecasts as promises
from sddp.labels import CASH
from sddp.reporting import figures
from sddp.reporting.content import Contents, Evidence, gather
from sddp.reporting.html_elements import Picture, interval, money, number, percent
from sddp.rng import Rng
from sddp.tables import day

if TYPE_CHECKING:
    from sddp.backtest.report import BacktestReport

# More numbers than these are not heard to the end; they stand in the tables.
SPOKEN = 12


def write_figures(
    report: BacktestReport,
    folder: str | PathLike[str],
    *,
    contents: Contents | None = None,
    rng: Rng | None = None,
) -> list[Path]:
    """Write the figures of a report's page as PNG files; existing ones are overwritten.

    Parameters
    ----------
    report : BacktestReport
    folder : path
        Made if missing.
    contents, rng
        As in `BacktestReport.to_html`.

    Returns
    -------
    list of Path
        ``wealth.png``, ``trailing_return.png``, ``rolling.png``, ``allocation.png`` and
        ``trading.png``; with `rng` ``sharpe_intervals.png`` and, with a reference,
        ``sharpe_differences.png``; where strategies keep a journal ``regimes_<k>.png``,
        ``promises.png`` and ``tails.png``. What a run is too short for is left out.

    Raises
    ------
    DataError
        The folder cannot be made or written to; as `BacktestReport.to_html`.
    """
    evidence = gather(report, contents or Contents(), rng)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return [
            _written(picture, Path(folder))
            for pictures in gallery(evidence).values()
            for picture in pictures
        ]
    except OSError as error:
        raise DataError(f"folder = {str(folder)!r} cannot be written to: {error}") from error


def gallery(evidence: Evidence) -> dict[str, list[Picture]]:
    """Pictures by section of the page; a section without data has none."""
    report, contents = evidence.report, evidence.contents
    return {
        "wealth": [_wealth(report)],
        "metrics": list(_sharpe_intervals(evidence)),
        "differences": list(_sharpe_differences(evidence)),
        "promises": list(_promises(evidence)),
        "trailing": list(_trailing(report, contents.trailing_months)),
        "rolling": list(_rolling(report, contents.rolling_months)),
        "allocation": list(_allocation(evidence)),
        "regimes": list(_regimes(evidence)),
        "trading": [_trading(report)],
    }


def _written(picture: Picture, folder: Path) -> Path:
    path = folder / f"{picture.name}.png"
    path.write_bytes(picture.png())
    return path


def _sharpe_intervals(evidence: Evidence) -> Iterator[Picture]:
    if evidence.uncertainty is not None:
        table, level = evidence.uncertainty.intervals, evidence.contents.level
        yield _interval_picture("sharpe_intervals", table, "Sharpe ratio", level)


def _sharpe_differences(evidence: Evidence) -> Iterator[Picture]:
    if evidence.uncertainty is not None and evidence.uncertainty.differences is not None:
        table, level = evidence.uncertainty.differences, evidence.contents.level
        what = f"Sharpe ratio less that of {table['reference'].iloc[0]}"
        yield _interval_picture("sharpe_differences", table, what, level)


def _interval_picture(name: str, tidy: pd.DataFrame, what: str, level: float) -> Picture:
    table = tidy[tidy["metric"] == "sharpe"].set_index("strategy")
    said = [f"{strategy} {_with_interval(row)}" for strategy, row in table.iterrows()]
    return Picture(
        name,
        figures.interval_figure(table[["value", "low", "high"]], what, f"{what}, annualised"),
        f"{what}, with its {percent(level, 0)} interval.",
        f"Dots with bars. {what}: {', '.join(said)}.",
    )


def _with_interval(row: pd.Series[Any]) -> str:
    ends = interval((row["low"], row["high"]), partial(number, digits=2))
    return f"{number(row['value'], 2)} ({ends})" if ends else number(row["value"], 2)


def _wealth(report: BacktestReport) -> Picture:
    final = report.wealth.iloc[-1].sort_values(ascending=False, kind="stable")
    return Picture(
        "wealth",
        report.plot_wealth(),
        "Wealth after costs at each row's quotes, before its trades, and its fall from the highest "
        "value so far. The legend goes from the highest final wealth to the lowest.",
        f"Lines of wealth on a log scale from {span(report)}, drawdowns below. "
        f"Final wealth: {_listed(final, money)}.",
    )


def _trailing(report: BacktestReport, months: int) -> Iterator[Picture]:
    trailing = metrics.trailing_return(report.wealth, months=months)
    if trailing.empty:
        return
    yield Picture(
        "trailing_return",
        report.plot_trailing_return(months=months),
        f"Compound return of the {months} months that end at each row, not annualised.",
        f"Lines of the return over the trailing {months} months. "
        f"Lowest values: {_listed(trailing.min(), lambda value: percent(value, 1))}.",
    )


def _rolling(report: BacktestReport, months: int) -> Iterator[Picture]:
    volatility = metrics.rolling_volatility(report.returns, months=months)
    sharpe = metrics.rolling_sharpe(report.returns, report.cash_rate.iloc[1:], months=months)
    if volatility.empty:
        return
    yield Picture(
        "rolling",
        figures.rolling_figure(sharpe, volatility, months, report.timing),
        f"Sharpe ratio (excess over cash) and volatility of the {months} months that end at each "
        "row, annualised. A Sharpe ratio of so few months is uncertain by about "
        f"{number((12.0 / months) ** 0.5, 1)} (standard error): read the swings with that in mind.",
        f"Lines of the Sharpe ratio and, below, of volatility over the trailing {months} months. "
        f"Highest volatility: {_listed(volatility.max(), lambda value: percent(value, 1))}.",
    )


def _allocation(evidence: Evidence) -> Iterator[Picture]:
    weights = {name: evidence.report.weights(name) for name in evidence.detail}
    if not weights:
        return
    cash = pd.Series({name: float(table[CASH].iloc[:-1].mean()) for name, table in weights.items()})
    yield Picture(
        "allocation",
        figures.allocation_figure(weights, evidence.contents.largest),
        "Shares of wealth after each row's trades; they drift with returns between trades.",
        "Stacked areas of the shares of wealth through time, a panel for each strategy. "
        f"Mean share of cash: {_listed(cash, lambda value: percent(value, 0))}.",
    )


def _regimes(evidence: Evidence) -> Iterator[Picture]:
    market, dates = evidence.contents.market, evidence.report.cash_rate.index
    name = "market" if market is None else str(market.name)
    for k, (beliefs, names) in enumerate(_distinct_beliefs(evidence), start=1):
        level = None if market is None else market.loc[dates[0] : dates[-1]]
        yield Picture(
            f"regimes_{k}",
            figures.regime_figure(beliefs, level, name),
            f"Probabilities of the regimes as filtered at each decision of: {', '.join(names)}.",
            f"Stacked areas of regime probabilities{'' if level is None else f' below {name}'}. "
            f"Mean probability: {_listed(beliefs.mean(), lambda value: percent(value, 0))}.",
        )


def _distinct_beliefs(evidence: Evidence) -> list[tuple[pd.DataFrame, list[str]]]:
    """Tables of beliefs, each with the strategies that share it (fits may be shared)."""
    found: list[tuple[pd.DataFrame, list[str]]] = []
    for name in _detailed(evidence):
        beliefs = evidence.journals[name].filter(regex=r"^regime \d+$")
        same = next((names for table, names in found if table.equals(beliefs)), None)
        if same is not None:
            same.append(name)
        elif beliefs.shape[1] > 1:
            found.append((beliefs, [name]))
    return found


def _detailed(evidence: Evidence) -> list[str]:
    """Strategies with a journal that are shown through time."""
    return [name for name in evidence.detail if name in evidence.journals]


def _trading(report: BacktestReport) -> Picture:
    turnover = pd.Series({name: entry.turnover.sum() for name, entry in report.ledgers.items()})
    return Picture(
        "trading",
        report.plot_trading(),
        "Purchases plus sales of assets, and costs charged, summed over rows, each as a share of "
        "the wealth at its row: exchanging all of one asset for another is a turnover of 2.",
        "Lines of turnover so far and, below, of costs so far. Total turnover in multiples of "
        f"wealth: {_listed(turnover, lambda value: number(value, 1))}.",
    )


def _promises(evidence: Evidence) -> Iterator[Picture]:
    if not evidence.journals:
        return
    table = evidence.promised
    bars = "" if evidence.uncertainty is None else " with its interval"
    yield Picture(
        "promises",
        figures.promise_figure(table),
        "The CVaR of one period that the model computed for its own decisions (mean over them), "
        f"the one that was realised{bars}, and the limit. Strategies without a model promise "
        "nothing.",
        "Dots of realised and promised CVaR by strategy. Realised: "
        f"{_listed(table['realised_cvar'], lambda value: percent(value, 2))}.",
    )
    known = evidence.periods
    detailed = {name: known[name] for name in _detailed(evidence) if len(known[name])}
    if detailed:
        yield _tails(detailed)


def _tails(detailed: Mapping[str, pd.DataFrame]) -> Picture:
    window = promises.tail_window(promises.model_confidence(detailed))
    tails = {name: promises.tail_table(table, window) for name, table in detailed.items()}
    violations = pd.Series({name: float(table["violated"].sum()) for name, table in tails.items()})
    return Picture(
        "tails",
        figures.tail_figure(tails, window),
        f"The same through time. A realised CVaR looks back on {window} periods, so that its tail "
        f"holds at least {promises.TAIL_SIZE} of them; ticks on the axis are periods with a loss "
        "above the model's VaR. Panels have their own scales.",
        "Lines of promised and realised one-period CVaR through time, a panel for each strategy. "
        f"Losses above the model's VaR: {_listed(violations, lambda value: number(value, 0))}.",
    )


def span(report: BacktestReport) -> str:
    """First and last date of a run in words."""
    dates = report.cash_rate.index
    return f"{day(dates[0])} to {day(dates[-1])}"


def _listed(values: pd.Series[float], text: Callable[[float], str]) -> str:
    """Values by name in words."""
    words = [f"{name} {text(float(value))}" for name, value in values.iloc[:SPOKEN].items()]
    rest = len(values) - len(words)
    return ", ".join(words) + (f" and {rest} more" if rest else "")
