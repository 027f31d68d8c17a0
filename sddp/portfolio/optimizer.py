"""What every one-period optimizer shares: costs, bounds, constraints, and one way to be called.

An optimizer is a frozen object with settings. ``solve`` takes labelled moments and current weights
and returns a `PortfolioResult`; ``prepare`` reads names, costs and bounds once and returns a kernel
that solves on arrays, warm from its last solution. ``solve`` calls the kernel: there is no second
implementation.
"""

from __future__ import annotations

import datetime
import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np

from sddp.allocation.model import PerAsset, check_parameters, per_asset
from sddp.arrays import Floats
from sddp.errors import DataError, ModelError, SolverError
from sddp.labels import CASH, checked_labels
from sddp.portfolio.constraints.conflicts import explain
from sddp.portfolio.constraints.constraint_rows import ConstraintRows
from sddp.portfolio.constraints.constraint_set import NO_CONSTRAINTS, ConstraintSet
from sddp.portfolio.inputs import (
    Law,
    ReadMoments,
    Weights,
    check_feasible,
    leaves_something,
    read_moments,
    read_outcomes,
    read_per_asset,
    read_weights,
)
from sddp.portfolio.moments import Moments, Outcomes
from sddp.portfolio.qp.benchmarks import optimum
from sddp.portfolio.qp.problem import TransactionCostQp, TransactionCostSolution
from sddp.portfolio.qp.rows import Tracking
from sddp.portfolio.result import PortfolioResult, Solved, result_of


class Known(NamedTuple):
    """What is known today beside the moments.

    Attributes
    ----------
    cash_return : float
        Simple return of cash over the period.
    volatility_index : float or None
        In points.
    law : Law or None
        Outcomes of the period.
    """

    cash_return: float = 0.0
    volatility_index: float | None = None
    law: Law | None = None


# Nobody holds more than all wealth without a loan; a percentage is far above.
LARGEST_WEIGHT: Final = 2.0

NOTHING_MORE: Final = Known()


class Kernel(Protocol):
    """A prepared optimizer: assets, costs and bounds are read; only numbers are missing.

    A kernel keeps its last solution and starts from it: the answer is the same to rounding, and
    found faster where the numbers moved little.
    """

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = ...
    ) -> Solved:
        """Optimal weights from arrays, which are not checked.

        Parameters
        ----------
        mean, current : array, shape (n_assets,)
        covariance : array, shape (n_assets, n_assets)
            Symmetric and positive semidefinite.
        known : Known
        """
        ...


class PortfolioOptimizer(Protocol):
    """What every one-period optimizer can do; see `Optimizer` for the arguments."""

    def prepare(self, assets: Sequence[Hashable]) -> Kernel:
        """Read names, costs and bounds once, for solves on arrays."""
        ...

    def solve(
        self,
        inputs: Moments,
        *,
        current_weights: Weights,
        cash_return: float = 0.0,
        volatility_index: float | None = None,
        outcomes: Outcomes | None = None,
        as_of: datetime.date | str | None = None,
    ) -> PortfolioResult:
        """Optimal holdings."""
        ...

    def restricted(
        self, tradable: Sequence[Hashable], assets: Sequence[Hashable]
    ) -> PortfolioOptimizer:
        """The same optimizer with nothing held of the other assets."""
        ...


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """Base of the one-period optimizers: what trading costs, and what may be held.

    Amounts are fractions of the wealth before trading; ``u`` are the holdings after it.

    Self-financing form: ``sum u + cost(u - x) = 1``. The holdings pay for the trades, and
    ``u / sum u`` are the target weights of wealth after costs: a backtest that charges the same
    costs trades exactly ``u - x``.

    Text-book form: ``sum u = 1``. Costs are weighed in the objective, but nobody pays them:
    ``u`` itself are the target weights. What they leave after costs are paid is smaller by a
    factor ``1 - cost``, so a backtest trades slightly less of everything than this form assumes.

    Parameters
    ----------
    transaction_cost : float, or per asset
        Of a purchase (and of a sale, unless `sale_cost` is given) per unit of money traded.
        Per asset: a mapping by name (all of them) or an array in the assets' order.
    sale_cost : float, or per asset, optional
        Of a sale, where it differs.
    min_weights, max_weights : float, or per asset
        Bounds of the holdings ``u``. What a mapping leaves out keeps 0 and 1: no short sales.
    min_cash, max_cash : float
        Bounds of the cash. ``max_cash=0`` takes cash out of the problem.
    self_financing : bool
        Which form.
    constraints : ConstraintSet
        What holdings and trades must or should keep beyond the bounds.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    transaction_cost: PerAsset = 0.0
    sale_cost: PerAsset | None = None
    min_weights: PerAsset = 0.0
    max_weights: PerAsset = 1.0
    min_cash: float = 0.0
    max_cash: float = 1.0
    self_financing: bool = True
    constraints: ConstraintSet = NO_CONSTRAINTS

    def __post_init__(self) -> None:
        check_parameters(self, ("transaction_cost", "sale_cost"))
        low, high = self.min_cash, self.max_cash
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ModelError(f"min_cash = {low}, max_cash = {high}; give two ordered numbers")
        if not isinstance(self.constraints, ConstraintSet):
            raise ModelError(f"constraints={self.constraints!r}: must be a ConstraintSet")

    @abstractmethod
    def prepare(self, assets: Sequence[Hashable]) -> Kernel:
        """Read names, costs and bounds once, for solves on arrays.

        Raises
        ------
        DataError, ModelError
            As `solve`.
        """

    def solve(
        self,
        inputs: Moments,
        *,
        current_weights: Weights,
        cash_return: float = 0.0,
        volatility_index: float | None = None,
        outcomes: Outcomes | None = None,
        as_of: datetime.date | str | None = None,
    ) -> PortfolioResult:
        """Optimal holdings.

        Parameters
        ----------
        inputs : Moments
            Mean and covariance of the period's simple returns. The mean's index names the assets,
            a covariance with names is put into its order; arrays without names are accepted.
        current_weights : mapping or Series by name, or array
            Shares of wealth before trading. Assets left out are 0; cash is the rest of 1, and
            where ``"cash"`` is named all must sum to 1. An array holds the risky assets.
        cash_return : float
            Simple return of cash over the period, known in advance.
        volatility_index : float, optional
            In points; what a `VolatilityDriven` risk aversion needs. Others do not read it.
        outcomes : Outcomes, or pair (returns, probabilities), optional
            Law of the period's returns, where risk is measured on it. Others do not read it.
        as_of : date, optional
            Of the decision; what an optimizer with dated views reads.

        Returns
        -------
        PortfolioResult

        Raises
        ------
        DataError
            The moments or outcomes do not fit together, or the covariance has a negative
            eigenvalue.
        ModelError
            An unknown name, a cost out of range, something the optimizer needs is missing, or the
            problem is not concave in the self-financing form because wasting wealth would pay.
        InfeasibleProblem
            No holdings keep all that is asked for.
        SolverError
            The optimality conditions are missed by more than 1e-8. The message names a file of
            ``numpy.load`` with the problem's numbers.
        """
        moments = read_moments(inputs.mean, inputs.covariance)
        if not math.isfinite(cash_return):
            raise DataError(f"cash_return = {cash_return}; give a decimal return of the period")
        law = None
        if outcomes is not None and self.reads_outcomes:
            law = read_outcomes(outcomes, moments.names)
        known = Known(float(cash_return), volatility_index, law)
        current = read_weights(current_weights, moments.names)
        kernel = self.prepare(moments.names)
        try:
            found = kernel.solve(moments.mean, moments.covariance, current, known)
        except SolverError as error:
            file = _write_numbers(self, moments, current, known)
            raise SolverError(f"{error}; the problem's numbers are in {file}") from error
        return result_of(found)

    @property
    def reads_outcomes(self) -> bool:
        """Whether the answer depends on the law of the period; else it is not read."""
        return True

    def restricted(self, tradable: Sequence[Hashable], assets: Sequence[Hashable]) -> Self:
        """The same optimizer with nothing held of the other assets: they are sold at their cost."""
        if len(tradable) == len(assets):
            return self
        kept = np.array([name in set(tradable) for name in assets])
        lower = read_per_asset(self.min_weights, assets, "min_weights", default=0.0)
        upper = read_per_asset(self.max_weights, assets, "max_weights", default=1.0)
        lower, upper = np.where(kept, lower, 0.0), np.where(kept, upper, 0.0)
        return replace(self, min_weights=lower, max_weights=upper)


class Terms:
    """Costs and bounds of an optimizer as arrays over its assets, and its last solution.

    Parameters
    ----------
    optimizer : Optimizer
    assets : sequence of labels
    """

    def __init__(self, optimizer: Optimizer, assets: Sequence[Hashable]) -> None:
        o, names = optimizer, list(checked_labels(assets, "assets", reserved=CASH))
        self.names = names
        self.purchase_cost = per_asset(o.transaction_cost, names, "transaction_cost")
        self.sale_cost = (
            self.purchase_cost
            if o.sale_cost is None
            else per_asset(o.sale_cost, names, "sale_cost")
        )
        self.lower = read_per_asset(o.min_weights, names, "min_weights", default=0.0)
        self.upper = read_per_asset(o.max_weights, names, "max_weights", default=1.0)
        _check_unit(o, names, self.lower, self.upper)
        self._optimizer = o
        self.rows = ConstraintRows(o.constraints, names)
        self._no_tracking = Tracking.none(len(names))
        self._last: TransactionCostSolution | None = None

    def problem(
        self,
        mean: Floats,
        covariance: Floats,
        current: Floats,
        cash_return: float = 0.0,
        risk_aversion: float = 0.0,
    ) -> TransactionCostQp:
        """The problem on arrays, once its bounds leave something.

        Raises
        ------
        InfeasibleProblem
        """
        o = self._optimizer
        problem = TransactionCostQp(
            mean=mean,
            covariance=covariance,
            risk_aversion=risk_aversion,
            current=current,
            purchase_cost=self.purchase_cost,
            sale_cost=self.sale_cost,
            lower=self.lower,
            upper=self.upper,
            cash_return=cash_return,
            cash_lower=float(o.min_cash),
            cash_upper=float(o.max_cash),
            self_financing=o.self_financing,
            rows=self.rows.none,
            tracking=self._no_tracking,
        )
        check_feasible(problem, self.names)
        if not self.rows.constraints:
            return problem
        constrained = self.rows.apply(problem)
        if not leaves_something(constrained):
            self._check_conflict(problem)
        self._unconstrained = problem
        return constrained

    def optimum(self, problem: TransactionCostQp) -> TransactionCostSolution:
        """Solve, starting from the last solution.

        Raises
        ------
        InfeasibleConstraints
            The constraints cannot be kept together.
        ModelError, SolverError
            See `solve_transaction_cost_qp`.
        """
        try:
            self._last = optimum(problem, self._last)
        except SolverError:
            self.check_conflict()
            raise
        return self._last

    def solved(self, problem: TransactionCostQp) -> Solved:
        """The optimum with what is said of it."""
        found = self.optimum(problem)
        objective = problem.objective(found.weights, found.cash)
        return Solved(self.names, problem, found, objective, has_duals=True, rows=self.rows)

    def check_conflict(self) -> None:
        """Raise if the constraints of the last problem cannot be kept together.

        Raises
        ------
        InfeasibleConstraints
        """
        if self.rows.constraints:
            self._check_conflict(self._unconstrained)

    def _check_conflict(self, problem: TransactionCostQp) -> None:
        # Costs apart first: else phase one would waste wealth on trades to and fro.
        error = explain(replace(problem, self_financing=False), self.rows, self.names)
        if error is None and problem.self_financing:
            error = explain(problem, self.rows, self.names)
        if error is not None:
            raise error


def _write_numbers(
    optimizer: Optimizer, moments: ReadMoments, current: Floats, known: Known
) -> str:
    """Write a problem to a new file; returns its path, or why it is not there."""
    numbers: dict[str, Any] = {
        "mean": moments.mean,
        "covariance": moments.covariance,
        "current_weights": current,
    }
    numbers |= {"cash_return": known.cash_return, "optimizer": repr(optimizer)}
    numbers |= {"names": np.array([repr(name) for name in moments.names])}
    if known.volatility_index is not None:
        numbers |= {"volatility_index": known.volatility_index}
    if known.law is not None:
        numbers |= {"returns": known.law.returns, "probabilities": known.law.probabilities}
    try:
        with tempfile.NamedTemporaryFile(prefix="sddp-", suffix=".npz", delete=False) as file:
            np.savez(file, **numbers)
    except OSError as error:
        return f"(not written: {error})"
    return file.name


def _check_unit(o: Optimizer, names: Sequence[Hashable], lower: Floats, upper: Floats) -> None:
    """Refuse a percentage for a share of wealth, where neither loans nor short sales explain it."""
    i = int(upper.argmax())
    if upper[i] > LARGEST_WEIGHT and o.min_cash >= 0.0 and lower.min() >= 0.0:
        raise ModelError(
            f"max_weights of {names[i]!r} = {upper[i]:g}: must be a share of wealth; give 0.1 for "
            "10 % (above 1 only with loans, min_cash below 0, or short sales)"
        )
