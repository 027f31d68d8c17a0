"""The finished backtests of the study, and how to take some of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.brazil import inputs
from experiments.brazil.config import Config
from experiments.brazil.makers import Caches, cell
from experiments.brazil.variants import LIMITED, UNLIMITED, Variant, at_limit
from sddp.backtest import BacktestResult, Study, run_study
from sddp.market import Market


@dataclass(frozen=True, eq=False)
class Results:
    """What was run, and what came of it.

    Attributes
    ----------
    config : Config
    market : Market
    variants : mapping of str to Variant
        By the name of their cell.
    study : Study
    caches : Caches
        With the fits and policies of the study.
    """

    config: Config
    market: Market
    variants: Mapping[str, Variant]
    study: Study
    caches: Caches

    def result(self, chosen: Iterable[Variant], *, with_limit: bool = False) -> BacktestResult:
        """Report of some backtests of one lag, under the names of their strategies.

        Parameters
        ----------
        chosen : iterable of Variant
            Those that were not run are passed over.
        with_limit : bool
            Whether the names tell the limit.
        """
        short = {
            variant.name(self.config): (
                at_limit(variant.strategy, variant.limit) if with_limit else variant.strategy
            )
            for variant in chosen
            if self.has(variant)
        }
        whole = self.study.result(list(short))
        return replace(
            whole,
            ledgers={short[name]: ledger for name, ledger in whole.ledgers.items()},
            strategies={short[name]: strategy for name, strategy in whole.strategies.items()},
        )

    def under(self, limit: float, **changes: float) -> list[Variant]:
        """All strategies that know a limit, at this one."""
        return [Variant.of(self.config, name, limit, **changes) for name in LIMITED]

    def without_limit(self, **changes: float) -> list[Variant]:
        """All strategies that know none."""
        return [Variant.of(self.config, name, **changes) for name in UNLIMITED]

    def has(self, variant: Variant) -> bool:
        """Whether a backtest was run."""
        return variant.name(self.config) in self.variants


def run(
    config: Config,
    market: Market,
    chosen: Iterable[Variant],
    *,
    store: str | Path,
    n_jobs: int,
    progress: bool = True,
) -> Results:
    """Run what is not in the store yet.

    Raises
    ------
    StudyError
        Backtests failed; the others are in the store.
    KeyboardInterrupt
        After Ctrl-C; what is finished is in the store.
    """
    caches = Caches.of(store)
    variants = {variant.name(config): variant for variant in chosen}
    study = run_study(
        market,
        {name: cell(variant, config, caches) for name, variant in variants.items()},
        start=config.start,
        end=inputs.last_row(market, config),
        n_jobs=n_jobs,
        store=store,
        progress=progress,
    )
    study.check()
    return Results(config, market, variants, study, caches)
