"""Settings of the model that is made from prices, and their defaults by how often prices come."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sddp.cli import options as opt

if TYPE_CHECKING:
    import pandas as pd

    from sddp.backtest import MultistageStrategy

NO_LIMIT: Final = "none"
# Estimators of expected returns, see `sddp.estimation.means`.
MEANS: Final = ("equilibrium", "pooled", "sample")


@dataclass(frozen=True)
class Settings:
    """All that a model made from prices depends on, beside the prices.

    Parameters
    ----------
    window : int
        Rows of prices that regimes and scenarios are estimated from, up to each decision.
    period : int
        Rows from one decision to the next.
    n_stages : int
        Decisions that the policy looks ahead.
    n_states : int
        Regimes.
    n_starts : int
        Starts of each fit of the regimes.
    n_scenarios : int
        Per regime.
    means : {"equilibrium", "pooled", "sample"}
        Expected returns over cash: those that make equal weights optimal, the same in all regimes;
        the window's; or those fitted in each regime.
    iterations : int
        Of training.
    refit_every : int
        Decisions between two estimates.
    transaction_cost : float
        Fraction of the money traded.
    cvar_confidence : float
        0.9 limits the mean loss in the worst 10 % of outcomes.
    cvar_limit : float or None
        Of one period, as a fraction of wealth.
    cash_rate : float
        Decimal return of cash from one row to the next.
    lag : int
        Rows from a decision to its execution.
    seed : int
    """

    window: int = 504
    period: int = 5
    n_stages: int = 12
    n_states: int = 3
    n_starts: int = 20
    n_scenarios: int = 1024
    means: str = "equilibrium"
    iterations: int = 12
    refit_every: int = 4
    transaction_cost: float = 0.001
    cvar_confidence: float = 0.9
    cvar_limit: float | None = 0.03
    cash_rate: float = 0.0
    lag: int = 1
    seed: int = 1


# Defaults by how often prices come, in rows; `test_years` is how long a backtest is. The limit is
# on the loss of one period: of a week; of a day less, of a month twice and of a quarter more than
# three times as much (the square root of time).
DAILY: Final[dict[str, Any]] = {"test_years": 2.0}
WEEKLY: Final[dict[str, Any]] = {"window": 260, "period": 1, "test_years": 2.0}
MONTHLY: Final[dict[str, Any]] = {
    "window": 120,
    "period": 1,
    "n_states": 2,
    "refit_every": 3,
    "cvar_limit": 0.06,
    "test_years": 8.0,
}
LONGER: Final[dict[str, Any]] = MONTHLY | {
    "window": 40,
    "cvar_limit": 0.1,
    "n_stages": 4,
    "test_years": 10.0,
}
BY_FREQUENCY: Final[Mapping[str, dict[str, Any]]] = {
    "daily": DAILY,
    "weekly": WEEKLY,
    "fortnightly": WEEKLY | {"window": 130, "cvar_limit": 0.04, "test_years": 4.0},
    "monthly": MONTHLY,
}

# Rows a year above which daily prices come on weekends too.
EVERY_DAY: Final = 300.0
# Days in the window of prices that come several times a day, and in its backtest.
INTRADAY_WINDOW, INTRADAY_TEST = 60, 0.15

# A small run of some seconds.
QUICK: Final[Mapping[str, Any]] = {
    "n_starts": 2,
    "n_stages": 3,
    "n_scenarios": 50,
    "iterations": 4,
}

# Options by the field that they set.
FIELDS: Final[Mapping[str, str]] = {
    "window": "window",
    "period": "period",
    "stages": "n_stages",
    "states": "n_states",
    "starts": "n_starts",
    "scenarios": "n_scenarios",
    "means": "means",
    "iterations": "iterations",
    "refit_every": "refit_every",
    "cost": "transaction_cost",
    "cvar_confidence": "cvar_confidence",
    "cvar_limit": "cvar_limit",
    "cash_rate": "cash_rate",
    "lag": "lag",
    "seed": "seed",
}

# What a remedy that an error of the library names is done with.
REMEDIES: Final[Mapping[str, str]] = {
    "leave it out": "--without",
    "leave one out": "--without",
    "treat it as cash": "--without",
    "more rows": "--window",
    "shorten the window": "--window",
    "start later": "--start",
    "fewer states": "--states",
    "more scenarios": "--scenarios",
    "what selling out can cost": "--cvar-limit",
    "keeps all constraints": "--cvar-limit",
    "problem is infeasible": "--cvar-limit",
}

# What errors of the library call a setting, and the option that sets it.
OPTION_OF: Final[Mapping[str, str]] = {
    field: "--" + option.replace("_", "-") for option, field in FIELDS.items()
}


def by_option(text: str, known: Container[str]) -> str:
    """An error of the library in the words of a command line that knows some options.

    Arguments become the options that set them, and the options of a remedy are named.

    >>> known = {"--stages", "--window", "--states"}
    >>> by_option("n_stages = 0: give at least 1", known)
    '--stages 0: give at least 1'
    >>> by_option("9 regimes are more than the rows carry: give more rows or fewer states", known)
    '9 regimes are more than the rows carry: give more rows or fewer states (--window, --states)'
    """
    for name, option in OPTION_OF.items():
        if option in known:
            text = re.sub(rf"(?<![\w-]){name} ?= ?", f"{option} ", text)
    remedies = [option for phrase, option in REMEDIES.items() if phrase in text and option in known]
    missing = [option for option in dict.fromkeys(remedies) if option not in text]
    return f"{text} ({', '.join(missing)})" if missing else text


def add_model_options(parser: argparse.ArgumentParser, *, trading: bool) -> None:
    """Options of `Settings`; those of how decisions are executed only where `trading`."""
    group = parser.add_argument_group("model (defaults depend on how often prices come)")

    def add(name: str, kind: Any, metavar: str, text: str) -> None:
        group.add_argument(name, type=kind, metavar=metavar, help=text)

    add("--window", opt.positive, "ROWS", "rows of prices that each estimate uses")
    add("--period", opt.positive, "ROWS", "rows from one decision to the next")
    add("--stages", opt.positive, "N", "decisions that the policy looks ahead")
    add("--states", opt.positive, "N", "regimes of the market")
    add("--starts", opt.positive, "N", "starts of each fit of the regimes")
    add("--scenarios", opt.positive, "N", "scenarios of returns per regime")
    group.add_argument(
        "--means",
        choices=MEANS,
        help="expected returns over cash: those that make equal weights optimal (equilibrium, the "
        "default), those of the window, or those of each regime (sample)",
    )
    add("--iterations", opt.positive, "N", "iterations of each training")
    add("--cost", _cost, "X", "cost of a trade as a fraction of its money (0.001 is 0.1 %%)")
    add("--cvar-confidence", opt.fraction, "X", "0.9 limits the mean of the worst 10 %% of losses")
    add(
        "--cvar-limit",
        _limit,
        "X",
        "largest CVaR of a period's loss, as a fraction of wealth (0.03 is 3 %%), or 'none'",
    )
    add("--cash-rate", _rate, "X", "decimal return of cash from one row to the next")
    if trading:
        add("--refit-every", opt.positive, "N", "decisions between two estimates")
        add("--lag", opt.natural, "ROWS", "rows from a decision to its execution")
    group.add_argument("--quick", action="store_true", help="a small run of some seconds")
    opt.add_seed(group, default=1)


def defaults_for(dates: pd.DatetimeIndex) -> dict[str, Any]:
    """Defaults for prices on these dates, by their `sddp.dates.frequency`.

    Decisions on daily and more frequent prices are a week and a day apart.
    """
    from sddp.dates import frequency, periods_per_year

    word = frequency(dates)
    if word == "intraday":
        rows = max(round(len(dates) / dates.normalize().nunique()), 1)
        changes = {"window": INTRADAY_WINDOW * rows, "period": rows, "cvar_limit": 0.015}
        return changes | {"test_years": INTRADAY_TEST}
    if word == "daily" and periods_per_year(dates) > EVERY_DAY:
        return DAILY | {"window": 730, "period": 7}
    return BY_FREQUENCY.get(word, LONGER)


def settings_from(options: argparse.Namespace, defaults: Mapping[str, Any]) -> Settings:
    """What the options say; elsewhere the defaults of the frequency, or of a quick run."""
    fields = {name: value for name, value in defaults.items() if name != "test_years"}
    chosen = replace(Settings(), **fields, **(QUICK if options.quick else {}))
    return replace(chosen, **given(options))


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Fields that the user has set."""
    said = {field: getattr(options, option, None) for option, field in FIELDS.items()}
    found = {field: value for field, value in said.items() if value is not None}
    if found.get("cvar_limit") == NO_LIMIT:
        found["cvar_limit"] = None
    return found


def strategy(
    settings: Settings,
    *,
    store: str | None,
    on_iteration: Callable[[int], object] | None = None,
) -> MultistageStrategy:
    """The multi-stage policy with these settings, its fits and trainings kept in a store."""
    from sddp.allocation.model import AllocationModel
    from sddp.backtest import MultistageStrategy, TrainingCache
    from sddp.engine.training.stopping import Iterations
    from sddp.estimation import FitCache, RegimeEstimator
    from sddp.estimation.means import EquilibriumMeans, PooledMeans, SampleMeans
    from sddp.statistics import GaussianRegimes

    means = {"equilibrium": EquilibriumMeans, "pooled": PooledMeans, "sample": SampleMeans}
    return MultistageStrategy(
        model=AllocationModel(
            transaction_cost=settings.transaction_cost,
            cvar_confidence=settings.cvar_confidence,
            cvar_limit=settings.cvar_limit,
        ),
        seed=settings.seed,
        n_stages=settings.n_stages,
        estimator=RegimeEstimator(
            seed=settings.seed,
            window=settings.window,
            period=settings.period,
            regimes=GaussianRegimes(n_states=settings.n_states, n_starts=settings.n_starts),
            n_scenarios=settings.n_scenarios,
            means=means[settings.means](),
            cache=FitCache(store),
        ),
        stopping=Iterations(settings.iterations),
        refit_every=settings.refit_every,
        trainings=TrainingCache(store, on_iteration),
    )


def described(settings: Settings) -> dict[str, Any]:
    """The settings by the names of their options."""
    values = asdict(settings)
    return {option: values[field] for option, field in FIELDS.items()}


def _cost(text: str) -> float:
    value = opt.non_negative(text)
    if value > 0.2:
        raise argparse.ArgumentTypeError(
            f"{text!r}: must be a decimal fraction of at most 0.2 (0.001 is 0.1 %)"
        )
    return value


def _limit(text: str) -> float | str:
    if text.strip().lower() == NO_LIMIT:
        return NO_LIMIT
    try:
        value = opt.non_negative(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number >= 0, or none") from error
    if value > 1.0:
        raise argparse.ArgumentTypeError(
            f"{text!r}: must be a decimal fraction of wealth (0.03 is 3 %), or none"
        )
    return value


def _rate(text: str) -> float:
    value = opt.number(text)
    if abs(value) > 0.2:
        raise argparse.ArgumentTypeError(
            f"{text!r}: must be the decimal return from one row to the next (0.0001 is 0.01 %)"
        )
    return value
