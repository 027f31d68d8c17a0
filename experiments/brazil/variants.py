"""What is run: a strategy under a limit, on a schedule, with a model of some size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from experiments.brazil.config import Config

RUN_THROUGH, RECEDING = "SDDP, run-through", "SDDP, receding"
ONE_REGIME, NO_COSTS, MYOPIC = "one regime", "costs ignored", "myopic"
COST_FREE, MATCHED = "cost-free future", "QP, risk-matched"
QP_FIXED, QP_WINDOW = "QP, fixed lambda", "QP, fixed lambda, no regimes"
QP_VOLATILITY = "QP, lambda by volatility"
EQUAL, HOLD, INVERSE = "equal weights", "buy and hold", "inverse volatility"
IBOV, CASH, CANARY = "Ibovespa", "cash (CDI)", "dollars after a fall"

# With a limit, and without one, in the order of tables and figures.
LIMITED = (RUN_THROUGH, RECEDING, COST_FREE, MYOPIC, NO_COSTS, ONE_REGIME, MATCHED)
UNLIMITED = (QP_FIXED, QP_VOLATILITY, QP_WINDOW, INVERSE, EQUAL, HOLD, IBOV, CASH, CANARY)

# In the order of running: what takes longest early, so that all cores end together, and before it
# what is quick, whose fits the others then find.
FIRST = (QP_FIXED, ONE_REGIME, RUN_THROUGH, RECEDING, COST_FREE, NO_COSTS)


@dataclass(frozen=True)
class Variant:
    """One backtest of the study; see `Config` for the numbers.

    Attributes
    ----------
    strategy : str
        A name of `LIMITED` or `UNLIMITED`.
    limit : float or None
        None where the strategy knows no limit.
    """

    strategy: str
    limit: float | None
    lag: int
    seed: int
    n_states: int
    n_starts: int
    window: int
    transaction_cost: float
    refit_every: int
    iterations: int
    terminal_value: Literal["marked", "liquidated"]
    train_from: Literal["holdings", "cash"]

    @classmethod
    def of(
        cls, config: Config, strategy: str, limit: float | None = None, **changes: Any
    ) -> Variant:
        """With the settings of the study but for the changes."""
        taken = [f.name for f in fields(cls) if f.name not in ("strategy", "limit")]
        settings = {name: getattr(config, name) for name in taken}
        return cls(strategy, limit, **(settings | changes))

    def name(self, config: Config) -> str:
        """Strategy, limit, and what differs from the settings of the study."""
        usual = Variant.of(config, self.strategy, self.limit)
        changed = [
            f"{f.name} = {getattr(self, f.name)}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(usual, f.name)
        ]
        return ", ".join([at_limit(self.strategy, self.limit), *changed])


def at_limit(strategy: str, limit: float | None) -> str:
    """Name of a strategy under a limit.

    >>> at_limit("myopic", 0.015)
    'myopic at 1.5 %'
    """
    return strategy if limit is None else f"{strategy} at {percent(limit)}"


def percent(fraction: float) -> str:
    """A fraction in words, without digits that say nothing.

    >>> percent(0.015)
    '1.5 %'
    """
    return f"{100.0 * fraction:.6g} %"


def study(config: Config) -> list[Variant]:
    """All strategies at all limits, and at the headline's traded at the quotes decided on."""
    free = [Variant.of(config, name) for name in UNLIMITED]
    limited = [Variant.of(config, name, limit) for limit in config.limits for name in LIMITED]
    headline = [v for v in limited if v.limit == config.headline]
    return _ordered([*free, *limited, *(replace(v, lag=0) for v in (*free, *headline))])


def sensitivities(config: Config) -> list[Variant]:
    """Other seeds, schedules, regimes, windows, costs, lengths of training, terminal values."""
    at = config.headline
    seeds = [
        Variant.of(config, name, at, seed=seed)
        for seed in config.seeds[1:]
        for name in (RECEDING, ONE_REGIME, MYOPIC, MATCHED)
    ]
    pairs = [
        Variant.of(config, name, at, **change)
        for change in (daily(config), *others(config))
        for name in (RECEDING, ONE_REGIME)
    ]
    every_row = [
        Variant.of(config, name, at, **daily(config))
        for name in (COST_FREE, MYOPIC, NO_COSTS, MATCHED)  # run through, every row is a first one
    ]
    regimes = [Variant.of(config, RECEDING, at, n_states=n_states) for n_states in config.states]
    liquidated = [
        Variant.of(config, name, at, terminal_value="liquidated")
        for name in (RUN_THROUGH, RECEDING)
    ]
    return _ordered([*seeds, *pairs, *every_row, *regimes, *lengths(config), *liquidated])


def lengths(config: Config) -> tuple[Variant, Variant]:
    """Trainings of the usual length and longer ones, from the same start: cash.

    From holdings, which hang on the policies before, their bounds are of different problems.
    """
    usual = Variant.of(config, RECEDING, config.headline, train_from="cash")
    return usual, replace(usual, iterations=config.more_iterations)


def daily(config: Config) -> dict[str, Any]:
    """Trained every row; the fit of the row before is a start, so few others are tried."""
    return {"refit_every": 1, "n_starts": config.daily_starts}


def others(config: Config) -> list[dict[str, Any]]:
    """Other windows and costs, under which policies with and without regimes are compared."""
    return [
        *({"window": window} for window in config.windows),
        *({"transaction_cost": cost} for cost in config.costs),
    ]


def _ordered(chosen: Iterable[Variant]) -> list[Variant]:
    ranks = {name: rank for rank, name in enumerate(FIRST)}
    # Other lags last: they find the fits and policies of the first.
    return sorted(chosen, key=lambda v: (-v.lag, ranks.get(v.strategy, len(ranks))))
