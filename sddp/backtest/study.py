"""Studies of many backtests: run in parallel, stored as they progress, resumable."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from sddp.backtest.ledger import Ledger
from sddp.backtest.result import BacktestResult
from sddp.backtest.run import Run, simulate
from sddp.backtest.simulator import check_strategies, trading_rules
from sddp.backtest.strategies import EveryPeriods, Strategy
from sddp.backtest.trading import Cost
from sddp.backtest.trading.account import Rules
from sddp.backtest.triggers.trigger import Trigger
from sddp.cache.fingerprint import content_hash, describe, fresh
from sddp.cache.store import Record, RecordFolder, store_key
from sddp.errors import ModelError, StudyError
from sddp.market.market import Market
from sddp.studies.progress import StudyProgress
from sddp.tables import day
from sddp.threads import one_blas_thread


@dataclass(frozen=True)
class Cell:
    """One backtest of a study.

    Parameters
    ----------
    strategy : Strategy
        A dataclass of plain settings, so that its results can be found again.
    transaction_cost, lag, rebalance :
        As in `backtest`.
    """

    strategy: Strategy
    transaction_cost: Cost | tuple[Cost, Cost]
    lag: int = 1
    rebalance: Trigger = EveryPeriods(1)  # noqa: RUF009 - frozen and without state


@dataclass(frozen=True)
class Failure:
    """A cell that failed.

    Attributes
    ----------
    name : str
    date : Timestamp
        On which it failed.
    reason : str
        Type and words of the error.
    trace : str
        Where in the code.
    """

    name: str
    date: pd.Timestamp
    reason: str
    trace: str

    def __str__(self) -> str:
        return f"{self.name} on {day(self.date)}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Study:
    """Result of `run_study`.

    Attributes
    ----------
    ledgers : mapping of str to Ledger
        By cell, in the order given; failed ones are left out.
    strategies : mapping of str to Strategy
        By cell; with the decision_log of its decisions where it keeps one.
    lags : mapping of str to int
    configs : mapping of str to dict
        By cell, failed ones too: strategy, costs and rules in plain words.
    warnings : mapping of str to tuple of str
        By cell: what was warned of, each text once.
    seconds : mapping of str to float
        By cell: time it took, in this run and those that it continues.
    final_states : mapping of str to dict or None
        By cell: what its strategy wanted kept, see `MultistageStrategy.restore_policy`.
    failures : tuple of Failure
    cash_rate : Series, shape (n_rows,)
        Decimal return of cash, earned over ``(t-1, t]``.
    """

    ledgers: Mapping[str, Ledger]
    strategies: Mapping[str, Strategy]
    lags: Mapping[str, int]
    configs: Mapping[str, dict[str, Any]]
    warnings: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]
    final_states: Mapping[str, dict[str, Any] | None]
    failures: tuple[Failure, ...]
    cash_rate: pd.Series[float]

    def result(self, names: Sequence[str] | None = None) -> BacktestResult:
        """Result of some cells, by default of all that completed.

        Raises
        ------
        StudyError
            A cell failed or is unknown.
        ModelError
            The cells do not share one lag, of which a report has only one.
        """
        chosen = list(self.ledgers) if names is None else list(names)
        for name in chosen:
            if name not in self.ledgers:
                failed = [str(f) for f in self.failures if f.name == name]
                known = f"is unknown; known are {list(self.ledgers)}"
                raise StudyError(f"cell {name!r} {f'failed: {failed[0]}' if failed else known}")
        lags = {self.lags[name] for name in chosen}
        if len(lags) != 1:
            raise ModelError(f"the cells have the lags {sorted(lags)}; choose those of one lag")
        return BacktestResult(
            ledgers={name: self.ledgers[name] for name in chosen},
            cash_rate=self.cash_rate,
            lag=lags.pop(),
            strategies={name: self.strategies[name] for name in chosen},
        )

    def check(self) -> None:
        """Raise `StudyError` if a cell failed.

        Raises
        ------
        StudyError
            Names each failed cell, the date and the reason.
        """
        if self.failures:
            lines = "\n".join(f"  {failure}" for failure in self.failures)
            raise StudyError(
                f"{len(self.failures)} of {len(self.configs)} cells failed; the others are "
                f"kept:\n{lines}"
            )


def run_study(
    market: Market,
    cells: Mapping[str, Cell],
    *,
    start: str | pd.Timestamp,
    end: str | pd.Timestamp | None = None,
    initial_wealth: float = 1.0,
    n_jobs: int | None = None,
    store: str | Path | None = None,
    progress: bool = True,
) -> Study:
    """Run the cells of a study; the numbers are the same however many run at a time.

    With a store, each window between two refits is kept once finished. A study that was stopped
    in any way goes on from there when it is run again, to the same bits, and a finished one is
    read. Entries are found by a hash of the cell's settings, the rows of the market up to `end`
    and `store.RESULTS_VERSION`; the seeds of generators belong to the settings.

    Parameters
    ----------
    market : Market
    cells : mapping of str to Cell
        A grid is a dict comprehension. Strategies start from their settings, whatever they have
        done before.
    start, end, initial_wealth :
        As in `backtest`; common to all cells.
    n_jobs : int, optional
        Cells that run at a time, -1 for one on each core; by default what
        ``joblib.parallel_config`` says around the call, or else 1. Its backend may be a Dask
        cluster, whose workers must see the folder of the store.
    store : path, optional
        Folder; made if missing.
    progress : bool
        A bar on the error stream, or lines where that is no terminal.

    Returns
    -------
    Study
        A cell that fails does not stop the others: see `Study.check`.

    Raises
    ------
    DataError, ModelError
        As in `backtest`, before anything is run; and where a strategy is no dataclass of plain
        settings.
    KeyboardInterrupt
        After Ctrl-C, with a note on what is kept. Workers are stopped.
    """
    check_strategies({name: cell.strategy for name, cell in cells.items()})
    rules = {
        name: trading_rules(
            market,
            start=start,
            end=end,
            transaction_cost=cell.transaction_cost,
            lag=cell.lag,
            initial_wealth=initial_wealth,
            rebalance=cell.rebalance,
        )
        for name, cell in cells.items()
    }
    jobs = {
        name: _job(name, cell.strategy, *rules[name], market, store) for name, cell in cells.items()
    }
    outcomes = _outcomes(jobs, market, n_jobs, store, progress)
    dates = next(iter(jobs.values())).dates
    cash_rate = market.at(dates[-1]).cash_rate.loc[dates]
    return _study(jobs, outcomes, market, cash_rate)


@dataclass(frozen=True, eq=False)
class _Job:
    """Arguments of one cell, picklable."""

    name: str
    strategy: Strategy
    rules: Rules
    dates: pd.DatetimeIndex
    config: dict[str, Any]
    folder: RecordFolder | None
    started_by: int = field(default_factory=os.getpid)


def _job(
    name: str,
    strategy: Strategy,
    rules: Rules,
    dates: pd.DatetimeIndex,
    market: Market,
    store: str | Path | None,
) -> _Job:
    config = {
        "strategy": describe(strategy),
        "costs": {side: getattr(rules.costs, side).tolist() for side in ("buy", "sell")},
        "lag": rules.lag,
        "initial_wealth": rules.initial_wealth,
        "rebalance": describe(rules.rebalance),
        "rows": [day(dates[0]), day(dates[-1])],
        "data": _data_hash(market, dates[-1]),
    }
    folder = None if store is None else RecordFolder(Path(store) / "cells" / store_key(config))
    return _Job(name, fresh(strategy), rules, dates, config, folder)


def _data_hash(market: Market, end: pd.Timestamp) -> str:
    """Hash of the market data up to the last row."""
    view = market.at(end)
    index = None if view.volatility_index is None else view.volatility_index
    tables = (view.prices, view.returns, view.quoted, view.cash_rate, view.factors, index)
    # What not every market has counts where it is there.
    more = [table for table in (view.volumes, view.costs, view.limits) if table is not None]
    return content_hash(*tables, *more)


def _outcomes(
    jobs: Mapping[str, _Job],
    market: Market,
    n_jobs: int | None,
    store: str | Path | None,
    progress: bool,
) -> dict[str, Record | Failure]:
    """Outcome of each cell, read where it is finished and run elsewhere."""
    read = {name: job.folder and job.folder.whole() for name, job in jobs.items()}
    found: dict[str, Record | Failure] = {name: whole for name, whole in read.items() if whole}
    left = {name: job for name, job in jobs.items() if name not in found}
    if not left:
        return found
    n_rows = len(next(iter(jobs.values())).dates)
    folders = {name: job.folder for name, job in left.items()}
    work = (joblib.delayed(_run)(job, market) for job in left.values())
    try:
        with StudyProgress(folders, n_rows, len(found), wanted=progress) as shown:
            parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
            for name, outcome in parallel(work):
                found[name] = outcome
                said = "finished"
                if isinstance(outcome, Failure):
                    said = f"failed on {day(outcome.date)}: {outcome.reason}"
                shown.done(name, said)
    except KeyboardInterrupt as interrupt:
        kept = (
            "give a store to keep finished windows"
            if store is None
            else (f"finished windows are kept in {store}; run it again to go on from there")
        )
        interrupt.add_note(f"the study was interrupted; {kept}")
        raise
    return found


def _run(job: _Job, market: Market) -> tuple[str, Record | Failure]:
    """Run one cell from its last stored window to the end."""
    run = Run(job.strategy, market.assets, job.rules, job.dates)
    leave_if_orphaned = _watch(job.started_by)
    with one_blas_thread(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # What libraries will change some day says nothing of the run's results.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return job.name, _finish(job, market, run, caught, leave_if_orphaned)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return job.name, Failure(job.name, run.today, reason, traceback.format_exc())
        finally:
            leave_if_orphaned()


def _finish(
    job: _Job,
    market: Market,
    run: Run,
    caught: list[warnings.WarningMessage],
    leave_if_orphaned: Callable[[], None],
) -> Record:
    parts = [] if job.folder is None else job.folder.parts()
    if any("account" not in part.facts for part in parts):
        parts = []  # windows of an earlier version: the run starts over
    if parts:
        run.resume(parts, market.at(job.dates[parts[-1].facts["stop"] - 1]))
    notes = _Notes.after(parts, caught)
    if job.folder is None:
        simulate(run, market, after_row=lambda run: None)
        return notes.on(run.part(0, run.final_state()))
    job.folder.label(job.config)
    keeper = _Keeper(job.folder, run.row, notes, leave_if_orphaned)
    simulate(run, market, after_row=keeper)
    whole = notes.on(run.part(0, run.final_state()))
    job.folder.finish(whole)
    return whole


@dataclass(eq=False)
class _Notes:
    """Warnings and duration of a run, earlier parts included."""

    caught: list[warnings.WarningMessage]
    earlier_warnings: list[str]
    earlier_seconds: float
    started: float

    @classmethod
    def after(cls, parts: Sequence[Record], caught: list[warnings.WarningMessage]) -> _Notes:
        nothing: dict[str, Any] = {"warnings": [], "seconds": 0.0}
        last = parts[-1].facts if parts else nothing
        return cls(caught, last["warnings"], last["seconds"], time.perf_counter())

    def on(self, record: Record) -> Record:
        texts = [f"{w.category.__name__}: {w.message}" for w in self.caught]
        seconds = self.earlier_seconds + time.perf_counter() - self.started
        told = {"warnings": list(dict.fromkeys([*self.earlier_warnings, *texts]))}
        return Record(record.arrays, record.facts | told | {"seconds": seconds})


@dataclass(eq=False)
class _Keeper:
    """Stores a window as soon as the strategy can be resumed there."""

    folder: RecordFolder
    kept: int
    notes: _Notes
    leave_if_orphaned: Callable[[], None]

    def __call__(self, run: Run) -> None:
        state = run.checkpoint()
        if state is not None:
            self.folder.add(self.notes.on(run.part(self.kept, state)))
            self.kept = run.row
            self.leave_if_orphaned()


def _watch(parent: int) -> Callable[[], None]:
    """Exit if the parent process has ended.

    A killed study cannot stop its workers, and nobody waits for what they still do.
    """
    is_child = os.getppid() == parent

    def leave_if_orphaned() -> None:
        if is_child and os.getppid() != parent:
            os._exit(1)

    return leave_if_orphaned


def _study(
    jobs: Mapping[str, _Job],
    outcomes: Mapping[str, Record | Failure],
    market: Market,
    cash_rate: pd.Series[float],
) -> Study:
    records = {name: outcome for name in jobs if isinstance(outcome := outcomes[name], Record)}
    runs = {}
    for name, record in records.items():
        job = jobs[name]
        runs[name] = Run(job.strategy, market.assets, job.rules, job.dates)
        runs[name].restore([record])
    return Study(
        ledgers={name: run.ledger() for name, run in runs.items()},
        strategies={name: run.account.strategy for name, run in runs.items()},
        lags={name: job.rules.lag for name, job in jobs.items()},
        configs={name: job.config for name, job in jobs.items()},
        warnings={name: tuple(record.facts["warnings"]) for name, record in records.items()},
        seconds={name: float(record.facts["seconds"]) for name, record in records.items()},
        final_states={name: record.facts["strategy"] for name, record in records.items()},
        failures=tuple(o for name in jobs if isinstance(o := outcomes[name], Failure)),
        cash_rate=cash_rate,
    )
