"""HTML page of a backtest: one self-contained file."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

import sddp
from sddp.backtest.result import BacktestResult
from sddp.dates import periods_per_year
from sddp.errors import DataError
from sddp.evaluation.reports import findings
from sddp.evaluation.reports.report_data import ReportData, ReportOptions, collect
from sddp.evaluation.risk_forecasts import SMALLEST_FORECAST
from sddp.evaluation.summary import summary
from sddp.files import written_whole
from sddp.reporting import html_tables
from sddp.reporting.gallery import gallery, span
from sddp.reporting.html_elements import (
    ABSENT,
    Facts,
    Opening,
    Picture,
    Section,
    facts,
    money,
    number,
    percent,
    render,
)
from sddp.rng import Rng


def write_html(
    result: BacktestResult,
    path: str | PathLike[str],
    *,
    title: str = "Backtest",
    options: ReportOptions | None = None,
    rng: Rng | None = None,
    caveats: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report on a backtest as one self-contained HTML file.

    It opens with the finding, key figures and wealth; strategies, metrics, differences, forecast
    and realized risk, falls and years, holdings, trailing and rolling measures, allocations,
    regimes, trading and provenance follow; a section without data is left out. Figures are vectors
    (pixels where these are lighter), for wide and for narrow screens. The file is replaced in one
    step at the end, never half-written. `sddp.reporting.write_figures` writes
    the same figures as PNG.

    Parameters
    ----------
    result : BacktestResult
    path : path
        Of the file, replaced if it exists.
    title : str
    options : ReportOptions, optional
        What is shown: strategies in detail, reference, benchmark, market, windows.
    rng : int, SeedSequence or Generator, optional
        For intervals and tests; without it there are none.
    caveats : sequence of str
        What a reader must know before the numbers.
    provenance : mapping, optional
        What the run was made of (config, data hashes, versions, commit, duration, warnings):
        values, sequences and mappings, shown as they are.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError
        The file cannot be written, a strategy named in `options` is unknown, or the risk
        forecasts cannot be tested (see `sddp.evaluation.risk_backtest`).
    ModelError
        `options` names a reference and there is no `rng`.
    """
    with opened(Path(path)) as file:
        data = collect(result, options or ReportOptions(), rng)
        text = page(data, title=title, caveats=caveats, provenance=provenance or {})
        file.write_text(text, encoding="utf-8")
    return Path(path)


def write_page(
    data: ReportData,
    path: str | PathLike[str],
    *,
    title: str,
    caveats: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of report data that is already computed; see `write_html`."""
    with opened(Path(path)) as file:
        text = page(data, title=title, caveats=caveats, provenance=provenance or {})
        file.write_text(text, encoding="utf-8")
    return Path(path)


@contextmanager
def opened(target: Path) -> Iterator[Path]:
    """File that replaces `target` at the end.

    It is opened first, so that a path that cannot be written to fails before the bootstrap.
    """
    try:
        with written_whole(target) as file:
            yield file
    except OSError as error:
        raise DataError(f"path = {str(target)!r} cannot be written to: {error}") from error


def page(
    data: ReportData, *, title: str, caveats: Sequence[str], provenance: Mapping[str, Any]
) -> str:
    """HTML text of the page; see `write_html`. A section without data is left out."""
    pictures = gallery(data)
    sections = [
        Section("strategies", "Strategies", tables=[html_tables.strategy_table(data)]),
        _metrics(data, pictures["metrics"]),
        *_differences(data, pictures["differences"]),
        *_forecasts(data, pictures["risk_forecasts"]),
        _years(data),
        Section("holdings", "Holdings and last trades", tables=html_tables.holding_tables(data)),
        Section("trailing", "Trailing return", pictures["trailing"]),
        Section("rolling", "Rolling Sharpe ratio and volatility", pictures["rolling"]),
        Section("allocation", "Allocation", pictures["allocation"]),
        Section("regimes", "Regimes", pictures["regimes"]),
        Section("trading", "Turnover and costs", pictures["trading"]),
        _provenance(data, provenance),
    ]
    shown = [section for section in sections if not section.empty]
    return render(
        title,
        _lead(data),
        [*_own_caveats(data), *caveats],
        shown,
        finding=findings.finding(data),
        opening=_opening(data, pictures["wealth"][0]),
    )


def _opening(data: ReportData, picture: Picture) -> Opening:
    """Key figures, and whether forecasts held."""
    name = data.featured[0]
    said = [findings.risk_sentence(data, name), findings.return_sentence(data, name)]
    table = html_tables.check_table(data)
    return Opening(
        key_figures=findings.key_figures(data),
        sentences=[sentence for sentence in said if sentence],
        checks=table if table.rows else None,
        picture=picture,
    )


def _years(data: ReportData) -> Section:
    """Deepest falls and calendar years."""
    tables = [html_tables.fall_table(data), html_tables.year_table(data)]
    return Section(
        "years",
        "Deepest falls and calendar years",
        tables=[table for table in tables if table.rows],
    )


def _lead(data: ReportData) -> str:
    n_rows, n_strategies = data.result.wealth.shape
    return (
        f"{n_strategies} {'strategy' if n_strategies == 1 else 'strategies'}, "
        f"{span(data.result)}, {n_rows:,} rows, net of costs; {data.result.timing}."
    )


def _own_caveats(data: ReportData) -> list[str]:
    if data.result.lag:
        return []
    return [
        "Decisions were traded at the very quotes they were made on. Unless all quotes are taken "
        "at one moment, nobody could have done so, and results may come from later quotes."
    ]


def _metrics(data: ReportData, pictures: Sequence[Picture]) -> Section:
    options, uncertainty = data.options, data.uncertainty
    table = summary(data.result, confidence=data.confidence, benchmark=options.benchmark)
    notes = [
        "Return: compound, a year. Sharpe ratio: over cash of the same period. Sortino ratio: over "
        "0, all periods counted. Calmar ratio: return over maximum drawdown. VaR and CVaR: of the "
        "loss from one row of the data to the next; a negative one is a gain. Turnover: purchases "
        f"plus sales. {ABSENT}: not defined, as where nothing varies."
    ]
    if uncertainty is None:
        notes.append("No intervals were asked for: differences may be chance.")
        tables = html_tables.metric_tables(table, {}, options.benchmark)
    else:
        notes += [_on_intervals(options.level), *html_tables.reasons(uncertainty.intervals)]
        known = html_tables.by_metric(uncertainty.intervals)
        tables = html_tables.metric_tables(table, known, options.benchmark)
    return Section("metrics", "Metrics", pictures, tables, notes=notes)


def _on_intervals(level: float) -> str:
    return (
        f"Beneath a number: its {percent(level, 0)} interval by a stationary block bootstrap of "
        "the realized returns, given the policies as they were fitted. Strategies earn on the same "
        "days: whether two of them differ is not seen from their intervals but from that of their "
        "difference."
    )


def _differences(data: ReportData, pictures: Sequence[Picture]) -> Iterator[Section]:
    if data.uncertainty is None or data.uncertainty.differences is None:
        return
    table = data.uncertainty.differences
    reference = str(table["reference"].iloc[0])
    yield Section(
        "differences",
        f"Differences from {reference}",
        pictures,
        [html_tables.difference_table(table, data.options.level)],
        notes=[
            "p: probability, were there no difference, of one at least as clear, either way; "
            "adjusted: of one as clear anywhere in the column. Where the interval holds 0 no "
            "difference is shown.",
            *html_tables.reasons(table),
        ],
    )


def _forecasts(data: ReportData, pictures: Sequence[Picture]) -> Iterator[Section]:
    if not data.decision_logs:
        return
    tail = percent(1.0 - data.confidence, 0)
    notes = [
        f"VaR and CVaR at {percent(data.confidence, 0)} of the loss over one period of the "
        "model, from the execution of a decision on, the cost of its trade included. The model's "
        "are those of its own decision on its own scenarios. What should happen in "
        f"{tail} of periods is a loss above the VaR, not one above the CVaR.",
    ]
    tables = [html_tables.forecast_table(data.forecasts)]
    if data.uncertainty is not None and data.uncertainty.risk_tests is not None:
        tests = data.uncertainty.risk_tests
        tables.append(html_tables.tests_table(tests))
        notes += [ON_TESTS, *html_tables.reasons(tests.reset_index())]
    yield Section("risk_forecasts", "Forecast and realized risk", pictures, tables, notes=notes)


ON_TESTS = (
    "Tests, over periods with a forecast of at least "
    f"{percent(SMALLEST_FORECAST, 2)} of wealth: Kupiec (as many), Christoffersen "
    "(independent; both), Acerbi and Szekely (tail losses, one-sided: small where risk was "
    "understated). The CVaR given the model's VaR allows for risk that changes from period to "
    "period; the realized CVaR above throws all losses together."
)


def _provenance(data: ReportData, provenance: Mapping[str, Any]) -> Section:
    return Section(
        "provenance",
        "Provenance",
        tables=[html_tables.decision_table(data.decision_logs)] if data.decision_logs else [],
        facts=[
            Facts("This run", [*_run(data), *_costs(data)]),
            *facts("Given with the run", provenance),
        ],
    )


def _run(data: ReportData) -> list[tuple[str, str]]:
    result = data.result
    dates = pd.DatetimeIndex(result.cash_rate.index)
    ledger = next(iter(result.ledgers.values()))
    pace = number(periods_per_year(dates), 1)
    return [
        ("Rows", f"{len(dates):,}, {span(result)}; {pace} a year, by which numbers are annualized"),
        ("Execution", result.timing),
        ("Initial wealth", money(float(ledger.wealth.iloc[0]))),
        ("Assets", ", ".join(str(name) for name in ledger.executed.columns)),
        ("Strategies", ", ".join(str(name) for name in result.ledgers)),
        ("Versions", f"sddp {sddp.__version__}, Python {platform.python_version()}"),
    ]


def _costs(data: ReportData) -> Iterator[tuple[str, str]]:
    """What was charged, as the ledgers show it."""
    ledgers = data.result.ledgers.values()
    traded = sum(float(ledger.executed.abs().to_numpy().sum()) for ledger in ledgers)
    charged = sum(float(ledger.costs.to_numpy().sum()) for ledger in ledgers)
    if traded > 0.0:
        yield "Costs charged", f"{percent(charged / traded, 3)} of the money traded, on average"
