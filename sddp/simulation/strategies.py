"""Any object with `decide` under a law of returns, path by path through the backtest's own step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.run import Run, simulate
from sddp.backtest.simulator import trading_rules
from sddp.backtest.strategies import EveryPeriods, Strategy
from sddp.backtest.trading import Cost
from sddp.backtest.triggers.trigger import Trigger
from sddp.errors import DataError
from sddp.labels import CASH, ByLabel, label_index
from sddp.market.market import Market
from sddp.rng import Rng, root_seed
from sddp.simulation.laws import ScenarioLaw
from sddp.simulation.wealth import SimulatedWealth, starting_holdings
from sddp.studies.tasks import Task, TaskPool
from sddp.tables import checked_table

# Paths of a task: what an interruption loses, at most.
PATHS_OF_A_TASK = 8

# Dates of simulated rows where no history gives the next ones.
FIRST_DATE = "2001-01-01"


def simulate_strategy(
    strategy: Strategy,
    law: ScenarioLaw,
    *,
    n_scenarios: int,
    n_periods: int,
    rng: Rng,
    transaction_cost: Cost | tuple[Cost, Cost] = 0.0,
    initial_holdings: ByLabel | None = None,
    cash_return: float = 0.0,
    history: pd.DataFrame | None = None,
    rebalance: Trigger = EveryPeriods(1),  # noqa: B008 - frozen and without state
    lag: int = 0,
    n_jobs: int = 1,
    folder: str | PathLike[str] | None = None,
    progress: bool = False,
) -> SimulatedWealth:
    """Follow a strategy along simulated paths, one backtest each.

    A few hundred paths take minutes with a strategy that optimizes; the standard errors of
    `sddp.simulation.risk_figures` say what they are worth.

    Parameters
    ----------
    strategy : Strategy
        Copied for each path.
    law : ScenarioLaw
        One period is one row of the backtest.
    n_scenarios, n_periods : int
    rng : int, SeedSequence or Generator
    transaction_cost, initial_holdings, cash_return
        As in `sddp.simulation.simulate_portfolio`, which has the same numbers for `FixedWeights`.
    history : DataFrame, optional
        Simple returns known before the first decision, in front of each path (columns: the law's
        assets).
    rebalance : Trigger
        When the strategy is asked.
    lag : int
        Rows between decision and execution; 0 trades at once.
    n_jobs : int
        Processes. The numbers do not depend on it.
    folder : path, optional
        Finished paths are kept there: a run that is interrupted and started again goes on from
        them. Needs a strategy and a law that can be described (`sddp.cache.fingerprint`).
    progress : bool
        Whether to show progress on the error stream.

    Raises
    ------
    DataError
        `history` has other columns than the law's assets.
    KeyboardInterrupt
        After Ctrl-C; finished paths are kept in `folder`.
    """
    names = list(law.names)
    start = starting_holdings(initial_holdings, names)
    known = _known(history, names)
    seed = root_seed(rng)
    chunks = law.sample(n_scenarios, n_periods, rng=seed, chunk_size=PATHS_OF_A_TASK)
    settings = (strategy, start, known, transaction_cost, cash_return, rebalance, lag)
    about = [*settings, law, n_scenarios, n_periods, seed]
    tasks = [
        Task(_follow, (returns, names, *settings), [i, *about] if folder is not None else i)
        for i, returns in enumerate(chunks)
    ]
    pool = TaskPool(None if folder is None else str(folder), n_jobs, progress)
    paths, costs = zip(*pool.run("paths", tasks), strict=True)
    wealth = np.concatenate(paths)
    return SimulatedWealth(
        initial=float(start.sum()),
        terminal=wealth[:, -1],
        costs=np.concatenate(costs),
        paths=wealth,
        gains=None,
        asset_names=tuple(names),
        n_floored=0,
    )


def _known(history: pd.DataFrame | None, names: Sequence[Hashable]) -> pd.DataFrame:
    """Rows up to the first decision."""
    if history is None:
        first = pd.DatetimeIndex([FIRST_DATE])
        return pd.DataFrame(0.0, index=first, columns=label_index(names))
    table = checked_table(history, "history", reserved=CASH)
    if list(table.columns) != list(names):
        raise DataError(f"history has columns {list(table.columns)}: must be {list(names)}")
    return table


def _follow(
    returns: Floats,
    names: Sequence[Hashable],
    strategy: Strategy,
    start: Floats,
    known: pd.DataFrame,
    transaction_cost: Any,
    cash_return: float,
    rebalance: Trigger,
    lag: int,
) -> tuple[Floats, Floats]:
    """Wealth at all dates and costs paid, of some paths."""
    n_periods = returns.shape[1]
    dates = pd.bdate_range(known.index[-1], periods=n_periods + 2, inclusive="right")[:n_periods]
    wealth, costs = np.empty((len(returns), n_periods + 1)), np.empty(len(returns))
    for path, simulated in enumerate(returns):
        # What is worth nothing stays so.
        alive = np.cumprod(simulated > -1.0, axis=0)
        worthless = np.where(np.cumsum(1 - alive, axis=0) == 1, -1.0, 0.0)
        rows = pd.DataFrame(
            np.where(alive == 1, simulated, worthless), index=dates, columns=label_index(names)
        )
        market = Market.from_returns(
            pd.concat([known, rows]), cash_rate=cash_return, missing="carry"
        )
        rules, rows_of_run = trading_rules(
            market,
            start=known.index[-1],
            end=None,
            transaction_cost=transaction_cost,
            lag=lag,
            initial_wealth=float(start.sum()),
            rebalance=rebalance,
        )
        run = Run(strategy, market.assets, rules, rows_of_run)
        run.account.holdings = start.copy()
        simulate(run, market, after_row=lambda _: None)
        wealth[path] = [entry.before.sum() for entry in run.entries]
        costs[path] = sum(entry.costs.sum() for entry in run.entries)
    return wealth, costs
