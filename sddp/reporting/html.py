"""The page of a backtest: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import sddp
from sddp.dates import periods_per_year
from sddp.errors import DataError
from sddp.evaluation import risk_forecast_tests as promise_tests
from sddp.files import written_whole
from sddp.reporting import html_tables as page_tables
from sddp.reporting.content import Evidence
from sddp.reporting.gallery import gallery, span
from sddp.reporting.html_elements import (
    ABSENT,
    Facts,
    Picture,
    Section,
    facts,
    money,
    number,
    percent,
    render,
)


def page(
    evidence: Evidence, *, title: str, caveats: Sequence[str], provenance: Mapping[str, Any]
) -> str:
    """The page as text; see `BacktestReport.to_html`. What has no data has no section."""
    pictures = gallery(evidence)
    sections = [
        Section("wealth", "Wealth and drawdown", pictures["wealth"]),
        _metrics(evidence, pictures["metrics"]),
        *_differences(evidence, pictures["differences"]),
        *_promises(evidence, pictures["promises"]),
        Section("trailing", "Trailing return", pictures["trailing"]),
        Section("rolling", "Rolling Sharpe ratio and volatility", pictures["rolling"]),
        Section("allocation", "Allocation", pictures["allocation"]),
        Section("regimes", "Regimes", pictures["regimes"]),
        Section("trading", "Turnover and costs", pictures["trading"]),
        _provenance(evidence, provenance),
    ]
    shown = [section for section in sections if not section.empty]
    return render(title, _lead(evidence), [*_own_caveats(evidence), *caveats], shown)


def write_whole(target: Path, make: Callable[[], str]) -> Path:
    """Write what `make` returns, so that the file is never seen half-written.

    A file is opened beside the place before `make` is called, and moved there at the end.

    Raises
    ------
    DataError
        The place cannot be written to.
    """
    try:
        with written_whole(target) as beside:
            beside.write_text(make(), encoding="utf-8")
    except OSError as error:
        raise DataError(f"path = {str(target)!r} cannot be written to: {error}") from error
    return target


def _lead(evidence: Evidence) -> str:
    n_rows, n_strategies = evidence.report.wealth.shape
    return (
        f"{n_strategies} {'strategy' if n_strategies == 1 else 'strategies'}, "
        f"{span(evidence.report)}, {n_rows:,} rows, net of costs; {evidence.report.timing}."
    )


def _own_caveats(evidence: Evidence) -> list[str]:
    if evidence.report.lag:
        return []
    return [
        "Decisions were traded at the very quotes they were made on. Unless all quotes are taken "
        "at one moment, nobody could have done so, and results may come from later quotes."
    ]


def _metrics(evidence: Evidence, pictures: Sequence[Picture]) -> Section:
    contents, uncertainty = evidence.contents, evidence.uncertainty
    summary = evidence.report.summary(confidence=evidence.confidence, benchmark=contents.benchmark)
    notes = [
        "Return: compound, a year. Sharpe ratio: over cash of the same period. Sortino ratio: over "
        "0, all periods counted. Calmar ratio: return over maximum drawdown. VaR and CVaR: of the "
        "loss from one row of the data to the next; a negative one is a gain. Turnover: purchases "
        f"plus sales. {ABSENT}: not defined, as where nothing varies."
    ]
    if uncertainty is None:
        notes.append("No intervals were asked for: differences may be chance.")
        tables = page_tables.metric_tables(summary, {}, contents.benchmark)
    else:
        notes += [_on_intervals(contents.level), *page_tables.reasons(uncertainty.intervals)]
        known = page_tables.by_metric(uncertainty.intervals)
        tables = page_tables.metric_tables(summary, known, contents.benchmark)
    return Section("metrics", "Metrics", pictures, tables, notes=notes)


def _on_intervals(level: float) -> str:
    return (
        f"Beneath a number: its {percent(level, 0)} interval by a stationary block bootstrap of "
        "the realised returns, given the policies as they were fitted. Strategies earn on the same "
        "days: whether two of them differ is not seen from their intervals but from that of their "
        "difference."
    )


def _differences(evidence: Evidence, pictures: Sequence[Picture]) -> Iterator[Section]:
    if evidence.uncertainty is None or evidence.uncertainty.differences is None:
        return
    table = evidence.uncertainty.differences
    reference = str(table["reference"].iloc[0])
    yield Section(
        "differences",
        f"Differences from {reference}",
        pictures,
        [page_tables.difference_table(table, evidence.contents.level)],
        notes=[
            "p: probability, were there no difference, of one at least as clear, either way; "
            "adjusted: of one as clear anywhere in the column. Where the interval holds 0 no "
            "difference is shown.",
            *page_tables.reasons(table),
        ],
    )


def _promises(evidence: Evidence, pictures: Sequence[Picture]) -> Iterator[Section]:
    if not evidence.journals:
        return
    tail = percent(1.0 - evidence.confidence, 0)
    notes = [
        f"VaR and CVaR at {percent(evidence.confidence, 0)} of the loss over one period of the "
        "model, from the execution of a decision on, the cost of its trade included. The model's "
        "are those of its own decision on its own scenarios. What should happen in "
        f"{tail} of periods is a loss above the VaR, not one above the CVaR.",
    ]
    tables = [page_tables.promise_table(evidence.promised)]
    if evidence.uncertainty is not None and evidence.uncertainty.risk_tests is not None:
        tests = evidence.uncertainty.risk_tests
        tables.append(page_tables.tests_table(tests))
        notes += [ON_TESTS, *page_tables.reasons(tests.reset_index())]
    yield Section("promises", "Risk promised and realised", pictures, tables, notes=notes)


ON_TESTS = (
    "Tests, over periods with a promise of at least "
    f"{percent(promise_tests.SMALLEST_PROMISE, 2)} of wealth: Kupiec (as many), Christoffersen "
    "(independent; both), Acerbi and Szekely (tail losses, one-sided: small where risk was "
    "understated). The CVaR given the model's VaR allows for risk that changes from period to "
    "period; the realised CVaR above throws all losses together."
)


def _provenance(evidence: Evidence, provenance: Mapping[str, Any]) -> Section:
    return Section(
        "provenance",
        "Provenance",
        tables=[page_tables.decision_table(evidence.journals)] if evidence.journals else [],
        facts=[
            Facts("This run", [*_run(evidence), *_costs(evidence)]),
            *facts("Given with the run", provenance),
        ],
    )


def _run(evidence: Evidence) -> list[tuple[str, str]]:
    report = evidence.report
    dates = pd.DatetimeIndex(report.cash_rate.index)
    ledger = next(iter(report.ledgers.values()))
    pace = number(periods_per_year(dates), 1)
    return [
        ("Rows", f"{len(dates):,}, {span(report)}; {pace} a year, by which numbers are annualised"),
        ("Execution", report.timing),
        ("Initial wealth", money(float(ledger.wealth.iloc[0]))),
        ("Assets", ", ".join(str(name) for name in ledger.executed.columns)),
        ("Strategies", ", ".join(str(name) for name in report.ledgers)),
        ("Versions", f"sddp {sddp.__version__}, Python {platform.python_version()}"),
    ]


def _costs(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What was charged, as the ledgers show it."""
    ledgers = evidence.report.ledgers.values()
    traded = sum(float(ledger.executed.abs().to_numpy().sum()) for ledger in ledgers)
    charged = sum(float(ledger.costs.to_numpy().sum()) for ledger in ledgers)
    if traded > 0.0:
        yield "Costs charged", f"{percent(charged / traded, 3)} of the money traded, on average"
