"""Backtests that are compared with each other, and all that follows from each comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd

from experiments.brazil.results import Results
from experiments.brazil.variants import (
    IBOV,
    MATCHED,
    ONE_REGIME,
    RECEDING,
    RUN_THROUGH,
    Variant,
    daily,
    others,
)
from sddp.backtest import BacktestResult
from sddp.evaluation.reports.report_data import ReportData, collect
from sddp.reporting import ReportOptions

# Drawn through time on the page.
DETAIL = (RUN_THROUGH, RECEDING, ONE_REGIME, MATCHED)


@dataclass(frozen=True, eq=False)
class Group:
    """Backtests that share their settings and differ in the strategy.

    Attributes
    ----------
    settings : Variant
        What they share; its strategy says nothing, its limit is that of those that have one.
    result : BacktestResult
    options : ReportOptions
        What is shown of them.
    """

    settings: Variant
    result: BacktestResult
    options: ReportOptions

    def tagged(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with the settings in front of its columns."""
        shared: dict[str, Any] = {
            name: getattr(self.settings, name) for name in ("limit", "lag", "seed", "refit_every")
        }
        tags = pd.DataFrame(shared, index=table.index)
        return pd.concat([tags, table], axis=1)


def groups(results: Results) -> dict[str, Group]:
    """All comparisons of what was run, the headline's first.

    The strategies without a limit are compared at the headline's limit only: elsewhere they would
    be the same again.
    """
    config = results.config
    found = {"headline": (*results.under(config.headline), *results.without_limit())}
    for limit in config.limits:
        if limit != config.headline:
            found[f"limit {limit:g}"] = tuple(results.under(limit))
    found["lag 0"] = tuple(results.under(config.headline, lag=0))
    for seed in config.seeds[1:]:
        found[f"seed {seed}"] = tuple(results.under(config.headline, seed=seed))
    found["daily"] = tuple(results.under(config.headline, **daily(config)))
    return {
        name: _group(results, members, whole=name == "headline")
        for name, members in found.items()
        if any(results.has(v) and v.strategy == RECEDING for v in members)
    }


def _group(results: Results, members: Sequence[Variant], *, whole: bool) -> Group:
    result = results.result(members)
    known = [name for name in DETAIL if name in result.ledgers]
    ibov = results.market.at(results.market.dates[-1]).prices["ibov"].rename("Ibovespa (points)")
    options = ReportOptions(
        detail=known,
        reference=RECEDING,
        benchmark=IBOV if whole and IBOV in result.ledgers else None,
        market=ibov,
        n_draws=results.config.n_draws,
    )
    return Group(members[0], result, options)


def report_data(
    found: dict[str, Group], rng: np.random.Generator, *, n_jobs: int
) -> dict[str, ReportData]:
    """Intervals, differences and tests of each comparison; each has its own stream of draws."""
    work = (
        joblib.delayed(collect)(group.result, group.options, stream)
        for group, stream in zip(found.values(), rng.spawn(len(found)), strict=True)
    )
    return dict(zip(found, joblib.Parallel(n_jobs=n_jobs)(work), strict=True))


def pairs(results: Results) -> Iterator[Group]:
    """With regimes against without them, at each setting that was tried at the headline's limit."""
    config = results.config
    changes: list[dict[str, Any]] = [
        {},
        {"lag": 0},
        daily(config),
        *({"n_states": n_states} for n_states in config.states),
        *others(config),
    ]
    for seed in config.seeds:
        for change in changes:
            with_regimes = Variant.of(config, RECEDING, config.headline, seed=seed, **change)
            fewer = {key: value for key, value in change.items() if key != "n_states"}
            without = Variant.of(config, ONE_REGIME, config.headline, seed=seed, **fewer)
            if results.has(with_regimes) and results.has(without):
                result = results.result([with_regimes, without])
                yield Group(with_regimes, result, ReportOptions(reference=RECEDING))
