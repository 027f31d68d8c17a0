"""Protocols of scenario estimates, and an estimator from a user's own function.

`RegimeEstimator` is the package's own `ScenarioEstimator`. Another model of scenarios, regimes or
returns is an object with the same methods, or a function given to `GivenScenarios`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sddp.allocation.one_period import OnePeriodDistribution, one_period_distribution
from sddp.arrays import Floats, checked_probabilities
from sddp.errors import ModelError
from sddp.estimation.fit_cache import Fit
from sddp.market.market import View
from sddp.scenarios import MarkovScenarios


class ScenarioEstimate(Protocol):
    """Scenarios as estimated on a date, and the present regime as seen on any later one."""

    @property
    def date(self) -> pd.Timestamp:
        """Date of the last row used."""
        ...

    @property
    def start(self) -> Fit | None:
        """The fit that this one started from; None without."""
        ...

    @property
    def fit(self) -> Fit | None:
        """What the next fit may start from; None without."""
        ...

    @property
    def scenarios(self) -> MarkovScenarios:
        """Scenarios of the assets that may be held; others are sold."""
        ...

    def belief(self, view: View) -> Floats:
        """Probabilities of the present regime, shape (n_states,), from what is known."""
        ...

    def over(self, n_stages: int) -> MarkovScenarios:
        """The scenarios of the next `n_stages` periods."""
        ...

    def one_period_distribution(
        self, view: View, *, in_limit: bool = True
    ) -> OnePeriodDistribution:
        """Outcomes of the next period under the present belief."""
        ...


class ScenarioEstimator(Protocol):
    """Estimator of the scenarios of a multi-stage policy from a view.

    An estimate depends on the view (and on `start`) alone: it is made again where a run is
    continued. Settings are plain, as of a dataclass, so that results can be found again.
    """

    @property
    def period(self) -> int:
        """Rows per stage."""
        ...

    def estimate(self, view: View, *, start: Fit | None = None) -> ScenarioEstimate:
        """Scenarios from the rows of a view.

        Raises
        ------
        DataError
            What is known does not carry an estimate.
        """
        ...

    def cash_return(self, view: View) -> float:
        """Return of cash over a period, as known today."""
        ...


@dataclass(frozen=True)
class GivenScenarios:
    """`ScenarioEstimator` from a user's function of the view.

    Parameters
    ----------
    scenarios : callable
        ``scenarios(view)`` returns `MarkovScenarios`: of one stage, which is then the law of every
        period, or of as many stages as the strategy looks ahead. A function of a module, so that
        results can be found again.
    belief : callable, optional
        ``belief(view)`` returns the probabilities of the present regime. Needed with several
        regimes.
    period : int
        Rows per stage.

    Raises
    ------
    ModelError
        `scenarios` or `belief` cannot be called, or `period` is below 1.
    """

    scenarios: Callable[[View], MarkovScenarios]
    belief: Callable[[View], Floats] | None = None
    period: int = 1

    def __post_init__(self) -> None:
        for name in ("scenarios", "belief"):
            given = getattr(self, name)
            if not callable(given) and not (name == "belief" and given is None):
                raise ModelError(f"{name}={given!r}: must be a function of what is known")
        if self.period < 1:
            raise ModelError(f"period={self.period}: must be a positive integer")

    def estimate(self, view: View, *, start: Fit | None = None) -> GivenEstimate:
        """See `ScenarioEstimator.estimate`.

        Raises
        ------
        ModelError
            The function returned something else, or assets that the market does not have.
        """
        made = self.scenarios(view)
        if not isinstance(made, MarkovScenarios):
            raise ModelError(
                f"scenarios returned a {type(made).__name__}: must be MarkovScenarios; see "
                "GivenScenarios"
            )
        known = set(view.assets)
        unknown = [name for name in made.asset_names or () if name not in known]
        if unknown:
            raise ModelError(
                f"scenarios returned assets {unknown}, which the market lacks; name them as its "
                "columns"
            )
        return GivenEstimate(self, view.date, made)

    def cash_return(self, view: View) -> float:
        """The rate known today, compounded over a period."""
        rate = float(view.cash_rate.iloc[-1]) if len(view.dates) > 1 else 0.0
        return float((1.0 + rate) ** self.period - 1.0)


@dataclass(frozen=True, eq=False)
class GivenEstimate:
    """`ScenarioEstimate` returned by a user's function on a date."""

    estimator: GivenScenarios
    date: pd.Timestamp
    scenarios: MarkovScenarios
    start: Fit | None = None
    fit: Fit | None = None

    def belief(self, view: View) -> Floats:
        """See `ScenarioEstimate.belief`."""
        n_states, told = self.scenarios.n_states, self.estimator.belief
        if told is None and n_states > 1:
            raise ModelError(
                f"belief=None: must be a function where there are {n_states} regimes; give their "
                "probabilities from what is known"
            )
        return checked_probabilities(
            np.ones(1) if told is None else told(view), n_states, "belief over regimes"
        )

    def over(self, n_stages: int) -> MarkovScenarios:
        """See `ScenarioEstimate.over`."""
        given = self.scenarios
        if given.n_stages == n_stages:
            return given
        if not given.stationary:
            raise ModelError(
                f"scenarios of {given.n_stages} stages: must be of {n_stages}, as many as the "
                "strategy looks ahead, or of one law for all"
            )
        assert given.probabilities is not None
        return MarkovScenarios(
            returns=given.returns[0],
            transition_matrix=given.transition_matrix[0],
            probabilities=given.probabilities[0],
            asset_names=given.asset_names,
            state_names=given.state_names,
            n_stages=n_stages,
            limit_shift=given.limit_shift,
        )

    def one_period_distribution(
        self, view: View, *, in_limit: bool = True
    ) -> OnePeriodDistribution:
        """See `ScenarioEstimate.one_period_distribution`."""
        return one_period_distribution(
            self.scenarios,
            0,
            self.belief(view),
            self.estimator.cash_return(view),
            in_limit=in_limit,
        )


@dataclass
class RollingEstimate:
    """The estimate in use, and when it is to be renewed: the state of a strategy between calls.

    Parameters
    ----------
    estimator : ScenarioEstimator
    refit_every : int
        Decisions between two estimates.

    Attributes
    ----------
    estimate : ScenarioEstimate or None
        In use.
    age : int
        Decisions taken with it.
    """

    estimator: ScenarioEstimator
    refit_every: int = 1
    estimate: ScenarioEstimate | None = field(default=None, init=False)
    age: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.refit_every < 1:
            raise ModelError(f"refit_every = {self.refit_every}; give 1 or more decisions")

    @property
    def due(self) -> bool:
        """Whether the next decision needs a new estimate."""
        return self.estimate is None or self.age >= self.refit_every

    def renewed(self, view: View) -> ScenarioEstimate:
        """New estimate, started from the one in use; it takes effect with `adopt`."""
        start = None if self.estimate is None else self.estimate.fit
        return self.estimator.estimate(view, start=start)

    def adopt(self, estimate: ScenarioEstimate) -> None:
        """Use an estimate from now on."""
        self.estimate, self.age = estimate, 0

    def refresh(self, view: View) -> ScenarioEstimate:
        """The estimate for a decision, renewed where due; call it once per decision."""
        if self.due:
            self.adopt(self.renewed(view))
        self.age += 1
        assert self.estimate is not None
        return self.estimate

    def checkpoint(self) -> dict[str, Any] | None:
        """State at the end of a window, just before the next estimate; None within a window."""
        return self.state() if self.due else None

    def state(self) -> dict[str, Any] | None:
        """What `resume` goes on from; None before the first estimate."""
        if self.estimate is None:
            return None
        start = self.estimate.start
        return {
            "estimated_on": self.estimate.date.isoformat(),
            "start": None if start is None else start.plain(),
            "age": self.age,
        }

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume from a checkpoint; the estimate in use then is cached or computed again."""
        start = None if state["start"] is None else Fit.from_plain(state["start"])
        then = view.until(pd.Timestamp(state["estimated_on"]))
        self.adopt(self.estimator.estimate(then, start=start))
        self.age = state["age"]
