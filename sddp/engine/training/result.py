"""Result of a training: the policy, the log and how training ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from sddp.display.shown import Shown, number
from sddp.engine.certificate.certificate import Certificate
from sddp.engine.model.graph import NodeName
from sddp.engine.policy.policy import Policy
from sddp.engine.subproblem.solutions import Work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Draws for the certificate of a training whose stopping rule asked for none.
LEAST_EFFORT = 10


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult(Shown):
    """Result of `train`: policy, log, and how training ended.

    Attributes
    ----------
    policy : Policy
    log : DataFrame
        One row per iteration; see `LogEntry` for the columns and their units. Each bound is valid;
        the last one is all that the cuts say, unless training was interrupted.
    stopped_because : str
        In the words of the stopping rule, or ``"interrupted"``.
    unvisited_mass : float
        `LogEntry.unvisited_mass` of the last iteration; 1 where there was none.
    active_bounds : tuple
        Nodes at which the bound on the cost-to-go, not the cuts, set the value of the last
        forward pass. Where the bound was computed it is valid, and training stopped early; where
        it was given (then a `BoundWarning` says so too) the result stands and falls with it.
    work : Work
        Where the time went: linear programs, cost-to-go, generated rows.
    certified : Certificate or None
        The one that the stopping rule was given; see `certificate`.
    reference : float or None
        As given to `train`.
    stage_solver : {"highs", "compiled"}
        Which one was used. `Work.fallbacks` counts what the compiled visits left to HiGHS.
    """

    policy: Policy
    log: pd.DataFrame
    stopped_because: str
    unvisited_mass: float
    active_bounds: tuple[NodeName, ...]
    work: Work
    certified: Certificate | None = None
    reference: float | None = None
    stage_solver: str = "highs"

    @cached_property
    def certificate(self) -> Certificate:
        """How far from the optimum the policy can be at most; its `gap` is None where unknown.

        What the stopping rule was given, where it asked (`Gap` does) and the share of programs
        that training spends on it was enough; else made when first looked at, with little effort.
        `Policy.certificate` refines it.
        """
        if self.certified is not None and self.certified.gap is not None:
            return self.certified
        found = self.policy.certificate(effort=LEAST_EFFORT, reference=self.reference)
        return replace(found, unvisited_mass=self.unvisited_mass)

    @property
    def bound(self) -> float:
        """Bound on the optimal value, user's units: optimistic; by rows refined to `final`."""
        return self.policy.bound

    def plot(self) -> Figure:
        """The bound by iteration, and what is known to be attained where training asked."""
        from sddp.display.training_figures import bound_figure

        known = None if self.certified is None else self.certified.value
        return bound_figure(self.log, known=known)

    def _facts(self) -> dict[str, str]:
        seconds = float(self.log["seconds"].iloc[-1]) if len(self.log) else 0.0
        known = "not asked" if self.certified is None else str(self.certified)
        return {
            "bound": number(self.bound),
            "iterations": str(len(self.log)),
            "stopped because": self.stopped_because,
            "certificate": known,
            "seconds": f"{seconds:.1f}",
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"Last iterations": self.log.iloc[-5:]}
