"""The loop over replayed rows, the same rows in a backtest, and how often to update."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import OrTrigger

from experiments.live.config import STRATEGIES, Config, source_of, starts, triggers
from sddp.arrays import Floats
from sddp.backtest import BacktestResult, EveryPeriods, backtest
from sddp.backtest.simulator import trading_rules
from sddp.backtest.trading.account import Account
from sddp.backtest.trading.events import Event, canonical
from sddp.backtest.triggers.calendar import cron_triggers
from sddp.dates import periods_per_year
from sddp.errors import DataError
from sddp.evaluation import metrics, trigger_table
from sddp.live import Live, NatsBus, RowRejected, RowRepaired, RowRules, StreamRules, export
from sddp.live.alerts import Alert, Alerts
from sddp.live.analytics import Analytics, PortfolioAnalytics, quantiles
from sddp.live.dashboard import Dashboard
from sddp.market.market import Market
from sddp.statistics.resampling import optimal_block_length, standard_error_of_mean

LAG = 1
FEWEST_ROWS = 2 * LAG + 2
# Half a 95 % interval in standard errors.
WIDTH = 1.96


@dataclass(frozen=True)
class Connections:
    """What a run is connected to; no number depends on it but the run times."""

    speed: float | None = None
    state: str | None = None
    bus: str | None = None
    dashboard: int | None = None
    export: str | None = None
    export_at: str = "0 2 * * *"


@dataclass(frozen=True, eq=False)
class Ran:
    """What a loop left behind."""

    events: list[Event]
    seconds: list[float]
    figures: list[PortfolioAnalytics]
    page: Dashboard

    def counts(self) -> pd.DataFrame:
        """Events by name."""
        found = Counter(type(event).__name__ for event in self.events)
        return pd.DataFrame(sorted(found.items()), columns=["event", "count"])

    def latency(self) -> pd.DataFrame:
        """Milliseconds from a row to its events, kept on disk where there is a state file."""
        rows = {"row to events": self.seconds}
        table = {
            name: {"rows": len(seconds)} | {k: 1e3 * v for k, v in quantiles(seconds).items()}
            for name, seconds in rows.items()
        }
        return pd.DataFrame.from_dict(table, orient="index").rename_axis("milliseconds")


def market_of(config: Config) -> Market:
    """The rows of the run that the rules of `sddp.live` accept, as a market.

    Raises
    ------
    DataError
        Too few can be used.
    """
    source, assets = source_of(config, None)
    rules = StreamRules(assets, RowRules())
    rows = [accepted for row in source.rows(0) for accepted in rules.apply(row)[0]]
    if len(rows) < FEWEST_ROWS:
        raise DataError(
            f"replay={config.replay}: {len(rows)} rows can be used, at least {FEWEST_ROWS} are "
            "needed; look for times and prices that cannot be read"
        )
    times = pd.DatetimeIndex([row.time for row in rows])
    prices = np.array([np.where(row.quoted, row.prices, math.nan) for row in rows])
    cash = pd.Series([row.cash_rate for row in rows], index=times)
    index = None
    if rows[0].volatility_index is not None:
        index = pd.Series([row.volatility_index for row in rows], index=times)
    return Market(
        pd.DataFrame(prices, times, list(assets)),
        cash_rate=cash,
        volatility_index=index,
        missing="carry",
    )


def run_loop(config: Config, market: Market, connections: Connections) -> Ran:
    """Take all rows of the source, one transaction each."""
    start = market.dates[min(config.history, len(market.dates) - 3)]
    rules, _ = trading_rules(
        market,
        start=start,
        end=None,
        transaction_cost=config.cost,
        lag=LAG,
        initial_wealth=1.0,
        rebalance=EveryPeriods(1),
        breaker=None,
    )
    source, assets = source_of(config, connections.speed)
    analytics = Analytics()
    alerts = Alerts(analytics)
    page = Dashboard(analytics, alerts, title=f"{config.strategy}, {config.replay or 'drawn rows'}")
    events: list[Event] = []
    seconds: list[float] = []
    figures: list[PortfolioAnalytics] = []
    with ExitStack() as open_things:
        bus = None
        if connections.bus is not None:
            bus = NatsBus(connections.bus)
            open_things.callback(bus.close)
        live = Live(
            Account(STRATEGIES[config.strategy](config.cost), assets, rules),
            start=start,
            state=connections.state,
            bus=bus,
            observers=(analytics, alerts, page),
        )
        if connections.export is not None:
            assert connections.state is not None
            # Once more when the loop has ended.
            open_things.callback(export, connections.state, connections.export)
            open_things.enter_context(
                exported(connections.state, connections.export, connections.export_at)
            )
        open_things.callback(live.close)
        if connections.dashboard is not None:
            address = open_things.enter_context(page.served(connections.dashboard))
            print(f"page: {address}", flush=True)
        for told in live.run(source):
            events += told
            for event in told:
                if isinstance(event, PortfolioAnalytics):
                    figures.append(event)
                    seconds.append(page.shown().seconds[-1])
    return Ran(events, seconds, figures, page)


@contextmanager
def exported(state: str, to: str, words: str) -> Iterator[BackgroundScheduler]:
    """Write the log of a state file at the times of a cron line, by the wall clock in UTC."""
    scheduler = BackgroundScheduler(timezone="UTC")
    times = OrTrigger(list(cron_triggers(words, "UTC")))
    scheduler.add_job(export, times, args=(state, to), coalesce=True, misfire_grace_time=None)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.shutdown()


def equal_to_backtest(config: Config, market: Market, ran: Ran) -> pd.DataFrame:
    """Events of the loop beside those of a backtest of the same rows, but for its last rows.

    Of a loop that went on from a state file, only the rows that it took.
    """
    start = market.dates[min(config.history, len(market.dates) - 3)]
    found = backtest(
        market,
        {"same": STRATEGIES[config.strategy](config.cost)},
        start=start,
        transaction_cost=config.cost,
        lag=LAG,
        keep_events=True,
    )
    wealth = pd.Series({figures.time: figures.wealth for figures in ran.figures}, dtype=float)
    first = wealth.index[0] if len(wealth) else market.dates[-1]
    last = market.dates[-(LAG + 2)]
    aside = (RowRejected, RowRepaired, PortfolioAnalytics, Alert)
    ours = [canonical(e) for e in ran.events if e.time <= last and not isinstance(e, aside)]
    theirs = [canonical(e) for e in found.events["same"] if first <= e.time <= last]
    held = found.ledgers["same"].holdings_after.sum(axis=1)
    held = held[(held.index >= first) & (held.index <= last)]
    same = int((wealth.reindex(held.index) == held).sum())
    return pd.DataFrame(
        [
            ("events", len(theirs), len(ours), ours == theirs),
            ("wealth after trades, rows", len(held), same, same == len(held)),
        ],
        columns=["what", "backtest", "loop", "equal"],
    )


def updating_tables(config: Config, market: Market) -> dict[str, pd.DataFrame]:
    """What rules of updating are worth, by cost and by what is held before the first row.

    Returns
    -------
    dict of DataFrame
        ``updating``: wealth, Sharpe ratio, turnover and rows traded of each rule, and its mean
        excess return a year less that of updating on every row with the half-width of a 95 %
        interval, from blocks of the differences' own length of memory. ``triggers``: firings,
        trades, cost and benefit by trigger, from cash at the first cost.
    """
    known = market.at(market.dates[-1])
    names = [str(name) for name in market.assets]
    rules = triggers(names, index=known.volatility_index is not None)
    rows: list[dict[str, Any]] = []
    fired: list[pd.DataFrame] = []
    for cost, (start, held) in product(config.costs, starts(names).items()):
        every: Floats | None = None
        for rule, trigger in rules.items():
            first = cost == config.costs[0] and start == "cash"
            found = backtest(
                market,
                {rule: STRATEGIES[config.strategy](cost)},
                start=market.dates[min(config.history, len(market.dates) - 3)],
                transaction_cost=cost,
                lag=LAG,
                rebalance=trigger,
                initial_weights=held,
                keep_events=first,
            )
            returns = found.returns[rule].to_numpy()
            every = returns if every is None else every
            told = {"cost": cost, "start": start, "rule": rule}
            rows.append(told | _worth(found, rule, returns, every))
            if first:
                table = trigger_table(found, rule, market).reset_index(names="trigger")
                fired.append(table.assign(rule=rule))
    return {"updating": pd.DataFrame(rows), "triggers": pd.concat(fired, ignore_index=True)}


def _worth(found: BacktestResult, rule: str, returns: Floats, every: Floats) -> dict[str, Any]:
    cash = found.cash_rate.to_numpy()[1:]
    pace = periods_per_year(pd.DatetimeIndex(found.wealth.index))
    turnover = found.turnover[rule]
    return {
        "wealth": float(found.wealth[rule].iloc[-1]),
        "excess return a year": float((returns - cash).mean()) * pace,
        "its half-width": _half_width(returns - cash) * pace,
        "less every row": float((returns - every).mean()) * pace,
        "half-width": _half_width(returns - every) * pace,
        "sharpe": metrics.sharpe_ratio(returns, cash, pace),
        "turnover": float(turnover.sum()),
        "rows traded": int((turnover > 0.0).sum()),
    }


def _half_width(values: Floats) -> float:
    """Half of the 95 % interval of a mean; 0 of values that are all the same."""
    if np.ptp(values) == 0.0:
        return 0.0
    length = optimal_block_length(values)
    return WIDTH * float(standard_error_of_mean(values[:, None], block_length=length)[0])
