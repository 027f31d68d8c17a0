"""Numbers through time that the figures are drawn from: every fifth row, to six decimals."""

from __future__ import annotations

import pandas as pd

from experiments.brazil.results import Results
from experiments.brazil.variants import RECEDING, RUN_THROUGH, Variant
from sddp.backtest import MultistageStrategy
from sddp.evaluation import metrics
from sddp.market import Market

# Figures show no more; the store has every row and digit.
KEPT, DECIMALS = 5, 6

# A CVaR through time looks back on so many rows: the deck's two years, and a quarter.
LONG, SHORT = 504, 60


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """Every fifth row, and the last."""
    rows = sorted({*range(0, len(table), KEPT), len(table) - 1})
    return table.iloc[rows].round(DECIMALS)


def wealth(results: Results) -> pd.DataFrame:
    """Wealth of all backtests of the study's lag and settings, by name with the limit."""
    limited = [v for limit in results.config.limits for v in results.under(limit)]
    return kept(results.result([*limited, *results.without_limit()], with_limit=True).wealth)


def weights(results: Results) -> pd.DataFrame:
    """Shares of wealth of the deck's policy at all limits, tidy: one row per date and name."""
    config = results.config
    chosen = [Variant.of(config, RUN_THROUGH, limit) for limit in config.limits]
    report = results.result(chosen, with_limit=True)
    return pd.concat(
        kept(report.weights(name)).rename_axis("date").assign(strategy=name)
        for name in report.ledgers
    )


def beliefs(results: Results) -> pd.DataFrame:
    """Filtered probabilities of the regimes, and the Ibovespa in points."""
    name = Variant.of(results.config, RECEDING, results.config.headline).name(results.config)
    strategy = results.study.strategies[name]
    assert isinstance(strategy, MultistageStrategy)
    table = strategy.decision_log_table().filter(regex=r"^regime \d+$")
    prices = results.market.at(table.index[-1]).prices
    return kept(table.assign(ibov=prices["ibov"]))


def asset_cvar(market: Market, confidence: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One-row CVaR of every asset alone: what a limit has to be compared with.

    Returns
    -------
    table, through_time
        ``all_rows``, and of all windows of 504 and 60 rows the worst one with the date on which it
        ends, by asset; and the CVaR of the 504 rows that end on a date, every fifth row.
    """
    returns = market.at(market.dates[-1]).returns

    def cvar(rows: pd.Series[float]) -> float:
        return metrics.conditional_value_at_risk(rows, confidence=confidence)

    table = pd.DataFrame({"all_rows": returns.apply(cvar)}).rename_axis("asset")
    through = {}
    for n_rows in (LONG, SHORT):
        through[n_rows] = returns.rolling(min(n_rows, len(returns))).apply(cvar, raw=True)
        table[f"worst_{n_rows}"] = through[n_rows].max()
        table[f"worst_{n_rows}_ends"] = through[n_rows].idxmax()
    return table, kept(through[LONG].dropna())
